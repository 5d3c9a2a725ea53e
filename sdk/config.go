package sdk

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"
)

// Size is a number of bytes; in pipeline files text such as "500MiB".
type Size int64

// Defaulter is implemented, on the pointer, by structs of nested blocks whose
// attributes have defaults.
type Defaulter interface {
	SetDefaults()
}

// newBlock returns an addressable struct with its defaults.
func newBlock(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	return v.Elem()
}

// Secret is text that is never printed. Reveal gives it away. Equal secrets are
// not == to each other.
type Secret struct {
	// Behind a pointer, because package fmt prints unexported fields of others as
	// they are, whatever their methods say.
	text *string
}

// NewSecret wraps a secret.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the secret's text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

// Format prints a placeholder whatever the verb is.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret)") }

// MarshalText returns a placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// NumberOr is a number or one of the attribute's keywords.
type NumberOr struct {
	Number  float64
	Keyword string // empty: Number counts
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
	numberOrType = reflect.TypeFor[NumberOr]()
)

// SchemaOf derives the schema of a configuration struct and its defaults.
//
// Each exported field is an attribute, or a nested block if it is a struct, a
// pointer to one (at most one block) or a slice of structs. Field tags:
//
//	config:"name,option,…"  options: required, sensitive, block, label, path_read,
//	                        path_write, tcp_connect, tcp_bind, device, one_of=GROUP
//	                        (at most one of the group), require_one_of=GROUP
//	                        (exactly one)
//	allowed:"a,b"           the only strings allowed
//	keywords:"max"          for NumberOr
//	doc:"…"                 description
//
// A pointer to a value is an attribute without default: nil when left out. The
// default of other attributes is the field's value in defaults unless that is
// the zero value and the attribute is required. SchemaOf panics if the struct
// cannot be a configuration: that is a mistake in the plugin.
func SchemaOf(defaults any) Schema {
	return schemaOf(reflect.ValueOf(defaults))
}

type fieldTag struct {
	name    string
	options []string
}

func (t fieldTag) has(option string) bool {
	for _, o := range t.options {
		if o == option {
			return true
		}
	}
	return false
}

// group returns the value of an option such as one_of=GROUP.
func (t fieldTag) group(option string) (string, bool) {
	for _, o := range t.options {
		if g, ok := strings.CutPrefix(o, option+"="); ok {
			return g, true
		}
	}
	return "", false
}

func parseTag(f reflect.StructField) fieldTag {
	parts := strings.Split(f.Tag.Get("config"), ",")
	return fieldTag{parts[0], parts[1:]}
}

func isBlock(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t != timeType && t != secretType && t != numberOrType
}

func schemaOf(v reflect.Value) Schema {
	var s Schema
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := parseTag(f)
		if tag.name == "" || tag.has("label") {
			continue
		}
		s.addGroup(tag, "one_of", false)
		s.addGroup(tag, "require_one_of", true)
		if isBlock(f.Type) {
			s.Blocks = append(s.Blocks, blockOf(f, tag, v.Field(i)))
		} else {
			s.Attributes = append(s.Attributes, attributeOf(f, tag, v.Field(i)))
		}
	}
	var groups []OneOf
	for _, g := range s.OneOf {
		groups = append(groups, OneOf{Names: g.Names[1:], Required: g.Required})
	}
	s.OneOf = groups
	return s
}

// addGroup collects the members of one_of groups; the group's own name stands
// first until the schema is complete.
func (s *Schema) addGroup(tag fieldTag, option string, required bool) {
	group, ok := tag.group(option)
	if !ok {
		return
	}
	for i := range s.OneOf {
		if s.OneOf[i].Names[0] == group {
			s.OneOf[i].Names = append(s.OneOf[i].Names, tag.name)
			return
		}
	}
	s.OneOf = append(s.OneOf, OneOf{Names: []string{group, tag.name}, Required: required})
}

