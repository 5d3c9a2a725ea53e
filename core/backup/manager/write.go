package manager

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
)

const (
	fullEvery = time.Second // Settings.Full is called at most so often
	pollEvery = time.Second // mode Rotate asks what is durable
	// readTries is how often it is tried to read what must be written again.
	readTries = 3
)

// job is what the writing task does next.
type job struct {
	entry    *entry
	batch    Batch         // of the entry, with a reference of its own; nil: read it from the disk
	wait     time.Duration // without an entry; negative: until there is a notice
	finished bool
}

// writeAll writes what waits, in order, until the queue is closed and everything is
// durable.
func (m *Manager) writeAll(ctx context.Context) {
	for ctx.Err() == nil {
		switch j := m.nextJob(); {
		case j.finished:
			return
		case j.entry == nil:
			m.write.pause(ctx, j.wait)
		case j.batch == nil:
			m.rescue(ctx)
		default:
			m.append(j.entry, j.batch.Body())
			j.batch.Release()
		}
	}
}

// nextJob finds what to do, and skips what need not be written.
func (m *Manager) nextJob() job {
	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.advance()
	if m.mu.ended || m.mu.closed && len(m.mu.tail.entries) == 0 {
		return job{finished: true}
	}
	e := m.mu.tail.first()
	for ; e != nil && e.batch != nil && e.batch.Confirmed(); e = m.mu.tail.first() {
		m.skipped(e, &x)
	}
	if e == nil {
		return job{wait: -1}
	}
	if wait := m.writeWait(); wait != 0 {
		return job{wait: wait}
	}
	if e.batch != nil {
		e.batch.Retain()
	}
	m.mu.writing = time.Now()
	return job{entry: e, batch: e.batch}
}

// skipped notes that all tracks have confirmed an entry that is not durable. mu is held.
func (m *Manager) skipped(e *entry, x *effects) {
	if e.stage == waiting {
		m.mu.counts.skipped += e.meta.Ids.Count()
	}
	m.settle(e, x)
}

// writeWait returns how long nothing may be written; negative: until there is a
// notice. While syncs fail, one batch at a time is written and synced, so that a sick
// disk is not filled with copies. mu is held.
func (m *Manager) writeWait() time.Duration {
	now := time.Now()
	wait := time.Duration(0)
	if f := &m.mu.writeFault; f.active() {
		wait = max(wait, f.retry.Sub(now))
	}
	if f := &m.mu.syncFault; f.active() {
		if m.mu.tail.written.Messages > 0 || !m.mu.syncing.IsZero() {
			return -1
		}
		wait = max(wait, f.retry.Sub(now))
	}
	return wait
}

// append writes an entry. It is false if that failed.
func (m *Manager) append(e *entry, body []byte) bool {
	appended, err := m.backup.Append(e.meta, body)
	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.writing = time.Time{}
	if m.mu.ended {
		return false
	}
	defer m.advance()
	m.lose(appended.Lost, &x)
	m.noteFull(appended.CountFull, &x)
	if err != nil {
		m.notWritten(err, &x)
		return false
	}
	m.works(&m.mu.writeFault, &x)
	if appended.Sequence == 0 { // it was dropped
		if e.stage != done {
			m.settle(e, &x)
		}
		return true
	}
	m.wrote(e, appended.Sequence, len(body), &x)
	return true
}

// wrote notes a success. mu is held.
func (m *Manager) wrote(e *entry, sequence uint64, bytes int, x *effects) {
	c := &m.mu.counts
	c.appended++
	c.messages += e.meta.Ids.Count()
	c.bytes += uint64(bytes)
	c.sequence = sequence
	if e.stage != waiting {
		return // confirmed or lost meanwhile
	}
	if m.mu.tail.first() != e {
		// What is before it became suspect meanwhile. It comes after that, so that no
		// cursor says too much.
		c.again += e.meta.Ids.Count()
		return
	}
	m.mu.tail.wrote(e, sequence)
	now := time.Now()
	if m.mu.oldest.IsZero() {
		m.mu.oldest = now
	}
	if m.settings.Sync.Mode == Rotate {
		m.free(e, x)
		m.poll(now)
	}
	m.sync.signal()
}

