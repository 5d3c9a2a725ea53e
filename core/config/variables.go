package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variableBlock is what a variable block says, without type and default, which
// are no plain attributes.
type variableBlock struct {
	Description string `config:"description" doc:"What the variable is for"`
	Sensitive   bool   `config:"sensitive" doc:"Its value is a secret"`
}

// variable is a declared variable.
type variable struct {
	variableBlock
	name        string
	at          hcl.Range
	typeRange   hcl.Range
	typ         cty.Type // DynamicPseudoType: any
	fallback    *value   // nil: required
	validations []*hclsyntax.Block
}

// loadVariables defines `var` from the variable blocks and the given options.
func (l *loader) loadVariables(blocks []*hclsyntax.Block) {
	declared := map[string]hcl.Range{}
	values := map[string]value{}
	var broken []string
	for _, b := range blocks {
		v, ok := l.variableBlock(b, declared)
		if v == nil {
			continue
		}
		declared[v.name] = v.at
		var x value
		if ok {
			x, ok = l.variableValue(v)
		}
		if ok {
			values[v.name] = x
		} else {
			broken = append(broken, v.name)
		}
	}
	l.scope.setGroup("var", values, broken)
	for _, name := range slices.Sorted(maps.Keys(l.options.Variables)) {
		if _, ok := declared[name]; !ok {
			l.unknownOption(name, slices.Collect(maps.Keys(declared)))
		}
	}
}

// unknownOption reports a -var option that no block declares. Its value may be a
// secret and is not shown.
func (l *loader) unknownOption(name string, declared []string) {
	l.error(l.optionRange(name), "Unknown variable", "The option -var names a variable %s, which no variable block declares.%s %s",
		quote(name), didYouMean(name, declared), listed("Declared", declared, "No variables are declared."))
}

// optionRange is the place of a -var option: a made-up file that shows its name.
func (l *loader) optionRange(name string) hcl.Range {
	file := "-var " + cut(name, maxQuote)
	l.sources[file] = []byte(cut(name, maxQuote) + "=…")
	end := hcl.Pos{Line: 1, Column: 1 + len(cut(name, maxQuote)), Byte: len(cut(name, maxQuote))}
	return hcl.Range{Filename: file, Start: hcl.InitialPos, End: end}
}

// variableBlock reads one block. It returns nil if not even its name can be used.
func (l *loader) variableBlock(b *hclsyntax.Block, declared map[string]hcl.Range) (*variable, bool) {
	before := l.errors()
	w := whereOf(b)
	if !l.checkLabels(b, []string{"name"}, w) {
		return nil, false
	}
	v := &variable{name: b.Labels[0], at: w.at, typ: cty.DynamicPseudoType}
	if !hclsyntax.ValidIdentifier(v.name) {
		l.error(b.LabelRanges[0], "Invalid name", "%s cannot be the name of a variable: it must begin with a letter and have letters, digits, _ and - only.", quote(v.name))
		return nil, false
	}
	if first, twice := declared[v.name]; twice {
		l.error(w.at, "Duplicate variable", "The variable %s is already declared at %s.", quote(v.name), placeOf(first))
		return nil, false
	}
	d := decode(l, b.Body, &v.variableBlock, l.scope, w, except{attributes: []string{"type", "default"}, blocks: []string{"validation"}})
	if t := b.Body.Attributes["type"]; t != nil {
		typ, problems := typeexpr.TypeConstraint(t.Expr)
		l.fromHCL(problems, t.Expr.Range())
		v.typ, v.typeRange = typ, t.Expr.Range()
	}
	for _, nested := range b.Body.Blocks {
		if nested.Type == "validation" {
			v.validations = append(v.validations, nested)
		}
	}
	if a := b.Body.Attributes["default"]; a != nil {
		if v.Sensitive {
			l.maskLiterals(a.Expr)
		}
		l.variableDefault(v, a)
	}
	return v, d && l.errors() == before
}

