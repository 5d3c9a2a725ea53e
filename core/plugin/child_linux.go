package plugin

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes puts a process into a group of its own and has the kernel
// kill it when the thread that forks it ends, also if that was before this call
// took effect.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitDeath waits until a child is dead, and leaves it to be reaped.
func awaitDeath(pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// reap waits for the process's end. What it leaves behind in its group is killed
// while the dead process still keeps the group's number from being given away.
func (p *child) reap() {
	awaitDeath(p.pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.mu.status, p.mu.reaped = wait4(p.pid), true
}

// lifeline is the stdin of a process. While it is armed the kernel itself kills
// the group of the process when the host's end is closed, which happens when the
// host dies, however it dies. The parent-death signal reaches the process only;
// this reaches its children too, as long as one of them has its stdin open.
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

// arm asks for the signal that tells of input, of all signals SIGKILL: as nothing
// is ever written, the end of input is all that can come. It is a second line of
// defence, so it may fail.
func (l *lifeline) arm(group int) {
	fd := l.read.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETOWN, -group); err != nil {
		return
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGKILL)); err != nil {
		return
	}
	l.setAsync(true)
}

func (l *lifeline) setAsync(on bool) {
	flags, err := unix.FcntlInt(l.read.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return
	}
	flags &^= unix.O_ASYNC
	if on {
		flags |= unix.O_ASYNC
	}
	_, _ = unix.FcntlInt(l.read.Fd(), unix.F_SETFL, flags)
}

// close disarms the lifeline and ends the process's input.
func (l *lifeline) close() {
	l.setAsync(false)
	closeFiles(l.read, l.write)
}
