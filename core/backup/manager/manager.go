package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
)

// ErrClosed is returned by Push after CloseQueue, and after Run.
var ErrClosed = errors.New("the queue of the backup is closed")

// Batch is a batch on its way to the disk. Its methods may be called from several
// goroutines.
type Batch interface {
	// Meta is what the backup stores beside the body. It does not change.
	Meta() backup.Meta
	// Body returns the messages as of package pbfs, while a reference is held.
	Body() []byte
	// Confirmed reports whether every track has confirmed it: it need not be stored
	// any more. It must be quick, and call nothing of the manager. The manager is told
	// of it by Confirm as well, for every track, also one that passes the batch by.
	Confirmed() bool
	// Safe is called once: the batch is stored as the sync policy wants, or confirmed,
	// or counted as lost.
	Safe()
	// Retain and Release count references on the payload.
	Retain()
	Release()
}

// Mode says when what is written is synced.
type Mode uint8

const (
	// Within syncs at the latest some time after the oldest write that is not synced,
	// and at once when somebody waits.
	Within Mode = iota
	// Always syncs as soon as something is written and the last sync has ended.
	Always
	// Rotate leaves syncing to the backup, which does it when it finishes a segment.
	// Batches are safe when they are written.
	Rotate
)

// Sync is a sync policy.
type Sync struct {
	Mode    Mode
	Longest time.Duration // with Within; 0: as Always
}

// Settings are the settings of a manager.
type Settings struct {
	// Queue bounds what waits to be written. The zero value is no bound.
	Queue channel.Size
	// Block makes Push wait while the queue is full. Otherwise it never waits, and
	// Lagging says that it is full.
	Block bool
	Sync  Sync
	// Probe is how often a disk that is full or fails is tried again; 0: 1 s.
	Probe time.Duration
	// Lost is called for what was dropped, or cannot be read any more, before the
	// batches concerned are Safe. Confirmations of lost ids are not taken any more.
	Lost func([]backup.Loss)
	// Full is called when the backup has as many files as it may have, at most once a
	// second.
	Full   func()
	Logger *slog.Logger // nil: none
}

// Manager keeps a backup. New makes one.
type Manager struct {
	backup   *backup.Backup
	settings Settings
	log      *slog.Logger
	leases   leases
	syncs    *telemetry.Histogram

	// Each holds a token while its task has something to look at.
	write, sync, skim, journal notice

	end        chan struct{} // closed when Run returns
	journaling sync.Mutex    // held while confirmations are journaled; taken before mu

	// mu is held for moments. What is called meanwhile is Batch.Confirmed and Retain, and
	// methods of the backup that wait for no disk.
	mu struct {
		sync.Mutex
		running bool
		ended   bool
		closed  bool
		tail    tail
		room    chan struct{} // closed when the queue became shorter
		want    uint64        // batches up to this number in the order of Push are waited for
		full    time.Time     // when Full was called last

		writing    time.Time // since when a batch is being written; zero: none is
		syncing    time.Time // since when a sync goes on; zero: none does
		polled     time.Time // when mode Rotate asked last what is durable
		oldest     time.Time // first write since the last sync began
		writeFault fault
		syncFault  fault

		confirmations confirmations
		counts        counts
	}
}

// New returns a manager of an open backup.
func New(b *backup.Backup, s Settings) *Manager {
	if s.Probe <= 0 {
		s.Probe = time.Second
	}
	if s.Sync.Mode == Within && s.Sync.Longest <= 0 {
		s.Sync.Mode = Always
	}
	m := &Manager{
		backup: b, settings: s, log: s.Logger, syncs: telemetry.NewHistogram(telemetry.DiskBounds()...),
		write: newNotice(), sync: newNotice(), skim: newNotice(), journal: newNotice(),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.leases.init(b.Reserve)
	m.end = make(chan struct{})
	m.mu.room = make(chan struct{})
	m.mu.confirmations.init()
	m.mu.writeFault.name, m.mu.syncFault.name = "write", "sync"
	m.mu.confirmations.fault.name = "journal"
	return m
}

// stuckAfter is how long Run waits for its tasks when it is cancelled: those that wait
// for the disk may never return.
const stuckAfter = 100 * time.Millisecond

// Run owns the tasks. It returns nil after CloseQueue, when everything is stored and
// synced and all confirmations are in the journal; or early, with an error, when ctx
// is done. Then what is not yet safe stays so, and a task whose disk does not answer
// is left behind: it does nothing more when the disk answers. It is called once.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.mu.running = true
	m.mu.Unlock()
	// Each task is ended by the end of what it serves.
	storing, stopStoring := context.WithCancel(ctx)
	serving, stopServing := context.WithCancel(ctx)
	defer stopStoring()
	defer stopServing()
	var stores, serves sync.WaitGroup
	stores.Go(func() { m.writeAll(storing) })
	stores.Go(func() { m.syncAll(storing) })
	serves.Go(func() { m.skimAll(serving) })
	serves.Go(func() { m.leases.fetchAhead(serving) })
	serves.Go(func() { m.journalAll(ctx, serving.Done()) })

	done := make(chan struct{})
	go func() { // ends with the tasks
		stores.Wait()
		stopServing()
		serves.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		stuck := time.NewTimer(stuckAfter)
		defer stuck.Stop()
		select {
		case <-done:
		case <-stuck.C:
		}
	}
	return m.finish(ctx)
}

