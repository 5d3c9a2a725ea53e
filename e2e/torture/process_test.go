package torture

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// host is a running process of the program.
type host struct {
	cmd    *exec.Cmd
	tmp    string // TMPDIR of its processes, by which they are known
	began  time.Time
	stdout *transcript // alone
	all    *transcript // both outputs
	exited chan struct{}

	asked  bool // to stop, by SIGTERM
	before int  // messages that the destination had confirmed at its start
}

// launch says how a host is started.
type launch struct {
	through []string // a command that executes the program
	args    []string
	tmp     string
}

func (l launch) start() (*host, error) {
	h := &host{tmp: l.tmp, stdout: newTranscript(), all: newTranscript(), exited: make(chan struct{})}
	command := slices.Concat(l.through, []string{binaryPath()}, l.args)
	h.cmd = exec.Command(command[0], command[1:]...)
	h.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.tmp, "TMPDIR=" + l.tmp, "RUNTIME_DIRECTORY=" + l.tmp, apiKey + "=a-key"}
	h.cmd.Stdout = io.MultiWriter(h.stdout, h.all)
	h.cmd.Stderr = h.all
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.cmd.WaitDelay = patience / 6 // a child that holds the output must not hide the end
	h.began = time.Now()
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(h.exited)
		_ = h.cmd.Wait() // the state says it
	}()
	return h, nil
}

func (h *host) pid() int { return h.cmd.Process.Pid }

func (h *host) hasEnded() bool {
	select {
	case <-h.exited:
		return true
	default:
		return false
	}
}

// wait returns the exit code, -1 after a signal; false if it does not end in time.
func (h *host) wait(limit time.Duration) (int, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-h.exited:
		return h.cmd.ProcessState.ExitCode(), true
	case <-timer.C:
		return 0, false
	}
}

// pause lets a random time pass; it ends early with the host.
func (h *host) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-h.exited:
	case <-timer.C:
	}
}

// stop sends SIGTERM.
func (h *host) stop() {
	h.asked = true
	_ = syscall.Kill(h.pid(), syscall.SIGTERM) // it may have ended
}

// kill sends SIGKILL to one process of the host and returns its number; 0 if there is
// none.
func (h *host) kill(victim string) int {
	pid := h.pid()
	if victim != victimHost {
		pid = h.plugin(victim)
	}
	if h.hasEnded() || pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return 0
	}
	return pid
}

// plugin returns the process of a plugin, by the kind and name in its arguments; 0
// if there is none.
func (h *host) plugin(victim string) int {
	for _, p := range processesOf(h.tmp) {
		if strings.HasSuffix(p.command, " "+victim) {
			return p.pid
		}
	}
	return 0
}

// process is a process of the machine.
type process struct {
	pid     int
	command string
}

// processesOf returns the living processes whose directory for temporary files is
// tmp.
func processesOf(tmp string) []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	marker := []byte("\x00TMPDIR=" + tmp + "\x00")
	var out []process
	for _, dir := range dirs {
		// Any of these fails when the process ends meanwhile.
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), marker) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		// The name is in brackets and may contain anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) == 0 || fields[0] == "Z" {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		out = append(out, process{pid, strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))})
	}
	return out
}

// transcript keeps what a process writes.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func newTranscript() *transcript { return &transcript{} }

// Write appends.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// String returns everything so far.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// until waits for a condition that is seen from outside; false if it is not fulfilled
// in time.
func until(limit time.Duration, condition func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			return condition()
		}
	}
	return true
}

// clip keeps logs of failures readable.
func clip(text string, most int) string {
	if len(text) > most {
		return text[:most/2] + "\n[…]\n" + text[len(text)-most/2:]
	}
	return text
}
