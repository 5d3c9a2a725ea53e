package sdk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func text(s string) sdk.Value       { return sdk.Value{Kind: sdk.KindString, String: s} }
func integer(n int64) sdk.Value     { return sdk.Value{Kind: sdk.KindInteger, Integer: n} }
func number(n float64) sdk.Value    { return sdk.Value{Kind: sdk.KindNumber, Number: n} }
func boolean(b bool) sdk.Value      { return sdk.Value{Kind: sdk.KindBool, Bool: b} }
func list(v ...sdk.Value) sdk.Value { return sdk.Value{Kind: sdk.KindList, List: v} }
func dict(m map[string]sdk.Value) sdk.Value {
	return sdk.Value{Kind: sdk.KindMap, Map: m}
}

func attributes(name string, v sdk.Value) sdk.Body {
	return sdk.Body{Attributes: map[string]sdk.Value{name: v}}
}

// field makes a configuration of one field, a pointer to a struct.
func field(v any, tag string) reflect.Value {
	t := reflect.StructOf([]reflect.StructField{{Name: "Field", Type: reflect.TypeOf(v), Tag: reflect.StructTag(tag)}})
	c := reflect.New(t)
	c.Elem().Field(0).Set(reflect.ValueOf(v))
	return c
}

func ptr[T any](v T) *T { return &v }

