package jsonline_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
)

func path(t testing.TB, text string) jsonline.Path {
	t.Helper()
	p, err := jsonline.ParsePath(text)
	require.NoError(t, err)
	return p
}

func tree(t testing.TB, paths ...string) *jsonline.Tree {
	t.Helper()
	out := jsonline.NewTree()
	for i, p := range paths {
		require.Equal(t, i, out.Add(path(t, p)))
	}
	return out
}

var kinds = [...]string{"-", "null", "bool", "number", "string", "array", "object"}

// short writes values as "number 1, -, string x".
func short(values []jsonline.Value) string {
	var out []string
	for _, v := range values {
		out = append(out, strings.TrimSuffix(kinds[v.Kind]+" "+string(v.Text), " "))
	}
	return strings.Join(out, ", ")
}

func TestParsePath(t *testing.T) {
	for text, want := range map[string]jsonline.Path{
		"a":            {{Key: "a"}},
		"a.b":          {{Key: "a"}, {Key: "b"}},
		"c[0].d":       {{Key: "c"}, {Element: true}, {Key: "d"}},
		"c[1][22]":     {{Key: "c"}, {Index: 1, Element: true}, {Index: 22, Element: true}},
		`["a.b"].c`:    {{Key: "a.b"}, {Key: "c"}},
		`x["[\"]"][3]`: {{Key: "x"}, {Key: `["]`}, {Index: 3, Element: true}},
		"_a b-ü":       {{Key: "_a b-ü"}},
		`[""]`:         {{Key: ""}},
	} {
		got, err := jsonline.ParsePath(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, text, got.String())
	}
}

func TestBadPaths(t *testing.T) {
	for text, want := range map[string]string{
		"":              "empty path",
		".a":            `path ".a": empty key`,
		"a.":            `path "a.": unexpected "."`,
		"a..b":          `path "a..b": empty key`,
		"a.[0]":         `path "a.[0]": unexpected ".[0]"`,
		"a]":            `path "a]": unexpected "]"`,
		"a[0]b":         `path "a[0]b": unexpected "b"`,
		"a[]":           `path "a[]": "[]" is not an element such as [0]`,
		"a[-1]":         `path "a[-1]": "[-1]" is not an element such as [0]`,
		"a[0":           `path "a[0": "[0" is not an element such as [0]`,
		"a[9999999]":    `path "a[9999999]": "[9999999]" is not an element such as [0]`,
		"[0].a":         `path "[0].a": a line is an object; begin with a key`,
		`["a`:           `path "[\"a": the quote of ["a is not closed`,
		`["a"`:          `path "[\"a\"": no ] after "a"`,
		`["\q"]`:        `path "[\"\\q\"]": "\q" is not a JSON string`,
		deep("a", ".a"): "path of 101 steps, the limit is 100",
	} {
		_, err := jsonline.ParsePath(text)
		assert.EqualError(t, err, want)
	}
}

