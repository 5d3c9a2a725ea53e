package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// ErrClosed is returned by the methods of a Dir after its Close.
var ErrClosed = errors.New("the destination directory has been closed")

// Dir is a destination directory.
type Dir struct {
	path   string
	fs     FS
	logger *slog.Logger

	opening sync.Mutex // held by Open and Close; before mu
	mu      struct {
		sync.Mutex
		work   *work // where unfinished files lie; nil until Open
		next   uint64
		sets   map[*Set]struct{} // those that have an end before them
		closed bool
	}
}

// New returns a Dir; it touches nothing.
func New(path string, fs FS, logger *slog.Logger) *Dir {
	d := &Dir{path: filepath.Clean(path), fs: fs, logger: logger}
	d.mu.sets = map[*Set]struct{}{}
	return d
}

// Path returns the path of the directory.
func (d *Dir) Path() string { return d.path }

// Open makes the directory ready: it exists, unfinished files of processes that
// are gone have been removed, and this process can create files in it. Called
// again, it makes sure that this is still so.
func (d *Dir) Open() error {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.mu.Lock()
	work, closed := d.mu.work, d.mu.closed
	d.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case work != nil && work.exists():
		return nil
	case work != nil:
		d.logger.Warn("the destination directory was removed while in use", "dir", d.path)
		work.unlock()
	}
	work, err := d.prepare()
	if err != nil {
		return fmt.Errorf("destination directory %s: %w", d.path, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.work = work
	return nil
}

func (d *Dir) prepare() (*work, error) {
	if err := makeDirs(d.fs, d.path); err != nil {
		return nil, err
	}
	removed, err := sweep(d.path)
	if removed > 0 {
		d.logger.Info("removed unfinished files of an earlier process", "dir", d.path, "files", removed)
	}
	if err != nil {
		d.logger.Warn("cannot remove unfinished files of an earlier process", "dir", d.path, "error", err.Error())
	}
	return claim(d.fs, d.path)
}

// temporary returns the path of the next unfinished file.
func (d *Dir) temporary() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed || d.mu.work == nil {
		return "", ErrClosed
	}
	d.mu.next++
	return filepath.Join(d.mu.work.path, strconv.FormatUint(d.mu.next, 10)+partSuffix), nil
}

// NewSet returns an empty set of files. Open must have succeeded.
func (d *Dir) NewSet() (*Set, error) {
	s := &Set{dir: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed || d.mu.work == nil {
		return nil, ErrClosed
	}
	d.mu.sets[s] = struct{}{}
	return s, nil
}

// forget drops a set that has ended.
func (d *Dir) forget(s *Set) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.sets, s)
}

// Close aborts all sets that have not ended, waits for what they are doing, and
// removes what is unfinished. It may be called twice.
func (d *Dir) Close() error {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.mu.Lock()
	d.mu.closed = true
	work := d.mu.work
	d.mu.work = nil
	var sets []*Set
	for s := range d.mu.sets {
		sets = append(sets, s)
	}
	d.mu.Unlock()
	for _, s := range sets {
		s.Abort()
		s.wait()
	}
	if work == nil {
		return nil
	}
	return work.remove()
}

// makeDirs creates a directory with its parents, durably.
func makeDirs(files FS, path string) error {
	err := files.Mkdir(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		if err := makeDirs(files, filepath.Dir(path)); err != nil {
			return err
		}
		err = files.Mkdir(path)
	}
	if err == nil {
		return files.SyncDir(filepath.Dir(path))
	}
	switch info, statErr := os.Stat(path); {
	case statErr == nil && info.IsDir():
		return nil // it exists, whatever Mkdir says of a directory that may not be written
	case statErr == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR} // rather than EEXIST
	}
	return err
}
