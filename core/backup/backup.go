package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
)

// Backup is an open backup directory. Locks are taken in the order io, note, mu; no
// file is touched under mu.
type Backup struct {
	fs    vfs.FS
	dir   string
	opts  Options
	locks []io.Closer

	// io is held by what writes segments; a Sync lets go of it while it waits for
	// the disk.
	io struct {
		sync.Mutex
		active *writer // nil: the next Append begins a segment
		// unreported is a failure that somebody else met than who must write again.
		unreported *SuspectError
	}

	// note is held by what writes the journal and by what deletes segments. So a
	// confirmation does not wait for segments to be written.
	note struct {
		sync.Mutex
		journal *journal
	}

	// rewriting is held during a Rewrite, and taken before all others.
	rewriting sync.Mutex

	// mu is held for moments. Segments are added while io is held too, and removed
	// while note is; confirmed ids and deletions change while note is held.
	mu struct {
		sync.Mutex
		closed   bool
		facts    *facts
		defined  definitions
		segments []*segment // ascending by number
		active   *segment   // of io.active
		doomed   []*segment // whose deletion is decided, and not finished
		bytes    int64      // of segments, doomed ones, and a copy that is being made

		written checkpoint.Set            // ids of segments
		enough  checkpoint.Set            // ids that need not be kept
		owed    map[string]checkpoint.Set // what strangers had not confirmed at the start
		suspect checkpoint.Set            // ids that must be appended again

		loose   map[string]position // cursors that stand nowhere on disk
		pending map[string]position // cursors of what is appended and not durable

		next     uint64 // the next id to be given out
		leased   uint64 // ids below it may be given out
		appended uint64 // sequence of the newest Append; changes while io is held too
		durable  uint64 // sequence up to which Append is durable; as appended
		finished uint64 // segments since Open
		done     uint64 // segments that went since Open and that all tracks had confirmed
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
	b.mu.owed = make(map[string]checkpoint.Set)
	b.mu.loose, b.mu.pending = make(map[string]position), make(map[string]position)
	b.note.journal = &journal{fs: fsys, dir: opts.StateDir, most: opts.JournalSize, reserve: opts.Reserve}
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
// clean end is none, the next start then begins at the end of the lease. It waits
// for a Rewrite.
func (b *Backup) Close() error {
	b.rewriting.Lock()
	defer b.rewriting.Unlock()
	b.io.Lock()
	defer b.io.Unlock()
	b.mu.Lock()
	closed := b.mu.closed
	b.mu.closed = true // no more ids
	b.mu.Unlock()
	if closed {
		return nil
	}
	err := b.retire()
	if err == nil {
		err = b.takeUnreported()
	}
	b.note.Lock()
	defer b.note.Unlock()
	_ = b.collect() // the next start does it again
	if err == nil {
		_ = b.keep(appendRecord(nil, journalClean, u64(b.mu.next)))
	}
	b.note.journal.abandon()
	b.unlock()
	return err
}

// DefineFlow says what a flow number, from 1, in Meta stands for. The definition is
// kept with every segment for which it was known, and comes back from a Reader. A
// number keeps its meaning until Close.
func (b *Backup) DefineFlow(number uint32, definition []byte) error {
	if number == 0 {
		return errors.New("backup: flow 0 is none")
	}
	if len(definition) > maxPayload-4 {
		return fmt.Errorf("backup: definition of flow %d has %d bytes, at most %d are possible", number, len(definition), maxPayload-4)
	}
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.mu.defined.bindings[number]; ok && old != binding {
		return fmt.Errorf("backup: binding %d is defined already, and otherwise", number)
	}
	b.mu.defined.bindings[number] = binding
	return nil
}

// Reserve gives out the next n ids. The journal holds a lease on them before it
// returns. Ids that are not used are void. It waits for the disk only when the lease
// is used up.
func (b *Backup) Reserve(n uint64) (checkpoint.Range, error) {
	if r, ok, err := b.reserve(n); ok || err != nil {
		return r, err
	}
	b.note.Lock()
	defer b.note.Unlock()
	if r, ok, err := b.reserve(n); ok || err != nil {
		return r, err // somebody else has prolonged it
	}
	b.mu.Lock()
	end := min(checkpoint.MaxID, b.mu.next+n+b.opts.Lease)
	b.mu.facts.lease = max(b.mu.facts.lease, end)
	b.mu.Unlock()
	if err := b.keep(appendLease(nil, end)); err != nil {
		return checkpoint.Range{}, fmt.Errorf("backup: lease of ids: %w", err)
	}
	b.mu.Lock()
	b.mu.leased = end
	b.mu.Unlock()
	r, _, err := b.reserve(n)
	return r, err
}

// reserve gives out ids of the lease; false if it has not so many.
func (b *Backup) reserve(n uint64) (checkpoint.Range, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return checkpoint.Range{}, false, ErrClosed
	}
	if n == 0 || n > checkpoint.MaxID-b.mu.next {
		return checkpoint.Range{}, false, fmt.Errorf("backup: %d ids behind %d are not to be had", n, b.mu.next)
	}
	r := checkpoint.Range{First: b.mu.next, Last: b.mu.next + n - 1}
	if r.Last >= b.mu.leased {
		return checkpoint.Range{}, false, nil
	}
	b.mu.next = r.Last + 1
	return r, true, nil
}

// NextID returns the next id to be given out.
func (b *Backup) NextID() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.next
}

