package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// A signal drains: what was read is delivered, whoever else gets the signal.
func TestSignalDrains(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]func(h *host){
		"SIGINT to everybody": func(h *host) { h.interrupt() },
		"SIGTERM":             func(h *host) { h.signal(syscall.SIGTERM) },
		"SIGTERM to everybody": func(h *host) {
			for _, p := range processesOf(h.tmp) {
				if err := syscall.Kill(p.pid, syscall.SIGTERM); err != syscall.ESRCH { // else the host was first
					require.NoError(h.t, err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			// Without checkpoints of its own: only the drain confirms.
			h := load{uri: server.URI(), interval: "1h"}.start(t)
			server.Stream(t, 0).WaitCount(t, 1000)
			signal(h)
			h.requireExit(exitOK)
			read := h.requireBalanced("load")
			assert.GreaterOrEqual(t, read, uint64(1000))
			confirmed := numbers(t, server.Acknowledged())
			for n := range read {
				require.NotZero(t, confirmed[n], "row %d was not delivered", n)
			}
			assert.Contains(t, h.stdout.String(), "stopping; what was received is being delivered")
		})
	}
}

// The quick way out: a second signal ends the run at once, with an account that
// hides nothing.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Default: sifttest.NeverAnswer})
	h := load{uri: server.URI(), interval: "1h"}.start(t)
	server.Stream(t, 0).WaitCount(t, 1000)
	h.interrupt()
	h.awaitOutput("once more to stop at once")
	<-server.Stream(t, 0).HalfClosed()
	began := time.Now()
	h.interrupt()
	h.requireExit(exitPending)
	assert.Less(t, time.Since(began), 15*time.Second, "well before the end of the drain timeout")
	assert.Contains(t, h.stdout.String(), "stopping at once")
	a := h.account("load")["load"]
	assert.Zero(t, a.accepted)
	assert.Equal(t, a.read, a.tracks["sift.live"].pending)
	assert.Contains(t, lastLine(h.stderr.String()), fmt.Sprintf("%d rows", a.read))
}

// Signals that come before anything runs.
func TestSignalWhileStarting(t *testing.T) {
	t.Parallel()
	h := load{uri: "http://" + freeAddress(t)}.start(t)
	h.awaitOutput("destination does not answer")
	h.interrupt()
	assert.NotEqual(t, exitOK, h.wait(), "nothing was delivered")
	assert.Contains(t, h.stderr.String(), "stopped before it had started")
}

// A host that is killed leaves no process behind; the next one cleans up what else
// is left, and starts with the same directories.
func TestHostIsKilled(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	l := load{uri: server.URI()}
	h := l.start(t)
	eventually(t, "no checkpoint", func() bool { return len(server.Acknowledged()) > 0 })
	require.Len(t, h.plugins(), 3)
	h.signal(syscall.SIGKILL)
	h.wait()
	eventually(t, "plugins outlive their host", func() bool { return len(h.plugins()) == 0 })

	left, err := filepath.Glob(filepath.Join(h.tmp, "pipelined-plugins-*"))
	require.NoError(t, err)
	require.NotEmpty(t, left, "a killed host cleans up nothing")
	l.rows = 1000
	again := run(t, options{dataDir: h.dataDir, env: []string{"RUNTIME_DIRECTORY=" + h.tmp}}, "run", writeFile(t, "load.hcl", l.hcl()))
	again.requireExit(exitOK)
	for _, dir := range left {
		assert.NoDirExists(t, dir, "the next host sweeps")
	}
}

// Files that a killed run has not finished are not there for readers, and are
// removed by the next run.
func TestUnfinishedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := strings.Replace(rowsToParquet(0, dir), `interval = "100ms"`, `interval = "1h"`, 1)
	text = strings.Replace(text, `rate = "max"`, `rate = 100000`, 1)
	h := start(t, options{}, "run", writeFile(t, "rows.hcl", text))
	unfinished := func() (found []string) {
		found, _ = filepath.Glob(filepath.Join(dir, ".pipelined-*.tmp", "*"))
		return found
	}
	eventually(t, "no file is begun", func() bool { return len(unfinished()) > 0 })
	h.signal(syscall.SIGKILL)
	h.wait()
	assert.Empty(t, filesBelow(t, dir, ""), "no file has its final name")
	require.NotEmpty(t, unfinished())

	again := run(t, options{}, "run", writeFile(t, "rows.hcl", rowsToParquet(1000, dir)))
	again.requireExit(exitOK)
	assert.Empty(t, unfinished())
	assert.Len(t, readTable(t, filepath.Join(dir, "load")).rows, 1000)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing but the table is left")
}
