package backup

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
)

// Entry is what an index says of a chunk.
type Entry struct {
	Meta
	From, To int64  // bytes of the segment
	CRC      uint32 // of the chunk, as in its header
}

// Index is what an index says of its segment as a whole.
type Index struct {
	Segment  uint64
	Flows    map[uint32][]byte      // definitions, by number
	Bindings map[uint32]sdk.Binding // by number
	Damage   int                    // ranges of the index that are not readable
}

// IndexPath returns where the index of a segment lies: false if the name is not one
// that a backup gives.
func IndexPath(stateDir, segment string) (string, bool) {
	name := filepath.Base(segment)
	for _, suffix := range []string{boundSuffix, unboundSuffix} {
		base, ok := strings.CutSuffix(name, suffix)
		if at := strings.LastIndexByte(base, '-'); ok && at >= 0 {
			if n, ok := cutNumber(base[at:], "-", "", 10); ok {
				return filepath.Join(stateDir, fmt.Sprintf("%s%016d%s", indexPrefix, n, indexSuffix)), true
			}
		}
	}
	return "", false
}

// ReadIndex reads an index, and calls use for each chunk that it describes, in the
// order in which they were written. It changes nothing and needs no lock: of a segment
// that is being written it says what is there. Memory does not grow with the chunks.
func ReadIndex(fsys vfs.FS, path string, use func(Entry) error) (Index, error) {
	f, size, err := openFile(fsys, path)
	if err != nil {
		return Index{}, err
	}
	defer f.Close()
	number, ok := cutNumber(filepath.Base(path), indexPrefix, indexSuffix, 10)
	if !ok {
		return Index{}, fmt.Errorf("backup: %s is not the name of an index", path)
	}
	out := Index{Segment: number}
	defined := newDefinitions()
	for records := newRecordReader(f, size); ; {
		rec, err := records.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return out, fmt.Errorf("backup: %s: %w", path, err)
		}
		if rec.from == 0 {
			if err := readHeader(rec, number); err != nil {
				return out, fmt.Errorf("backup: %s: %w", path, err)
			}
			continue
		}
		e, chunk := entry{}, false
		if rec.kind == indexChunk {
			e, chunk = parseEntry(rec.payload)
		}
		switch {
		case chunk:
			if err := use(Entry{Meta: e.Meta, From: e.offset, To: e.end(), CRC: e.crc}); err != nil {
				return out, err
			}
		case !defined.read(rec):
			out.Damage++
		}
	}
	out.Flows, out.Bindings = defined.flows, defined.bindings
	return out, nil
}

// Journal is what the state journal says of confirmations.
type Journal struct {
	Confirmed map[string]checkpoint.Set // by track; also of those that confirmed nothing
	Lost      checkpoint.Set
	Damage    []string // in words
}

// ReadJournal reads the state journal of a backup. It changes nothing and needs no
// lock.
func ReadJournal(fsys vfs.FS, stateDir string) Journal {
	j := &journal{fs: fsys, dir: stateDir}
	known, damage := j.read()
	out := Journal{Confirmed: make(map[string]checkpoint.Set, len(known.confirmed)), Damage: damage, Lost: known.lost}
	for track := range known.tracks {
		out.Confirmed[track] = checkpoint.Set{}
	}
	for track, ids := range known.confirmed {
		out.Confirmed[track] = *ids
	}
	return out
}
