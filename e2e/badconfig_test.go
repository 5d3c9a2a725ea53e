package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A good pipeline file, of which the tests break one line each.
const goodFile = `pipeline "good" {
  asset = "stand"
  source "generator" "load" {
    rate = 10
    rows = 10
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri     = "http://127.0.0.1:1"
    api_key = secret::env("E2E_API_KEY")
  }
}
`

// Wrong files are refused before anything starts, by run and by validate, with the
// place of the problem.
func TestWrongPipelineFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		old, new string // what is replaced in goodFile; no old: new is the whole file
		place    string // line:column
		says     []string
		onlyRun  bool // validate finds it tolerable
	}{
		{name: "syntax", old: `"good" {`, new: `"good" {{`, place: "1:18", says: []string{"error"}},
		{name: "no end", old: "  }\n}\n", new: "  }\n", place: "1:17", says: []string{"no closing brace"}},
		{name: "unclosed text", old: `"stand"`, new: `"stand`, place: "2:17"},
		{name: "unknown block", old: "encoder \"ingestion_config\" {}", new: "encodr \"ingestion_config\" {}", place: "7:3", says: []string{`"encoder"`}},
		{name: "unknown block at the top", old: "pipeline \"good\"", new: "pipelin \"good\"", place: "1:1", says: []string{`"pipeline"`}},
		{name: "unknown attribute", old: "asset =", new: "aset =", place: "2:3", says: []string{`"asset"`}},
		{name: "unknown attribute of a plugin", old: "rate =", new: "rat =", place: "4:5", says: []string{`"rate"`}},
		{name: "unknown plugin", old: `"generator"`, new: `"genrator"`, place: "3:10", says: []string{`"generator"`}},
		{name: "wrong type", old: "rows = 10", new: `rows = "many"`, place: "5:12", says: []string{"rows"}},
		{name: "wrong type of the host's", old: `asset = "stand"`, new: `drain_timeout = [1]`, place: "2:19", says: []string{"drain_timeout"}},
		{name: "value out of range", old: "rate = 10", new: "rate = -5", place: "4:12", says: []string{"rate"}},
		{name: "plugin finds it wrong", old: "http://127.0.0.1:1", new: "127.0.0.1:1", place: "9:15", says: []string{"scheme", "https://"}},
		{name: "duplicate attribute", old: "rate = 10", new: "rate = 10\n    rate = 11", place: "5:5"},
		{name: "duplicate transport", old: "  transport \"sift\"", new: "  transport \"file\" \"live\" {\n    dir = \"/tmp/x\"\n  }\n  transport \"sift\"", place: "11:3", says: []string{"live", "8:3"}},
		{name: "duplicate pipeline", old: "  }\n}\n", new: "  }\n}\npipeline \"good\" {}\n", place: "13:1", says: []string{"already defined", "1:1"}},
		{name: "missing label", old: `transport "sift" "live"`, new: `transport "sift"`, place: "8:3"},
		{name: "bad name", old: `"live"`, new: `"Live!"`, place: "8:20"},
		{name: "missing attribute", old: "    uri     = \"http://127.0.0.1:1\"\n", new: "", place: "8:3", says: []string{`"uri"`}},
		{name: "missing asset", old: "  asset = \"stand\"\n", new: "", place: "1:1", says: []string{"asset"}},
		{name: "missing encoder", old: "  encoder \"ingestion_config\" {}\n", new: "", place: "7:3", says: []string{"encoder"}},
		{name: "missing source", old: "  source \"generator\" \"load\" {\n    rate = 10\n    rows = 10\n  }\n", new: "", place: "1:1", says: []string{"source"}},
		{name: "missing secret", old: "E2E_API_KEY", new: "E2E_NOT_SET", place: "10:15", says: []string{"E2E_NOT_SET", "not set"}, onlyRun: true},
		{name: "missing variable", old: `"stand"`, new: "var.asset", place: "2:11", says: []string{"asset"}},
		{name: "until nobody", old: "rate = 10", new: "rate = 10\n    until = pipeline.goood", place: "5:13", says: []string{`"good"`}},
		{name: "until itself", old: "rate = 10", new: "rate = 10\n    until = pipeline.good", place: "5:13", says: []string{"good → good"}},
		{name: "rule", old: "  encoder", new: "  rule \"hot\" {\n    channels = { n = \"generator.n\" }\n    when = \"n > 1.0\"\n  }\n  encoder", place: "7:3", says: []string{"does not run them"}},
		{name: "no pipeline", new: "locals {\n  a = 1\n}\n", place: "1:1", says: []string{"pipeline"}},
		{name: "empty", new: "", place: "1:1", says: []string{"pipeline"}},
		{name: "binary junk", new: "\x00\x01\xff\xfe\x7fELF", place: "1:1"},
		{name: "not UTF-8", old: "stand", new: "st\xe4nd", place: "2:14"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := tc.new
			if tc.old != "" {
				require.Contains(t, goodFile, tc.old)
				text = strings.Replace(goodFile, tc.old, tc.new, 1)
			}
			path := writeFile(t, "wrong.hcl", text)
			for _, command := range []string{"run", "validate"} {
				if command == "validate" && tc.onlyRun {
					continue
				}
				h := run(t, options{}, command, path)
				h.requireExit(exitConfig)
				assert.Contains(t, h.stderr.String(), "wrong.hcl:"+tc.place+": error", "%s:\n%s", command, h.stderr.String())
				for _, says := range tc.says {
					assert.Contains(t, unwrapped(h.stderr.String()), says, command)
				}
				assert.NotContains(t, h.stdout.String(), "data directory", "nothing has started")
			}
		})
	}
}