func deep(first, more string) string { return first + strings.Repeat(more, 100) }

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		paths      []string
		want       string
	}{
		{
			"kinds", `{"a":1,"b":"x","c":true,"d":null,"e":[1],"f":{"g":1},"h":false}`,
			[]string{"a", "b", "c", "d", "e", "f", "h", "i"},
			`number 1, string x, bool true, null null, array [1], object {"g":1}, bool false, -`,
		},
		{"nested", `{"a":{"b":{"c":1}},"d":2}`, []string{"a.b.c", "d"}, "number 1, number 2"},
		{"elements", `{"c":[{"d":1},{"d":[5,6]}]}`, []string{"c[0].d", "c[1].d[1]", "c[2].d"}, "number 1, number 6, -"},
		{"parts and the whole", `{"a":{"b":1}}`, []string{"a", "a.b"}, `object {"b":1}, number 1`},
		{"spaces", " { \"a\" :\t1 ,\"b\" : [ 1 , 2 ] } \r", []string{"a", "b"}, "number 1, array [ 1 , 2 ]"},
		{"empty", `{}`, []string{"a"}, "-"},
		{"twice", `{"a":1,"a":2}`, []string{"a"}, "number 2"},
		{
			"numbers", `{"a":-0.5e+10,"b":0,"c":NaN,"d":-Infinity,"e":1E5}`,
			[]string{"a", "b", "c", "d", "e"},
			"number -0.5e+10, number 0, number NaN, number -Infinity, number 1E5",
		},
		{
			"escapes", `{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00x","b\u0063":"y"}`,
			[]string{"a", "bc"},
			"string \"\\/\b\f\n\r\té😀x, string y",
		},
		{"scalar where an object should be", `{"a":5}`, []string{"a.b"}, "-"},
		{"object where a scalar should be", `{"a":{"b":5}}`, []string{"a"}, `object {"b":5}`},
		{"key with a dot", `{"a.b":1,"a":{"b":2}}`, []string{`["a.b"]`, "a.b"}, "number 1, number 2"},
		{"unwanted half character", `{"a":1}`, []string{"a"}, "number 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			values, err := tree(t, tc.paths...).Read([]byte(tc.line))
			require.NoError(t, err)
			assert.Equal(t, tc.want, short(values))
		})
	}
}

