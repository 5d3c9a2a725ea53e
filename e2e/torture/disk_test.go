package torture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a small file system that only the host sees: it lives in a name space of
// its own, which needs no rights, and ends with the process that holds it.
type disk struct {
	holder *exec.Cmd
	stdin  io.Closer
	mount  string // as the host sees it
}

// newDisk makes one; an error means that the machine has no such thing.
func newDisk(mount string, size int) (*disk, error) {
	script := fmt.Sprintf("mount -t tmpfs -o size=%d,mode=700 tmpfs %s && echo ready && exec cat >/dev/null", size, mount)
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &disk{holder: cmd, stdin: stdin, mount: mount}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		d.close()
		return nil, fmt.Errorf("no file system for the test: %w", errors.Join(err, errors.New(line)))
	}
	if out, err := exec.Command("nsenter", append(d.enter()[1:], "true")...).CombinedOutput(); err != nil {
		d.close()
		return nil, fmt.Errorf("no way into the name space: %w: %s", err, out)
	}
	return d, nil
}

// enter is the command that executes another one where the disk is.
func (d *disk) enter() []string {
	return []string{"nsenter", "--target", fmt.Sprint(d.holder.Process.Pid), "--user", "--preserve-credentials", "--mount", "--"}
}

// outside returns a path of the disk as other processes see it.
func (d *disk) outside(path string) string {
	return filepath.Join("/proc", fmt.Sprint(d.holder.Process.Pid), "root", path)
}

func (d *disk) filler() string { return d.outside(filepath.Join(d.mount, "filler")) }

// fill takes all space but what is asked to be left, in bytes.
func (d *disk) fill(left int64) error {
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		var stat unix.Statfs_t
		if err := unix.Statfs(d.outside(d.mount), &stat); err != nil {
			return err
		}
		n := min(int64(stat.Bfree)*stat.Bsize-left, int64(len(block)))
		if n <= 0 {
			return nil
		}
		if _, err := f.Write(block[:n]); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// free gives the space back.
func (d *disk) free() { _ = os.Remove(d.filler()) } // it may be free already

func (d *disk) close() {
	_ = d.stdin.Close()
	_ = d.holder.Process.Kill() // it ends by itself, too
	_ = d.holder.Wait()
}

// changes tells of files that come and go in directories.
type changes struct {
	file *os.File
	done sync.WaitGroup
	came chan struct{} // holds one notice
}

func watch(dirs ...string) (*changes, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	c := &changes{file: os.NewFile(uintptr(fd), "inotify"), came: make(chan struct{}, 1)}
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO); err != nil {
			c.file.Close()
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	c.done.Go(func() {
		buffer := make([]byte, 4096)
		for {
			if _, err := c.file.Read(buffer); err != nil {
				return // closed
			}
			select {
			case c.came <- struct{}{}:
			default:
			}
		}
	})
	return c, nil
}

// wait returns at the next change; false if none comes in time, or the host ends.
func (c *changes) wait(h *host, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.came:
		return true
	case <-h.exited:
	case <-timer.C:
	}
	return false
}

func (c *changes) close() {
	c.file.Close()
	c.done.Wait()
}