// poll finds out what the backup has synced by itself. mu is held.
func (m *Manager) poll(now time.Time) {
	if now.Sub(m.mu.polled) < pollEvery {
		return
	}
	m.mu.polled = now
	if s := m.backup.Stats(); s.Again == 0 {
		m.mu.tail.synced(s.Durable)
		m.mu.counts.durable = max(m.mu.counts.durable, s.Durable)
	}
}

// notWritten notes why Append failed. mu is held.
func (m *Manager) notWritten(err error, x *effects) {
	suspect, isSuspect := errors.AsType[*backup.SuspectError](err)
	if isSuspect {
		m.suspect(suspect, x)
	}
	// What is suspect may come together with another error.
	if !isSuspect || errors.Is(err, backup.ErrFull) {
		m.fail(&m.mu.writeFault, err, m.settings.Probe, x)
	}
}

// suspect notes what must be written again: at once the first time, after a while if
// that fails too. mu is held.
func (m *Manager) suspect(err *backup.SuspectError, x *effects) {
	after := time.Duration(0)
	if m.mu.syncFault.active() {
		after = m.settings.Probe
	}
	m.fail(&m.mu.syncFault, err, after, x)
	m.mu.counts.again += m.mu.tail.again(err.Ids.First())
}

// noteFull tells that the backup has as many files as it may have. mu is held.
func (m *Manager) noteFull(full bool, x *effects) {
	if !full {
		m.mu.full = time.Time{}
		return
	}
	if now := time.Now(); m.mu.full.IsZero() || now.Sub(m.mu.full) >= fullEvery {
		m.mu.full, x.full = now, true
	}
}

// lose ends the entries that are lost. mu is held.
func (m *Manager) lose(losses []backup.Loss, x *effects) {
	for _, l := range losses {
		m.mu.confirmations.lost.AddSet(l.Ids)
		m.mu.counts.dropped += l.Ids.Count()
		for e := range m.mu.tail.overlapping(l.Ids) {
			if e.stage != done {
				m.settle(e, x)
			}
		}
	}
	x.lost = append(x.lost, losses...)
}

// rescue writes again what is suspect and no longer in memory (mode Rotate), as far as
// it can be read. What cannot be read is lost.
func (m *Manager) rescue(ctx context.Context) {
	want := m.unread()
	var failure error
	reader := m.backup.Read(want)
	defer reader.Close()
	for ctx.Err() == nil {
		c, err := reader.Next()
		if errors.Is(err, io.EOF) {
			m.notRead(want, failure)
			return
		}
		if _, hole := errors.AsType[*backup.HoleError](err); hole {
			continue
		}
		if err != nil {
			failure = err
			continue
		}
		if e := m.unreadEntry(c.Ids); e != nil && !m.append(e, c.Body) {
			return
		}
	}
}

// unread returns the ids that must be read to be written again; only those of one
// batch while syncs fail.
func (m *Manager) unread() checkpoint.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids checkpoint.Set
	for _, e := range m.mu.tail.entries[m.mu.tail.next:] {
		if e.stage == waiting && e.batch == nil {
			ids.Add(e.meta.Ids)
			if m.mu.syncFault.active() {
				break
			}
		}
	}
	return ids
}

// unreadEntry finds the entry of a chunk that was read.
func (m *Manager) unreadEntry(ids checkpoint.Range) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := range m.mu.tail.overlapping(checkpoint.SetOf(ids)) {
		if e.meta.Ids == ids && e.stage == waiting && e.batch == nil {
			return e
		}
	}
	return nil
}

// notRead gives up what was wanted and is not written. If a disk failed to read it is
// tried again a few times.
func (m *Manager) notRead(want checkpoint.Set, failure error) {
	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.writing = time.Time{}
	if m.mu.ended {
		return
	}
	defer m.advance()
	if failure != nil && m.mu.writeFault.tries < readTries {
		m.fail(&m.mu.writeFault, failure, m.settings.Probe, &x)
		return
	}
	var losses []backup.Loss
	for e := range m.mu.tail.overlapping(want) {
		if e.stage == waiting {
			losses = append(losses, backup.Loss{Flow: e.meta.Flow, Ids: checkpoint.SetOf(e.meta.Ids)})
			m.mu.confirmations.gone.Add(e.meta.Ids)
		}
	}
	m.lose(losses, &x)
	m.journal.signal()
	if failure != nil {
		m.works(&m.mu.writeFault, &x)
	}
}
