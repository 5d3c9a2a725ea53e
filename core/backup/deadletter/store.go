package deadletter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

var (
	// ErrFull is returned when there is no room for a message within the limit.
	ErrFull = errors.New("dead letters have no room left")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("dead letters are closed")
)

const (
	dataSuffix = ".pbfs"
	lineSuffix = ".jsonl"

	// maxMessage is the longest message that readers of PBFS take.
	maxMessage = pbfs.DefaultMaxChunk - pbfs.PrefixSize
	// maxDefinition is that of a backup.
	maxDefinition = 1 << 20
)

// Store keeps dead letters in a directory.
type Store struct {
	fs       vfs.FS
	dir      string
	maxBytes int64

	mu struct {
		sync.Mutex
		used   int64
		count  uint64
		number uint64 // of the newest pair of files
		open   map[string]*pair
		closed bool
	}
}

// Open opens the store in a directory, which it makes if there is none. All files
// together may have maxBytes bytes; 0 means no limit.
func Open(fsys vfs.FS, dir string, maxBytes int64) (*Store, error) {
	s := &Store{fs: fsys, dir: dir, maxBytes: maxBytes}
	s.mu.open = make(map[string]*pair)
	if err := vfs.MkdirAll(fsys, dir); err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	files, err := s.look()
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	for _, f := range files {
		s.mu.number = max(s.mu.number, numberOf(f.Name))
		if !strings.HasSuffix(f.Name, lineSuffix) {
			continue
		}
		if err := s.countLines(filepath.Join(dir, f.Name)); err != nil {
			return nil, fmt.Errorf("dead letters: %w", err)
		}
	}
	return s, nil
}

// look finds out which files of the store there are, and how many bytes they have.
func (s *Store) look() ([]vfs.Entry, error) {
	all, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	s.mu.used = 0
	var files []vfs.Entry
	for _, e := range all {
		if suffix := filepath.Ext(e.Name); !e.Dir && (suffix == dataSuffix || suffix == lineSuffix) {
			s.mu.used += e.Size
			files = append(files, e)
		}
	}
	return files, nil
}

// numberOf returns the number in the name of a file, 0 if there is none.
func numberOf(name string) uint64 {
	name = strings.TrimSuffix(name, filepath.Ext(name))
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '-')+1:], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

// Count returns how many messages the store has got, in this run and in those before
// whose files were there when it was opened. One that was put twice counts twice.
func (s *Store) Count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.count
}

// Put stores a letter; it is durable when Put returns nil. If the limit is reached
// the error is ErrFull. After any error the caller keeps the message and may try
// again.
func (s *Store) Put(l Letter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return ErrClosed
	}
	if len(l.Message) > maxMessage || len(l.Definition) > maxDefinition {
		return fmt.Errorf("dead letter of track %s, message %d: %d bytes with a flow definition of %d bytes are too long",
			l.Track, l.ID, len(l.Message), len(l.Definition))
	}
	if err := s.put(l); err != nil {
		return fmt.Errorf("dead letter of track %s, message %d: %w", l.Track, l.ID, err)
	}
	s.mu.count++
	return nil
}

func (s *Store) put(l Letter) error {
	if err := s.room(int64(len(l.Message))); err != nil {
		return err // without making files
	}
	p, err := s.pairOf(l)
	if err != nil {
		return err
	}
	chunk := pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, l.Message))
	line := newLine(l, p.size)
	hash := sha256.Sum256(l.Definition)
	if p.defined[l.Flow] != hash {
		line.Definition = l.Definition
	}
	text, err := line.encode()
	if err != nil {
		return err
	}
	err = s.room(int64(len(chunk) + len(text)))
	if err == nil {
		err = p.write(s, chunk, text)
	}
	if err != nil {
		if !errors.Is(err, ErrFull) || p.letters == 0 {
			s.abandon(l.Track)
		}
		return err
	}
	p.defined[l.Flow] = hash
	p.letters++
	return nil
}

