package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rowsToParquet is a pipeline without a network: rows to Parquet files.
func rowsToParquet(rows int, dir string) string {
	return fmt.Sprintf(`
pipeline "rows" {
  drain_timeout = "1s"
  source "generator" "counter" {
    flow = "load"
    rate = "max"
    rows = %d
    channel "noise" {
      wave = "noise"
    }
    channel "more" {
      wave = "noise"
    }
  }
  transport "parquet" "lake" {
    dir = %q
    checkpoint {
      interval = "100ms"
    }
    retry {
      initial = "20ms"
      max     = "100ms"
    }
  }
}
`, rows, dir)
}

// A port that another program uses: named, and nothing is left running.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	h := run(t, options{}, "run", writeFile(t, "receiver.hcl", fmt.Sprintf(`
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, l.Addr())))
	h.requireExit(exitUnavailable)
	last := lastLine(h.stderr.String())
	assert.Contains(t, last, "source sift.in")
	assert.Contains(t, last, l.Addr().String())
	assert.Contains(t, last, "another program uses this port")
}

// The data directory cannot be used: said at once, before anything has started.
func TestBadDataDirectory(t *testing.T) {
	t.Parallel()
	pipelines := writeFile(t, "rows.hcl", rowsToParquet(1, t.TempDir()))
	file := writeFile(t, "file", "")
	for name, tc := range map[string]struct{ dir, says string }{
		"a file":        {file, file},
		"below a file":  {filepath.Join(file, "below"), file},
		"not permitted": {"/sys/pipelined-e2e", "/sys/pipelined-e2e"},
		"no such place": {"/proc/self/fd/pipelined-e2e", "/proc/self/fd/pipelined-e2e"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := run(t, options{dataDir: tc.dir}, "run", pipelines)
			h.requireExit(exitIO)
			assert.Contains(t, lastLine(h.stderr.String()), "data directory")
			assert.Contains(t, lastLine(h.stderr.String()), tc.says)
		})
	}
}

// A data directory belongs to one host at a time.
func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	first := startReceiver(t, options{})
	pipelines := writeFile(t, "rows.hcl", rowsToParquet(10, t.TempDir()))
	second := run(t, options{dataDir: first.dataDir}, "run", pipelines)
	second.requireExit(exitIO)
	assert.Contains(t, second.stderr.String(), "another pipelined is using this data directory")
	assert.Contains(t, second.stderr.String(), first.dataDir)

	first.signal(syscall.SIGKILL)
	first.wait()
	third := run(t, options{dataDir: first.dataDir}, "run", pipelines)
	third.requireExit(exitOK) // a killed host leaves no lock behind
}

// The destination's directory cannot be used.
func TestBadDestinationDirectory(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "file", "")
	for _, dir := range []string{file, filepath.Join(file, "below"), "/sys/pipelined-e2e"} {
		h := run(t, options{}, "run", writeFile(t, "rows.hcl", rowsToParquet(10, dir)))
		h.requireExit(exitUnavailable)
		assert.Contains(t, lastLine(h.stderr.String()), dir)
		assert.Contains(t, lastLine(h.stderr.String()), "parquet.lake")
	}
}

// onSmallDisk lets the program see a small disk at a directory, with a file on it
// that takes up most of it.
func onSmallDisk(t *testing.T, dir, size, filler string) options {
	t.Helper()
	script := fmt.Sprintf(`mount -t tmpfs -o size=%s none "%s" && head -c %s /dev/zero > "%s/filler" && exec "$@"`, size, dir, filler, dir)
	through := []string{"unshare", "--mount", "sh", "-c", script, "sh"}
	if out, err := exec.Command(through[0], append(through[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody mount a small disk: %v: %s", err, out)
	}
	return options{through: through}
}

// The disk is full: nothing is confirmed that is not there; when there is room
// again, everything is written.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const rows = 400_000 // several MB
	dir := t.TempDir()
	t.Run("for a while", func(t *testing.T) {
		t.Parallel()
		o := onSmallDisk(t, dir, "40M", "39M")
		h := start(t, o, "run", writeFile(t, "rows.hcl", rowsToParquet(rows, dir)))
		h.awaitOutput("no space left on device")
		seen := fmt.Sprintf("/proc/%d/root%s", h.pid(), dir) // as the program sees it
		require.NoError(t, os.Remove(filepath.Join(seen, "filler")))
		h.requireExit(exitOK)
		assert.Equal(t, uint64(rows), h.requireBalanced("rows"))
	})
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		o := onSmallDisk(t, dir, "2M", "1M")
		h := start(t, o, "run", writeFile(t, "rows.hcl", rowsToParquet(rows, dir)))
		h.awaitOutput("no space left on device")
		h.interrupt()
		h.requireExit(exitPending) // the generator can make the rows again
		a := h.account("rows")["load"]
		assert.Equal(t, a.read, a.accepted+a.tracks["parquet.lake"].pending)
		assert.Zero(t, a.tracks["parquet.lake"].lost)
	})
}
