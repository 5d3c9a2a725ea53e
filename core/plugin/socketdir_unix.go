//go:build unix

package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A host keeps its plugins' sockets in one directory of its own, with one
// directory below it for each start of a plugin. It holds a lock on the outer one
// for as long as it lives: so another host can tell what a dead one left behind,
// and systemd-tmpfiles leaves it alone, however old it gets.
const (
	socketDirPrefix = "pipelined-plugins-"

	// maxBase is the length in bytes of the longest base that leaves room for the
	// path of a socket: 104 bytes with the final zero on the strictest system, less
	// both directories and 32 bytes for the socket's name.
	maxBase = 103 - len("/"+socketDirPrefix+"4294967295") - len("/plugin-dir4294967295") - 32
)

var socketDirName = regexp.MustCompile(`^` + socketDirPrefix + `[0-9]+$`)

// SocketBases returns where the private directories of sockets can be, the best
// place first. Env looks up environment variables, as os.Getenv does.
func SocketBases(env func(string) string) []string {
	bases := []string{env("RUNTIME_DIRECTORY"), env("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"}
	bases = slices.DeleteFunc(bases, func(base string) bool { return base == "" })
	return slices.Compact(bases)
}

type socketDir struct {
	path string
	lock *os.File
}

// newSocketDir makes a directory in the first base that can have it.
func newSocketDir(bases []string) (*socketDir, error) {
	var errs []error
	for _, base := range bases {
		if len(base) > maxBase {
			errs = append(errs, fmt.Errorf("%s: longer than %d bytes, too long for the path of a socket", base, maxBase))
			continue
		}
		dir, err := makeSocketDir(base)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no place for the sockets of plugins: %w", errors.Join(errs...))
}

func makeSocketDir(base string) (*socketDir, error) {
	for {
		path, err := os.MkdirTemp(base, socketDirPrefix) // mode 0700
		if err != nil {
			return nil, err
		}
		lock, err := lockDir(path)
		if err == nil {
			return &socketDir{path, lock}, nil
		}
		// Another host that is cleaning up came between the two steps and takes it.
		if !errors.Is(err, errLocked) && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, os.RemoveAll(path))
		}
	}
}

// close removes the directory with everything in it.
func (d *socketDir) close() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

var errLocked = errors.New("in use by another process")

// lockDir locks a directory of ours. It fails with errLocked if another process
// has the lock, and with fs.ErrNotExist if one has removed it meanwhile.
func lockDir(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), dir.Close())
	}
	opened, openedErr := dir.Stat()
	named, namedErr := os.Lstat(path)
	if err := errors.Join(openedErr, namedErr); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if !os.SameFile(opened, named) {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: fs.ErrNotExist}, dir.Close())
	}
	return dir, nil
}

// SweepSocketDirs removes the directories that hosts of this user left in a base
// when they were killed. Those of living hosts stay.
func SweepSocketDirs(base string) error {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if socketDirName.MatchString(entry.Name()) {
			errs = append(errs, sweepSocketDir(filepath.Join(base, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

func sweepSocketDir(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return ignoreNotExist(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(stat.Uid) != os.Geteuid() {
		return nil // not made by us
	}
	lock, err := lockDir(path)
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return ignoreNotExist(err)
	}
	return errors.Join(os.RemoveAll(path), lock.Close())
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
