package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// endless is a pipeline that does not end by itself.
const endless = `
variable "asset" {
  type    = string
  default = "nobody"
}
variable "rate" {
  type    = number
  default = 1000
}
variable "rows" {
  type    = number
  default = 0
}
pipeline "endless" {
  asset = var.asset
  source "generator" "load" {
    rate = var.rate
    rows = var.rows
  }
  encoder "ingestion_config" {}
  transport "file" "disk" {
    dir = "${data_dir}/${pipeline.name}/${basename(path.module)}"
  }
}
`

// The flags of run.
func TestRunFlags(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "here")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "endless.hcl"), []byte(endless), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "not-for-runs.test.hcl"), []byte("nonsense"), 0o600))

	t.Run("for", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		h := run(t, options{}, "run", "--for", "2s", dir)
		h.requireExit(exitOK)
		assert.GreaterOrEqual(t, time.Since(began), 2*time.Second)
		read := h.requireBalanced("endless")
		assert.Greater(t, read, uint64(100))
		assert.Contains(t, h.stdout.String(), "data directory: "+h.dataDir+"\n")
		files := filesBelow(t, filepath.Join(h.dataDir, "endless", "here"), "")
		require.NotEmpty(t, files)
		for _, file := range files {
			assert.Contains(t, h.stdout.String(), "    "+file+"\n", "the paths that were written are printed")
		}
	})
	t.Run("variables", func(t *testing.T) {
		t.Parallel()
		for _, flag := range []string{"-var", "--var"} {
			h := run(t, options{}, "run", flag, "asset=rover", flag+"=rows=10", dir)
			h.requireExit(exitOK)
			assert.DirExists(t, filepath.Join(h.dataDir, "endless", "here", "rover"))
			assert.Equal(t, uint64(10), h.requireBalanced("endless"))
		}
		for _, tc := range []struct {
			wrong string
			code  int
			says  string
		}{{"aset=rover", exitConfig, `Did you mean "asset"?`}, {"rate=fast", exitConfig, "endless.hcl:7:13"}, {"rate", exitUsage, "name=value"}} {
			h := run(t, options{}, "run", "-var", tc.wrong, dir)
			h.requireExit(tc.code)
			assert.Contains(t, h.stderr.String(), tc.says)
		}
	})
	t.Run("file and working directory", func(t *testing.T) {
		t.Parallel()
		h := run(t, options{dir: dir}, "run", "-var", "rows=10", "endless.hcl")
		h.requireExit(exitOK)
		assert.DirExists(t, filepath.Join(h.dataDir, "endless", "here"))
	})
	for name, where := range map[string]func(root string) (env, want string){
		"STATE_DIRECTORY": func(root string) (string, string) { return "STATE_DIRECTORY=" + root, root },
		"XDG_STATE_HOME":  func(root string) (string, string) { return "XDG_STATE_HOME=" + root, filepath.Join(root, "pipelined") },
		"HOME": func(root string) (string, string) {
			return "HOME=" + root, filepath.Join(root, ".local", "state", "pipelined")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, want := where(t.TempDir())
			h := run(t, options{env: []string{env}, noData: true}, "run", "-var", "rows=10", dir)
			h.requireExit(exitOK)
			assert.Contains(t, h.stdout.String(), "data directory: "+want+"\n")
			assert.DirExists(t, filepath.Join(want, "endless"))
		})
	}
}

