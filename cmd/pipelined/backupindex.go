package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/internal/pbfsview"
)

// indexesBelow yields the paths of the indexes in a directory.
func indexesBelow(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			yield(dir, err)
			return
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "segment-") && strings.HasSuffix(e.Name(), ".index") &&
				!yield(filepath.Join(dir, e.Name()), nil) {
				return
			}
		}
	}
}

// stateDirs are where the indexes of the files of a directory may lie: where the
// command says, else where a pipeline keeps them whose backup is in its own part of
// the data directory.
func stateDirs(given, dir string) []string {
	if given != "" {
		return []string{given}
	}
	up := filepath.Dir(filepath.Clean(dir))
	return []string{filepath.Join(up, "state", "backup"), filepath.Join(up, "state"), filepath.Join(filepath.Dir(up), "state", "backup")}
}

// segmentIndex is what the index of a file says, and the journal beside it.
type segmentIndex struct {
	path    string
	journal *backup.Journal
}

// indexes finds indexes, and remembers journals.
type indexes struct {
	stateDir string // as given; may be empty
	journals map[string]*backup.Journal
}

// find returns the index of a file; nil if there is none.
func (x *indexes) find(file string) *segmentIndex {
	for _, dir := range stateDirs(x.stateDir, filepath.Dir(file)) {
		path, ok := backup.IndexPath(dir, file)
		if !ok {
			return nil
		}
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if x.journals[dir] == nil {
			if x.journals == nil {
				x.journals = map[string]*backup.Journal{}
			}
			j := backup.ReadJournal(vfs.OS{}, dir)
			x.journals[dir] = &j
		}
		return &segmentIndex{path: path, journal: x.journals[dir]}
	}
	return nil
}

// ids returns the ids of a segment, and what each track has not confirmed of them.
func (s *segmentIndex) ids() (ids checkpoint.Set, missing map[string]uint64, err error) {
	_, err = backup.ReadIndex(vfs.OS{}, s.path, func(e backup.Entry) error {
		ids.Add(e.Ids)
		return nil
	})
	missing = map[string]uint64{}
	for track, confirmed := range s.journal.Confirmed {
		left := ids.Clone()
		left.RemoveSet(confirmed)
		left.RemoveSet(s.journal.Lost)
		missing[track] = left.Count()
	}
	return ids, missing, err
}

// borders are the offsets at which chunks begin, ascending.
type borders []int64

// After returns the first one behind an offset.
func (b borders) After(offset int64) (int64, bool) {
	i, found := slices.BinarySearch(b, offset)
	if found {
		i++
	}
	if i == len(b) {
		return 0, false
	}
	return b[i], true
}

// bordersOf reads the borders of a file from its index; nil if there is none.
func (x *indexes) bordersOf(file string) borders {
	found := x.find(file)
	if found == nil {
		return nil
	}
	var out borders
	_, err := backup.ReadIndex(vfs.OS{}, found.path, func(e backup.Entry) error {
		out = append(out, e.From)
		return nil
	})
	if err != nil || !slices.IsSorted(out) {
		return nil // it only helps
	}
	return out
}

// indexCheck holds the chunks of a file against the entries of its index.
type indexCheck struct {
	file     *pbfsview.File
	report   func(error) error
	behind   int64 // of the last chunk that has an entry
	chunks   int
	problems int
	err      error // of the output
}

func (c *indexCheck) complain(format string, args ...any) {
	c.problems++
	if c.err == nil {
		c.err = c.report(fmt.Errorf(format, args...))
	}
}

// entry checks one chunk. Its error ends the reading of the index.
func (c *indexCheck) entry(e backup.Entry) error {
	c.chunks++
	if e.From > c.behind {
		c.complain("index: bytes %d to %d have no entry: their messages are delivered again", c.behind, e.From)
	}
	c.behind = max(c.behind, e.To)
	switch sum, err := c.checksum(e); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.complain("index: ids %d to %d are not in the file, which ends before byte %d", e.Ids.First, e.Ids.Last, e.To)
	case err != nil:
		c.complain("index: ids %d to %d: %w", e.Ids.First, e.Ids.Last, err)
	case sum != e.CRC:
		c.complain("index: ids %d to %d at bytes %d to %d are not what was written", e.Ids.First, e.Ids.Last, e.From, e.To)
	}
	return c.err
}

// checksum returns that of the bytes of a chunk.
func (c *indexCheck) checksum(e backup.Entry) (uint32, error) {
	const crcSize = 4 // the checksum does not cover itself
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, io.NewSectionReader(c.file, e.From+crcSize, e.To-e.From-crcSize))
	if err == nil && n != e.To-e.From-crcSize {
		err = io.ErrUnexpectedEOF
	}
	return sum.Sum32(), err
}

// end checks what is behind the last entry.
func (c *indexCheck) end(damage int) {
	if damage > 0 {
		c.complain("index: %s of it cannot be read", plural(damage, "range"))
	}
	if c.behind < c.file.Size {
		c.complain("index: bytes %d to %d have no entry: their messages are delivered again", c.behind, c.file.Size)
	}
}