func (l *loader) variableDefault(v *variable, a *hclsyntax.Attribute) {
	x, ok := l.eval(a.Expr, l.scope)
	if !ok {
		return
	}
	converted, err := convertBoth(x, v.typ)
	if err != nil {
		l.error(a.Expr.Range(), "Invalid default", "The default of the variable %s does not fit its type: %s.", quote(v.name), err)
		return
	}
	v.fallback = &converted
}

// convertBoth converts a value to a type. The error's text has no secret in it.
func convertBoth(x value, to cty.Type) (value, error) {
	shown, err := convert.Convert(x.shown, to)
	if err != nil {
		return value{}, err
	}
	actual, err := convert.Convert(x.real, to)
	if err != nil {
		return value{}, errWithheld
	}
	return value{actual, shown}, nil
}

var errWithheld = errors.New("what is wrong is not shown, because the value is a secret")

// variableValue is the value that was given, or the default.
func (l *loader) variableValue(v *variable) (value, bool) {
	text, given := l.options.Variables[v.name]
	if !given {
		if v.fallback == nil {
			l.error(v.at, "Missing variable", "The variable %s has no value. Give one with -var %s=…, or add a default.", quote(v.name), v.name)
			return value{}, false
		}
		return l.finishVariable(v, *v.fallback)
	}
	x, err := v.parse(text)
	if err == nil {
		err = checkValue(x)
	}
	if err != nil {
		detail := fmt.Sprintf("The value %s given with -var does not fit this variable: %s.", quote(text), err)
		if v.Sensitive {
			detail = "The value given with -var does not fit this variable. It is not shown, because the variable is sensitive."
		}
		at := v.at
		if !v.typeRange.Empty() {
			at = v.typeRange
		}
		l.error(at, "Invalid value of a variable", "%s", detail)
		return value{}, false
	}
	return l.finishVariable(v, value{x, x})
}

// parse reads the text of a -var option: as it is for text, numbers and
// bools, as an HCL expression for lists and maps.
func (v *variable) parse(text string) (cty.Value, error) {
	typ := v.typ
	if typ == cty.DynamicPseudoType {
		typ = cty.String
		if v.fallback != nil && !v.fallback.shown.IsNull() {
			typ = v.fallback.shown.Type()
		}
	}
	if typ.IsPrimitiveType() || typ == cty.DynamicPseudoType {
		if typ == cty.DynamicPseudoType {
			typ = cty.String
		}
		return convert.Convert(cty.StringVal(text), typ)
	}
	const name = "-var"
	inner := report{sources: map[string][]byte{}}
	expr, ok := parseExpression(text, name, &inner)
	if !ok {
		return cty.NilVal, errors.New(`it is no HCL expression; write for example '["a", "b"]'`)
	}
	var x cty.Value
	var problems hcl.Diagnostics
	if guard(func() { x, problems = expr.Value(nil) }) || problems.HasErrors() {
		return cty.NilVal, errors.New("variables and functions cannot be used here")
	}
	return convert.Convert(x, typ)
}

// finishVariable marks the value of a sensitive variable and applies validations.
func (l *loader) finishVariable(v *variable, x value) (value, bool) {
	if v.Sensitive {
		for _, text := range texts(x.real) {
			l.secrets[text] = struct{}{}
		}
		x = sensitive(x)
	}
	ok := true
	for _, b := range v.validations {
		ok = l.validateVariable(v, b, x) && ok
	}
	return x, ok
}

// sensitive returns a value that counts as a secret.
func sensitive(x value) value {
	hidden := cty.DynamicVal
	if x.real.Type().IsPrimitiveType() {
		hidden = cty.UnknownVal(x.real.Type())
	}
	return value{x.real.Mark(secretMark{}), hidden.Mark(secretMark{})}
}

// variableCheck is a validation block; its condition is no plain attribute.
type variableCheck struct {
	ErrorMessage string `config:"error_message,required" doc:"What to say when the condition is false"`
}