// Log lines as JSON, each of them.
func TestLogFormatJSON(t *testing.T) {
	t.Parallel()
	h := load{uri: "http://" + freeAddress(t), rows: 10}.start(t)
	h.awaitOutput("destination does not answer")
	h.interrupt()
	h.wait()

	l := load{uri: "http://" + freeAddress(t), rows: 10}
	h = start(t, options{}, "run", "--log-format", "json", "--log-level", "debug", writeFile(t, "load.hcl", l.hcl()))
	h.awaitOutput("destination does not answer")
	h.interrupt()
	h.wait()
	lines := strings.Split(strings.TrimSpace(h.stderr.String()), "\n")
	require.Greater(t, len(lines), 3)
	for _, line := range lines[:len(lines)-1] { // the last one is the error of the command
		var record struct {
			Time     time.Time
			Level    string
			Msg      string
			Pipeline string
		}
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		assert.NotEmpty(t, record.Msg)
		assert.Equal(t, "load", record.Pipeline, line)
		assert.NotZero(t, record.Time)
	}
	h = run(t, options{}, "run", "--log-format", "xml", "x")
	h.requireExit(exitUsage)
	h = run(t, options{}, "run", "--log-level", "loud", "x")
	h.requireExit(exitUsage)
}

// Checking and formatting need no secrets, no network and no data directory.
func TestValidateAndFmt(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "load.hcl", load{uri: "https://nowhere.example.com"}.hcl())
	o := options{env: []string{apiKey + "="}}
	h := run(t, o, "validate", path)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "1 pipeline, no problems")
	assert.NoDirExists(t, h.dataDir)

	h = run(t, o, "fmt", "--check", path)
	h.requireExit(exitFailure)
	assert.Equal(t, path+"\n", h.stdout.String())
	h = run(t, o, "fmt", path)
	h.requireExit(exitOK)
	assert.Equal(t, path+"\n", h.stdout.String())
	h = run(t, o, "fmt", "--check", path)
	h.requireExit(exitOK)
	assert.Empty(t, h.all.String())
	h = run(t, o, "validate", path)
	h.requireExit(exitOK)

	broken := writeFile(t, "broken.hcl", "pipeline {{")
	h = run(t, o, "fmt", broken)
	h.requireExit(exitConfig)
	assert.Contains(t, h.stderr.String(), "broken.hcl:1:")
	content, err := os.ReadFile(broken)
	require.NoError(t, err)
	assert.Equal(t, "pipeline {{", string(content), "a broken file is left alone")
}

// What the program says about itself.
func TestSmallCommands(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		code int
		says []string // on standard output; with an error on the other one
	}{
		{[]string{"version"}, exitOK, []string{"pipelined ", "plugin protocol 1"}},
		{nil, exitOK, []string{"Available Commands", "validate"}},
		{[]string{"--help"}, exitOK, []string{"Available Commands"}},
		{[]string{"run", "--help"}, exitOK, []string{"--for", "--var", "--data-dir", "--plugin-dir", "--log-format"}},
		{[]string{"plugin", "list"}, exitOK, []string{"csv", "generator", "host", "sift", "ingestion_config", "file", "parquet", "bundled"}},
		{[]string{"plugin", "docs"}, exitOK, []string{"# source `csv`", "# transport `parquet`", "SSL_CERT_FILE"}},
		{[]string{"plugin", "docs", "source", "csv"}, exitOK, []string{"Block `time`", "| `speed` |"}},
		{[]string{"completion", "bash"}, exitOK, []string{"complete", "pipelined"}},
		{[]string{"completion", "zsh"}, exitOK, []string{"#compdef"}},
		{[]string{"plugin", "docs", "source", "csvv"}, exitUsage, []string{`"csv"`}},
		{[]string{"plugin", "docs", "sink", "csv"}, exitUsage, []string{"kind"}},
		{[]string{"nonsense"}, exitUsage, []string{"nonsense"}},
		{[]string{"run"}, exitUsage, []string{"run --help"}},
		{[]string{"run", "--nonsense", "x"}, exitUsage, []string{"--nonsense"}},
		{[]string{"run", "--for", "ages", "x"}, exitUsage, []string{"ages"}},
		{[]string{"run", "a", "b"}, exitUsage, nil},
		{[]string{"plugin-process", "source", "csv"}, exitUsage, []string{"plugin docs"}},
		{[]string{"plugin-process", "source", "nonsense"}, exitUsage, nil},
		{[]string{"fmt", "/nowhere.hcl"}, exitIO, []string{"/nowhere.hcl"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			t.Parallel()
			h := run(t, options{}, tc.args...)
			h.requireExit(tc.code)
			out, other := h.stdout.String(), h.stderr.String()
			if tc.code != exitOK {
				out, other = other, out
			}
			for _, says := range tc.says {
				assert.Contains(t, out, says)
			}
			assert.Empty(t, other, "the other output")
		})
	}
}

