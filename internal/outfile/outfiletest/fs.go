package outfiletest

import (
	"fmt"
	"sync"

	"github.com/pipelined/pipelined/internal/outfile"
)

// Op is an operation that can be made to fail.
type Op string

// The operations.
const (
	Create  Op = "create"
	Mkdir   Op = "mkdir"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "sync directory"
	Write   Op = "write"
	Sync    Op = "sync"
	Close   Op = "close"
)

// FS is the machine's file system with faults. It waits for no disk: what is
// synced is counted only. It may be used from many goroutines.
type FS struct {
	outfile.OS

	mu struct {
		sync.Mutex
		fail  func(op Op, path string) error
		calls map[Op]int
		open  int
	}
}

// Fail makes operations fail for which f returns an error; nil ends that. A write
// that fails writes half of its bytes before.
func (s *FS) Fail(f func(op Op, path string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.fail = f
}

// FailNth makes the n-th call of an operation from now on fail, from 1.
func (s *FS) FailNth(op Op, n int, err error) {
	s.Fail(func(called Op, _ string) error {
		if called != op {
			return nil
		}
		if n--; n == 0 {
			return err
		}
		return nil
	})
}

// Open returns the number of files that are open.
func (s *FS) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.open
}

// Calls returns how often an operation was called.
func (s *FS) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.calls[op]
}

func (s *FS) call(op Op, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.calls == nil {
		s.mu.calls = map[Op]int{}
	}
	s.mu.calls[op]++
	if s.mu.fail == nil {
		return nil
	}
	if err := s.mu.fail(op, path); err != nil {
		return fmt.Errorf("%s %s: %w", op, path, err)
	}
	return nil
}

func (s *FS) count(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.open += change
}

// Create implements outfile.FS.
func (s *FS) Create(path string) (outfile.Handle, error) {
	if err := s.call(Create, path); err != nil {
		return nil, err
	}
	h, err := s.OS.Create(path)
	if err != nil {
		return nil, err
	}
	s.count(1)
	return &handle{Handle: h, fs: s, path: path}, nil
}

// Mkdir implements outfile.FS.
func (s *FS) Mkdir(path string) error {
	if err := s.call(Mkdir, path); err != nil {
		return err
	}
	return s.OS.Mkdir(path)
}

// Rename implements outfile.FS.
func (s *FS) Rename(from, to string) error {
	if err := s.call(Rename, to); err != nil {
		return err
	}
	return s.OS.Rename(from, to)
}

// Remove implements outfile.FS.
func (s *FS) Remove(path string) error {
	if err := s.call(Remove, path); err != nil {
		return err
	}
	return s.OS.Remove(path)
}

// SyncDir implements outfile.FS.
func (s *FS) SyncDir(path string) error { return s.call(SyncDir, path) }

type handle struct {
	outfile.Handle
	fs   *FS
	path string
}

func (h *handle) Write(p []byte) (int, error) {
	if err := h.fs.call(Write, h.path); err != nil {
		n, _ := h.Handle.Write(p[:len(p)/2])
		return n, err
	}
	return h.Handle.Write(p)
}

func (h *handle) Sync() error { return h.fs.call(Sync, h.path) }

// Close closes the file even if it says otherwise, as the system does.
func (h *handle) Close() error {
	failure := h.fs.call(Close, h.path)
	h.fs.count(-1)
	if err := h.Handle.Close(); err != nil {
		return err
	}
	return failure
}
