package vfs

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// sector is the number of bytes that a disk writes as a whole.
const sector = 512

// inode is the content of a file, and what of it is durable.
type inode struct {
	data    []byte
	durable []byte // as of the last successful Sync, except for lost sectors
	sectors []sectorState
}

type sectorState uint8

const (
	clean sectorState = iota
	dirty             // written since the last Sync
	// lost to a failed Sync: the system takes it for clean, so that a later Sync
	// succeeds without writing it.
	lost
)

func (n *inode) write(p []byte) {
	first := len(n.data) / sector
	n.data = append(n.data, p...)
	for len(n.sectors)*sector < len(n.data) {
		n.sectors = append(n.sectors, clean)
	}
	for i := first; i < len(n.sectors); i++ {
		n.sectors[i] = dirty
	}
}

// span returns the offsets of a sector in the data.
func (n *inode) span(i int) (from, to int) { return i * sector, min((i+1)*sector, len(n.data)) }

func (n *inode) sync() {
	// What is between the old end and the new one reads as zeros until written.
	n.durable = append(n.durable, make([]byte, len(n.data)-len(n.durable))...)
	for i, state := range n.sectors {
		if state == dirty {
			from, to := n.span(i)
			copy(n.durable[from:to], n.data[from:to])
			n.sectors[i] = clean
		}
	}
}

func (n *inode) failSync() {
	for i, state := range n.sectors {
		if state == dirty {
			n.sectors[i] = lost
		}
	}
}

type memoryFile struct {
	fs       *Memory
	inode    *inode
	path     string
	writable bool
	closed   bool // guarded by fs.mu
}

// check fails if the file cannot be used. The lock is held.
func (f *memoryFile) check(op string) error {
	switch {
	case f.fs.mu.dead:
		return pathError(op, f.path, ErrCrashed)
	case f.closed:
		return pathError(op, f.path, os.ErrClosed)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.path, fs.ErrInvalid)
	}
	if off >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements io.Writer. On a full file system it writes what fits.
func (f *memoryFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("write"); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, pathError("write", f.path, syscall.EBADF)
	}
	if free := f.fs.free(); int64(len(p)) > free {
		f.inode.write(p[:free])
		return int(free), pathError("write", f.path, syscall.ENOSPC)
	}
	f.inode.write(p)
	return len(p), nil
}

// Sync implements File.
func (f *memoryFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync"); err != nil {
		return err
	}
	f.inode.sync()
	return nil
}

// failSync is what a failed Sync does.
func (f *memoryFile) failSync() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.inode.failSync()
}

// Size implements File.
func (f *memoryFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("stat"); err != nil {
		return 0, err
	}
	return int64(len(f.inode.data)), nil
}

// Close implements io.Closer.
func (f *memoryFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.path, os.ErrClosed)
	}
	f.closed = true
	return nil
}

// Damage overwrites bytes of a file, durably: bit rot. Offsets beyond its end are
// left alone.
func (m *Memory) Damage(path string, off int, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.find(path).(*inode)
	if !ok || off >= len(n.data) {
		return
	}
	n.data = slices.Clone(n.data)
	copy(n.data[off:], p)
	n.sync()
	if off < len(n.durable) {
		copy(n.durable[off:], p)
	}
}
