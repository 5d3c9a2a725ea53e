package outfile

import (
	"fmt"
	"io"
)

// syncEvery is how many bytes are written at most before they are made durable.
const syncEvery = 32 << 20

// File is a file that has no final name yet. It belongs to its set's goroutine.
type File struct {
	set      *Set
	path     string
	name     func(attempt int) string
	handle   Handle // nil: sealed or discarded
	size     int64
	unsynced int64
	sealed   bool
	err      error
}

// Write appends p. It implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.handle == nil {
		return 0, fmt.Errorf("write %s: the file is finished", f.path)
	}
	n, err := f.handle.Write(p)
	f.size += int64(n)
	f.unsynced += int64(n)
	if err == nil && n < len(p) {
		err = fmt.Errorf("write %s: %w", f.path, io.ErrShortWrite)
	}
	if err == nil && f.unsynced >= syncEvery {
		err = f.handle.Sync()
		f.unsynced = 0
	}
	f.err = err
	return n, err
}

// Size returns the number of bytes written.
func (f *File) Size() int64 { return f.size }

// Seal says that the file is complete, makes it durable and closes it. Sealing
// again does nothing.
func (f *File) Seal() error {
	if f.sealed || f.err != nil {
		return f.err
	}
	f.err = f.handle.Sync()
	if err := f.close(); f.err == nil {
		f.err = err
	}
	f.sealed = f.err == nil
	return f.err
}

func (f *File) close() error {
	if f.handle == nil {
		return nil
	}
	h := f.handle
	f.handle = nil
	return h.Close()
}

// discard closes and removes the file. What cannot be removed now is removed when
// the directory is closed, or by the next process.
func (f *File) discard() {
	_ = f.close()
	_ = f.set.dir.fs.Remove(f.path)
	f.err = ErrAborted
}