// Stats are numbers of a backup.
type Stats struct {
	Segments  int    // files
	Bytes     int64  // of segments and indexes
	Kept      int    // segments that are kept aside because of damage or chunks without a record
	Unbound   int    // segments whose messages carry placeholders
	Confirmed int    // segments that all tracks have confirmed, besides the one that is written and those kept aside
	Waiting   int    // segments with something that a track has not confirmed
	Active    int64  // bytes of the segment that is written
	Finished  uint64 // segments that were finished since Open
	Done      uint64 // segments that all tracks had confirmed when they were deleted, since Open
	NextID    uint64 // the next one to be given out
	Appended  uint64 // sequence of the newest Append
	Durable   uint64 // sequence up to which Append is durable
	Again     uint64 // messages that must be appended again, see SuspectError
	CountFull bool   // there are as many segments as MaxFileCount
}

// Stats returns the numbers of this moment. It waits for no disk.
func (b *Backup) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{
		Segments: len(b.mu.segments), Bytes: b.mu.bytes, Finished: b.mu.finished, Done: b.mu.done, NextID: b.mu.next,
		Appended: b.mu.appended, Durable: b.mu.durable, Again: b.mu.suspect.Count(), CountFull: b.countFull(),
	}
	for _, seg := range b.mu.segments {
		if seg.damaged || len(seg.orphans) > 0 {
			s.Kept++
		}
		switch {
		case !b.needless(seg):
			s.Waiting++
		case seg != b.mu.active && !seg.damaged:
			s.Confirmed++
		}
		if seg.unbound {
			s.Unbound++
		}
	}
	if b.mu.active != nil {
		s.Active = b.mu.active.dataEnd
	}
	return s
}

func (b *Backup) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.closed
}

// keep makes facts durable: records, cursors that stand nowhere, or all that is known
// if the journal is begun anew. After an error nothing is forgotten: the next call
// begins a journal. note is held.
func (b *Backup) keep(records []byte) error {
	b.mu.Lock()
	records = append(appendCursors(nil, b.mu.loose), records...)
	clear(b.mu.loose)
	b.mu.Unlock()
	return b.note.journal.write(records, b.allFacts)
}

func (b *Backup) allFacts(dst []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.facts.all(dst)
}

// remove removes a file and reports whether it is gone.
func (b *Backup) remove(path string) bool {
	err := b.fs.Remove(path)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

func (b *Backup) isUnbound(binding uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.HasPrefix(b.mu.defined.bindings[binding].ConfigID, sdk.UnboundPrefix)
}
