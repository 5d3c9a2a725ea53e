package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// foreign is a directory of the repository's build folder with third-party plugins,
// built once, in modules of their own.
type foreign struct {
	once sync.Once
	dir  string
	err  error
}

// misfit and guide are built when a test first needs them.
var (
	misfit = foreign{dir: "misfit"}
	guide  = foreign{dir: "guide"}
)

// build compiles a program as somebody else would: outside of this repository, with
// a go.mod that requires ours. It returns the plugin directory.
func (f *foreign) build(t *testing.T, name, program string) string {
	t.Helper()
	f.once.Do(func() { f.err = f.compile(name, program) })
	require.NoError(t, f.err)
	return f.path()
}

func (f *foreign) path() string { return absolute(filepath.Join(repo, "build", "e2e", f.dir)) }

func (f *foreign) compile(name, program string) error {
	module, err := os.MkdirTemp("", "e2e-module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(module)
	sums, err := os.ReadFile(filepath.Join(repo, "go.sum"))
	if err != nil {
		return err
	}
	files := map[string]string{
		"main.go": program,
		"go.sum":  string(sums),
		"go.mod": "module example.com/" + f.dir + "\n\ngo 1.26\n\nrequire github.com/pipelined/pipelined v0.0.0\n\n" +
			"replace github.com/pipelined/pipelined => " + absolute(repo) + "\n",
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(module, file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(f.path(), name), ".")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return os.Chmod(f.path(), 0o755)
}

func misfitDir(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile("testdata/misfit/main.go")
	require.NoError(t, err)
	return misfit.build(t, "pipelined-source-misfit", string(program))
}

// scriptDir returns a plugin directory with a source "script".
func scriptDir(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pipelined-source-script"), []byte(script), 0o755))
	return dir
}

// foreignPipeline has a third-party source and Parquet files.
func foreignPipeline(plugin, body string) string {
	return fmt.Sprintf(`
pipeline "foreign" {
  drain_timeout = "2s"
  source %q "it" {
    %s
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
    checkpoint {
      interval = "50ms"
    }
  }
}
`, plugin, body)
}

// The plugin of the guide for authors, as it stands there, works.
func TestPluginOfTheGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repo, "docs", "plugins", "README.md"))
	require.NoError(t, err)
	_, program, ok := strings.Cut(string(text), "```go\n")
	require.True(t, ok)
	program, _, ok = strings.Cut(program, "```")
	require.True(t, ok)
	dir := guide.build(t, "pipelined-source-uptime", program)

	h := run(t, options{}, "run", "--for", "2s", "--plugin-dir", dir, writeFile(t, "uptime.hcl", foreignPipeline("uptime", `period = "20ms"`)))
	h.requireExit(exitOK)
	assert.NotZero(t, h.requireBalanced("foreign"))
	table := readTable(t, filepath.Join(h.dataDir, "parquet", "uptime"))
	assert.Equal(t, []string{"time", "seconds"}, table.columns)
	assert.Equal(t, h.account("foreign")["uptime"].accepted, uint64(len(table.rows)))

	h = run(t, options{}, "plugin", "docs", "--plugin-dir", dir, "source", "uptime")
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "Time between two rows")
	h = run(t, options{}, "plugin", "list", "--plugin-dir", dir)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), filepath.Join(dir, "pipelined-source-uptime"))
	h = run(t, options{env: []string{"PIPELINED_PLUGIN_PATH=" + dir}}, "validate", writeFile(t, "uptime.hcl", foreignPipeline("uptime", `periot = "1s"`)))
	h.requireExit(exitConfig)
	assert.Contains(t, h.stderr.String(), "uptime.hcl:5:5: error")
	assert.Contains(t, h.stderr.String(), `"period"`)
}

