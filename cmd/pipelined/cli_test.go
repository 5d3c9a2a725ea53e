package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the wanted texts in testdata")

// result is what a command line has done.
type result struct {
	code           int
	stdout, stderr string
}

// cli runs a command line in this process, and none of the user's plugins.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	t.Setenv("HOME", "/nonexistent")
	t.Setenv("PIPELINED_PLUGIN_PATH", "")
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// requireGolden compares what command lines have done with testdata/<name>.txt.
func requireGolden(t *testing.T, root, name, got string) {
	t.Helper()
	path := filepath.Join(root, "testdata", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to write it")
	require.Equal(t, string(want), got)
}

// transcript shows a command line and what it did.
func (r result) transcript(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ pipelined %s\n%s", strings.Join(args, " "), r.stdout)
	for line := range strings.Lines(r.stderr) {
		b.WriteString("stderr: " + line)
	}
	fmt.Fprintf(&b, "exit code %d\n", r.code)
	return b.String()
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "p.hcl"), "pipeline \"p\" {\n}\n")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"nonsense"}, `pipelined: unknown command "nonsense" for "pipelined"; see 'pipelined --help'`},
		{[]string{"vaildate"}, `pipelined: unknown command "vaildate" for "pipelined"; did you mean "validate"?; see 'pipelined --help'`},
		{[]string{"--nonsense"}, `pipelined: unknown flag: --nonsense; see 'pipelined --help'`},
		{[]string{"version", "x"}, `pipelined: unknown command "x" for "pipelined version"; see 'pipelined version --help'`},
		{[]string{"help", "nonsense"}, `pipelined: unknown command "nonsense" for "pipelined"; see 'pipelined help --help'`},
		{[]string{"completion", "nonsense"}, `pipelined: unknown command "nonsense" for "pipelined completion"; see 'pipelined completion --help'`},
		{[]string{"run"}, `pipelined: accepts 1 arg(s), received 0; see 'pipelined run --help'`},
		{[]string{"run", "--for", "soon", file}, `see 'pipelined run --help'`},
		{[]string{"validate", file, file}, `pipelined: accepts 1 arg(s), received 2; see 'pipelined validate --help'`},
		{[]string{"validate", "-var", "x", file}, `pipelined: --var x: want name=value`},
		{[]string{"validate", "--log-format", "xml", file}, `pipelined: --log-format xml: want text or json`},
		{[]string{"validate", "--log-level", "loud", file}, `pipelined: --log-level loud: want debug, info, warn or error`},
		{[]string{"fmt"}, `see 'pipelined fmt --help'`},
		{[]string{"plugin", "lst"}, `pipelined: unknown command "lst" for "pipelined plugin"; did you mean "list"?; see 'pipelined plugin --help'`},
		{[]string{"plugin", "docs", "source"}, `pipelined: want a kind and a name, or nothing for all plugins; see 'pipelined plugin docs --help'`},
		{[]string{"plugin", "docs", "source", "cvs"}, `pipelined: no plugin provides the source "cvs"; did you mean "csv"?; installed: csv, generator, host, sift`},
		{[]string{"plugin", "docs", "sink", "csv"}, `pipelined: unknown kind "sink"; kinds are source, encoder, transport and evaluator`},
		{[]string{"backup", "vrify", "x"}, `pipelined: unknown command "vrify" for "pipelined backup"; did you mean "verify"?; see 'pipelined backup --help'`},
		{[]string{"backup", "ls"}, `see 'pipelined backup ls --help'`},
		{[]string{"backup", "verify"}, `see 'pipelined backup verify --help'`},
		{[]string{"backup", "cat"}, `see 'pipelined backup cat --help'`},
		{[]string{"backup", "cat", "--format", "xml", file}, `pipelined: --format xml: want json or csv`},
		{[]string{"backup", "cat", "--from", "noon", file}, `pipelined: --from noon: want a time such as 2026-05-01T12:00:00Z or 2026-05-01`},
		{[]string{"backup", "cat", "--to", "5", file}, `pipelined: --to 5: want a time such as`},
		{[]string{"backup", "cat", "--from", "2026-05-02", "--to", "2026-05-01T23:59:59Z", file}, `pipelined: --from 2026-05-02 is not before --to 2026-05-01T23:59:59Z`},
		{[]string{"\x1b[2J"}, `pipelined: unknown command "\x1b[2J" for "pipelined"`},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			r := cli(t, tc.args...)
			assert.Equal(t, exitUsage, r.code)
			assert.Empty(t, r.stdout)
			assert.Contains(t, r.stderr, tc.want)
			assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line")
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--help"},
		{"help"},
		{"help", "backup", "cat"},
		{"plugin"},
		{"backup"},
		{"completion"},
		{"backup", "cat", "--help"},
	} {
		r := cli(t, args...)
		assert.Equal(t, exitOK, r.code, args)
		assert.Contains(t, r.stdout, "Usage:\n  pipelined ", args)
		assert.Empty(t, r.stderr, args)
		for line := range strings.Lines(r.stdout) {
			assert.LessOrEqual(t, len([]rune(line)), 150, line)
		}
	}
}