// unwrapped undoes the wrapping of texts.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }

// All problems are shown at once, in JSON too.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("asset =", "aset =", "rate =", "rat =", "rows = 10", `rows = "many"`, "live", "Live").Replace(goodFile)
	path := writeFile(t, "wrong.hcl", text)
	h := run(t, options{}, "validate", path)
	h.requireExit(exitConfig)
	for _, place := range []string{"2:3", "4:5", "5:12", "8:20"} {
		assert.Contains(t, h.stderr.String(), "wrong.hcl:"+place+": error")
	}
	h = run(t, options{}, "validate", "--log-format", "json", path)
	h.requireExit(exitConfig)
	var found []string
	for line := range strings.Lines(h.stderr.String()) {
		var problem map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &problem), line)
		found = append(found, line)
	}
	assert.Len(t, found, 4)
}

// The directory is one configuration: a problem in one file is shown with that file.
func TestWrongFileInDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.hcl"), []byte(goodFile), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.hcl"), []byte(strings.Replace(goodFile, "stand", "other", 1)), 0o600))
	h := run(t, options{}, "run", dir)
	h.requireExit(exitConfig)
	assert.Contains(t, h.stderr.String(), "b.hcl:1:1: error")
	assert.Contains(t, h.stderr.String(), "a.hcl:1:1")
	for name, path := range map[string]string{"empty directory": t.TempDir(), "no such file": filepath.Join(dir, "c.hcl")} {
		h := run(t, options{}, "run", path)
		assert.Contains(t, []int{exitConfig, exitIO}, h.wait(), name)
		assert.NotEmpty(t, h.stderr.String(), name)
	}
}

// A file of many megabytes is refused without being read.
func TestHugePipelineFile(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "huge.hcl", "")
	require.NoError(t, os.Truncate(path, 10<<30))
	h := run(t, options{}, "validate", path)
	h.requireExit(exitConfig)
	assert.Contains(t, h.stderr.String(), "huge.hcl")
	deep := writeFile(t, "deep.hcl", "locals {\n  a = "+strings.Repeat("[", 100_000)+"\n}\n")
	h = run(t, options{}, "validate", deep)
	h.requireExit(exitConfig)
	assert.Contains(t, h.stderr.String(), "deep.hcl:2:")
}