func blockOf(f reflect.StructField, tag fieldTag, v reflect.Value) Block {
	b := Block{Type: tag.name, Max: 1, Description: f.Tag.Get("doc")}
	t := f.Type
	switch t.Kind() {
	case reflect.Pointer:
		t = t.Elem()
		v = newBlock(t)
	case reflect.Slice:
		t = t.Elem()
		v = newBlock(t)
		b.Max = 0
	}
	if tag.has("required") {
		b.Min = 1
	}
	for i := range t.NumField() {
		if label := parseTag(t.Field(i)); label.has("label") {
			b.Labels = append(b.Labels, label.name)
		}
	}
	b.Body = schemaOf(v)
	return b
}

func attributeOf(f reflect.StructField, tag fieldTag, v reflect.Value) Attribute {
	a := Attribute{
		Name:        tag.name,
		Required:    tag.has("required"),
		Sensitive:   tag.has("sensitive"),
		Description: f.Tag.Get("doc"),
		Allowed:     list(f.Tag.Get("allowed")),
		Keywords:    list(f.Tag.Get("keywords")),
	}
	for name, g := range map[string]Grant{
		"path_read": GrantPathRead, "path_write": GrantPathWrite, "tcp_connect": GrantTCPConnect,
		"tcp_bind": GrantTCPBind, "device": GrantDevice,
	} {
		if tag.has(name) {
			a.Grant = g
		}
	}
	t := f.Type
	optional := t.Kind() == reflect.Pointer
	if optional {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice:
		a.Collection, t = List, t.Elem()
	case t.Kind() == reflect.Map:
		a.Collection, t = Map, t.Elem()
	}
	a.Type = valueType(f.Name, t)
	if t == secretType {
		a.Sensitive = true
	}
	if !a.Required && !optional && !a.Sensitive && (a.Collection == Single || v.Len() > 0) {
		d := encodeValue(v)
		a.Default = &d
	}
	return a
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func valueType(field string, t reflect.Type) ValueType {
	switch t {
	case durationType:
		return TypeDuration
	case timeType:
		return TypeTime
	case sizeType:
		return TypeSize
	case secretType:
		return TypeString
	case numberOrType:
		return TypeNumber
	}
	switch t.Kind() {
	case reflect.String:
		return TypeString
	case reflect.Bool:
		return TypeBool
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint32:
		return TypeInteger
	case reflect.Float64:
		return TypeNumber
	}
	panic(fmt.Sprintf("sdk: configuration field %s has type %s, which no attribute can have", field, t))
}

func encodeValue(v reflect.Value) Value {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return Value{Kind: KindInteger}
		}
		return Value{Kind: KindInteger, Integer: x.UnixNano()}
	case NumberOr:
		if x.Keyword != "" {
			return Value{Kind: KindString, String: x.Keyword}
		}
		return Value{Kind: KindNumber, Number: x.Number}
	}
	switch v.Kind() {
	case reflect.String:
		return Value{Kind: KindString, String: v.String()}
	case reflect.Bool:
		return Value{Kind: KindBool, Bool: v.Bool()}
	case reflect.Float64:
		return Value{Kind: KindNumber, Number: v.Float()}
	case reflect.Uint32:
		return Value{Kind: KindInteger, Integer: int64(v.Uint())}
	case reflect.Slice:
		out := Value{Kind: KindList}
		for i := range v.Len() {
			out.List = append(out.List, encodeValue(v.Index(i)))
		}
		return out
	case reflect.Map:
		out := Value{Kind: KindMap, Map: map[string]Value{}}
		for key, item := range v.Seq2() {
			out.Map[key.String()] = encodeValue(item)
		}
		return out
	default:
		return Value{Kind: KindInteger, Integer: v.Int()}
	}
}

// Decode fills the struct that into points at from a body that was checked
// against the struct's schema. Fields that the body leaves out keep their value.
func Decode(body Body, into any) error {
	return decodeBody(body, reflect.ValueOf(into).Elem(), nil)
}

