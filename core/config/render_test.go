package config

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func sample() Diagnostics {
	at := hcl.Range{
		Filename: "a.hcl",
		Start:    hcl.Pos{Line: 3, Column: 4, Byte: 20},
		End:      hcl.Pos{Line: 3, Column: 6, Byte: 22},
	}
	return Diagnostics{
		{
			Severity: sdk.SeverityError, Summary: "Broken", Subject: at,
			Detail:  "One two three four five six seven eight nine ten eleven.\nA second line.",
			Snippet: Snippet{Text: "\tx = 1", Start: 1, End: 2},
		},
		{Severity: sdk.SeverityWarning, Summary: "Odd\x1b[31m", Detail: "<b>&\x07</b>", Subject: at},
	}
}

func TestRender(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sample().Render(&out, 42, false))
	assert.Equal(t, `a.hcl:3:4: error: Broken
   3 |  x = 1
     |  ^
  One two three four five six seven eight
  nine ten eleven.
  A second line.

a.hcl:3:4: warning: Odd�[31m
  <b>&�</b>
`, out.String())

	out.Reset()
	require.NoError(t, sample().Render(&out, 0, false))
	assert.Contains(t, out.String(), "\n  One two three four five six seven eight nine ten eleven.\n")

	out.Reset()
	require.NoError(t, sample()[:1].Render(&out, 100, true))
	assert.Equal(t, "a.hcl:3:4: \x1b[1;31merror\x1b[0m: \x1b[1mBroken\x1b[0m\n"+
		"\x1b[34m   3 |\x1b[0m  x = 1\n\x1b[34m     |\x1b[0m  \x1b[1;31m^\x1b[0m\n"+
		"  One two three four five six seven eight nine ten eleven.\n  A second line.\n", out.String())

	out.Reset()
	require.NoError(t, Diagnostics(nil).Render(&out, 80, true))
	assert.Empty(t, out.String())
}

func TestRenderJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sample().RenderJSON(&out))
	lines := bufio.NewScanner(&out)
	require.True(t, lines.Scan())
	assert.JSONEq(t, `{
		"severity": "error", "summary": "Broken", "file": "a.hcl",
		"detail": "One two three four five six seven eight nine ten eleven.\nA second line.",
		"start": {"line": 3, "column": 4, "byte": 20}, "end": {"line": 3, "column": 6, "byte": 22},
		"source": "\tx = 1"
	}`, lines.Text())
	require.True(t, lines.Scan())
	var second map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(lines.Bytes(), &second))
	assert.NotContains(t, second, "source")
	assert.NotContains(t, lines.Text(), "\x1b")
	assert.False(t, lines.Scan())
}

func TestMasks(t *testing.T) {
	const src = "first\n  key = \"abc\" + \"defg\" # end\nlast"
	r := report{sources: map[string][]byte{"f": []byte(src)}}
	at := func(text string) hcl.Range {
		i := strings.Index(src, text)
		require.GreaterOrEqual(t, i, 0)
		return hcl.Range{Filename: "f", Start: hcl.Pos{Line: 2, Byte: i}, End: hcl.Pos{Line: 2, Byte: i + len(text)}}
	}
	marked := func(s Snippet) string { return s.Text[s.Start:s.End] }

	assert.Equal(t, "key", marked(r.snippet(at("key"))))
	r.masks = []hcl.Range{at("abc"), at("defg"), at("abc")}
	const want = `  key = "(secret)" + "(secret)" # end`
	for subject, mark := range map[string]string{
		"key":              "key",
		"abc":              "(secret)",
		"b":                "(secret)",
		`"abc"`:            `"(secret)"`,
		"+":                "+",
		"defg":             "(secret)",
		"# end":            "# end",
		`"abc" + "defg"`:   `"(secret)" + "(secret)"`,
		"bc\" + \"de":      `(secret)" + "(secret)`,
		"# end\nlast":      "# end",
		"  key = \"abc\" ": `  key = "(secret)" `,
	} {
		s := r.snippet(at(subject))
		assert.Equal(t, want, s.Text, subject)
		assert.Equal(t, mark, marked(s), subject)
	}

	// A masked heredoc hides all its lines, whichever the problem is on.
	r.masks = []hcl.Range{{Filename: "f", Start: hcl.Pos{Byte: 2}, End: hcl.Pos{Byte: len(src) - 1}}}
	assert.Equal(t, "(secret)", r.snippet(at("key")).Text)
	assert.Equal(t, "(secret)t", r.snippet(at("last")).Text)
	assert.Equal(t, "fi(secret)", r.snippet(at("first")).Text)
}

func TestShorten(t *testing.T) {
	for _, tc := range []struct {
		n    int
		last sdk.Severity
		want sdk.Severity
	}{
		{maxDiagnostics, sdk.SeverityWarning, sdk.SeverityWarning},
		{maxDiagnostics + 1, sdk.SeverityWarning, sdk.SeverityWarning},
		{10 * maxDiagnostics, sdk.SeverityError, sdk.SeverityError},
	} {
		r := report{}
		for i := range tc.n {
			severity := sdk.SeverityWarning
			if i == tc.n-1 {
				severity = tc.last
			}
			r.add(severity, hcl.Range{Filename: "f", Start: hcl.Pos{Line: i + 1, Column: 1, Byte: i}}, "Odd", "")
		}
		problems := r.finish()
		assert.Len(t, problems, min(tc.n, maxDiagnostics))
		last := problems[len(problems)-1]
		assert.Equal(t, tc.want, last.Severity)
		assert.Equal(t, tc.n > maxDiagnostics, last.Summary == "Too many problems")
	}
}

func TestColumns(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "日本": 4, "e\u0301": 1, "🚀": 2, "µ": 1} {
		assert.Equal(t, want, columns(text), text)
	}
}