// Executables that are no plugins: named, with what they said, and nothing is left
// of them.
func TestNotAPlugin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		says         []string
	}{
		{"exits at once", "#!/bin/sh\necho no licence file >&2\nexit 3\n", []string{"exit status 3", "no licence file"}},
		{"killed", "#!/bin/sh\nkill -SEGV $$\n", []string{"segmentation fault"}},
		{"prints junk", "#!/bin/sh\necho Hello, I am a plugin\nexec sleep 1000\n", []string{"Hello, I am a plugin"}},
		{"prints without end", "#!/bin/sh\nexec cat /dev/zero\n", nil},
		{"another protocol", "#!/bin/sh\necho \"1|99|unix|$PLUGIN_UNIX_SOCKET_DIR/x|grpc|AAAA|\"\nexec sleep 1000\n", []string{"version 99", "upgrade pipelined"}},
		{"no socket", "#!/bin/sh\necho \"1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/nowhere|grpc|AAAA|\"\nexec sleep 1000\n", nil},
		{"no certificate", "#!/bin/sh\necho \"1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/nowhere|grpc|\"\nexec sleep 1000\n", []string{"mutual TLS"}},
		{"never answers", "#!/bin/sh\nexec sleep 1000\n", []string{"within 5s"}},
		{"leaves a child", "#!/bin/sh\nsleep 1000 &\necho my child lives on >&2\nexit 1\n", []string{"exit status 1", "my child lives on"}},
		{"no interpreter", "#!/nowhere/python\n", []string{"no such file"}},
		{"not executable code", "\x00\x01junk", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := scriptDir(t, tc.script)
			h := run(t, options{}, "run", "--plugin-dir", dir, writeFile(t, "foreign.hcl", foreignPipeline("script", "")))
			h.requireExit(exitUnavailable)
			assert.Contains(t, h.stderr.String(), filepath.Join(dir, "pipelined-source-script"))
			assert.Contains(t, h.stderr.String(), "foreign.hcl:4:10")
			for _, says := range tc.says {
				assert.Contains(t, h.stderr.String(), says)
			}
		})
	}
}

// Plugins that others could replace are refused.
func TestUntrustedPlugin(t *testing.T) {
	t.Parallel()
	dir := scriptDir(t, "#!/bin/sh\ntouch "+filepath.Join(t.TempDir(), "ran")+"\n")
	require.NoError(t, os.Chmod(filepath.Join(dir, "pipelined-source-script"), 0o777))
	h := run(t, options{}, "run", "--plugin-dir", dir, writeFile(t, "foreign.hcl", foreignPipeline("script", "")))
	h.requireExit(exitUnavailable)
	assert.Contains(t, h.stderr.String(), "refused")
	assert.Contains(t, h.stderr.String(), "chmod go-w")
	h = run(t, options{}, "plugin", "list", "--plugin-dir", dir)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "other users may write")
}

// A plugin that fails while it runs: the run ends, names it, and what it gave before
// is delivered and in the account.
func TestPluginFailsWhileRunning(t *testing.T) {
	t.Parallel()
	dir := misfitDir(t)
	const rows = 1000
	for _, tc := range []struct {
		fail string
		code int
		says []string
	}{
		{"no", exitOK, nil},
		{"babble", exitOK, []string{"this is no place for text"}},
		{"exit", exitUnavailable, []string{"exit status 7", "misfit: giving up"}},
		{"panic", exitUnavailable, []string{"misfit: no idea"}},
		{"error", exitUnavailable, []string{"the sensor is gone"}},
		{"child", exitUnavailable, []string{"exit status 1"}},
		{"session", exitUnavailable, []string{"exit status 1"}},
	} {
		t.Run(tc.fail, func(t *testing.T) {
			t.Parallel()
			h := start(t, options{}, "run", "--plugin-dir", dir,
				writeFile(t, "foreign.hcl", foreignPipeline("misfit", fmt.Sprintf("rows = %d\n fail = %q", rows, tc.fail))))
			h.requireExit(tc.code)
			if tc.fail == "session" { // nobody can know that it belongs to the plugin
				for _, p := range h.plugins() {
					require.Contains(t, p.command, "sleep")
					require.NoError(t, syscall.Kill(p.pid, syscall.SIGKILL))
				}
			}
			for _, says := range tc.says {
				assert.Contains(t, h.stderr.String(), says)
			}
			assert.NotContains(t, h.all.String(), "\x1b")
			if tc.code != exitOK {
				assert.Contains(t, h.stderr.String(), `pipeline "foreign": source misfit.it`)
			}
			h.assertAccountIsTrue(rows)
		})
	}
}

// assertAccountIsTrue holds the account of the flow against the files.
func (h *host) assertAccountIsTrue(most uint64) {
	h.t.Helper()
	a := h.account("foreign")["load"]
	track := a.tracks["parquet.lake"]
	assert.LessOrEqual(h.t, a.read, most)
	assert.Equal(h.t, a.accepted, track.delivered)
	assert.Equal(h.t, a.read, a.accepted+track.pending)
	assert.Zero(h.t, track.lost)
	if a.accepted == 0 {
		return
	}
	table := readTable(h.t, filepath.Join(h.dataDir, "parquet", "load"))
	got := map[value]bool{}
	for _, v := range table.column(h.t, "n") { // files of several streams may be in any order
		require.Less(h.t, v, most)
		got[v] = true
	}
	// A file may have got its name just before its transport could tell.
	assert.GreaterOrEqual(h.t, len(got), int(a.accepted))
}

