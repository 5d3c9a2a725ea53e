//go:build unix && !linux

package plugin

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// reap waits for the process's end and kills what it leaves behind in its group.
func (p *child) reap() {
	status := wait4(p.pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.mu.status, p.mu.reaped = status, true
}

// lifeline is the stdin of a process.
type lifeline struct {
	read, write *os.File
}

func newLifeline() (*lifeline, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &lifeline{read, write}, nil
}

func (l *lifeline) childEnd() *os.File { return l.read }

func (l *lifeline) arm(int) {}

func (l *lifeline) close() { closeFiles(l.read, l.write) }
