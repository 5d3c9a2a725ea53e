package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
)

// Backup is an open backup directory. Locks are taken in the order io, mu; no file
// is touched under mu.
type Backup struct {
	fs    vfs.FS
	dir   string
	opts  Options
	locks []io.Closer

	// io is held by everything that writes; a Sync lets go of it while it waits for
	// the disk.
	io struct {
		sync.Mutex
		closed   bool
		active   *writer // nil: the next Append begins a segment
		journal  *journal
		next     uint64 // the next id to be given out
		leased   uint64 // ids below it may be given out
		appended uint64 // sequence of the newest Append
		durable  uint64 // sequence up to which Append is durable
	}

	// What is below mu changes only while io is held too, so that either lock is
	// enough for reading.
	mu struct {
		sync.Mutex
		facts    *facts
		segments []*segment // ascending; the active one is the last
		defined  definitions
		doomed   []*segment // whose deletion is decided, and not finished
		floor    uint64     // confirmations below it and below all segments are forgotten
	}
}

// Open opens a backup directory, which it makes if needed, and takes it and
// StateDir for this process: vfs.ErrLocked if another one has them. It reads the
// state journal, the indexes, and the segments that were not finished. Damage is no
// error; see Recovered.
func Open(fsys vfs.FS, dir string, opts Options) (*Backup, Recovered, error) {
	opts = opts.withDefaults()
	if err := opts.check(dir); err != nil {
		return nil, Recovered{}, err
	}
	b := &Backup{fs: fsys, dir: dir, opts: opts}
	b.mu.defined = newDefinitions()
	b.io.journal = &journal{fs: fsys, dir: opts.StateDir, most: opts.JournalSize, reserve: opts.Reserve}
	if err := b.lock(); err != nil {
		return nil, Recovered{}, err
	}
	recovered, err := b.recover()
	if err != nil {
		b.unlock()
		return nil, Recovered{}, fmt.Errorf("backup %s: %w", dir, err)
	}
	return b, recovered, nil
}

func (b *Backup) lock() error {
	for _, dir := range []string{b.dir, b.opts.StateDir} {
		if err := vfs.MkdirAll(b.fs, dir); err != nil {
			b.unlock()
			return fmt.Errorf("backup: %w", err)
		}
		l, err := b.fs.Lock(dir)
		if err != nil {
			b.unlock()
			return fmt.Errorf("backup: %w", err)
		}
		b.locks = append(b.locks, l)
	}
	return nil
}

func (b *Backup) unlock() {
	for _, l := range b.locks {
		_ = l.Close()
	}
	b.locks = nil
}

// Close makes everything durable, notes a clean end and lets go of the directory.
// The error is a *SuspectError if not everything is durable; a failure to note the
// clean end is none, the next start then begins at the end of the lease.
func (b *Backup) Close() error {
	b.io.Lock()
	defer b.io.Unlock()
	if b.io.closed {
		return nil
	}
	err := b.retire()
	_ = b.collect() // the next start does it again
	if j := b.io.journal; err == nil {
		_ = j.write(b.mu.facts, appendRecord(appendCursors(nil, b.mu.facts.cursors), journalClean, u64(b.io.next)))
	}
	b.io.journal.abandon()
	b.io.closed = true
	b.unlock()
	return err
}

// DefineFlow says what a flow number in Meta stands for. The definition is kept
// with every segment for which it was known, and comes back from a Reader. A number
// keeps its meaning until Close.
func (b *Backup) DefineFlow(number uint32, definition []byte) error {
	if len(definition) > maxPayload-4 {
		return fmt.Errorf("backup: definition of flow %d has %d bytes, at most %d are possible", number, len(definition), maxPayload-4)
	}
	b.io.Lock()
	defer b.io.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.mu.defined.flows[number]; ok && !bytes.Equal(old, definition) {
		return fmt.Errorf("backup: flow %d is defined already, and otherwise", number)
	}
	b.mu.defined.flows[number] = bytes.Clone(definition)
	return nil
}