func decodeBody(body Body, v reflect.Value, labels []string) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := parseTag(f)
		switch {
		case tag.name == "":
		case tag.has("label"):
			if len(labels) == 0 {
				return fmt.Errorf("block has no label %q", tag.name)
			}
			v.Field(i).SetString(labels[0])
			labels = labels[1:]
		case isBlock(f.Type):
			if err := decodeBlocks(body, tag.name, v.Field(i)); err != nil {
				return err
			}
		default:
			value, ok := body.Attributes[tag.name]
			if !ok {
				continue
			}
			if err := decodeValue(value, v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", tag.name, err)
			}
		}
	}
	return nil
}

func decodeBlocks(body Body, name string, v reflect.Value) error {
	first := true
	for _, b := range body.Blocks {
		if b.Type != name {
			continue
		}
		if first && v.Kind() == reflect.Slice {
			v.SetZero() // blocks of the body take the place of default ones
		}
		first = false
		target := v
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(newBlock(v.Type().Elem()).Addr())
			target = v.Elem()
		case reflect.Slice:
			v.Set(reflect.Append(v, newBlock(v.Type().Elem())))
			target = v.Index(v.Len() - 1)
		}
		if err := decodeBody(b.Body, target, b.Labels); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func decodeValue(value Value, v reflect.Value) error {
	optional := v.Kind() == reflect.Pointer
	if optional {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	mismatch := fmt.Errorf("value of kind %d does not fit type %s", value.Kind, v.Type())
	switch v.Type() {
	case secretType:
		if value.Kind != KindString {
			return mismatch
		}
		v.Set(reflect.ValueOf(NewSecret(value.String)))
		return nil
	case timeType:
		if value.Kind != KindInteger {
			return mismatch
		}
		at := time.Time{} // 0 is the default of a time that is not set
		if value.Integer != 0 || optional {
			at = time.Unix(0, value.Integer).UTC()
		}
		v.Set(reflect.ValueOf(at))
		return nil
	case numberOrType:
		return decodeNumberOr(value, v, mismatch)
	}
	switch v.Kind() {
	case reflect.Slice:
		return decodeList(value, v, mismatch)
	case reflect.Map:
		return decodeMap(value, v, mismatch)
	}
	return decodeScalar(value, v, mismatch)
}

func decodeNumberOr(value Value, v reflect.Value, mismatch error) error {
	switch value.Kind {
	case KindString:
		v.Set(reflect.ValueOf(NumberOr{Keyword: value.String}))
	case KindNumber:
		v.Set(reflect.ValueOf(NumberOr{Number: value.Number}))
	case KindInteger:
		v.Set(reflect.ValueOf(NumberOr{Number: float64(value.Integer)}))
	default:
		return mismatch
	}
	return nil
}

func decodeScalar(value Value, v reflect.Value, mismatch error) error {
	switch {
	case v.Kind() == reflect.String && value.Kind == KindString:
		v.SetString(value.String)
	case v.Kind() == reflect.Bool && value.Kind == KindBool:
		v.SetBool(value.Bool)
	case v.Kind() == reflect.Float64 && value.Kind == KindNumber:
		v.SetFloat(value.Number)
	case v.Kind() == reflect.Float64 && value.Kind == KindInteger:
		v.SetFloat(float64(value.Integer))
	case v.CanInt() && value.Kind == KindInteger && !v.OverflowInt(value.Integer):
		v.SetInt(value.Integer)
	case v.CanUint() && value.Kind == KindInteger && value.Integer >= 0 && !v.OverflowUint(uint64(value.Integer)):
		v.SetUint(uint64(value.Integer))
	default:
		return mismatch
	}
	return nil
}

func decodeList(value Value, v reflect.Value, mismatch error) error {
	if value.Kind != KindList {
		return mismatch
	}
	out := reflect.MakeSlice(v.Type(), len(value.List), len(value.List))
	for i, item := range value.List {
		if err := decodeValue(item, out.Index(i)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func decodeMap(value Value, v reflect.Value, mismatch error) error {
	if value.Kind != KindMap {
		return mismatch
	}
	out := reflect.MakeMapWithSize(v.Type(), len(value.Map))
	for key, item := range value.Map {
		slot := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(item, slot); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(key), slot)
	}
	v.Set(out)
	return nil
}
