package manager

import (
	"context"
	"errors"
	"time"

	"github.com/pipelined/pipelined/core/backup"
)

const (
	// maxUnsynced bounds the batches that are remembered because they are not durable:
	// with more of them it syncs, whatever the policy says.
	maxUnsynced = 1 << 16
	// unsyncedShare is the part of the queue's bytes that written batches may hold in
	// memory. With more it syncs: sources would wait for the memory.
	unsyncedShare = 4
	// syncPause is how long to wait after a sync that said nothing.
	syncPause = 10 * time.Millisecond
)

// syncAll syncs as the policy says, until the queue is closed and everything is durable.
func (m *Manager) syncAll(ctx context.Context) {
	for ctx.Err() == nil {
		wait, finished := m.nextSync()
		switch {
		case finished:
			return
		case wait != 0:
			m.sync.pause(ctx, wait)
		case !m.syncOnce():
			m.sync.pause(ctx, syncPause)
		}
	}
}

// nextSync returns in what time a sync is due; negative: not before there is a notice.
func (m *Manager) nextSync() (wait time.Duration, finished bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &m.mu.tail
	if m.mu.ended || m.mu.closed && len(t.entries) == 0 {
		return 0, true
	}
	if t.written.Messages == 0 {
		return -1, false
	}
	now := time.Now()
	if f := &m.mu.syncFault; f.active() {
		return max(0, f.retry.Sub(now)), false
	}
	switch wanted := t.entries[0].number <= m.mu.want; {
	case m.mu.closed, wanted, m.settings.Sync.Mode == Always, m.holdsTooMuch():
		return 0, false
	case m.settings.Sync.Mode == Rotate:
		return -1, false
	}
	return max(0, m.mu.oldest.Add(m.settings.Sync.Longest).Sub(now)), false
}

// holdsTooMuch reports whether too much is remembered because it is not durable. mu is
// held.
func (m *Manager) holdsTooMuch() bool {
	limit := m.settings.Queue.Bytes
	return len(m.mu.tail.unsynced) > maxUnsynced || limit > 0 && m.mu.tail.written.Bytes > limit/unsyncedShare
}

// syncOnce is false if it made nothing durable and found nothing wrong.
func (m *Manager) syncOnce() bool {
	start := time.Now()
	m.mu.Lock()
	m.mu.syncing, m.mu.oldest = start, time.Time{}
	m.mu.Unlock()

	through, err := m.backup.Sync()

	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.syncing = time.Time{}
	if m.mu.ended {
		return true
	}
	defer m.write.signal() // writing may wait for the result
	if err != nil {
		m.notSynced(err, &x)
		return true
	}
	return m.synced(through, start, &x)
}

// synced notes a success. mu is held.
func (m *Manager) synced(through uint64, start time.Time, x *effects) bool {
	durable := m.mu.tail.synced(through)
	for _, e := range durable {
		m.free(e, x)
	}
	if m.mu.tail.written.Messages > 0 && m.mu.oldest.IsZero() {
		m.mu.oldest = start
	}
	m.mu.counts.durable = max(m.mu.counts.durable, through)
	m.syncs.Observe(time.Since(start))
	if len(durable) == 0 {
		return false
	}
	m.works(&m.mu.syncFault, x)
	m.advance()
	return true
}

// notSynced notes why a sync failed. mu is held.
func (m *Manager) notSynced(err error, x *effects) {
	m.mu.counts.failedSyncs++
	if suspect, ok := errors.AsType[*backup.SuspectError](err); ok {
		m.suspect(suspect, x)
		return
	}
	m.fail(&m.mu.syncFault, err, m.settings.Probe, x)
}