// DefineBinding says what a binding number in Meta stands for, as DefineFlow does.
// 0 stands for messages without ids of a destination.
func (b *Backup) DefineBinding(number uint32, binding sdk.Binding) error {
	if number == 0 || len(binding.ConfigID)+len(binding.RunID) > maxPayload/2 {
		return fmt.Errorf("backup: binding %d: its number is 0 or its ids are too long", number)
	}
	b.io.Lock()
	defer b.io.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.mu.defined.bindings[number]; ok && old != binding {
		return fmt.Errorf("backup: binding %d is defined already, and otherwise", number)
	}
	b.mu.defined.bindings[number] = binding
	return nil
}

// Reserve gives out the next n ids. The journal holds a lease on them before it
// returns. Ids that are not used are void.
func (b *Backup) Reserve(n uint64) (checkpoint.Range, error) {
	b.io.Lock()
	defer b.io.Unlock()
	if b.io.closed {
		return checkpoint.Range{}, ErrClosed
	}
	if n == 0 || n > checkpoint.MaxID-b.io.next {
		return checkpoint.Range{}, fmt.Errorf("backup: %d ids behind %d are not to be had", n, b.io.next)
	}
	r := checkpoint.Range{First: b.io.next, Last: b.io.next + n - 1}
	if r.Last >= b.io.leased {
		end := min(checkpoint.MaxID, r.Last+1+b.opts.Lease)
		b.mu.Lock()
		b.mu.facts.lease = max(b.mu.facts.lease, end)
		b.mu.Unlock()
		if err := b.io.journal.write(b.mu.facts, appendLease(nil, end)); err != nil {
			return checkpoint.Range{}, fmt.Errorf("backup: lease of ids: %w", err)
		}
		b.io.leased = end
	}
	b.io.next = r.Last + 1
	return r, nil
}

// Stats are numbers of a backup.
type Stats struct {
	Segments  int    // files
	Bytes     int64  // of segments and indexes
	Kept      int    // segments that are kept aside because of damage or chunks without a record
	Active    int64  // bytes of the segment that is written
	NextID    uint64 // the next one to be given out
	Appended  uint64 // sequence of the newest Append
	Durable   uint64 // sequence up to which Append is durable
	CountFull bool   // there are as many segments as MaxFileCount
}

// Stats returns the numbers of this moment. It waits for what is being written.
func (b *Backup) Stats() Stats {
	b.io.Lock()
	defer b.io.Unlock()
	s := Stats{
		Segments: len(b.mu.segments), Bytes: b.used(), NextID: b.io.next,
		Appended: b.io.appended, Durable: b.io.durable, CountFull: b.countFull(),
	}
	for _, seg := range b.mu.segments {
		if seg.damaged || len(seg.orphans) > 0 {
			s.Kept++
		}
	}
	if b.io.active != nil {
		s.Active = b.io.active.seg.dataEnd
	}
	return s
}

// Cursors returns the position of each source up to which everything is durable, or
// was returned as lost.
func (b *Backup) Cursors() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	cursors := make(map[string][]byte, len(b.mu.facts.cursors))
	for source, p := range b.mu.facts.cursors {
		cursors[source] = bytes.Clone(p.bytes)
	}
	return cursors
}

// remove removes a file and reports whether it is gone.
func (b *Backup) remove(path string) bool {
	err := b.fs.Remove(path)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

func (b *Backup) isUnbound(binding uint32) bool {
	return strings.HasPrefix(b.mu.defined.bindings[binding].ConfigID, sdk.UnboundPrefix)
}

// learnCursors takes in positions that have become durable.
func (b *Backup) learnCursors(cursors map[string]position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for source, p := range cursors {
		b.mu.facts.advance(source, p)
	}
}

func takeCursors(w *writer) map[string]position {
	taken := maps.Clone(w.cursors)
	clear(w.cursors)
	return taken
}