// room fails with ErrFull if the limit forbids to write that many bytes.
func (s *Store) room(need int64) error {
	if s.maxBytes == 0 || s.mu.used+need <= s.maxBytes {
		return nil
	}
	if _, err := s.look(); err != nil { // perhaps somebody has made room
		return err
	}
	if s.mu.used+need <= s.maxBytes {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed; move its files to another place",
		ErrFull, s.dir, s.mu.used, s.maxBytes)
}

// Close closes the files. Everything is durable already.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for track, p := range s.mu.open {
		p.close()
		delete(s.mu.open, track)
	}
	s.mu.closed = true
}

// pair is a file with messages and the one with their lines.
type pair struct {
	data, lines         vfs.File
	dataPath, linesPath string
	size                int64 // of data
	letters             int
	defined             map[string][sha256.Size]byte // hashes of definitions in lines, by flow
}

// pairOf returns the open files of a track, new ones if there are none.
func (s *Store) pairOf(l Letter) (*pair, error) {
	if p := s.mu.open[l.Track]; p != nil {
		if s.exists(p.dataPath) && s.exists(p.linesPath) {
			return p, nil
		}
		p.close() // moved away by somebody
		delete(s.mu.open, l.Track)
	}
	p, err := s.create(l.Track)
	if err != nil {
		return nil, err
	}
	s.mu.open[l.Track] = p
	return p, nil
}

func (s *Store) exists(path string) bool {
	_, err := s.fs.Stat(path)
	return err == nil
}

// create makes a pair of files. Their names are durable after the first letter.
func (s *Store) create(track string) (*pair, error) {
	p := &pair{defined: make(map[string][sha256.Size]byte)}
	for {
		s.mu.number++
		base := filepath.Join(s.dir, fmt.Sprintf("%s-%03d", fileName(track), s.mu.number))
		p.dataPath, p.linesPath = base+dataSuffix, base+lineSuffix
		if s.exists(p.linesPath) {
			continue // its messages were moved away
		}
		var err error
		if p.data, err = s.fs.Create(p.dataPath); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if p.lines, err = s.fs.Create(p.linesPath); err != nil {
			_ = p.data.Close()
			_ = s.fs.Remove(p.dataPath) // it is empty
			return nil, err
		}
		return p, nil
	}
}

// fileName makes the name of a track one of a file that is easy to handle.
func fileName(track string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-', r == '.':
			return r
		}
		return '_'
	}, track)
	name = strings.TrimLeft(name[:min(len(name), 100)], ".-")
	if name == "" {
		return "track"
	}
	return name
}

// write puts a letter into both files and makes it durable: the message and the names
// first, so that a line never speaks of what is not there.
func (p *pair) write(s *Store, chunk, line []byte) error {
	if err := s.append(p.data, chunk); err != nil {
		return err
	}
	if p.letters == 0 {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return err
		}
	}
	if err := s.append(p.lines, line); err != nil {
		return err
	}
	p.size += int64(len(chunk))
	return nil
}

func (s *Store) append(f vfs.File, data []byte) error {
	n, err := f.Write(data)
	s.mu.used += int64(n)
	if err != nil {
		return err
	}
	return f.Sync()
}

// abandon gives the files of a track up after an error: what they have after the last
// letter that was stored is not known. The next letter gets new ones. Files without
// a letter are removed.
func (s *Store) abandon(track string) {
	p := s.mu.open[track]
	delete(s.mu.open, track)
	p.close()
	if p.letters == 0 {
		if s.fs.Remove(p.linesPath) == nil && s.fs.SyncDir(s.dir) == nil { // no line without its message
			_ = s.fs.Remove(p.dataPath)
		}
		_, _ = s.look()
	}
}

func (p *pair) close() {
	_ = p.data.Close() // all that matters is synced
	_ = p.lines.Close()
}

func (s *Store) countLines(path string) error {
	f, err := s.fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	for lines := NewReader(io.NewSectionReader(f, 0, size)); ; s.mu.count++ {
		if _, err := lines.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}
