package outfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

const (
	workPrefix = ".pipelined-"
	workSuffix = ".tmp"
	partSuffix = ".part"
	lockName   = "lock"
)

var (
	workName = regexp.MustCompile(`^\.pipelined-[0-9a-f]{16}\.tmp$`)
	partName = regexp.MustCompile(`^[0-9]+\.part$`)
)

// work is the directory of this process's unfinished files. It is locked through
// a file in it: a lock on a directory does not work on all file systems.
type work struct {
	path string
	lock *os.File
}

// claim creates a work directory. Between its steps another process may take it
// for one that was left behind and remove it; then the next one is tried.
func claim(files FS, dir string) (*work, error) {
	var err error
	for range 10 {
		var w *work
		if w, err = tryClaim(files, filepath.Join(dir, workPrefix+randomName()+workSuffix)); err == nil {
			return w, nil
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
	}
	return nil, err
}

func randomName() string {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	return hex.EncodeToString(name[:])
}

func tryClaim(files FS, path string) (*work, error) {
	if err := files.Mkdir(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, ignoreMissing(os.Remove(path)))
	}
	w := &work{path: path, lock: f}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err // who holds it removes the directory
	}
	if !w.exists() {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return w, nil
}

func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// exists reports whether the directory with the lock is still there.
func (w *work) exists() bool {
	there, err := os.Stat(filepath.Join(w.path, lockName))
	if err != nil {
		return false
	}
	own, err := w.lock.Stat()
	return err == nil && os.SameFile(there, own)
}

// unlock gives up a directory that has gone.
func (w *work) unlock() { w.lock.Close() }

// remove removes the directory and what is in it, then unlocks it.
func (w *work) remove() error {
	_, err := empty(w.path)
	return errors.Join(err, w.lock.Close())
}

// sweep removes the work directories whose processes are gone, and returns how
// many files were in them.
func sweep(dir string) (removed int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !e.IsDir() || !workName.MatchString(e.Name()) {
			continue
		}
		n, sweepErr := sweepOne(filepath.Join(dir, e.Name()))
		removed += n
		err = errors.Join(err, sweepErr)
	}
	return removed, err
}

func sweepOne(path string) (removed int, err error) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Its process ended before it made the lock, or is about to make it: only
		// an empty directory can be removed, and the process will try another one.
		return 0, ignoreMissing(os.Remove(path))
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return 0, nil // in use
		}
		return 0, err
	}
	return empty(path)
}

// empty removes the files that this package makes from a work directory, the
// lock last, and then the directory.
func empty(path string) (removed int, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0, ignoreMissing(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !partName.MatchString(e.Name()) {
			continue
		}
		if removeErr := os.Remove(filepath.Join(path, e.Name())); removeErr != nil {
			err = errors.Join(err, removeErr)
		} else {
			removed++
		}
	}
	if err != nil {
		return removed, err
	}
	return removed, errors.Join(
		ignoreMissing(os.Remove(filepath.Join(path, lockName))),
		ignoreMissing(os.Remove(path)),
	)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
