package replay

import (
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pipelined/pipelined/core/vfs"
)

// Identity tells files of one machine apart, and whether one has changed.
type Identity struct {
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`     // bytes
	Modified int64  `json:"modified"` // ns since the Unix epoch
	Changed  int64  `json:"changed"`  // the same, of everything about the file
}

// Record is what is confirmed of one file for one filter.
type Record struct {
	Version  int        `json:"version"`
	File     string     `json:"file"`     // where it was when it was read last
	Identity Identity   `json:"identity"` // then
	Filter   string     `json:"filter,omitempty"`
	Position Position   `json:"position"`
	SHA256   string     `json:"sha256"` // of the bytes in front of Position.Through
	Head     string     `json:"head"`   // SHA-256 of the first of these, headSize at most
	HashedBy []byte     `json:"hash_state,omitempty"`
	Sent     int64      `json:"delivered"`          // messages that were confirmed
	Left     int64      `json:"left_out,omitempty"` // messages that the filter left out
	Damage   DamageList `json:"damage"`             // in front of Position

	number uint64 // of its file; 0: not stored yet
}

const (
	recordVersion = 1
	recordSuffix  = ".json"
	tempSuffix    = ".tmp"
	maxRecordSize = 4 << 20
	headSize      = 4096
)

// Store keeps records in a directory, each in a file of its own that is replaced as
// a whole. It belongs to one process at a time, and to one goroutine.
type Store struct {
	fs      vfs.FS
	dir     string
	lock    io.Closer
	records []*Record
	next    uint64
	// Unreadable are records that could not be read: what they were about is sent
	// again.
	Unreadable []string
}

// OpenStore opens a directory, which it makes if needed, and takes it for this
// process: vfs.ErrLocked if another one has it.
func OpenStore(fsys vfs.FS, dir string) (*Store, error) {
	if err := vfs.MkdirAll(fsys, dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{fs: fsys, dir: dir, lock: lock, next: 1}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// Close lets go of the directory.
func (s *Store) Close() error { return s.lock.Close() }

func (s *Store) load() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, isTemp := strings.CutSuffix(e.Name, tempSuffix)
		digits, ok := strings.CutSuffix(name, recordSuffix)
		number, err := strconv.ParseUint(digits, 10, 63)
		if !ok || err != nil || e.Dir {
			continue
		}
		s.next = max(s.next, number+1)
		path := filepath.Join(s.dir, e.Name)
		if isTemp {
			_ = s.fs.Remove(path) // if it stays, its number is not used again
			continue
		}
		r, err := s.read(path)
		if err != nil {
			s.Unreadable = append(s.Unreadable, fmt.Sprintf("%s: %v", path, err))
			continue
		}
		r.number = number
		s.records = append(s.records, r)
	}
	return nil
}

func (s *Store) read(path string) (*Record, error) {
	f, err := s.fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxRecordSize {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), content); err != nil {
		return nil, err
	}
	r := new(Record)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("it has version %d, this program reads %d", r.Version, recordVersion)
	}
	p := r.Position
	if p.Chunk < 0 || p.Skip < 0 || p.Through <= 0 || p.Through < p.Chunk || len(r.SHA256) != 2*sha256.Size {
		return nil, errors.New("it contradicts itself")
	}
	return r, nil
}

// save makes a record durable.
func (s *Store) save(r *Record) error {
	r.Version = recordVersion
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// Names are used once: of a file that a crash left something may be there.
	temp := filepath.Join(s.dir, fmt.Sprintf("%08d%s%s", s.next, recordSuffix, tempSuffix))
	number := r.number
	if number == 0 {
		number = s.next
	}
	s.next++
	if err := s.write(temp, content); err != nil {
		_ = s.fs.Remove(temp)
		return fmt.Errorf("note progress: %w", err)
	}
	if err := s.fs.Rename(temp, s.path(number)); err != nil {
		_ = s.fs.Remove(temp)
		return fmt.Errorf("note progress: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	r.number = number
	if i := slices.IndexFunc(s.records, func(old *Record) bool { return old.number == number }); i >= 0 {
		s.records[i] = r
	} else {
		s.records = append(s.records, r)
	}
	return nil
}

func (s *Store) path(number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", number, recordSuffix))
}

func (s *Store) write(path string, content []byte) error {
	f, err := s.fs.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// find returns the record that says most about a file: of this filter, or of none,
// which says all; and the hash of what is in front of its position. It is nil if
// nothing is known.
func (s *Store) find(src io.ReaderAt, id Identity, filter string) (*Record, hash.Hash, error) {
	candidates, err := s.candidates(src, id.Size, filter)
	if err != nil {
		return nil, nil, err
	}
	// What says least first; of what says the same, that of this filter last.
	slices.SortStableFunc(candidates, func(a, b *Record) int {
		if c := cmp.Compare(a.Position.Through, b.Position.Through); c != 0 {
			return c
		}
		return cmp.Compare(len(b.Filter)-len(filter), len(a.Filter)-len(filter))
	})
	for _, r := range slices.Backward(candidates) {
		if r.Identity == id {
			if sum := r.resume(); sum != nil {
				return r, sum, nil
			}
		}
	}
	return match(src, candidates)
}

// candidates returns the records that may be about a file, by its size and its
// beginning.
func (s *Store) candidates(src io.ReaderAt, size int64, filter string) ([]*Record, error) {
	var out []*Record
	heads := map[int64]string{} // by length
	for _, r := range s.records {
		if r.Filter != filter && r.Filter != "" || r.Position.Through > size {
			continue
		}
		n := min(r.Position.Through, headSize)
		if _, known := heads[n]; !known {
			sum := sha256.New()
			if _, err := io.Copy(sum, io.NewSectionReader(src, 0, n)); err != nil {
				return nil, err
			}
			heads[n] = hex.EncodeToString(sum.Sum(nil))
		}
		if r.Head == heads[n] {
			out = append(out, r)
		}
	}
	return out, nil
}

// resume returns the hash as it was at the record's position; nil if that is not
// known.
func (r *Record) resume() hash.Hash {
	sum := sha256.New()
	state, ok := sum.(encoding.BinaryUnmarshaler)
	if !ok || len(r.HashedBy) == 0 || state.UnmarshalBinary(r.HashedBy) != nil {
		return nil
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.SHA256 {
		return nil
	}
	return sum
}

// match reads the file once and returns the last of the records, which are in
// ascending order of their positions, whose content the file begins with.
func match(src io.ReaderAt, records []*Record) (best *Record, state hash.Hash, err error) {
	sum, at := sha256.New(), int64(0)
	for _, r := range records {
		through := r.Position.Through
		if _, err := io.Copy(sum, io.NewSectionReader(src, at, through-at)); err != nil {
			return nil, nil, err
		}
		at = through
		if hex.EncodeToString(sum.Sum(nil)) != r.SHA256 {
			continue
		}
		copied, err := sum.(hash.Cloner).Clone() // those of package sha256 are
		if err != nil {
			return nil, nil, err
		}
		best, state = r, copied
	}
	return best, state, nil
}

// note sets how far a record reaches, and the hash of what is in front of it.
func (r *Record) note(at Position, sum hash.Hash) error {
	state, err := sum.(encoding.BinaryMarshaler).MarshalBinary() // those of package sha256 are
	if err != nil {
		return err
	}
	r.Position, r.SHA256, r.HashedBy = at, hex.EncodeToString(sum.Sum(nil)), state
	return nil
}
