package plugintest

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/pipelined/pipelined/sdk"
)

var lowerSnake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// checkSchema finds what a host or a person would stumble over.
func checkSchema(s sdk.Schema) error {
	var errs []error
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if err := checkAttribute(a); err != nil {
			errs = append(errs, fmt.Errorf("attribute %q: %w", a.Name, err))
		}
	}
	for _, b := range s.Blocks {
		if !lowerSnake.MatchString(b.Type) {
			errs = append(errs, fmt.Errorf("block %q: its name is not lower_snake_case", b.Type))
		}
		if err := checkSchema(b.Body); err != nil {
			errs = append(errs, fmt.Errorf("block %q: %w", b.Type, err))
		}
	}
	for _, o := range s.OneOf {
		if len(o.Names) < 2 {
			errs = append(errs, fmt.Errorf("a one-of group of %v is none", o.Names))
		}
	}
	return errors.Join(errs...)
}

func checkAttribute(a *sdk.Attribute) error {
	switch {
	case !lowerSnake.MatchString(a.Name):
		return errors.New("its name is not lower_snake_case")
	case a.Required && a.Default != nil:
		return errors.New("it is required and has a default")
	case a.Sensitive && a.Default != nil:
		return errors.New("it is a secret and has a default")
	case len(a.Allowed) > 0 && a.Type != sdk.TypeString:
		return errors.New("it lists strings and is none")
	case len(a.Keywords) > 0 && a.Type == sdk.TypeString:
		return errors.New("it has keywords and is a string anyway")
	case a.Default == nil:
		return nil
	}
	return checkDefault(a, *a.Default, a.Collection)
}

func checkDefault(a *sdk.Attribute, v sdk.Value, collection sdk.Collection) error {
	var items []sdk.Value
	switch collection {
	case sdk.List:
		if v.Kind != sdk.KindList {
			return errors.New("its default is no list")
		}
		items = v.List
	case sdk.Map:
		if v.Kind != sdk.KindMap {
			return errors.New("its default is no map")
		}
		items = slices.Collect(maps.Values(v.Map))
	default:
		items = []sdk.Value{v}
	}
	for _, item := range items {
		if item.Kind == sdk.KindString && slices.Contains(a.Keywords, item.String) {
			continue
		}
		if !slices.Contains(kindsOf(a.Type), item.Kind) {
			return errors.New("its default has another type")
		}
		if len(a.Allowed) > 0 && item.String != "" && !slices.Contains(a.Allowed, item.String) {
			return fmt.Errorf("its default %q is not allowed", item.String)
		}
	}
	return nil
}

func kindsOf(t sdk.ValueType) []sdk.ValueKind {
	switch t {
	case sdk.TypeString:
		return []sdk.ValueKind{sdk.KindString}
	case sdk.TypeBool:
		return []sdk.ValueKind{sdk.KindBool}
	case sdk.TypeNumber:
		return []sdk.ValueKind{sdk.KindNumber, sdk.KindInteger}
	}
	return []sdk.ValueKind{sdk.KindInteger}
}

// withDefaults does what a host does before it configures a plugin.
func withDefaults(s sdk.Schema, body sdk.Body) sdk.Body {
	out := sdk.Body{Attributes: maps.Clone(body.Attributes)}
	if out.Attributes == nil {
		out.Attributes = map[string]sdk.Value{}
	}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if _, ok := out.Attributes[a.Name]; !ok && a.Default != nil {
			out.Attributes[a.Name] = *a.Default
		}
	}
	for _, b := range body.Blocks {
		i := slices.IndexFunc(s.Blocks, func(known sdk.Block) bool { return known.Type == b.Type })
		if i >= 0 {
			b.Body = withDefaults(s.Blocks[i].Body, b.Body)
		}
		out.Blocks = append(out.Blocks, b)
	}
	return out
}
