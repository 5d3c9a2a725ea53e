package backup

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

const (
	boundSuffix   = ".pbfs"
	unboundSuffix = ".unbound" // messages carry placeholders: not for others to send
	indexPrefix   = "segment-"
	indexSuffix   = ".index"
)

// segment is what is remembered of a segment: no chunk, so that a long backlog
// needs no memory. Guarded by Backup.mu.
type segment struct {
	number           uint64
	unbound          bool
	dataEnd          int64 // behind the last good chunk
	indexEnd         int64 // behind its record
	bytes            int64 // of both files
	ids              checkpoint.Set
	chunks           int
	minTime, maxTime int64
	orphans          []Orphan
	gone             checkpoint.Set // ids whose content is not readable, reported as lost
	// damaged: something in its middle is not readable, the file is kept aside.
	damaged bool
	suspect bool // its last sync failed
	ours    bool // written by this process, so that numbers of flows are known
}

func (s *segment) note(e entry) {
	s.ids.Add(e.Ids)
	if s.chunks == 0 {
		s.minTime, s.maxTime = e.MinTime, e.MaxTime
	}
	s.minTime, s.maxTime = min(s.minTime, e.MinTime), max(s.maxTime, e.MaxTime)
	s.chunks++
	s.dataEnd = e.end()
}

func (b *Backup) dataPath(s *segment) string {
	suffix := boundSuffix
	if s.unbound {
		suffix = unboundSuffix
	}
	return filepath.Join(b.dir, b.dataName(s.number)+suffix)
}

func (b *Backup) dataName(number uint64) string {
	return fmt.Sprintf("%s-%016d", b.opts.Name, number)
}

func (b *Backup) indexPath(number uint64) string {
	return filepath.Join(b.opts.StateDir, fmt.Sprintf("%s%016d%s", indexPrefix, number, indexSuffix))
}

// writer writes one segment and its index.
type writer struct {
	seg         *segment
	data, index vfs.File
	defined     definitions // that stand in the index
	unsynced    checkpoint.Set
	buf         []byte

	syncing struct { // taken after Backup.io or alone, never before it
		sync.Mutex
		err  error // of the first Sync that failed: no later one is believed
		done bool  // closed, after a last sync with the result err
	}
}

// write puts a chunk and its record into the files, in this order. After an error
// nothing more may be written.
func (w *writer) write(e entry, body []byte) (entry, error) {
	header := pbfs.ChunkHeader(body)
	e.offset, e.length = w.seg.dataEnd, int64(len(body))
	e.crc = chunkCRC(header[:])
	w.buf = append(append(w.buf[:0], header[:]...), body...)
	if _, err := w.data.Write(w.buf); err != nil {
		return e, err
	}
	w.buf = appendEntry(w.buf[:0], e)
	if _, err := w.index.Write(w.buf); err != nil {
		return e, err
	}
	return e, nil
}

// sync makes everything durable that was written before the call.
func (w *writer) sync() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if w.syncing.done {
		return w.syncing.err
	}
	if w.syncing.err == nil {
		w.syncing.err = w.data.Sync()
	}
	if w.syncing.err == nil {
		w.syncing.err = w.index.Sync()
	}
	return w.syncing.err
}

func (w *writer) close() {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.syncing.done = true
	_ = w.data.Close() // synced, or known to be suspect
	_ = w.index.Close()
}

// create makes the next segment: both files, the definitions, and their names, all
// durable before the first chunk.
func (b *Backup) create(unbound bool) (*writer, error) {
	seg := &segment{number: b.takeSegmentNumber(), unbound: unbound, ours: true}
	w := &writer{seg: seg, defined: newDefinitions()}
	var err error
	if w.data, err = b.fs.Create(b.dataPath(seg)); err != nil {
		return nil, fmt.Errorf("new segment: %w", err)
	}
	if w.index, err = b.fs.Create(b.indexPath(seg.number)); err != nil {
		_ = w.data.Close()
		_ = b.fs.Remove(b.dataPath(seg))
		return nil, fmt.Errorf("new segment: %w", err)
	}
	if _, err = b.define(w, appendHeader(nil, seg.number)); err == nil {
		err = b.fs.SyncDir(b.dir)
	}
	if err == nil {
		err = b.fs.SyncDir(b.opts.StateDir)
	}
	if err != nil {
		w.close()
		b.removeFiles(seg)
		return nil, fmt.Errorf("new segment: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.segments = append(b.mu.segments, seg)
	b.mu.active = seg
	b.mu.bytes += seg.bytes
	return w, nil
}

// define writes all definitions to an index that it does not have, behind what is
// in records, and syncs them. It returns the bytes written.
func (b *Backup) define(w *writer, records []byte) (int64, error) {
	b.mu.Lock()
	all := definitions{maps.Clone(b.mu.defined.flows), maps.Clone(b.mu.defined.bindings)}
	b.mu.Unlock()
	for n, definition := range all.flows {
		if _, ok := w.defined.flows[n]; !ok {
			records = appendFlow(records, n, definition)
		}
	}
	for n, binding := range all.bindings {
		if _, ok := w.defined.bindings[n]; !ok {
			records = appendBinding(records, n, binding)
		}
	}
	if _, err := w.index.Write(records); err != nil {
		return 0, err
	}
	if err := w.index.Sync(); err != nil {
		return 0, err
	}
	w.defined = all
	b.mu.Lock()
	defer b.mu.Unlock()
	w.seg.indexEnd += int64(len(records))
	w.seg.bytes += int64(len(records))
	return int64(len(records)), nil
}

// takeSegmentNumber returns a number that no segment had.
func (b *Backup) takeSegmentNumber() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.mu.facts.nextSegment
	b.mu.facts.nextSegment++
	return n
}

// segmentNumbered returns the place of a segment in the list. mu is held.
func (b *Backup) segmentNumbered(number uint64) (int, bool) {
	return slices.BinarySearchFunc(b.mu.segments, number, func(s *segment, n uint64) int { return cmp.Compare(s.number, n) })
}

// removeFiles removes the files of a segment, the data first: an index alone says
// what was there.
func (b *Backup) removeFiles(s *segment) bool {
	ok := b.remove(b.dataPath(s))
	return ok && b.remove(b.indexPath(s.number))
}
