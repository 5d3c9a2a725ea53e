package filter_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/sift/filter"
)

var fields = filter.Fields{
	"client_key": filter.String, "name": filter.String, "asset_id": filter.Strings, "is_archived": filter.Bool,
}

func record(field string) []string {
	return map[string][]string{
		"client_key":  {"key-1"},
		"name":        {`it's "so"`},
		"asset_id":    {"a", "b"},
		"is_archived": {"false"},
	}[field]
}

func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		"":                            true,
		"  \t\n":                      true,
		`client_key == 'key-1'`:       true,
		`client_key=="key-1"`:         true,
		`client_key == 'key-2'`:       false,
		`client_key != 'key-2'`:       true,
		`client_key == ''`:            false,
		`name == 'it\'s "so"'`:        true,
		`name == "it's \"so\""`:       true,
		`name == "it\x27s \042so\""`:  true,
		`name == "it\u0027s \"so\""`:  true,
		`name == "it\U00000027s"`:     false,
		`name in ['a','it\'s "so"']`:  true,
		`name in ['a', 'b']`:          false,
		`name in []`:                  false,
		`asset_id == 'b'`:             true,
		`asset_id != 'b'`:             false,
		`asset_id != 'c'`:             true,
		`asset_id in ['c','a']`:       true,
		`asset_id.contains('b')`:      true,
		`is_archived`:                 false,
		`!is_archived`:                true,
		`!!is_archived`:               false,
		`is_archived == false`:        true,
		`is_archived in [true,false]`: true,
		`name.contains("\"so")`:       true,
		`name.startsWith('it')`:       true,
		`name.endsWith('it')`:         false,

		`client_key == 'key-1' && is_archived == true`:                       false,
		`client_key == 'key-1' || is_archived == true`:                       true,
		`is_archived && is_archived || client_key == 'key-1'`:                true,
		`is_archived && (is_archived || client_key == 'key-1')`:              false,
		`!(is_archived || client_key=='x')&&name!='y'&&client_key=='key-1'`:  true,
		strings.Repeat("(", 60) + "!is_archived" + strings.Repeat(")", 60):   true,
		`name in [` + strings.Repeat(`'x',`, 10_000) + `"it's \"so\""` + `]`: true,
	} {
		f, err := filter.Parse(text, fields)
		if assert.NoError(t, err, text) {
			assert.Equal(t, want, f.Match(record), text)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		`client_key == 'it's'`:                 "at byte 18: expected the end, found \"s\"",
		`client_key == 'x`:                     "at byte 14: the string has no end",
		`client_key == "x\"`:                   "at byte 14: the string has no end",
		`client_key == 'x\`:                    "unknown escape sequence",
		`client_key == 'x\q'`:                  "at byte 16: unknown escape sequence",
		`client_key == 'x\u12'`:                "unknown escape sequence",
		`client_key == '\ud800'`:               "unknown escape sequence",
		`client_key == '\U7fffffff'`:           "unknown escape sequence",
		"client_key == 'a\nb'":                 "a line ends inside a string",
		`client_key == '''x'''`:                "expected the end",
		`client_key = 'x'`:                     `'=' is not understood`,
		`client_key == 5`:                      `'5' is not understood`,
		`client_key == true`:                   "expected a string in quotes",
		`client_key`:                           "expected '==', '!=', 'in' or '.', found the end",
		`client_key == name`:                   "expected a string in quotes",
		`is_archived == 'true'`:                "expected true or false",
		`is_archived.contains('x')`:            "expected contains, startsWith or endsWith of a string field",
		`name.matches('x')`:                    "expected contains, startsWith or endsWith",
		`name.contains 'x'`:                    "expected '('",
		`name.contains('x'`:                    "expected ')'",
		`nmae == 'x'`:                          `at byte 0: no field "nmae"; there are asset_id, client_key, is_archived, name`,
		`'x' == name`:                          "expected a field",
		`name in 'x'`:                          "expected '['",
		`name in ['x'`:                         "expected ']'",
		`name in ['x',]`:                       "expected a string in quotes",
		`(name == 'x'`:                         "expected ')', found the end",
		`name == 'x' and name == 'y'`:          `expected the end, found "and"`,
		`name == 'x' &&`:                       "expected a field",
		strings.Repeat("!", 100):               "nested more than",
		strings.Repeat("(", 1e6):               "nested more than",
		"\xff":                                 "not understood",
		`name == ` + strings.Repeat("x", 5000): "…",
	} {
		_, err := filter.Parse(text, fields)
		if assert.Error(t, err, text) {
			assert.Contains(t, err.Error(), want, text)
			assert.Less(t, len(err.Error()), 300)
		}
	}
}

func TestQuotedTextIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "texts")
		wanted := rapid.SampledFrom(texts).Draw(t, "wanted")
		literals := make([]string, len(texts))
		for i, text := range texts {
			literals[i] = quote(text)
		}
		f, err := filter.Parse("name in ["+strings.Join(literals, ",")+"] && name == "+quote(wanted), fields)
		require.NoError(t, err)
		assert.True(t, f.Match(func(string) []string { return []string{wanted} }))
		assert.False(t, f.Match(func(string) []string { return []string{wanted + "'"} }))
	})
}

// quote writes text as a string literal.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(text) + "'"
}

// What is accepted stays accepted, with the same meaning, inside a larger
// expression, and its negation means the opposite.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`client_key == 'key-1'`, `name in ['a',"b\n"]`, `!(is_archived || name.contains('x')) && asset_id != "a"`, `'`, `(((`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := filter.Parse(text, fields)
		if err != nil || strings.TrimSpace(text) == "" {
			return
		}
		negated, err := filter.Parse("!("+text+")", fields)
		if err != nil {
			require.Contains(t, err.Error(), "nested more than")
			return
		}
		assert.NotEqual(t, parsed.Match(record), negated.Match(record))
		twice, err := filter.Parse("("+text+") && ("+text+")", fields)
		require.NoError(t, err)
		assert.Equal(t, parsed.Match(record), twice.Match(record))
	})
}