func TestBadLines(t *testing.T) {
	for line, want := range map[string]string{
		``:                      "line is not a JSON object (byte 1)",
		`[1]`:                   "line is not a JSON object (byte 1)",
		`  5`:                   "line is not a JSON object (byte 3)",
		`{`:                     "line is not JSON (byte 2)",
		`{"a"`:                  "line is not JSON (byte 5)",
		`{"a":`:                 "line is not JSON (byte 6)",
		`{"a":1`:                "line is not JSON (byte 7)",
		`{"a":1,}`:              "line is not JSON (byte 8)",
		`{"a":1 "b":2}`:         "line is not JSON (byte 8)",
		`{a:1}`:                 "line is not JSON (byte 2)",
		`{"a":01}`:              "line is not JSON (byte 7)",
		`{"a":+1}`:              "line is not JSON (byte 6)",
		`{"a":.5}`:              "line is not JSON (byte 6)",
		`{"a":1.}`:              "line is not JSON (byte 8)",
		`{"a":1e}`:              "line is not JSON (byte 8)",
		`{"a":-}`:               "line is not JSON (byte 7)",
		`{"a":tru}`:             "line is not JSON (byte 6)",
		`{"a":nan}`:             "line is not JSON (byte 6)",
		`{"a":[1,]}`:            "line is not JSON (byte 9)",
		`{"a":[1 2]}`:           "line is not JSON (byte 9)",
		`{"a":[}`:               "line is not JSON (byte 7)",
		`{"a":"x`:               "line is not JSON (byte 8)",
		`{"a":"\`:               "line is not JSON (byte 8)",
		`{"a":"\q"}`:            "line is not JSON (byte 8)",
		`{"a":"\u12"}`:          "line is not JSON (byte 9)",
		`{"a":"\u12`:            "line is not JSON (byte 9)",
		`{"a":"\ud800"}`:        "string has half a character (byte 13)",
		`{"a":"\ud800\n"}`:      "string has half a character (byte 13)",
		`{"a":"\ude00\ud83d"}`:  "string has half a character (byte 13)",
		"{\"a\":\"x\ty\"}":      "line is not JSON (byte 8)",
		"{\"a\":\"\\n\ty\"}":    "line is not JSON (byte 9)",
		"{\"a\":\"\xff\"}":      "line is not UTF-8 (byte 7)",
		`{"a":1}{"a":2}`:        "text follows the JSON object (byte 8)",
		`{"a":1},`:              "text follows the JSON object (byte 8)",
		`{"a":"x"y}`:            "line is not JSON (byte 9)",
		deep(`{"a":`, `[`):      "values are nested too deep (byte 105)",
		deep(`{"a":`, `{"a":`):  "values are nested too deep (byte 501)",
		deep(`{"b":1,"a":`, ""): "line is not JSON (byte 12)",
	} {
		values, err := tree(t, "a").Read([]byte(line))
		assert.EqualError(t, err, want, line)
		assert.Nil(t, values)
	}
}

func learn(t testing.TB, tr *jsonline.Tree, lines ...string) {
	t.Helper()
	tr.Learn(1000)
	for _, line := range lines {
		_, err := tr.Read([]byte(line))
		require.NoError(t, err)
	}
	tr.Learn(0)
}

func names(tr *jsonline.Tree) []string {
	var out []string
	for i := range tr.Len() {
		out = append(out, tr.Name(i))
	}
	return out
}

func TestLearn(t *testing.T) {
	tr := tree(t, "h[0].rssi", "whole")
	learn(t, tr,
		`{"t":1,"pos":{"lat":1,"in":{"x":2}},"h":[{"rssi":1,"snr":2}],"whole":{"no":1},"list":[1,{"q":1}]}`,
		`{"t":2,"pos":null,"mode":"x","e":{}}`,
		`{"later":null,"mixed":5}`,
		`{"later":{"a":1},"mixed":{"b":2},"pos":7}`,
	)
	assert.Equal(t, []string{
		"h[0].rssi", "whole", "t", "pos.lat", "pos.in.x", "list", "mode", "e", "later", "mixed", "later.a", "mixed.b", "pos",
	}, names(tr))

	assert.True(t, tr.Parts(slices.Index(names(tr), "later")))

	var unknown []string
	tr.OnUnknown(func(name string) { unknown = append(unknown, name) })
	values, err := tr.Read([]byte(`{"new":1,"pos":{"lat":5,"up":{"z":1}},"t":{"u":1},"list":[{"q":2}],"whole":{"no":2},` +
		`"h":7,"later":{"a":3,"b":4},"e":{"f":1},"mixed":{"b":3}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"new", "pos.up", "h", "later.b"}, unknown)
	assert.Equal(t, `-, object {"no":2}, object {"u":1}, number 5, -, array [{"q":2}], -, object {"f":1}, -, -, number 3, number 3, -`,
		short(values))
}

// TestAddLearned: paths that were learned once are learned for good.
func TestAddLearned(t *testing.T) {
	line := `{"a":{"b":1,"c.d":2},"x":"y"}`
	first := jsonline.NewTree()
	learn(t, first, line)
	again := jsonline.NewTree()
	for i := range first.Len() {
		again.AddLearned(path(t, first.Path(i).String()))
		assert.False(t, first.Parts(i))
	}
	assert.Equal(t, names(first), names(again))
	for _, tr := range []*jsonline.Tree{first, again} {
		values, err := tr.Read([]byte(line))
		require.NoError(t, err)
		assert.Equal(t, "number 1, number 2, string y", short(values))
	}
}

func TestIgnore(t *testing.T) {
	tr := jsonline.NewTree()
	learn(t, tr, `{"a":1,"list":[1]}`)
	tr.Ignore(1)
	var unknown []string
	tr.OnUnknown(func(name string) { unknown = append(unknown, name) })
	values, err := tr.Read([]byte(`{"a":2,"list":[2]}`))
	require.NoError(t, err)
	assert.Equal(t, "number 2, -", short(values))
	assert.Empty(t, unknown)
}

func TestLearnLimit(t *testing.T) {
	tr := jsonline.NewTree()
	tr.Learn(2)
	_, err := tr.Read([]byte(`{"a":1,"b":2,"c":3}`))
	require.EqualError(t, err, "line has too many different keys (byte 18)")
	assert.Equal(t, 2, tr.Len())
}

// flat is what encoding/json makes of a line, with the names that Learn gives.
func flat(name string, value any, out map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for k, item := range v {
			next := k
			if name != "" {
				next = name + "." + k
			}
			flat(next, item, out)
		}
		if len(v) == 0 && name != "" {
			out[name] = "object"
		}
	case []any:
		out[name] = "array"
	case string:
		out[name] = "string " + v
	case json.Number:
		out[name] = "number " + v.String()
	case bool:
		out[name] = fmt.Sprintf("bool %t", v)
	case nil:
		out[name] = "null null"
	}
}

// TestLikeEncodingJSON compares with encoding/json on random objects.
func TestLikeEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line, err := json.Marshal(object(3).Draw(t, "object"))
		require.NoError(t, err)
		checkLikeJSON(t, line)
	})
}

func object(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		out := map[string]any{}
		for _, k := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-dé"\\]{1,2}`), 0, 4, rapid.ID).Draw(t, "keys") {
			out[k] = value(depth).Draw(t, "value")
		}
		return out
	})
}