func TestVersion(t *testing.T) {
	r := cli(t, "version")
	assert.Equal(t, exitOK, r.code)
	assert.Regexp(t, `^pipelined \S+ \(plugin protocol \d+, go1\S+, `+runtime.GOOS+"/"+runtime.GOARCH+`\)\n$`, r.stdout)
	assert.Empty(t, r.stderr)
}

func TestCompletion(t *testing.T) {
	r := cli(t, "completion", "bash")
	assert.Equal(t, exitOK, r.code)
	assert.Contains(t, r.stdout, "complete -o default -F __start_pipelined pipelined")
	r = cli(t, "__complete", "backup", "v")
	assert.Contains(t, r.stdout, "verify\tCheck backup files for damage\n")
}

const goodPipeline = `pipeline "p" {
  source "generator" "waves" {
    rate = 10
  }
  transport "parquet" "tables" {
    dir = "/nowhere"
  }
}
`

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	data := "--data-dir=" + filepath.Join(dir, "data")
	writeFile(t, "good.hcl", goodPipeline)
	r := cli(t, "validate", data, "good.hcl")
	assert.Equal(t, result{exitOK, "good.hcl: 1 pipeline, no problems\n", ""}, r)
	assert.NoDirExists(t, "data", "nothing is written")

	writeFile(t, "bad.hcl", strings.ReplaceAll(goodPipeline, "rate = 10", "rte = 10"))
	r = cli(t, "validate", data, "bad.hcl")
	assert.Equal(t, exitConfig, r.code)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "bad.hcl:3:5: error: Unknown attribute\n")
	assert.Contains(t, r.stderr, `Did you mean "rate"?`)
	assert.NotContains(t, r.stderr, "pipelined: ", "told once")

	writeFile(t, "range.hcl", strings.ReplaceAll(goodPipeline, "rate = 10", "rate = -10"))
	r = cli(t, "validate", data, "range.hcl")
	assert.Equal(t, exitConfig, r.code)
	assert.Contains(t, r.stderr, "range.hcl:3:12: error: ", "the plugin's own check")

	writeFile(t, "syntax.hcl", "pipeline \"p\" {\n  source \"csv\"\n")
	r = cli(t, "--log-format=json", "validate", data, "syntax.hcl")
	assert.Equal(t, exitConfig, r.code)
	assert.Regexp(t, `^\{"severity":"error",.*"file":"syntax.hcl","start":\{"line":2,"column":\d+,`, r.stderr)

	r = cli(t, "validate", data, "none.hcl")
	assert.Equal(t, exitConfig, r.code)
	assert.Contains(t, r.stderr, "none.hcl")
}