// finish ends the manager. What is left is given back, and not safe.
func (m *Manager) finish(ctx context.Context) error {
	m.mu.Lock()
	m.mu.running, m.mu.ended, m.mu.closed = false, true, true
	left := m.mu.tail.drain()
	unjournaled := m.mu.confirmations.count()
	m.wakePushers()
	close(m.end)
	m.mu.Unlock()
	messages := uint64(0)
	for _, e := range left {
		messages += e.meta.Ids.Count()
		e.release()
	}
	if messages == 0 && (unjournaled == 0 || ctx.Err() == nil) {
		return nil
	}
	return fmt.Errorf("backup: ended while %d messages were not stored and %d confirmations not journaled: %w",
		messages, unjournaled, context.Cause(ctx))
}

// NextIDs gives out the next n ids, which are consecutive. It waits for the disk only
// when the lease of ids is used up, of which a part is always held ahead. An error
// says that the lease cannot be prolonged; the caller tries again.
func (m *Manager) NextIDs(n int) (checkpoint.Range, error) {
	if n <= 0 {
		return checkpoint.Range{}, fmt.Errorf("backup: %d ids are not to be had", n)
	}
	return m.leases.take(uint64(n))
}

// Push takes a batch over with one reference. Its ids are from NextIDs, and batches
// come in the order of their ids. It waits, if at all, for room in the queue. After an
// error the batch is still the caller's: ErrClosed, or the cause of ctx.
func (m *Manager) Push(ctx context.Context, b Batch) error {
	e := newEntry(b)
	for {
		room, err := m.tryPush(e)
		if err != nil {
			return err
		}
		if room == nil {
			m.write.signal()
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryPush returns a channel to wait on if there is no room.
func (m *Manager) tryPush(e *entry) (<-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil, ErrClosed
	}
	if waiting := m.mu.tail.waiting; m.settings.Block && waiting.Messages > 0 && m.beyondQueue(waiting, e.size) {
		return m.mu.room, nil
	}
	e.pushed = time.Now()
	m.mu.tail.push(e)
	return nil, nil
}

// beyondQueue reports whether a size and some more is longer than the queue may be.
func (m *Manager) beyondQueue(size, more channel.Size) bool {
	limit := m.settings.Queue
	return limit.Messages > 0 && size.Messages+more.Messages > limit.Messages ||
		limit.Bytes > 0 && size.Bytes+more.Bytes > limit.Bytes
}

// wakePushers tells those that wait in Push to look again. mu is held.
func (m *Manager) wakePushers() {
	close(m.mu.room)
	m.mu.room = make(chan struct{})
}

// CloseQueue says that nothing more will be pushed. It may be called twice.
func (m *Manager) CloseQueue() {
	m.mu.Lock()
	m.mu.closed = true
	m.wakePushers()
	m.mu.Unlock()
	m.write.signal()
	m.sync.signal()
}

// WantSync says that somebody waits for the durability of what was pushed so far: it
// is synced as soon as it is written and the last sync has ended. In mode Rotate it
// does nothing.
func (m *Manager) WantSync() {
	if m.settings.Sync.Mode == Rotate {
		return
	}
	m.mu.Lock()
	m.mu.want = m.mu.tail.pushed
	m.mu.Unlock()
	m.sync.signal()
}

// Tail returns the batches that hold any of ids and whose payload is in memory, oldest
// first, each with a reference that the caller releases. What is not among them and
// not lost can be read from the backup.
func (m *Manager) Tail(ids checkpoint.Set) []Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Batch
	for e := range m.mu.tail.overlapping(ids) {
		if e.batch != nil && e.stage != done {
			e.batch.Retain()
			found = append(found, e.batch)
		}
	}
	return found
}

// notice is a token that says "look again"; it is never waited for by who signals.
type notice chan struct{}

func newNotice() notice { return make(notice, 1) }

func (n notice) signal() {
	select {
	case n <- struct{}{}:
	default:
	}
}

// pause waits for a notice, for a time unless it is negative, or until ctx is done.
func (n notice) pause(ctx context.Context, longest time.Duration) {
	n.pauseOr(ctx, nil, longest)
}

// pauseOr is pause that also ends with stop, and says so.
func (n notice) pauseOr(ctx context.Context, stop <-chan struct{}, longest time.Duration) (stopped bool) {
	var timeout <-chan time.Time
	if longest >= 0 {
		t := time.NewTimer(longest)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-n:
	case <-timeout:
	case <-ctx.Done():
	case <-stop:
		return true
	}
	return false
}
