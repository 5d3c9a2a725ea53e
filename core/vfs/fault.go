package vfs

import (
	"io"
	"sync"
	"syscall"
)

// Kind is what an operation does.
type Kind uint8

// Operations that a Fault sees. Reads are those of open files and of directories;
// closing, Stat and Lock never fail.
const (
	OpCreate Kind = iota + 1
	OpOpen
	OpRead
	OpWrite
	OpSync
	OpRename
	OpRemove
	OpMkdir
	OpSyncDir
)

// Op is an operation that is about to happen.
type Op struct {
	N    int // it is the Nth one, from 0
	Kind Kind
	Path string
	Size int // bytes to be read or written
}

// Changes reports whether the operation changes the file system.
func (o Op) Changes() bool { return o.Kind != OpOpen && o.Kind != OpRead }

// Failure is how an operation fails.
type Failure struct {
	Err error
	// Written is how many bytes of a write reach the file nevertheless.
	Written int
	// Done: the operation takes effect, and is reported as failed.
	Done bool
}

// Fault is a file system some of whose operations fail.
type Fault struct {
	fs     FS
	decide func(Op) *Failure
	mu     struct {
		sync.Mutex
		next  int
		fired bool
	}
}

// NewFault returns a file system that asks decide about each operation; nil lets it
// happen. Calls of decide do not overlap.
func NewFault(fsys FS, decide func(Op) *Failure) *Fault {
	return &Fault{fs: fsys, decide: decide}
}

// FailOnce fails the nth operation that changes something, as disks do: a write
// is short and the disk full, all others end with EIO.
func FailOnce(fsys FS, n int) *Fault {
	return NewFault(fsys, countChanges(func(i int, op Op) *Failure {
		if i != n {
			return nil
		}
		return diskFailure(op)
	}))
}

// FailFrom is a disk that is full from the nth change on: files cannot be created
// and writes are short. Everything else works.
func FailFrom(fsys FS, n int) *Fault {
	return NewFault(fsys, countChanges(func(i int, op Op) *Failure {
		if i < n {
			return nil
		}
		switch op.Kind {
		case OpWrite:
			if i > n {
				return &Failure{Err: syscall.ENOSPC}
			}
			return diskFailure(op)
		case OpCreate, OpMkdir:
			return &Failure{Err: syscall.ENOSPC}
		}
		return nil
	}))
}

// StopAt ends everything before the nth change: it and all operations after it,
// also reading ones, fail with ErrCrashed.
func StopAt(fsys FS, n int) *Fault {
	stopped := false
	changes := countChanges(func(i int, op Op) *Failure {
		if i < n {
			return nil
		}
		stopped = true
		return &Failure{Err: ErrCrashed, Written: op.Size / 2}
	})
	return NewFault(fsys, func(op Op) *Failure {
		if stopped {
			return &Failure{Err: ErrCrashed}
		}
		return changes(op)
	})
}

func diskFailure(op Op) *Failure {
	if op.Kind == OpWrite {
		return &Failure{Err: syscall.ENOSPC, Written: op.Size / 2}
	}
	return &Failure{Err: syscall.EIO}
}

// countChanges numbers the operations that change something.
func countChanges(decide func(i int, op Op) *Failure) func(Op) *Failure {
	next := 0
	return func(op Op) *Failure {
		if !op.Changes() {
			return nil
		}
		next++
		return decide(next-1, op)
	}
}

// Fired reports whether an operation has failed.
func (f *Fault) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.fired
}

func (f *Fault) ask(kind Kind, path string, size int) *Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	failure := f.decide(Op{N: f.mu.next, Kind: kind, Path: path, Size: size})
	f.mu.next++
	f.mu.fired = f.mu.fired || failure != nil
	return failure
}

// do carries out an operation, or its failure.
func (f *Fault) do(kind Kind, path string, op func() error) error {
	failure := f.ask(kind, path, 0)
	if failure == nil {
		return op()
	}
	if failure.Done {
		_ = op()
	}
	return pathError("fault", path, failure.Err)
}

// Create implements FS.
func (f *Fault) Create(path string) (File, error) {
	return f.open(OpCreate, path, f.fs.Create)
}

// Open implements FS.
func (f *Fault) Open(path string) (File, error) {
	return f.open(OpOpen, path, f.fs.Open)
}

func (f *Fault) open(kind Kind, path string, open func(string) (File, error)) (File, error) {
	var file File
	err := f.do(kind, path, func() (err error) {
		file, err = open(path)
		return err
	})
	if err == nil {
		return &faultFile{file, f, path}, nil
	}
	if file != nil { // opened, and reported as failed
		file.Close()
	}
	return nil, err
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	return f.do(OpRename, from, func() error { return f.fs.Rename(from, to) })
}

// Remove implements FS.
func (f *Fault) Remove(path string) error {
	return f.do(OpRemove, path, func() error { return f.fs.Remove(path) })
}

// ReadDir implements FS.
func (f *Fault) ReadDir(path string) (list []Entry, err error) {
	err = f.do(OpRead, path, func() (err error) {
		list, err = f.fs.ReadDir(path)
		return err
	})
	return list, err
}

// Mkdir implements FS.
func (f *Fault) Mkdir(path string) error {
	return f.do(OpMkdir, path, func() error { return f.fs.Mkdir(path) })
}

// SyncDir implements FS.
func (f *Fault) SyncDir(path string) error {
	return f.do(OpSyncDir, path, func() error { return f.fs.SyncDir(path) })
}

// Stat implements FS.
func (f *Fault) Stat(path string) (Entry, error) { return f.fs.Stat(path) }

// Free implements FS.
func (f *Fault) Free(path string) (uint64, error) { return f.fs.Free(path) }

// Lock implements FS.
func (f *Fault) Lock(dir string) (io.Closer, error) { return f.fs.Lock(dir) }

type faultFile struct {
	File
	fs   *Fault
	path string
}

// ReadAt implements io.ReaderAt.
func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if failure := f.fs.ask(OpRead, f.path, len(p)); failure != nil {
		return 0, pathError("read", f.path, failure.Err)
	}
	return f.File.ReadAt(p, off)
}

// Write implements io.Writer.
func (f *faultFile) Write(p []byte) (int, error) {
	failure := f.fs.ask(OpWrite, f.path, len(p))
	if failure == nil {
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:min(failure.Written, len(p))])
	if err == nil {
		err = pathError("write", f.path, failure.Err)
	}
	return n, err
}

// Sync implements File. A Memory below learns of the failure, and what it means.
func (f *faultFile) Sync() error {
	failure := f.fs.ask(OpSync, f.path, 0)
	if failure == nil {
		return f.File.Sync()
	}
	if failure.Done {
		_ = f.File.Sync()
	} else if m, ok := f.File.(*memoryFile); ok {
		m.failSync()
	}
	return pathError("sync", f.path, failure.Err)
}
