package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the wanted texts in testdata")

// goldenCases are the files and directories of testdata.
func goldenCases(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir("testdata")
	require.NoError(t, err)
	var cases []string
	for _, e := range entries {
		if name := e.Name(); filepath.Ext(name) == fileSuffix || e.IsDir() && name != "fuzz" {
			cases = append(cases, filepath.Join("testdata", name))
		}
	}
	require.NotEmpty(t, cases)
	return cases
}

// goldenOptions reads the comments at the start of a file that set options.
func goldenOptions(t testing.TB, path string) Options {
	t.Helper()
	o := testOptions()
	text, err := os.ReadFile(path)
	if err != nil {
		return o // a directory
	}
	o.Variables = map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "# ") {
			break
		}
		if setting, ok := strings.CutPrefix(line, "# var "); ok {
			name, value, _ := strings.Cut(setting, "=")
			o.Variables[name] = value
		}
		if line == "# allow-missing-secrets" {
			o.AllowMissingSecrets = true
		}
	}
	return o
}

// TestGolden compares the rendered problems of every file in testdata with the
// text beside it. Use -update to write that text, and read the difference.
func TestGolden(t *testing.T) {
	for _, path := range goldenCases(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, problems := Load(t.Context(), path, goldenOptions(t, path))
			checkPlaces(t, problems)
			assert.Equal(t, problems.HasErrors(), c == nil)
			got := rendered(t, problems)
			assert.NotContains(t, got, theSecret)

			wantFile := strings.TrimSuffix(path, fileSuffix) + ".want"
			if *update {
				require.NoError(t, os.WriteFile(wantFile, []byte(got), 0o600))
			}
			want, err := os.ReadFile(wantFile)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

// checkPlaces checks that each diagnostic points into its source and says
// something.
func checkPlaces(t testing.TB, problems Diagnostics) {
	t.Helper()
	for i, p := range problems {
		assert.NotEmpty(t, p.Summary)
		assert.NotEmpty(t, p.Subject.Filename, p.Summary)
		assert.GreaterOrEqual(t, p.Subject.Start.Line, 1, p.Summary)
		assert.GreaterOrEqual(t, p.Subject.Start.Column, 1, p.Summary)
		assert.GreaterOrEqual(t, p.Subject.End.Byte, p.Subject.Start.Byte, p.Summary)
		assert.LessOrEqual(t, p.Snippet.End, len(p.Snippet.Text), p.Summary)
		assert.LessOrEqual(t, p.Snippet.Start, p.Snippet.End, p.Summary)
		if i > 0 && problems[i-1].Subject.Filename == p.Subject.Filename {
			assert.LessOrEqual(t, problems[i-1].Subject.Start.Byte, p.Subject.Start.Byte, "order")
		}
	}
}
