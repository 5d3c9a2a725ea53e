//go:build unix

package plugin

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstExtraFD is the number in the process of the first file of command.files.
	firstExtraFD = 3

	readBytes = 16 << 10

	// maxLeftover bounds what is read of a process's output after its end, in bytes.
	// There is more only if a child of it goes on writing.
	maxLeftover = 1 << 20
)

// command is what a child executes.
type command struct {
	path  string
	argv  []string
	env   []string
	files []*os.File // inherited, as descriptors from firstExtraFD on
}

// child is a process in a group of its own with pipes for its standard files.
// Nothing is ever written to its stdin: the end of it tells the process that the
// host wants it to end, or is gone.
type child struct {
	pid   int
	ended chan struct{} // closed when it has been waited for and its output handed over

	stdout, stderr *os.File
	pumps          sync.WaitGroup

	mu struct {
		sync.Mutex
		stdin  *lifeline
		reaped bool // from then on the pid may belong to somebody else
		killed bool // by us
		status syscall.WaitStatus
	}
}

// startChild starts a process, and the goroutines that read its output and wait
// for its end; they end with the process. It must run on the forker's thread.
func startChild(c command, stdout, stderr *lineSplitter) (*child, error) {
	stdin, err := newLifeline()
	if err != nil {
		return nil, err
	}
	outRead, outWrite, outErr := os.Pipe()
	errRead, errWrite, errErr := os.Pipe()
	defer closeFiles(outWrite, errWrite)
	pid, err := 0, errors.Join(outErr, errErr)
	if err == nil {
		pid, err = forkExec(c, stdin.childEnd(), outWrite, errWrite)
	}
	if err != nil {
		closeFiles(outRead, errRead)
		stdin.close()
		return nil, err
	}
	stdin.arm(pid)

	p := &child{pid: pid, ended: make(chan struct{}), stdout: outRead, stderr: errRead}
	p.mu.stdin = stdin
	p.pumps.Go(func() { pump(outRead, stdout) })
	p.pumps.Go(func() { pump(errRead, stderr) })
	go p.wait() // joined through ended
	return p, nil
}

func forkExec(c command, standard ...*os.File) (int, error) {
	files := append(standard, c.files...)
	descriptors := make([]uintptr, len(files))
	for i, f := range files {
		descriptors[i] = f.Fd() // makes it blocking, as programs expect
	}
	pid, err := syscall.ForkExec(c.path, c.argv, &syscall.ProcAttr{
		Env:   c.env,
		Files: descriptors,
		Sys:   processAttributes(),
	})
	runtime.KeepAlive(files)
	return pid, err
}

// wait reaps the process and then gives its output a chance to be read.
func (p *child) wait() {
	defer close(p.ended)
	p.reap()

	// A child in another group may hold the pipes open for ever.
	now := time.Now()
	_ = p.stdout.SetReadDeadline(now)
	_ = p.stderr.SetReadDeadline(now)
	p.pumps.Wait()
	p.closeStdin()
}

// wait4 reaps a child. It fails only if somebody else in this process reaps our
// children.
func wait4(pid int) (status syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			return status
		}
	}
}

// kill ends the process and its group. It does not wait.
func (p *child) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.reaped {
		p.mu.killed = true
		_ = unix.Kill(-p.pid, unix.SIGKILL)
		_ = unix.Kill(p.pid, unix.SIGKILL) // it may have left its group
	}
}

// closeStdin tells the process to end.
func (p *child) closeStdin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.stdin != nil {
		p.mu.stdin.close()
		p.mu.stdin = nil
	}
}

// exit returns how the process ended, after that, and whether it was kill that
// ended it.
func (p *child) exit() (status syscall.WaitStatus, killed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status = p.mu.status
	return status, p.mu.killed && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// pump hands over what comes out of a pipe until its end, or until its deadline
// and what is in the pipe then.
func pump(pipe *os.File, to *lineSplitter) {
	defer to.close()
	defer closeFiles(pipe)
	buf := make([]byte, readBytes)
	for {
		n, err := pipe.Read(buf)
		to.write(buf[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			readLeftover(pipe, to, buf)
			return
		case err != nil:
			return
		}
	}
}

func readLeftover(pipe *os.File, to *lineSplitter, buf []byte) {
	raw, err := pipe.SyscallConn()
	if err != nil || pipe.SetReadDeadline(time.Time{}) != nil {
		return
	}
	for total := 0; total < maxLeftover; {
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return true // do not wait for more
		})
		if err != nil || readErr != nil || n <= 0 {
			return
		}
		to.write(buf[:n])
		total += n
	}
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		_ = f.Close() // pipes; nil is allowed
	}
}

// describeStatus says how a process ended, for a person.
func describeStatus(status syscall.WaitStatus) string {
	switch {
	case status.Signaled() && status.CoreDump():
		return fmt.Sprintf("killed by signal: %s (core dumped)", status.Signal())
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return "killed from outside, perhaps because the memory was full"
	case status.Signaled():
		return fmt.Sprintf("killed by signal: %s", status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
