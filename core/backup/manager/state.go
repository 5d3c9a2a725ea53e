package manager

import (
	"time"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/telemetry"
)

// stalledAfter is after what time a call to the disk that has not returned counts as
// lagging.
const stalledAfter = 2 * time.Second

// counts are the totals since the start. They are guarded by Manager.mu.
type counts struct {
	appended uint64 // batches
	messages uint64 // of those
	bytes    uint64 // of their bodies
	again    uint64 // messages that were suspect
	skipped  uint64 // messages that all had confirmed before they were written
	dropped  uint64 // messages

	sequence, durable uint64
	failedSyncs       uint64
}

// State is a manager at one moment. Totals are since the start.
type State struct {
	Waiting       channel.Size  // not yet written
	Unsynced      channel.Size  // written and not durable; bytes: of what is in memory
	OldestWaiting time.Duration // since the Push of the oldest batch that is not durable; 0: there is none

	Batches  uint64 // written, those written again each time
	Messages uint64 // of those
	Bytes    uint64 // of those, without headers
	Again    uint64 // messages that had to be written again after a failed sync
	Skipped  uint64 // messages that all tracks had confirmed before they were written
	Dropped  uint64 // messages that were dropped, or could not be read again

	Sequence  uint64 // of the newest write
	Durable   uint64 // the newest one that is known to be durable
	DurableID uint64 // all pushed ids up to it are durable, confirmed or lost

	Sync        telemetry.Durations // of syncs that succeeded
	FailedSyncs uint64

	Lagging bool
	Full    bool // there is no room; with OnFull Block
	// Trouble is the newest error of what fails now (writing, syncing or the journal);
	// nil: all works. Since is when it began.
	Trouble      error
	TroubleSince time.Time
	Stalled      time.Duration // how long the disk has not answered a write or a sync; 0: none goes on

	Unjournaled uint64 // confirmed messages whose confirmation is not durable, for each track
}

// State returns the numbers of this moment. It waits for no disk.
func (m *Manager) State() State {
	durations := m.syncs.Durations()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	t, c := &m.mu.tail, &m.mu.counts
	s := State{
		Waiting: t.waiting, Unsynced: t.written,
		Batches: c.appended, Messages: c.messages, Bytes: c.bytes, Again: c.again, Skipped: c.skipped, Dropped: c.dropped,
		Sequence: c.sequence, Durable: c.durable, DurableID: t.settled,
		Sync: durations, FailedSyncs: c.failedSyncs,
		Lagging: m.lagging(now), Full: m.mu.writeFault.full, Stalled: m.stalled(now),
		Unjournaled: m.mu.confirmations.count(),
	}
	if len(t.entries) > 0 { // the first is never done
		s.OldestWaiting = now.Sub(t.entries[0].pushed)
	}
	for _, f := range []fault{m.mu.confirmations.fault, m.mu.syncFault, m.mu.writeFault} {
		if f.active() {
			s.Trouble, s.TroubleSince = f.err, f.since
		}
	}
	return s
}

// Lagging reports whether more waits to be written than Settings.Queue says, or the
// disk is full, fails, or has not answered for 2 seconds.
func (m *Manager) Lagging() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lagging(time.Now())
}

// lagging is Lagging. mu is held.
func (m *Manager) lagging(now time.Time) bool {
	return m.beyondQueue(m.mu.tail.waiting, channel.Size{}) || m.mu.writeFault.active() || m.mu.syncFault.active() ||
		m.stalled(now) >= stalledAfter
}

// stalled returns how long the oldest call to the disk has been going on. mu is held.
func (m *Manager) stalled(now time.Time) time.Duration {
	longest := time.Duration(0)
	for _, since := range []time.Time{m.mu.writing, m.mu.syncing} {
		if !since.IsZero() {
			longest = max(longest, now.Sub(since))
		}
	}
	return longest
}
