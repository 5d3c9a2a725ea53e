package main

import (
	"errors"
	"io"
	"path/filepath"
	"syscall"

	"github.com/pipelined/pipelined/core/replay"
	"github.com/pipelined/pipelined/internal/pbfsview"
)

var errInUse = errors.New("in use by a running pipelined, which delivers it itself")

// sources visits all files that the paths lead to, each open and safe from a pipeline
// that would delete it.
func (j *replayJob) sources(paths []string, visit func(*replay.Source) error) error {
	return j.walk(paths, func(path string) error {
		lock, problem := lockBackup(filepath.Dir(path))
		if problem != nil {
			return j.complain(exitIO, path, problem)
		}
		defer lock.Close()
		f, problem := pbfsview.Open(path)
		if problem != nil {
			return j.complain(exitIO, path, problem)
		}
		defer f.Close() // it was only read
		identity, problem := identify(f)
		if problem != nil {
			return j.complain(exitIO, path, problem)
		}
		full, err := filepath.Abs(path)
		if err != nil {
			full = path
		}
		src := &replay.Source{Path: full, File: f, Identity: identity}
		if b := j.indexes.bordersOf(full); b != nil {
			src.Borders = b
		}
		return visit(src)
	})
}

func identify(f *pbfsview.File) (replay.Identity, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return replay.Identity{}, err
	}
	return replay.Identity{
		Device: uint64(st.Dev), Inode: st.Ino, Size: f.Size, Modified: st.Mtim.Nano(), Changed: st.Ctim.Nano(),
	}, nil
}

// lockBackup keeps a pipeline from using a directory of backup files. Many may hold
// the lock; a running pipeline holds it alone. Where there are no such locks, there is
// none.
func lockBackup(dir string) (io.Closer, error) {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nopCloser{}, nil // opening the file says what is wrong
	}
	if err := syscall.Flock(fd, syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		syscall.Close(fd)
		return nil, errInUse
	}
	return descriptor(fd), nil
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// descriptor is an open directory.
type descriptor int

func (d descriptor) Close() error { return syscall.Close(int(d)) }
