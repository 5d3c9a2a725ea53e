package config

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/pipelined/pipelined/sdk"
)

// Types of the host's own attributes that no plugin has.
const (
	// typeScalar is text, a number or a bool, told by the Value's kind.
	typeScalar sdk.ValueType = 200 + iota
	// typeTree is typeScalar, or maps and lists of such.
	typeTree
	// typePipeline is a reference to a pipeline: pipeline.NAME.
	typePipeline
)

// valueProblem says why a value does not fit its attribute.
type valueProblem struct {
	path   []sdk.Step // inside the attribute
	detail string     // sentences
}

// converter makes the values of one attribute. Its values are without marks and
// wholly known.
type converter struct {
	attribute sdk.Attribute
	secret    bool // values must not be quoted
}

func (c converter) convert(v cty.Value) (sdk.Value, *valueProblem) {
	switch c.attribute.Collection {
	case sdk.List:
		return c.list(v)
	case sdk.Map:
		return c.table(v)
	}
	return c.single(v)
}

func (c converter) list(v cty.Value) (sdk.Value, *valueProblem) {
	t := v.Type()
	if !t.IsListType() && !t.IsTupleType() && !t.IsSetType() {
		return sdk.Value{}, c.mismatch(v)
	}
	out := sdk.Value{Kind: sdk.KindList, List: make([]sdk.Value, 0, v.LengthInt())}
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		item, problem := c.single(element)
		if problem != nil {
			problem.path = append([]sdk.Step{{Index: len(out.List) + 1}}, problem.path...)
			return sdk.Value{}, problem
		}
		out.List = append(out.List, item)
	}
	return out, nil
}

func (c converter) table(v cty.Value) (sdk.Value, *valueProblem) {
	if !isTable(v) {
		return sdk.Value{}, c.mismatch(v)
	}
	out := sdk.Value{Kind: sdk.KindMap, Map: make(map[string]sdk.Value, v.LengthInt())}
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		item, problem := c.single(element)
		if problem != nil {
			problem.path = append([]sdk.Step{{Key: key.AsString()}}, problem.path...)
			return sdk.Value{}, problem
		}
		out.Map[key.AsString()] = item
	}
	return out, nil
}

func isTable(v cty.Value) bool { return v.Type().IsObjectType() || v.Type().IsMapType() }

func (c converter) single(v cty.Value) (sdk.Value, *valueProblem) {
	if v.IsNull() {
		return sdk.Value{}, c.mismatch(v)
	}
	if v.Type() == cty.String && slices.Contains(c.attribute.Keywords, v.AsString()) {
		return sdk.Value{Kind: sdk.KindString, String: v.AsString()}, nil
	}
	switch c.attribute.Type {
	case sdk.TypeString:
		return c.text(v)
	case sdk.TypeInteger:
		return c.integer(v)
	case sdk.TypeNumber:
		return c.number(v)
	case sdk.TypeBool:
		b, err := convert.Convert(v, cty.Bool)
		if err != nil {
			return sdk.Value{}, c.mismatch(v)
		}
		return sdk.Value{Kind: sdk.KindBool, Bool: b.True()}, nil
	case sdk.TypeDuration:
		return c.parsed(v, func(text string) (int64, error) {
			d, err := parseDuration(text)
			return int64(d), err
		})
	case sdk.TypeSize:
		return c.parsed(v, parseSize)
	case sdk.TypeTime:
		return c.parsed(v, parseTime)
	case typeScalar:
		return c.scalar(v)
	case typeTree:
		return c.tree(v)
	}
	return sdk.Value{}, &valueProblem{detail: fmt.Sprintf("The plugin declares it with type %d, which this version does not know.", c.attribute.Type)}
}

func (c converter) text(v cty.Value) (sdk.Value, *valueProblem) {
	if v.Type() != cty.String {
		return sdk.Value{}, c.mismatch(v)
	}
	text := v.AsString()
	if allowed := c.attribute.Allowed; len(allowed) > 0 && !slices.Contains(allowed, text) {
		hint := ""
		if !c.secret {
			hint = didYouMean(text, allowed)
		}
		return sdk.Value{}, &valueProblem{detail: fmt.Sprintf("It takes %s%s.%s", c.expected(), c.found(v), hint)}
	}
	return sdk.Value{Kind: sdk.KindString, String: text}, nil
}

func (c converter) integer(v cty.Value) (sdk.Value, *valueProblem) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		return sdk.Value{}, c.mismatch(v)
	}
	i, accuracy := n.AsBigFloat().Int64()
	if accuracy != big.Exact {
		return sdk.Value{}, c.mismatch(v)
	}
	return sdk.Value{Kind: sdk.KindInteger, Integer: i}, nil
}

func (c converter) number(v cty.Value) (sdk.Value, *valueProblem) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		return sdk.Value{}, c.mismatch(v)
	}
	f, _ := n.AsBigFloat().Float64()
	return sdk.Value{Kind: sdk.KindNumber, Number: f}, nil
}