func (l *loader) validateVariable(v *variable, b *hclsyntax.Block, x value) bool {
	w := whereOf(b)
	var check variableCheck
	ok := l.checkLabels(b, nil, w)
	ok = decode(l, b.Body, &check, l.scope, w, except{attributes: []string{"condition"}}) && ok
	a := b.Body.Attributes["condition"]
	if a == nil {
		l.error(w.at, "Missing attribute", `A validation needs an attribute "condition" that is true for good values of var.%s.`, v.name)
		return false
	}
	s := l.scope.child()
	s.setGroup("var", map[string]value{v.name: x}, nil)
	result, evaluated := l.eval(a.Expr, s)
	if !ok || !evaluated {
		return false
	}
	if !result.known() {
		return true
	}
	holds, err := convert.Convert(result.bare(), cty.Bool)
	if err != nil || holds.IsNull() {
		l.error(a.Expr.Range(), "Invalid condition", "The condition must be true or false.")
		return false
	}
	if holds.False() {
		l.error(v.at, "Invalid value of a variable", "%s", check.ErrorMessage)
		return false
	}
	return true
}

// local is an attribute of a locals block.
type local struct {
	attribute *hclsyntax.Attribute
	needs     []string // other locals
	state     visitState
}

// visitState belongs to the search for cycles.
type visitState uint8

const (
	unvisited visitState = iota
	visiting
	visited
)

// loadLocals defines `local` from the locals blocks, each after those it needs.
func (l *loader) loadLocals(blocks []*hclsyntax.Block) {
	all := map[string]*local{}
	for _, b := range blocks {
		w := whereOf(b)
		l.checkLabels(b, nil, w)
		for _, nested := range b.Body.Blocks {
			l.error(headerRange(nested), "Unexpected block", "A locals block has attributes only. For a value with parts write %s = {…}.", nested.Type)
		}
		for _, a := range sortedAttributes(b.Body) {
			if first, twice := all[a.Name]; twice {
				l.error(a.NameRange, "Duplicate local", "The local %s is already defined at %s.", quote(a.Name), placeOf(first.attribute.NameRange))
				continue
			}
			all[a.Name] = &local{attribute: a, needs: needs(a.Expr)}
		}
	}
	if len(all) > maxLocals {
		l.error(blocks[0].TypeRange, "Too many locals", "A configuration may have %d.", maxLocals)
		return
	}
	values := map[string]value{}
	intact := map[string]bool{}
	for name := range all {
		intact[name] = false
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l.evalLocal(name, all, nil, values, intact)
	}
	l.scope.setGroup("local", values, slices.Collect(maps.Keys(all)))
	l.scope.groups["local"] = intact
}

// maxLocals bounds how deep locals can need each other.
const maxLocals = 10_000

// needs returns the locals that an expression refers to.
func needs(expr hclsyntax.Expression) []string {
	var names []string
	for _, t := range expr.Variables() {
		if name, ok := memberName(t); ok && t.RootName() == "local" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// evalLocal evaluates a local after those that it needs. Behind is the way that
// led here; intact says which locals have a value.
func (l *loader) evalLocal(name string, all map[string]*local, behind []string, values map[string]value, intact map[string]bool) {
	one := all[name]
	if one == nil || one.state == visited {
		return
	}
	if one.state == visiting {
		circle := append(slices.Clone(behind[slices.Index(behind, name):]), name)
		l.error(one.attribute.NameRange, "Circular definition", "The local %s needs itself: %s.", quote(name), strings.Join(circle, " needs "))
		return
	}
	one.state = visiting
	known := map[string]value{}
	for _, needed := range one.needs {
		l.evalLocal(needed, all, append(behind, name), values, intact)
		if v, ok := values[needed]; ok {
			known[needed] = v
		}
	}
	one.state = visited
	s := l.scope.child()
	s.setGroup("local", known, nil)
	s.groups["local"] = intact
	if v, ok := l.eval(one.attribute.Expr, s); ok {
		values[name], intact[name] = v, true
	}
}
