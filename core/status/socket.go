package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// SocketName is the name of the socket in the data directory.
const SocketName = "control.sock"

// maxSocketPath is the length in bytes of the longest path that a socket can have on
// any system: 104 with the final zero on the strictest.
const maxSocketPath = 103

// listen opens the socket of a data directory, whose lock the caller holds: whatever
// socket is there, nobody listens to it any more. Only the user may connect.
func listen(ctx context.Context, dataDir string) (net.Listener, error) {
	path := filepath.Join(dataDir, SocketName)
	if err := removeStale(path); err != nil {
		return nil, err
	}
	short, release, err := shortPath(dataDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer release()
	// The file gets the mode that the socket has when it is bound, so that nobody
	// connects before it is closed to others.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(ctx, "unix", short)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, withoutAddress(err))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it knows the short path only
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return &listener{l, path}, nil
}

// listener removes its file when it is closed.
type listener struct {
	net.Listener
	path string
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	if removed := os.Remove(l.path); removed != nil && !errors.Is(removed, fs.ErrNotExist) && err == nil {
		err = removed
	}
	return err
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way: it is not a socket", path)
	}
	return os.Remove(path)
}

// dial connects to the socket of a data directory.
func dial(ctx context.Context, dataDir string) (net.Conn, error) {
	short, release, err := shortPath(dataDir)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// shortPath returns a path of the socket that is not too long for one. It is good
// until release.
func shortPath(dataDir string) (path string, release func(), err error) {
	path = filepath.Join(dataDir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())))
	if _, err := os.Stat(short); err != nil {
		dir.Close()
		return "", nil, fmt.Errorf("longer than %d bytes, too long for the path of a socket; use another data directory", maxSocketPath)
	}
	return filepath.Join(short, SocketName), func() { dir.Close() }, nil
}

// withoutAddress drops what net says about the address, which may be a short path.
func withoutAddress(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