// parsed reads a value that is written as text with a unit.
func (c converter) parsed(v cty.Value, parse func(string) (int64, error)) (sdk.Value, *valueProblem) {
	if v.Type() != cty.String {
		return sdk.Value{}, c.mismatch(v)
	}
	n, err := parse(v.AsString())
	if err != nil {
		return sdk.Value{}, &valueProblem{detail: fmt.Sprintf("It takes %s%s. %s.", c.expected(), c.found(v), upperFirst(err.Error()))}
	}
	return sdk.Value{Kind: sdk.KindInteger, Integer: n}, nil
}

func (c converter) scalar(v cty.Value) (sdk.Value, *valueProblem) {
	switch v.Type() {
	case cty.String:
		return sdk.Value{Kind: sdk.KindString, String: v.AsString()}, nil
	case cty.Bool:
		return sdk.Value{Kind: sdk.KindBool, Bool: v.True()}, nil
	case cty.Number:
		return c.number(v)
	}
	return sdk.Value{}, c.mismatch(v)
}

func (c converter) tree(v cty.Value) (sdk.Value, *valueProblem) {
	switch t := v.Type(); {
	case t.IsListType() || t.IsTupleType() || t.IsSetType():
		return c.list(v)
	case isTable(v):
		return c.table(v)
	}
	return c.scalar(v)
}

func (c converter) mismatch(v cty.Value) *valueProblem {
	return &valueProblem{detail: fmt.Sprintf("It takes %s%s.", c.expected(), c.found(v))}
}

// expected says what the attribute takes.
func (c converter) expected() string {
	one := expectedSingle(c.attribute)
	switch c.attribute.Collection {
	case sdk.List:
		return "a list in brackets, each element " + one
	case sdk.Map:
		return "a map in braces, each value " + one
	}
	return one
}

func expectedSingle(a sdk.Attribute) string {
	one := map[sdk.ValueType]string{
		sdk.TypeString:   "text in quotes",
		sdk.TypeInteger:  "a whole number",
		sdk.TypeNumber:   "a number",
		sdk.TypeBool:     "true or false",
		sdk.TypeDuration: `a duration in quotes, such as "250ms"`,
		sdk.TypeSize:     `a size in quotes, such as "500MiB"`,
		sdk.TypeTime:     `a time in quotes, such as "2026-05-01T12:00:00Z"`,
		typeScalar:       "text in quotes, a number, true or false",
		typeTree:         "text in quotes, or a map in braces",
	}[a.Type]
	if len(a.Allowed) > 0 {
		one = quotedList(a.Allowed)
	}
	if len(a.Keywords) > 0 {
		one += ", or " + quotedList(a.Keywords)
	}
	return one
}

// found says what there is instead, unless it is a secret.
func (c converter) found(v cty.Value) string {
	if c.secret {
		return "; the value is not shown, because it is a secret"
	}
	switch t := v.Type(); {
	case v.IsNull():
		return ", not null"
	case t == cty.String:
		return ", not " + quote(v.AsString())
	case t == cty.Number:
		return ", not " + cut(v.AsBigFloat().Text('g', 20), maxQuote)
	case t == cty.Bool:
		return fmt.Sprintf(", not %t", v.True())
	case t.IsListType() || t.IsTupleType() || t.IsSetType():
		return ", not a list"
	}
	return ", not a map"
}

// FormatValue writes a value as it stands in a pipeline file.
func FormatValue(a sdk.Attribute, v sdk.Value) string {
	switch v.Kind {
	case sdk.KindList:
		parts := make([]string, len(v.List))
		for i, item := range v.List {
			parts[i] = FormatValue(a, item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case sdk.KindMap:
		if len(v.Map) == 0 {
			return "{}"
		}
		parts := make([]string, 0, len(v.Map))
		for key, item := range v.Map {
			parts = append(parts, fmt.Sprintf("%q = %s", key, FormatValue(a, item)))
		}
		slices.Sort(parts)
		return "{ " + strings.Join(parts, ", ") + " }"
	case sdk.KindString:
		return fmt.Sprintf("%q", v.String)
	case sdk.KindBool:
		return fmt.Sprint(v.Bool)
	case sdk.KindNumber:
		return strconv.FormatFloat(v.Number, 'f', -1, 64)
	}
	switch a.Type {
	case sdk.TypeDuration:
		return fmt.Sprintf("%q", formatDuration(time.Duration(v.Integer)))
	case sdk.TypeSize:
		return fmt.Sprintf("%q", formatSize(v.Integer))
	case sdk.TypeTime:
		return fmt.Sprintf("%q", time.Unix(0, v.Integer).UTC().Format(time.RFC3339Nano))
	}
	return fmt.Sprint(v.Integer)
}
