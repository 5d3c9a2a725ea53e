package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// process is a process of the machine.
type process struct {
	pid     int
	parent  int
	group   int
	state   string // R, S, T, Z…
	command string // its arguments
}

// processesOf returns the living processes whose directory for temporary files is
// tmp: those of one run.
func processesOf(tmp string) []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	marker := []byte("TMPDIR=" + tmp + "\x00")
	var out []process
	for _, dir := range dirs {
		// Any of these fails when the process ends meanwhile.
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), append([]byte{0}, marker...)) {
			continue
		}
		if p, ok := readProcess(dir); ok && p.state != "Z" {
			out = append(out, p)
		}
	}
	return out
}

func readProcess(dir string) (process, bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false
	}
	// The name is in brackets and may contain anything.
	_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 3 {
		return process{}, false
	}
	p := process{state: fields[0]}
	p.pid, _ = strconv.Atoi(filepath.Base(dir))
	p.parent, _ = strconv.Atoi(fields[1])
	p.group, _ = strconv.Atoi(fields[2])
	command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	p.command = strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
	return p, true
}

// plugins returns the processes of the run besides the host.
func (h *host) plugins() []process {
	var out []process
	for _, p := range processesOf(h.tmp) {
		if p.pid != h.pid() {
			out = append(out, p)
		}
	}
	return out
}

// plugin returns the process of a plugin, by kind and name.
func (h *host) plugin(kind, name string) process {
	h.t.Helper()
	var found process
	eventually(h.t, "there is no process of the "+kind+" "+name, func() bool {
		for _, p := range h.plugins() {
			if strings.HasSuffix(p.command, kind+" "+name) || strings.Contains(p.command, "pipelined-"+kind+"-"+name) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// watchMemory waits for the end of the run and returns the most memory, in bytes,
// that one of its processes had.
func (h *host) watchMemory() (most int) {
	h.t.Helper()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		for _, p := range processesOf(h.tmp) {
			status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
			if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
				kib, _ := strconv.Atoi(strings.Fields(rest)[0])
				most = max(most, kib<<10)
			}
		}
		select {
		case <-ticker.C:
		case <-h.exited:
			require.NotZero(h.t, most)
			return most
		}
	}
}

func (h *host) describeProcesses() string {
	var b strings.Builder
	for _, p := range processesOf(h.tmp) {
		fmt.Fprintf(&b, "%+v\n", p)
	}
	return b.String()
}

// assertNothingLeft checks that no process and no socket directory of the run is
// left.
func (h *host) assertNothingLeft() {
	h.t.Helper()
	gone := assert.Eventually(h.t, func() bool { return len(processesOf(h.tmp)) == 0 }, patience/6, pollInterval)
	assert.True(h.t, gone, "processes are left:\n%s", h.describeProcesses())
	if h.killed() {
		return // nobody was left to clean up; the next start does
	}
	left, err := filepath.Glob(filepath.Join(h.tmp, "*"))
	assert.NoError(h.t, err)
	assert.Empty(h.t, left, "temporary files are left")
}

// killed reports whether a signal ended the host.
func (h *host) killed() bool { return h.cmd.ProcessState != nil && h.cmd.ProcessState.ExitCode() < 0 }