// The completion script is one that bash takes.
func TestBashCompletion(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash on this machine")
	}
	h := run(t, options{}, "completion", "bash")
	h.requireExit(exitOK)
	out, err := exec.Command(bash, "-n", writeFile(t, "completion.bash", h.stdout.String())).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// The backup commands read what the file transport has written, and find damage.
func TestBackupCommands(t *testing.T) {
	t.Parallel()
	const rows = 1000
	h := run(t, options{}, "run", writeFile(t, "files.hcl", fmt.Sprintf(`
pipeline "files" {
  asset = "stand"
  source "generator" "load" {
    flow  = "load"
    rate  = "max"
    rows  = %d
    batch = 100
    start = "2026-01-01T00:00:00Z"
    channel "n" {
      type = "uint64"
      wave = "counter"
    }
  }
  encoder "ingestion_config" {}
  transport "file" "disk" {
    dir = "${data_dir}/files"
  }
}
`, rows)))
	h.requireExit(exitOK)
	files := filesBelow(t, filepath.Join(h.dataDir, "files"), "")
	require.Len(t, files, 1)
	file := files[0]
	assert.True(t, strings.HasSuffix(file, ".unbound"), "no destination has given ids")

	backup := func(code int, args ...string) *host {
		h := run(t, options{}, append([]string{"backup"}, args...)...)
		h.requireExit(code)
		return h
	}
	assert.Contains(t, backup(exitOK, "ls", filepath.Dir(file)).stdout.String(), file)
	assert.Contains(t, backup(exitOK, "ls", filepath.Dir(file)).stdout.String(), "1,000")
	assert.Contains(t, backup(exitOK, "verify", file).stdout.String(), "1 intact, 0 damaged")
	n := 0
	for line := range strings.Lines(backup(exitOK, "cat", file).stdout.String()) {
		var message struct {
			Flow      string
			Timestamp time.Time
			Values    []map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(line), &message), line)
		assert.Equal(t, "load", message.Flow)
		require.Equal(t, []map[string]string{{"uint64": fmt.Sprint(n)}}, message.Values)
		n++
	}
	assert.Equal(t, rows, n)
	csv := strings.Split(strings.TrimSpace(backup(exitOK, "cat", "--format", "csv", file).stdout.String()), "\n")
	assert.Len(t, csv, rows+1)

	content, err := os.ReadFile(file)
	require.NoError(t, err)
	content[len(content)/2] ^= 1
	damaged := writeFile(t, "damaged", string(content))
	assert.Contains(t, backup(exitDamaged, "verify", damaged).stdout.String(), "1 damaged")
	left := backup(exitDamaged, "cat", damaged).stdout.String()
	assert.Equal(t, rows-100, strings.Count(left, "\n"), "one chunk is lost, the others are read")
	backup(exitIO, "verify", "/nowhere")
	backup(exitUsage, "cat")
}

// Output that nobody reads any more ends no run and loses nothing.
func TestOutputIsGone(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	h := start(t, options{stdout: writer}, "run", writeFile(t, "rows.hcl", endless))
	require.NoError(t, writer.Close())
	require.NoError(t, reader.Close())
	eventually(t, "no file is begun", func() bool {
		begun, _ := filepath.Glob(filepath.Join(h.dataDir, "endless", "*", ".pipelined-*.tmp", "*"))
		return slices.ContainsFunc(begun, func(file string) bool {
			info, err := os.Stat(file)
			return err == nil && info.Size() > 0
		})
	})
	h.signal(syscall.SIGTERM)
	h.requireExit(exitOK)
	assert.NotEmpty(t, filesBelow(t, filepath.Join(h.dataDir, "endless"), ".unbound"))
}