func TestFmt(t *testing.T) {
	t.Chdir(t.TempDir())
	const crooked = "pipeline \"p\"   {\n source   \"csv\" \"x\" {\npath=\"y\"\n  }\n}\n"
	const straight = "pipeline \"p\" {\n  source \"csv\" \"x\" {\n    path = \"y\"\n  }\n}\n"
	writeFile(t, "d/a.hcl", crooked)
	writeFile(t, "d/b.hcl", straight)
	writeFile(t, "d/notes.txt", crooked)
	require.NoError(t, os.Chmod("d/a.hcl", 0o640))

	r := cli(t, "fmt", "--check", "d")
	assert.Equal(t, result{exitFailure, "d/a.hcl\n", "pipelined: 1 file not in the standard layout\n"}, r)
	text, err := os.ReadFile("d/a.hcl")
	require.NoError(t, err)
	assert.Equal(t, crooked, string(text), "nothing is changed")

	assert.Equal(t, result{exitOK, "d/a.hcl\n", ""}, cli(t, "fmt", "d"))
	text, err = os.ReadFile("d/a.hcl")
	require.NoError(t, err)
	assert.Equal(t, straight, string(text))
	info, err := os.Stat("d/a.hcl")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	entries, err := os.ReadDir("d")
	require.NoError(t, err)
	assert.Len(t, entries, 3, "no temporary file is left")

	assert.Equal(t, result{exitOK, "", ""}, cli(t, "fmt", "d", "d/b.hcl"))
	assert.Equal(t, result{exitOK, "", ""}, cli(t, "fmt", "--check", "d"))

	writeFile(t, "d/broken.hcl", "pipeline {{\n")
	writeFile(t, "d/z.hcl", crooked)
	r = cli(t, "fmt", "d")
	assert.Equal(t, exitConfig, r.code)
	assert.Equal(t, "d/z.hcl\n", r.stdout, "the others are done")
	assert.Contains(t, r.stderr, "d/broken.hcl:1:")
	text, err = os.ReadFile("d/broken.hcl")
	require.NoError(t, err)
	assert.Equal(t, "pipeline {{\n", string(text))

	r = cli(t, "fmt", "none.hcl")
	assert.Equal(t, exitIO, r.code)
	assert.Contains(t, r.stderr, "none.hcl")
}

func TestPluginList(t *testing.T) {
	r := cli(t, "plugin", "list")
	assert.Equal(t, exitOK, r.code)
	assert.Empty(t, r.stderr)
	for _, p := range bundled() {
		assert.Regexp(t, fmt.Sprintf(`(?m)^%s +%s +%s +bundled *$`, p.Kind, p.Info.Name, regexp.QuoteMeta(p.Info.Version)), r.stdout)
	}

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "pipelined-source-\x1b[2J"), "")
	writeFile(t, filepath.Join(dir, "notes"), "")
	r = cli(t, "plugin", "list", "--plugin-dir", dir)
	assert.Equal(t, exitOK, r.code)
	assert.NotContains(t, r.stdout+r.stderr, "\x1b")
	r = cli(t, "plugin", "list", "--plugin-dir", filepath.Join(dir, "none"))
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "none: no such file or directory")
}

func TestPluginDocs(t *testing.T) {
	all := cli(t, "plugin", "docs")
	require.Equal(t, exitOK, all.code)
	require.Empty(t, all.stderr)
	for _, p := range bundled() {
		one := cli(t, "plugin", "docs", p.Kind.String(), p.Info.Name)
		require.Equal(t, exitOK, one.code)
		assert.True(t, strings.HasPrefix(one.stdout, fmt.Sprintf("# %s `%s`\n\nVersion %s. ", p.Kind, p.Info.Name, p.Info.Version)))
		assert.Contains(t, all.stdout, one.stdout)
		for _, a := range p.Schema.Attributes {
			assert.Contains(t, one.stdout, "\n| `"+a.Name+"` | ")
		}
		requireMarkdown(t, one.stdout)
	}
	assert.Contains(t, all.stdout, "Every plugin process inherits these environment variables: ")
}

var unescapedBar = regexp.MustCompile(`(^|[^\\])\|`)

// requireMarkdown checks tables and code spans.
func requireMarkdown(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "|") {
			assert.Len(t, unescapedBar.FindAllString(line, -1), 5, "columns of a table: %s", line)
		}
		assert.Zero(t, strings.Count(line, "`")%2, "code spans are closed: %s", line)
		assert.NotContains(t, line, "%!", "formatting went wrong")
		assert.Equal(t, strings.TrimRight(line, " "), line, "no space at the end")
	}
	assert.NotContains(t, text, "\n\n\n")
	assert.NotContains(t, text, "..\n")
}
