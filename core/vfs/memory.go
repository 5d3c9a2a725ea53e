package vfs

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Memory is a file system in memory; see Crash for what it says of power loss. It
// has one root, "/"; relative paths begin there.
type Memory struct {
	mu struct {
		sync.Mutex
		root   *directory
		locked map[*directory]bool
		limit  int64 // bytes of all files, for Free and ENOSPC
		dead   bool
	}
}

// NewMemory returns an empty file system that holds up to limit bytes of files; 0
// means 1 TiB.
func NewMemory(limit int64) *Memory { return newMemory(newDirectory(), limit) }

func newMemory(root *directory, limit int64) *Memory {
	if limit == 0 {
		limit = 1 << 40
	}
	m := &Memory{}
	m.mu.root = root
	m.mu.locked = make(map[*directory]bool)
	m.mu.limit = limit
	return m
}

// node is an *inode or a *directory.
type node any

// directory has the entries as they are, and what of them is durable: those of the
// last SyncDir, and the changes since.
type directory struct {
	entries map[string]node
	durable map[string]node
	changes []change
}

// change is a creation (from empty), a removal (to empty), or a rename.
type change struct {
	from, to string
	node     node
}

func (c change) apply(entries map[string]node) {
	if removal := c.to == ""; removal || entries[c.from] == c.node {
		delete(entries, c.from)
	}
	if c.to != "" {
		entries[c.to] = c.node
	}
}

func newDirectory() *directory {
	return &directory{entries: make(map[string]node), durable: make(map[string]node)}
}

func (d *directory) change(c change) {
	c.apply(d.entries)
	d.changes = append(d.changes, c)
}

func (d *directory) sync() {
	d.durable = maps.Clone(d.entries)
	d.changes = nil
}

func pathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}

func elements(path string) []string {
	return strings.FieldsFunc(filepath.Clean(path), func(r rune) bool { return r == '/' })
}

// find returns the node at a path, nil if there is none. The lock is held.
func (m *Memory) find(path string) node {
	n := node(m.mu.root)
	for _, name := range elements(path) {
		d, ok := n.(*directory)
		if !ok || name == "." {
			continue
		}
		n = d.entries[name]
		if n == nil {
			return nil
		}
	}
	return n
}

// dir returns the directory at a path. The lock is held.
func (m *Memory) dir(op, path string) (*directory, error) {
	if m.mu.dead {
		return nil, pathError(op, path, ErrCrashed)
	}
	switch d := m.find(path).(type) {
	case *directory:
		return d, nil
	case nil:
		return nil, pathError(op, path, fs.ErrNotExist)
	}
	return nil, pathError(op, path, syscall.ENOTDIR)
}

// parent returns the directory of a path, and the name in it. The lock is held.
func (m *Memory) parent(op, path string) (*directory, string, error) {
	d, err := m.dir(op, filepath.Dir(path))
	return d, filepath.Base(path), err
}

// Create implements FS.
func (m *Memory) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, name, err := m.parent("create", path)
	if err != nil {
		return nil, err
	}
	if d.entries[name] != nil {
		return nil, pathError("create", path, fs.ErrExist)
	}
	n := &inode{}
	d.change(change{to: name, node: n})
	return &memoryFile{fs: m, inode: n, path: path, writable: true}, nil
}

// Open implements FS.
func (m *Memory) Open(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, _, err := m.parent("open", path); err != nil {
		return nil, err
	}
	n, ok := m.find(path).(*inode)
	if !ok {
		return nil, pathError("open", path, fs.ErrNotExist)
	}
	return &memoryFile{fs: m, inode: n, path: path}, nil
}

// Rename implements FS.
func (m *Memory) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, name, err := m.parent("rename", from)
	if err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		return pathError("rename", to, syscall.EXDEV)
	}
	n, ok := d.entries[name].(*inode)
	if !ok {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if _, isDir := d.entries[filepath.Base(to)].(*directory); isDir {
		return pathError("rename", to, fs.ErrExist)
	}
	d.change(change{from: name, to: filepath.Base(to), node: n})
	return nil
}

// Remove implements FS.
func (m *Memory) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, name, err := m.parent("remove", path)
	if err != nil {
		return err
	}
	n, ok := d.entries[name].(*inode)
	if !ok {
		return pathError("remove", path, fs.ErrNotExist)
	}
	d.change(change{from: name, node: n})
	return nil
}

// ReadDir implements FS.
func (m *Memory) ReadDir(path string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir("readdir", path)
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, name := range slices.Sorted(maps.Keys(d.entries)) {
		list = append(list, describe(name, d.entries[name]))
	}
	return list, nil
}

func describe(name string, n node) Entry {
	if f, ok := n.(*inode); ok {
		return Entry{Name: name, Size: int64(len(f.data))}
	}
	return Entry{Name: name, Dir: true}
}

// Mkdir implements FS.
func (m *Memory) Mkdir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, name, err := m.parent("mkdir", path)
	if err != nil {
		return err
	}
	if m.find(path) != nil {
		return pathError("mkdir", path, fs.ErrExist)
	}
	d.change(change{to: name, node: newDirectory()})
	return nil
}

// SyncDir implements FS.
func (m *Memory) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir("sync", path)
	if err != nil {
		return err
	}
	d.sync()
	return nil
}

// Stat implements FS.
func (m *Memory) Stat(path string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.dead {
		return Entry{}, pathError("stat", path, ErrCrashed)
	}
	n := m.find(path)
	if n == nil {
		return Entry{}, pathError("stat", path, fs.ErrNotExist)
	}
	return describe(filepath.Base(path), n), nil
}

// Free implements FS.
func (m *Memory) Free(path string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.dir("statfs", path); err != nil {
		return 0, err
	}
	return uint64(m.free()), nil
}

// SetLimit sets how many bytes all files may have together.
func (m *Memory) SetLimit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.limit = bytes
}

// free returns the bytes left. The lock is held.
func (m *Memory) free() int64 { return max(0, m.mu.limit-m.mu.root.size()) }

func (d *directory) size() int64 {
	sum := int64(0)
	for _, n := range d.entries {
		switch n := n.(type) {
		case *inode:
			sum += int64(len(n.data))
		case *directory:
			sum += n.size()
		}
	}
	return sum
}

// Lock implements FS.
func (m *Memory) Lock(dir string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir("lock", dir)
	if err != nil {
		return nil, err
	}
	if m.mu.locked[d] {
		return nil, pathError("lock", dir, ErrLocked)
	}
	m.mu.locked[d] = true
	return &memoryLock{m, d}, nil
}

type memoryLock struct {
	fs  *Memory
	dir *directory
}

func (l *memoryLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.mu.locked, l.dir)
	return nil
}
