package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// ErrLocked is returned by Lock when another owner has the directory.
var ErrLocked = errors.New("directory is in use by another process")

// FS is a file system. Errors are those of package io/fs and syscall: a missing
// file is fs.ErrNotExist, a full disk syscall.ENOSPC.
type FS interface {
	// Create makes a new file for writing and reading. It fails with fs.ErrExist if
	// there is one. The name is durable after SyncDir.
	Create(path string) (File, error)
	// Open opens a file for reading.
	Open(path string) (File, error)
	// Rename gives a file another name in the same directory, replacing a file of
	// that name. It is durable after SyncDir.
	Rename(from, to string) error
	// Remove removes a file. It is durable after SyncDir.
	Remove(path string) error
	// ReadDir returns what is in a directory, in order of names.
	ReadDir(path string) ([]Entry, error)
	// Mkdir makes one directory; see MkdirAll.
	Mkdir(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Stat returns what a path is, fs.ErrNotExist if nothing.
	Stat(path string) (Entry, error)
	// Free returns the bytes that may still be written to the file system of path.
	Free(path string) (uint64, error)
	// Lock locks a directory until Close, or until the process ends. It fails with
	// ErrLocked if it is locked.
	Lock(dir string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	// Write appends. If it fails, it returns how many bytes were written.
	io.Writer
	// Sync makes the content durable, not the name. After an error nothing that was
	// written since the last success may be relied on, whatever a later Sync says.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
	io.Closer
}

// Entry is a file or a directory.
type Entry struct {
	Name string // without the directory
	Size int64  // bytes; of no meaning for a directory
	Dir  bool
}

// MkdirAll makes a directory with all its parents and makes them durable.
func MkdirAll(fsys FS, path string) error {
	path = filepath.Clean(path)
	entry, err := fsys.Stat(path)
	switch {
	case err == nil && entry.Dir:
		return nil
	case err == nil:
		return fmt.Errorf("make directory %s: it is a file", path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("make directory: %w", err)
	}
	parent := filepath.Dir(path)
	if err := MkdirAll(fsys, parent); err != nil {
		return err
	}
	if err := fsys.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	return nil
}
