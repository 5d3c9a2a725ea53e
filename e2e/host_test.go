package e2e

import (
	"errors"
	"io"
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

const (
	// patience is how long tests wait for what must come. The machine may be busy.
	patience = 60 * time.Second
	// pollInterval is for what cannot be waited for otherwise.
	pollInterval = 10 * time.Millisecond

	// exit codes of the program
	exitOK, exitFailure, exitUsage, exitDamaged      = 0, 1, 64, 65
	exitUnavailable, exitIO, exitPending, exitConfig = 69, 74, 75, 78

	// apiKey is the environment variable with the key in the tests' pipelines.
	apiKey = "E2E_API_KEY"
)

// host is a running process of the program.
type host struct {
	t       *testing.T
	cmd     *exec.Cmd
	dataDir string
	tmp     string      // its directory for temporary files; marks its processes
	stdout  *transcript // alone
	stderr  *transcript // alone
	all     *transcript // both, as they came
	exited  chan struct{}
}

// options say how the program is started. The zero value is right for most tests.
type options struct {
	env     []string // in addition
	dataDir string   // empty: a new one
	noData  bool     // do not pass --data-dir
	stdout  *os.File // a terminal instead of the transcript
	stderr  *os.File // the same
	stdin   *os.File
	dir     string   // working directory
	through []string // a command that executes the program, with its arguments
}

// start starts the program. It is killed at the end of the test; nothing of it may
// be left then.
func start(t *testing.T, o options, args ...string) *host {
	t.Helper()
	h := &host{
		t: t, dataDir: o.dataDir, exited: make(chan struct{}),
		stdout: newTranscript(), stderr: newTranscript(), all: newTranscript(),
	}
	// Short, because paths of sockets are.
	tmp, err := os.MkdirTemp("/tmp", "e2e-")
	require.NoError(t, err)
	h.tmp = tmp
	if h.dataDir == "" {
		h.dataDir = filepath.Join(t.TempDir(), "data")
	}
	if !o.noData && len(args) > 0 && (args[0] == "run" || args[0] == "validate") {
		args = append([]string{args[0], "--data-dir", h.dataDir}, args[1:]...)
	}
	command := slices.Concat(o.through, []string{binary()}, args)
	h.cmd = exec.Command(command[0], command[1:]...)
	h.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp, apiKey + "=a-key",
	}, o.env...)
	h.cmd.Dir, h.cmd.Stdin = o.dir, nil
	if o.stdin != nil {
		h.cmd.Stdin = o.stdin
	}
	h.cmd.Stdout = io.MultiWriter(h.stdout, h.all)
	if o.stdout != nil {
		h.cmd.Stdout = o.stdout
	}
	h.cmd.Stderr = io.MultiWriter(h.stderr, h.all)
	if o.stderr != nil {
		h.cmd.Stderr = o.stderr
	}
	// A group of its own, as a shell gives it.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.cmd.WaitDelay = patience / 6 // a child that holds the output must not hide the end
	require.NoError(t, h.cmd.Start())
	go func() {
		defer close(h.exited)
		_ = h.cmd.Wait() // the state says it
	}()
	t.Cleanup(h.end)
	return h
}

// run runs the program to its end.
func run(t *testing.T, o options, args ...string) *host {
	t.Helper()
	h := start(t, o, args...)
	h.wait()
	return h
}

// end kills what is left, and fails the test if the run left something behind.
func (h *host) end() {
	select {
	case <-h.exited:
	default:
		_ = h.cmd.Process.Kill() // it may have ended just now
		<-h.exited
	}
	h.t.Helper()
	if h.t.Failed() {
		h.t.Logf("%s: %s\n%s", strings.Join(h.cmd.Args[1:], " "), h.cmd.ProcessState, clip(h.all.String()))
	}
	h.assertNothingLeft()
	for _, p := range processesOf(h.tmp) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // only after a failure
	}
	assert.NoError(h.t, os.RemoveAll(h.tmp))
}

// clip keeps the log of a failed test readable.
func clip(text string) string {
	const most = 8000
	if len(text) > most {
		return text[:most/2] + "\n[…]\n" + text[len(text)-most/2:]
	}
	return text
}

// wait returns the exit code.
func (h *host) wait() int {
	h.t.Helper()
	select {
	case <-h.exited:
	case <-time.After(patience):
		require.FailNow(h.t, "the program does not end", "%s\n%s", h.describeProcesses(), clip(h.all.String()))
	}
	return h.cmd.ProcessState.ExitCode()
}

// hasEnded reports whether the host is gone.
func (h *host) hasEnded() bool {
	select {
	case <-h.exited:
		return true
	default:
		return false
	}
}

// requireExit waits for the end and checks the exit code.
func (h *host) requireExit(code int) {
	h.t.Helper()
	require.Equal(h.t, code, h.wait(), "exit code\n%s", clip(h.all.String()))
}

// awaitOutput waits until the program has written a text.
func (h *host) awaitOutput(text string) {
	h.t.Helper()
	ok := h.all.await(func(all string) bool { return strings.Contains(all, text) }, h.exited, patience)
	require.True(h.t, ok, "the program does not write %q:\n%s", text, clip(h.all.String()))
}

// pid is the host's own process.
func (h *host) pid() int { return h.cmd.Process.Pid }

// signal sends a signal to the host alone.
func (h *host) signal(s syscall.Signal) {
	h.t.Helper()
	require.NoError(h.t, syscall.Kill(h.pid(), s))
}

// interrupt sends SIGINT as a terminal does, to the host's group; and to its
// plugins, as some supervisors do.
func (h *host) interrupt() {
	h.t.Helper()
	require.NoError(h.t, syscall.Kill(-h.pid(), syscall.SIGINT))
	h.signalPlugins(syscall.SIGINT)
}

// signalPlugins sends a signal to all plugins that are still there.
func (h *host) signalPlugins(s syscall.Signal) {
	h.t.Helper()
	for _, p := range h.plugins() {
		err := syscall.Kill(p.pid, s)
		require.True(h.t, err == nil || errors.Is(err, syscall.ESRCH), "%v", err)
	}
}

// eventually waits for a condition that is seen from outside.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, pollInterval, what)
}

// writeFile writes a file of the test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
