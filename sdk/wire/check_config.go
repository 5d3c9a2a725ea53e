package wire

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pipelined/pipelined/sdk"
)

// bodyCheck holds a body against a schema, for hosts that have not done so.
type bodyCheck struct {
	secrets bool // sensitive attributes must be there
	diags   []sdk.Diagnostic
}

func checkBody(schema sdk.Schema, body sdk.Body, secrets bool) []sdk.Diagnostic {
	c := bodyCheck{secrets: secrets}
	c.body(schema, body, nil)
	return c.diags
}

func (c *bodyCheck) problem(path []sdk.Step, summary, format string, args ...any) {
	c.diags = append(c.diags, sdk.Diagnostic{
		Severity: sdk.SeverityError, Summary: summary, Detail: fmt.Sprintf(format, args...), Path: path,
	})
}

func (c *bodyCheck) body(schema sdk.Schema, body sdk.Body, path []sdk.Step) {
	known := map[string]bool{}
	for i := range schema.Attributes {
		known[schema.Attributes[i].Name] = true
		c.attribute(&schema.Attributes[i], body, path)
	}
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		if !known[name] {
			c.problem(inside(path, sdk.Step{Attribute: name}), "Unknown attribute", "There is no attribute %q here.", name)
		}
	}
	counts := c.blocks(schema, body, path)
	for _, group := range schema.OneOf {
		c.group(group, schema, body, counts, path)
	}
}

func (c *bodyCheck) attribute(a *sdk.Attribute, body sdk.Body, path []sdk.Step) {
	path = inside(path, sdk.Step{Attribute: a.Name})
	value, ok := body.Attributes[a.Name]
	switch {
	case !ok && a.Required && (c.secrets || !a.Sensitive):
		c.problem(path, "Missing attribute", "The attribute %q is required.", a.Name)
	case ok && !fits(a, value):
		c.problem(path, "Wrong type", "The attribute %q has a value of another type than its schema says.", a.Name)
	case ok && !permitted(a, value) && !isDefault(a, value):
		c.problem(path, "Value not allowed", "The attribute %q must be one of %s.", a.Name, strings.Join(a.Allowed, ", "))
	}
}

// blocks returns how many there are of each type.
func (c *bodyCheck) blocks(schema sdk.Schema, body sdk.Body, path []sdk.Step) map[string]int {
	counts := map[string]int{}
	for _, b := range body.Blocks {
		at := inside(path, sdk.Step{Block: b.Type, BlockIndex: counts[b.Type]})
		counts[b.Type]++
		i := slices.IndexFunc(schema.Blocks, func(s sdk.Block) bool { return s.Type == b.Type })
		if i < 0 {
			c.problem(at, "Unknown block", "There is no block %q here.", b.Type)
			continue
		}
		if want := len(schema.Blocks[i].Labels); len(b.Labels) != want {
			c.problem(at, "Wrong labels", "The block %q has %d labels, want %d.", b.Type, len(b.Labels), want)
		}
		c.body(schema.Blocks[i].Body, b.Body, at)
	}
	for _, b := range schema.Blocks {
		switch n := counts[b.Type]; {
		case n < b.Min:
			c.problem(path, "Missing block", "There are %d blocks %q, want at least %d.", n, b.Type, b.Min)
		case b.Max > 0 && n > b.Max:
			c.problem(path, "Too many blocks", "There are %d blocks %q, want at most %d.", n, b.Type, b.Max)
		}
	}
	return counts
}

// group counts the members that are there. One that has its default may be there
// only because defaults are filled in.
func (c *bodyCheck) group(group sdk.OneOf, schema sdk.Schema, body sdk.Body, counts map[string]int, path []sdk.Step) {
	chosen, filled := 0, 0
	for _, name := range group.Names {
		value, ok := body.Attributes[name]
		switch {
		case ok && hasDefault(schema, name, value):
			filled++
		case ok || counts[name] > 0:
			chosen++
		}
	}
	names := strings.Join(group.Names, ", ")
	switch {
	case chosen > 1:
		c.problem(path, "Choose one", "Only one of these may be there: %s.", names)
	case chosen+filled == 0 && group.Required:
		c.problem(path, "Choose one", "One of these must be there: %s.", names)
	}
}

func hasDefault(schema sdk.Schema, name string, value sdk.Value) bool {
	i := slices.IndexFunc(schema.Attributes, func(a sdk.Attribute) bool { return a.Name == name })
	return i >= 0 && isDefault(&schema.Attributes[i], value)
}

// isDefault reports whether a value is the one of an attribute that is left out.
func isDefault(a *sdk.Attribute, value sdk.Value) bool {
	return a.Default != nil && reflect.DeepEqual(*a.Default, value)
}

func inside(path []sdk.Step, step sdk.Step) []sdk.Step {
	return append(slices.Clone(path), step)
}

// fits reports whether a value has the attribute's type.
func fits(a *sdk.Attribute, v sdk.Value) bool {
	switch a.Collection {
	case sdk.List:
		return v.Kind == sdk.KindList && !slices.ContainsFunc(v.List, func(item sdk.Value) bool { return !fitsOne(a, item) })
	case sdk.Map:
		for _, item := range v.Map {
			if !fitsOne(a, item) {
				return false
			}
		}
		return v.Kind == sdk.KindMap
	}
	return fitsOne(a, v)
}

func fitsOne(a *sdk.Attribute, v sdk.Value) bool {
	switch {
	case a.Type == sdk.TypeString:
		return v.Kind == sdk.KindString
	case v.Kind == sdk.KindString:
		return slices.Contains(a.Keywords, v.String)
	case a.Type == sdk.TypeNumber:
		return v.Kind == sdk.KindNumber || v.Kind == sdk.KindInteger
	case a.Type == sdk.TypeBool:
		return v.Kind == sdk.KindBool
	}
	return v.Kind == sdk.KindInteger
}

func permitted(a *sdk.Attribute, v sdk.Value) bool {
	if len(a.Allowed) == 0 {
		return true
	}
	switch v.Kind {
	case sdk.KindString:
		return slices.Contains(a.Allowed, v.String)
	case sdk.KindList:
		return !slices.ContainsFunc(v.List, func(item sdk.Value) bool { return !permitted(a, item) })
	case sdk.KindMap:
		for _, item := range v.Map {
			if !permitted(a, item) {
				return false
			}
		}
	}
	return true
}