// A process that is killed while it runs, of whatever kind.
func TestPluginIsKilled(t *testing.T) {
	t.Parallel()
	dir := misfitDir(t)
	for _, victim := range []struct{ kind, name, block string }{
		{"source", "misfit", "source misfit.it"}, {"transport", "parquet", "transport parquet.lake"},
	} {
		t.Run(victim.kind, func(t *testing.T) {
			t.Parallel()
			h := start(t, options{}, "run", "--plugin-dir", dir,
				writeFile(t, "foreign.hcl", foreignPipeline("misfit", "rows = 1000\n fail = \"wait\"")))
			h.awaitOutput("all rows are out")
			require.NoError(t, syscall.Kill(h.plugin(victim.kind, victim.name).pid, syscall.SIGKILL))
			h.requireExit(exitUnavailable)
			assert.Contains(t, h.stderr.String(), victim.block)
			assert.Contains(t, h.stderr.String(), "killed from outside")
			h.assertAccountIsTrue(1000)
		})
	}
}

// A plugin that is stopped (SIGSTOP) holds up the run, which nevertheless ends when
// it is asked to; one that goes on has lost nothing.
func TestPluginIsStopped(t *testing.T) {
	t.Parallel()
	dir := misfitDir(t)
	for _, victim := range []struct{ kind, name string }{{"source", "misfit"}, {"transport", "parquet"}} {
		t.Run(victim.kind, func(t *testing.T) {
			t.Parallel()
			h := start(t, options{}, "run", "--plugin-dir", dir,
				writeFile(t, "foreign.hcl", foreignPipeline("misfit", "rows = 1000\n fail = \"wait\"")))
			h.awaitOutput("all rows are out")
			pid := h.plugin(victim.kind, victim.name).pid
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			h.interrupt()
			code := h.wait()
			assert.NotEqual(t, exitOK, code)
			if victim.kind == "source" {
				assert.Equal(t, exitUnavailable, code)
				assert.Contains(t, lastLine(h.stderr.String()), "source misfit.it")
			}
			assert.Contains(t, h.stderr.String(), victim.name)
			h.assertAccountIsTrue(1000)
		})
		t.Run(victim.kind+" goes on", func(t *testing.T) {
			t.Parallel()
			h := start(t, options{}, "run", "--plugin-dir", dir,
				writeFile(t, "foreign.hcl", foreignPipeline("misfit", "rows = 1000\n fail = \"wait\"")))
			h.awaitOutput("all rows are out")
			p := h.plugin(victim.kind, victim.name)
			require.NoError(t, syscall.Kill(p.pid, syscall.SIGSTOP))
			eventually(t, "it does not stop", func() bool {
				now, ok := readProcess(filepath.Join("/proc", fmt.Sprint(p.pid)))
				return ok && now.state == "T"
			})
			h.awaitOutput("plugin does not answer")
			require.NoError(t, syscall.Kill(p.pid, syscall.SIGCONT))
			h.awaitOutput("plugin answers again")
			h.interrupt()
			h.requireExit(exitOK)
			assert.Equal(t, uint64(1000), h.requireBalanced("foreign"))
			h.assertAccountIsTrue(1000)
		})
	}
}

// A source that does not hear that it shall stop is killed after the drain time.
func TestDeafPlugin(t *testing.T) {
	t.Parallel()
	h := start(t, options{}, "run", "--plugin-dir", misfitDir(t),
		writeFile(t, "foreign.hcl", foreignPipeline("misfit", "rows = 1000\n fail = \"deaf\"")))
	h.awaitOutput("all rows are out")
	h.interrupt()
	h.requireExit(exitUnavailable)
	assert.Contains(t, lastLine(h.stderr.String()), "source misfit.it")
	h.assertAccountIsTrue(1000)
}

// Killed under load, each process of a live pipeline: nothing that was confirmed is
// missing, nothing is counted twice.
func TestProcessIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for _, victim := range []struct{ kind, name, block string }{
		{"source", "generator", "source generator.counter"},
		{"encoder", "ingestion_config", "encoder ingestion_config"},
		{"transport", "sift", "transport sift.live"},
	} {
		t.Run(victim.kind, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			h := load{uri: server.URI(), pipeline: `drain_timeout = "1s"`}.start(t)
			eventually(t, "no checkpoint", func() bool { return len(server.Acknowledged()) > 0 })
			require.NoError(t, syscall.Kill(h.plugin(victim.kind, victim.name).pid, syscall.SIGKILL))
			h.requireExit(exitUnavailable)
			assert.Contains(t, lastLine(h.stderr.String()), victim.block)
			a := h.account("load")["load"]
			track := a.tracks["sift.live"]
			assert.Equal(t, track.delivered, a.accepted)
			assert.Zero(t, track.lost)
			assert.GreaterOrEqual(t, a.read, a.accepted+track.pending)
			confirmed := numbers(t, server.Acknowledged())
			for n := range a.accepted {
				require.NotZero(t, confirmed[n], "row %d is counted as delivered", n)
			}
		})
	}
}