func value(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int64().AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }).AsAny(),
	}
	if depth > 0 {
		kinds = append(kinds, object(depth-1).AsAny(), rapid.SliceOfN(rapid.Int().AsAny(), 0, 3).AsAny())
	}
	return rapid.OneOf(kinds...)
}

type tester interface {
	require.TestingT
	Helper()
}

func checkLikeJSON(t tester, line []byte) {
	t.Helper()
	var parsed map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&parsed))
	want := map[string]string{}
	flat("", parsed, want)

	tr := jsonline.NewTree()
	tr.Learn(1 << 16)
	values, err := tr.Read(line)
	require.NoError(t, err)
	got := map[string]string{}
	for i, v := range values {
		switch v.Kind {
		case jsonline.Absent:
		case jsonline.Array, jsonline.Object:
			require.True(t, json.Valid(v.Text))
			got[tr.Name(i)] = kinds[v.Kind]
		default:
			got[tr.Name(i)] = kinds[v.Kind] + " " + string(v.Text)
		}
	}
	require.Equal(t, want, got)
}

// FuzzRead: what encoding/json takes is read with the same values, what it does
// not take is refused; the exceptions are stated here.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":{"c":[1,2,{"d":"\u00e9\ud83d\ude00"}]},"e":null}`, `{"a":NaN}`, `{"a":1}x`, `[]`, `{"a":"\ud800"}`,
		`{"t":1.5e3,"x":true,"y":false}`, "{\"a\":\"\xff\"}", `{"a":1,"a":{"b":2}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		tr := jsonline.NewTree()
		tr.Learn(1 << 16)
		_, err := tr.Read([]byte(line))
		var parsed map[string]any
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		valid := decoder.Decode(&parsed) == nil && parsed != nil && !decoder.More() && json.Valid([]byte(line))
		if err != nil {
			e, ok := err.(*jsonline.Error)
			require.True(t, ok)
			require.LessOrEqual(t, e.At, len(line))
			stricter := []string{jsonline.NotUTF8, jsonline.LoneHalf, jsonline.TooDeep, jsonline.TooMany}
			require.True(t, !valid || slices.Contains(stricter, e.Reason), "refused: %v", err)
			return
		}
		if strings.Contains(line, "NaN") || strings.Contains(line, "Infinity") {
			return
		}
		require.True(t, valid, "accepted")
		if keysDiffer(line) {
			checkLikeJSON(t, []byte(line))
		}
	})
}

// keysDiffer reports whether no name stands twice in the line: then it does not
// matter which value counts.
func keysDiffer(line string) bool {
	seen := map[string]int{}
	for part := range strings.SplitSeq(line, `"`) {
		seen[part]++
	}
	for key := range maps.Keys(seen) {
		if seen[key] > 1 || strings.ContainsAny(key, ".\\") || key == "" {
			return false
		}
	}
	return true
}

func BenchmarkRead(b *testing.B) {
	line := []byte(`{"time": 1.0, "velocity": 1.944, "altitude": 0.001, "velocity_y": 1.989, "velocity_x": 0.0, ` +
		`"acceleration": 11.095, "downrange_distance": 0.0, "angle": 90.0, "q": 2.314503215418331, "stage": 1}`)
	tr := jsonline.NewTree()
	learn(b, tr, string(line))
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.Read(line); err != nil {
			b.Fatal(err)
		}
	}
}
