package sidebyside

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exitPending is the exit code of a run that could not deliver everything.
const exitPending = 75

// process is a run of the program or of a peer.
type process struct {
	cmd    *exec.Cmd
	output output
	began  time.Time
	exited chan struct{}
	took   time.Duration // after exited
}

// output is read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// launch starts a command, which ends with the benchmark at the latest.
func launch(b *testing.B, cmd *exec.Cmd) *process {
	b.Helper()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.WaitDelay = 10 * time.Second
	p.began = time.Now()
	require.NoError(b, cmd.Start())
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // the state says it
		p.took = time.Since(p.began)
	}()
	b.Cleanup(p.kill)
	return p
}

// pipeline starts the program with a pipeline file.
func pipeline(b *testing.B, dir, text string) *process {
	b.Helper()
	file := filepath.Join(dir, "bench.hcl")
	require.NoError(b, os.WriteFile(file, []byte(text), 0o600))
	cmd := exec.Command(binaryPath(), "run", "--data-dir", filepath.Join(dir, "data"), file)
	cmd.Env = append(os.Environ(), apiKey+"=a-key")
	return launch(b, cmd)
}

func (p *process) kill() {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.exited
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait(b *testing.B, limit time.Duration) int {
	b.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		require.FailNow(b, "the process does not end", "%s", &p.output)
	}
	return p.cmd.ProcessState.ExitCode()
}

// cpu returns the processor time of a process that has ended, with its children.
func (p *process) cpu() time.Duration {
	usage := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// waitFor polls what is seen from outside only.
func waitFor(b *testing.B, what string, p *process, limit time.Duration, condition func() bool) {
	b.Helper()
	deadline := time.After(limit)
	for !condition() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.exited:
			require.FailNow(b, "the process ended before: "+what, "%s", &p.output)
		case <-deadline:
			require.FailNow(b, "this does not happen: "+what, "%s", &p.output)
		}
	}
}