// TestAttributes has each kind of field: its schema, and a value that is decoded.
func TestAttributes(t *testing.T) {
	may := time.Date(2026, 5, 1, 12, 0, 0, 5, time.UTC)
	for _, tc := range []struct {
		name      string
		value     any // the default
		tag       string
		attribute sdk.Attribute
		given     sdk.Value
		decoded   any
	}{
		{"string", "a", `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Default: ptr(text("a"))}, text("b"), "b"},
		{"empty string", "", `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Default: ptr(text(""))}, text("b"), "b"},
		{"bool", true, `config:"x"`, sdk.Attribute{Type: sdk.TypeBool, Default: ptr(boolean(true))}, boolean(false), false},
		{"int", 3, `config:"x"`, sdk.Attribute{Type: sdk.TypeInteger, Default: ptr(integer(3))}, integer(-4), -4},
		{"int64", int64(3), `config:"x"`, sdk.Attribute{Type: sdk.TypeInteger, Default: ptr(integer(3))}, integer(1 << 62), int64(1 << 62)},
		{"int32", int32(3), `config:"x"`, sdk.Attribute{Type: sdk.TypeInteger, Default: ptr(integer(3))}, integer(-1 << 31), int32(-1 << 31)},
		{"uint32", uint32(3), `config:"x"`, sdk.Attribute{Type: sdk.TypeInteger, Default: ptr(integer(3))}, integer(1<<32 - 1), uint32(1<<32 - 1)},
		{"number", 1.5, `config:"x"`, sdk.Attribute{Type: sdk.TypeNumber, Default: ptr(number(1.5))}, number(2.5), 2.5},
		{"number from an integer", 1.5, `config:"x"`, sdk.Attribute{Type: sdk.TypeNumber, Default: ptr(number(1.5))}, integer(2), 2.0},
		{"duration", time.Second, `config:"x"`, sdk.Attribute{Type: sdk.TypeDuration, Default: ptr(integer(1e9))}, integer(5), 5 * time.Nanosecond},
		{"size", sdk.Size(1 << 20), `config:"x"`, sdk.Attribute{Type: sdk.TypeSize, Default: ptr(integer(1 << 20))}, integer(1 << 40), sdk.Size(1 << 40)},
		{"time", may, `config:"x"`, sdk.Attribute{Type: sdk.TypeTime, Default: ptr(integer(may.UnixNano()))}, integer(-1), time.Unix(-1, 999_999_999).UTC()},
		{"time that is not set", time.Time{}, `config:"x"`, sdk.Attribute{Type: sdk.TypeTime, Default: ptr(integer(0))}, integer(0), time.Time{}},
		{"optional time", (*time.Time)(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeTime}, integer(0), ptr(time.Unix(0, 0).UTC())},
		{"optional string", (*string)(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeString}, text(""), ptr("")},
		{"optional number", (*float64)(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeNumber}, number(0), ptr(0.0)},
		{"required", "", `config:"x,required"`, sdk.Attribute{Type: sdk.TypeString, Required: true}, text("b"), "b"},
		{"secret", sdk.Secret{}, `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Sensitive: true}, text("b"), sdk.NewSecret("b")},
		{"sensitive", "", `config:"x,sensitive"`, sdk.Attribute{Type: sdk.TypeString, Sensitive: true}, text("b"), "b"},
		{"doc", 1, `config:"x" doc:"How many, at most."`, sdk.Attribute{Type: sdk.TypeInteger, Default: ptr(integer(1)), Description: "How many, at most."}, integer(2), 2},
		{"allowed", "a", `config:"x" allowed:"a,b"`, sdk.Attribute{Type: sdk.TypeString, Default: ptr(text("a")), Allowed: []string{"a", "b"}}, text("b"), "b"},
		{
			"keyword by default",
			sdk.NumberOr{Keyword: "max"},
			`config:"x" keywords:"max,min"`,
			sdk.Attribute{Type: sdk.TypeNumber, Default: ptr(text("max")), Keywords: []string{"max", "min"}},
			number(2),
			sdk.NumberOr{Number: 2},
		},
		{
			"number by default",
			sdk.NumberOr{Number: 1},
			`config:"x" keywords:"max"`,
			sdk.Attribute{Type: sdk.TypeNumber, Default: ptr(number(1)), Keywords: []string{"max"}},
			text("max"),
			sdk.NumberOr{Keyword: "max"},
		},
		{"number or, an integer", sdk.NumberOr{}, `config:"x,required"`, sdk.Attribute{Type: sdk.TypeNumber, Required: true}, integer(7), sdk.NumberOr{Number: 7}},
		{"list", []string(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Collection: sdk.List}, list(text("a"), text("b")), []string{"a", "b"}},
		{
			"list with a default",
			[]time.Duration{1},
			`config:"x"`,
			sdk.Attribute{Type: sdk.TypeDuration, Collection: sdk.List, Default: ptr(list(integer(1)))},
			list(),
			[]time.Duration{},
		},
		{"secrets", []sdk.Secret(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Collection: sdk.List, Sensitive: true}, list(text("a")), []sdk.Secret{sdk.NewSecret("a")}},
		{"times", []time.Time(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeTime, Collection: sdk.List}, list(integer(5)), []time.Time{time.Unix(0, 5).UTC()}},
		{
			"map",
			map[string]int64{"a": 1},
			`config:"x"`,
			sdk.Attribute{Type: sdk.TypeInteger, Collection: sdk.Map, Default: ptr(dict(map[string]sdk.Value{"a": integer(1)}))},
			dict(map[string]sdk.Value{"b": integer(2)}),
			map[string]int64{"b": 2},
		},
		{"map of secrets", map[string]sdk.Secret(nil), `config:"x"`, sdk.Attribute{Type: sdk.TypeString, Collection: sdk.Map, Sensitive: true}, dict(map[string]sdk.Value{"k": text("a")}), map[string]sdk.Secret{"k": sdk.NewSecret("a")}},
		{"path to read", "", `config:"x,required,path_read"`, sdk.Attribute{Type: sdk.TypeString, Required: true, Grant: sdk.GrantPathRead}, text("/a"), "/a"},
		{"path to write", "", `config:"x,required,path_write"`, sdk.Attribute{Type: sdk.TypeString, Required: true, Grant: sdk.GrantPathWrite}, text("/a"), "/a"},
		{"address to connect to", "", `config:"x,required,tcp_connect"`, sdk.Attribute{Type: sdk.TypeString, Required: true, Grant: sdk.GrantTCPConnect}, text("a:1"), "a:1"},
		{"address to listen at", "", `config:"x,required,tcp_bind"`, sdk.Attribute{Type: sdk.TypeString, Required: true, Grant: sdk.GrantTCPBind}, text("a:1"), "a:1"},
		{"device", "", `config:"x,required,device"`, sdk.Attribute{Type: sdk.TypeString, Required: true, Grant: sdk.GrantDevice}, text("/dev/a"), "/dev/a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := field(tc.value, tc.tag)
			tc.attribute.Name = "x"
			assert.Equal(t, sdk.Schema{Attributes: []sdk.Attribute{tc.attribute}}, sdk.SchemaOf(c.Elem().Interface()))

			require.NoError(t, sdk.Decode(sdk.Body{}, c.Interface()))
			assert.Equal(t, tc.value, c.Elem().Field(0).Interface(), "left out: the default stays")
			require.NoError(t, sdk.Decode(attributes("x", tc.given), c.Interface()))
			assert.Equal(t, tc.decoded, c.Elem().Field(0).Interface())
		})
	}
}

// TestDefaultsDecodeToThemselves: the host fills in the schema's defaults.
func TestDefaultsDecodeToThemselves(t *testing.T) {
	for _, v := range []any{
		"a", true, 7, int64(7), int32(7), uint32(7), 1.5, time.Minute, sdk.Size(9), time.Unix(5, 6).UTC(),
		time.Time{},
		sdk.NumberOr{Keyword: "max"},
		sdk.NumberOr{Number: 2},
		[]string{"a", "b"},
		map[string]time.Duration{"a": 1},
	} {
		c := field(v, `config:"x"`)
		schema := sdk.SchemaOf(c.Elem().Interface())
		c.Elem().Field(0).SetZero()
		require.NoError(t, sdk.Decode(attributes("x", *schema.Attributes[0].Default), c.Interface()))
		assert.Equal(t, v, c.Elem().Field(0).Interface())
	}
}

// TestMisfits: a value of another kind is an error, never a panic or a wrong value.
func TestMisfits(t *testing.T) {
	values := []sdk.Value{text("a"), integer(1), number(1.5), boolean(true), list(list()), dict(map[string]sdk.Value{"a": list()}), {}, {Kind: 99}}
	fits := func(v any, given sdk.Value) bool {
		switch v.(type) {
		case string, sdk.Secret:
			return given.Kind == sdk.KindString
		case bool:
			return given.Kind == sdk.KindBool
		case float64:
			return given.Kind == sdk.KindNumber || given.Kind == sdk.KindInteger
		case sdk.NumberOr:
			return given.Kind == sdk.KindNumber || given.Kind == sdk.KindInteger || given.Kind == sdk.KindString
		case []string, map[string]int:
			return false
		}
		return given.Kind == sdk.KindInteger
	}
	for _, v := range []any{
		"", false, 0, int64(0), int32(0), uint32(0), 0.0, time.Duration(0), sdk.Size(0),
		time.Time{},
		sdk.Secret{},
		sdk.NumberOr{},
		[]string{},
		map[string]int{},
	} {
		for _, given := range values {
			c := field(v, `config:"x"`)
			err := sdk.Decode(attributes("x", given), c.Interface())
			if fits(v, given) {
				assert.NoError(t, err, "%T from kind %d", v, given.Kind)
			} else {
				assert.ErrorContains(t, err, "x: value of kind", "%T from kind %d", v, given.Kind)
			}
		}
	}
	for _, tc := range []struct {
		v     any
		given int64
	}{{int32(0), 1 << 31}, {uint32(0), -1}, {uint32(0), 1 << 32}} {
		assert.Error(t, sdk.Decode(attributes("x", integer(tc.given)), field(tc.v, `config:"x"`).Interface()))
	}
}

func TestFieldsThatCannotBe(t *testing.T) {
	for _, v := range []any{uint64(0), float32(0), map[string]struct{}{}, []map[string]string{}, func() {}} {
		assert.Panics(t, func() { sdk.SchemaOf(field(v, `config:"x"`).Elem().Interface()) }, "%T", v)
		assert.NotPanics(t, func() { sdk.SchemaOf(field(v, `json:"x"`).Elem().Interface()) }, "not a part of the configuration")
	}
}

type blocksConfig struct {
	Time    timeBlock   `config:"time" doc:"Where the stamp comes from."`
	TLS     *tlsBlock   `config:"tls,one_of=security"`
	Plain   *plainBlock `config:"plain,one_of=security"`
	Columns []column    `config:"column,required"`
	File    string      `config:"file,require_one_of=input"`
	Pattern string      `config:"pattern,require_one_of=input"`
	Stdin   bool        `config:"stdin,require_one_of=input"`
	private string
	Other   string
}

type timeBlock struct {
	Column string        `config:"column"`
	Offset time.Duration `config:"offset"`
}

type tlsBlock struct {
	Version int `config:"version"`
}

func (b *tlsBlock) SetDefaults() { b.Version = 13 }

type plainBlock struct{}

type column struct {
	Group string   `config:"group,label"`
	Name  string   `config:"name,label"`
	Type  string   `config:"type"`
	Map   []enumOf `config:"value"`
}

func (c *column) SetDefaults() { c.Type = "double" }

type enumOf struct {
	Key int64 `config:"key,required"`
}

func defaultBlocks() blocksConfig {
	return blocksConfig{Time: timeBlock{Column: "t"}, private: "kept", Other: "kept"}
}

func TestBlockSchema(t *testing.T) {
	assert.Equal(t, sdk.Schema{
		Attributes: []sdk.Attribute{
			{Name: "file", Type: sdk.TypeString, Default: ptr(text(""))},
			{Name: "pattern", Type: sdk.TypeString, Default: ptr(text(""))},
			{Name: "stdin", Type: sdk.TypeBool, Default: ptr(boolean(false))},
		},
		Blocks: []sdk.Block{
			{Type: "time", Max: 1, Description: "Where the stamp comes from.", Body: sdk.Schema{Attributes: []sdk.Attribute{
				{Name: "column", Type: sdk.TypeString, Default: ptr(text("t"))},
				{Name: "offset", Type: sdk.TypeDuration, Default: ptr(integer(0))},
			}}},
			{Type: "tls", Max: 1, Body: sdk.Schema{Attributes: []sdk.Attribute{
				{Name: "version", Type: sdk.TypeInteger, Default: ptr(integer(13))},
			}}},
			{Type: "plain", Max: 1},
			{Type: "column", Min: 1, Labels: []string{"group", "name"}, Body: sdk.Schema{
				Attributes: []sdk.Attribute{{Name: "type", Type: sdk.TypeString, Default: ptr(text("double"))}},
				Blocks: []sdk.Block{{Type: "value", Body: sdk.Schema{Attributes: []sdk.Attribute{
					{Name: "key", Type: sdk.TypeInteger, Required: true},
				}}}},
			}},
		},
		OneOf: []sdk.OneOf{
			{Names: []string{"tls", "plain"}},
			{Names: []string{"file", "pattern", "stdin"}, Required: true},
		},
	}, sdk.SchemaOf(defaultBlocks()))
}

func TestDecodeBlocks(t *testing.T) {
	body := sdk.Body{
		Attributes: map[string]sdk.Value{"file": text("a.csv"), "unknown": text("ignored")},
		Blocks: []sdk.BlockBody{
			{Type: "column", Labels: []string{"imu", "x"}},
			{Type: "time", Body: attributes("offset", integer(5))},
			{Type: "column", Labels: []string{"imu", "mode"}, Body: sdk.Body{
				Attributes: map[string]sdk.Value{"type": text("enum")},
				Blocks: []sdk.BlockBody{
					{Type: "value", Body: attributes("key", integer(1))},
					{Type: "value", Body: attributes("key", integer(2))},
				},
			}},
			{Type: "tls"},
		},
	}
	got := defaultBlocks()
	require.NoError(t, sdk.Decode(body, &got))
	want := defaultBlocks()
	want.Time.Offset, want.File, want.TLS = 5, "a.csv", &tlsBlock{Version: 13}
	want.Columns = []column{
		{Group: "imu", Name: "x", Type: "double"},
		{Group: "imu", Name: "mode", Type: "enum", Map: []enumOf{{1}, {2}}},
	}
	assert.Equal(t, want, got)

	require.EqualError(t, sdk.Decode(sdk.Body{Blocks: []sdk.BlockBody{{Type: "column", Labels: []string{"imu"}}}}, &got),
		`column: block has no label "name"`)
	require.EqualError(t, sdk.Decode(sdk.Body{Blocks: []sdk.BlockBody{
		{Type: "column", Labels: []string{"a", "b"}, Body: sdk.Body{Blocks: []sdk.BlockBody{{Type: "value", Body: attributes("key", text("1"))}}}},
	}}, &got), "column: value: key: value of kind 1 does not fit type int64")
}

// TestBlocksReplaceDefaults: and what one configuration gets does not show in
// another one.
func TestBlocksReplaceDefaults(t *testing.T) {
	defaults := defaultBlocks()
	defaults.Columns = append(make([]column, 0, 10), column{Name: "default"})
	var opened []blocksConfig
	p := sdk.NewSource(sdk.Info{}, sdk.SourceCapabilities{}, defaults, func(_ sdk.Settings, c blocksConfig) (sdk.Source, error) {
		opened = append(opened, c)
		return nil, nil
	})
	names := [][]string{{"a"}, {"b", "c"}, nil, {"d"}}
	for _, group := range names {
		var body sdk.Body
		for _, name := range group {
			body.Blocks = append(body.Blocks, sdk.BlockBody{Type: "column", Labels: []string{"g", name}})
		}
		_, err := p.Open(sdk.Settings{}, body)
		require.NoError(t, err)
	}
	var got [][]string
	for _, c := range opened {
		var group []string
		for _, col := range c.Columns {
			group = append(group, col.Name)
		}
		got = append(got, group)
	}
	names[2] = []string{"default"}
	assert.Equal(t, names, got)
}

// checked is a configuration that checks itself.
type checked struct {
	Size int `config:"size"`
}

func (c *checked) Validate() []sdk.Diagnostic {
	if c.Size > 10 {
		return []sdk.Diagnostic{sdk.Problem("Too large", "At most 10.", "size")}
	}
	return nil
}

func TestPluginValidates(t *testing.T) {
	p := sdk.NewEncoder(sdk.Info{Name: "x"}, sdk.EncoderCapabilities{Format: "f"}, checked{Size: 3},
		func(_ sdk.Settings, c checked) (sdk.Encoder, error) { return nil, fmt.Errorf("opened with %d", c.Size) })
	assert.Equal(t, sdk.KindEncoder, p.Kind)
	assert.Equal(t, "f", p.Encoder.Format)
	assert.Equal(t, ptr(integer(3)), p.Schema.Attributes[0].Default)
	assert.Empty(t, p.Validate(sdk.Body{}))
	assert.Equal(t, []sdk.Diagnostic{{
		Severity: sdk.SeverityError, Summary: "Too large", Detail: "At most 10.", Path: []sdk.Step{{Attribute: "size"}},
	}}, p.Validate(attributes("size", integer(11))))
	assert.Equal(t, []sdk.Diagnostic{{
		Severity: sdk.SeverityError, Summary: "Invalid configuration", Detail: "size: value of kind 1 does not fit type int",
	}}, p.Validate(attributes("size", text("x"))))

	_, err := p.Open(sdk.Settings{}, sdk.Body{})
	require.EqualError(t, err, "opened with 3")
	_, err = p.Open(sdk.Settings{}, attributes("size", text("x")))
	require.ErrorContains(t, err, "does not fit")
	assert.Equal(t, sdk.KindTransport, sdk.NewTransport(sdk.Info{}, sdk.TransportCapabilities{}, checked{},
		func(sdk.Settings, checked) (sdk.Transport, error) { return nil, nil }).Kind)
}

func TestProblem(t *testing.T) {
	assert.Empty(t, sdk.Problem("S", "D").Path)
	assert.Equal(t, []sdk.Step{{Block: "time"}, {Attribute: "unit"}}, sdk.Problem("S", "D", "time", "unit").Path)
}

// keyHolder is how plugins keep secrets: in fields that package fmt cannot call
// methods of.
type keyHolder struct {
	Shown  sdk.Secret
	hidden sdk.Secret
	inner  struct{ deep []sdk.Secret }
	at     *sdk.Secret
	byName map[string]sdk.Secret
	any    any
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	const word = "hunter2"
	secret := sdk.NewSecret(word)
	holder := keyHolder{Shown: secret, hidden: secret, at: &secret, byName: map[string]sdk.Secret{"k": secret}, any: secret}
	holder.inner.deep = []sdk.Secret{secret}

	var printed bytes.Buffer
	for _, v := range []any{secret, &secret, []sdk.Secret{secret}, map[string]sdk.Secret{"k": secret}, holder, &holder, []any{holder}} {
		for _, verb := range "vsqdxXpTtbcoOUeEfFgGwz" {
			for _, flag := range []string{"", "+", "#", " ", "0", "-5", ".3"} {
				fmt.Fprintf(&printed, "%"+flag+string(verb), v)
			}
		}
		fmt.Fprintln(&printed, v)
		fmt.Fprintln(&printed, errors.Join(fmt.Errorf("%v", v)))
		raw, err := json.Marshal(v)
		if err == nil {
			printed.Write(raw)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
			slog.New(handler).With("with", v).WithGroup("g").Info("m", "k", v, slog.Any("any", v), slog.Group("g", "k", v))
		}
	}
	assert.NotContains(t, printed.String(), word)
	assert.NotContains(t, printed.String(), fmt.Sprintf("%x", word))
	assert.NotContains(t, printed.String(), fmt.Sprintf("%X", word))
	assert.NotContains(t, printed.String(), fmt.Sprint([]byte(word)))

	assert.Equal(t, "(secret)", fmt.Sprint(secret))
	assert.Equal(t, "(secret) (secret)", fmt.Sprintf("%q %d", secret, secret))
	raw, err := json.Marshal(secret)
	require.NoError(t, err)
	assert.Equal(t, `"(secret)"`, string(raw))
	assert.Equal(t, word, secret.Reveal())
	assert.True(t, secret.IsSet())
	assert.False(t, sdk.NewSecret("").IsSet())
	assert.False(t, sdk.Secret{}.IsSet())
	assert.Empty(t, sdk.Secret{}.Reveal())
}
