package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
)

// journalEvery is how often at most confirmations are journaled when nobody waits.
const journalEvery = 50 * time.Millisecond

// confirmations are what tracks have confirmed, and what of it is not in the journal.
// They are guarded by Manager.mu.
type confirmations struct {
	confirmed map[string]*checkpoint.Set // by track, since the start
	pending   map[string]*checkpoint.Set // of these, not in the journal
	cursors   map[string]cursor          // of batches that were not stored, to be noted
	lost      checkpoint.Set             // since the start
	gone      checkpoint.Set             // of these, could not be read, and the backup must be told
	told      uint64                     // number of confirmations
	journaled uint64                     // of these, in the journal
	changed   chan struct{}              // closed when journaled or fault changes
	flushes   int                        // that wait
	fault     fault
}

// cursor is a position of a source, and the id up to which it speaks.
type cursor struct {
	id       uint64
	position []byte
}

func (c *confirmations) init() {
	c.confirmed = make(map[string]*checkpoint.Set)
	c.pending = make(map[string]*checkpoint.Set)
	c.cursors = make(map[string]cursor)
	c.changed = make(chan struct{})
}

// noteCursors takes in those of a batch that was not stored.
func (c *confirmations) noteCursors(meta backup.Meta) {
	for _, one := range meta.Cursors {
		if old, ok := c.cursors[one.Source]; !ok || meta.Ids.Last > old.id {
			c.cursors[one.Source] = cursor{meta.Ids.Last, one.Position}
		}
	}
}

// count returns the number of messages whose confirmation is not in the journal.
func (c *confirmations) count() uint64 {
	n := uint64(0)
	for _, ids := range c.pending {
		n += ids.Count()
	}
	return n
}

func setOf(sets map[string]*checkpoint.Set, track string) *checkpoint.Set {
	s := sets[track]
	if s == nil {
		s = &checkpoint.Set{}
		sets[track] = s
	}
	return s
}

// Confirm notes that a track has confirmed ids, stored or not, and returns those of
// them that it had not confirmed before and that are not lost. Ids that were never
// given out count for nothing. It waits for nothing; that confirmations are in the
// journal is what Flush waits for.
func (m *Manager) Confirm(track string, ids checkpoint.Set) (fresh checkpoint.Set) {
	given := checkpoint.SetOf(checkpoint.Range{First: 1, Last: max(1, m.backup.NextID()-1)})
	given.RemoveSet(m.leases.unused())
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.mu.confirmations
	ids = intersection(ids, given)
	ids.RemoveSet(*setOf(c.confirmed, track))
	ids.RemoveSet(c.lost)
	for r := range ids.Ranges() {
		fresh.AddSet(m.backup.Unconfirmed(track, r))
	}
	if fresh.Empty() {
		return fresh
	}
	c.told++
	c.confirmed[track].AddSet(fresh)
	setOf(c.pending, track).AddSet(fresh)
	m.journal.signal()
	m.skim.signal()
	return fresh
}

func intersection(a, b checkpoint.Set) checkpoint.Set {
	var both checkpoint.Set
	for r := range b.Ranges() {
		both.AddSet(a.Within(r))
	}
	return both
}

// Missing returns the ids that are stored, on disk or in memory, and that a track has
// neither confirmed nor lost.
func (m *Manager) Missing(track string) checkpoint.Set {
	m.mu.Lock()
	inMemory := m.mu.tail.ids() // first: what leaves it is on disk
	m.mu.Unlock()
	missing := m.backup.Missing(track)
	missing.AddSet(inMemory)
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.mu.confirmations
	missing.RemoveSet(*setOf(c.confirmed, track))
	missing.RemoveSet(c.lost)
	return missing
}

// Unconfirmed returns the ids of a range that a track has not confirmed, whether they
// are stored, lost, or were never given out.
func (m *Manager) Unconfirmed(track string, r checkpoint.Range) checkpoint.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.backup.Unconfirmed(track, r)
	ids.RemoveSet(setOf(m.mu.confirmations.confirmed, track).Within(r))
	return ids
}

// journalAll writes down confirmations until it is told to finish and has written all.
func (m *Manager) journalAll(ctx context.Context, finish <-chan struct{}) {
	last := time.Time{}
	finishing := false
	for ctx.Err() == nil {
		anything, wait := m.nextJournal(last, finishing)
		switch {
		case anything && wait == 0:
			last = time.Now()
			m.journalOnce()
		case !anything && finishing:
			return
		case m.journal.pauseOr(ctx, finish, wait):
			finish, finishing = nil, true
		}
	}
}

// nextJournal returns whether there is something to be journaled, and in what time;
// negative: not before there is a notice.
func (m *Manager) nextJournal(last time.Time, hurry bool) (anything bool, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.mu.confirmations
	if len(c.pending) == 0 && len(c.cursors) == 0 && c.gone.Empty() {
		return false, -1
	}
	now := time.Now()
	if !hurry && c.flushes == 0 {
		wait = last.Add(journalEvery).Sub(now)
	}
	if c.fault.active() {
		wait = max(wait, c.fault.retry.Sub(now))
	}
	return true, max(0, wait)
}

// journalOnce journals all there is.
func (m *Manager) journalOnce() {
	m.journaling.Lock()
	defer m.journaling.Unlock()
	m.mu.Lock()
	c := &m.mu.confirmations
	told, cursors, gone := c.told, c.cursors, c.gone
	c.cursors, c.gone = make(map[string]cursor), checkpoint.Set{}
	pending := make(map[string]checkpoint.Set, len(c.pending))
	for track, ids := range c.pending {
		pending[track] = ids.Clone()
	}
	m.mu.Unlock()

	var errs []error
	for source, at := range cursors {
		if err := m.backup.Advance(source, at.id, at.position); err != nil {
			errs = append(errs, err)
		}
	}
	if !gone.Empty() {
		errs = append(errs, m.backup.Lose(gone))
	}
	for track, ids := range pending {
		if err := m.backup.Confirm(track, ids); err != nil {
			errs = append(errs, err)
			delete(pending, track)
		}
	}
	m.journaled(told, pending, errors.Join(errs...))
}

// journaled notes what is in the journal now, and what went wrong.
func (m *Manager) journaled(told uint64, written map[string]checkpoint.Set, err error) {
	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.mu.confirmations
	for track, ids := range written {
		left := setOf(c.pending, track)
		if left.RemoveSet(ids); left.Empty() {
			delete(c.pending, track)
		}
	}
	if err == nil {
		c.journaled = max(c.journaled, told)
		m.works(&c.fault, &x)
	} else {
		m.fail(&c.fault, err, m.settings.Probe, &x)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Flush waits until all confirmations so far are in the journal. When the tasks do not
// run it writes them itself. The error says that ctx was done before, and why.
func (m *Manager) Flush(ctx context.Context) error {
	c := &m.mu.confirmations
	m.mu.Lock()
	target := c.told
	c.flushes++
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		c.flushes--
	}()
	for first := true; ; first = false {
		m.mu.Lock()
		flushed, running, changed, err := c.journaled >= target, m.mu.running, c.changed, c.fault.err
		m.mu.Unlock()
		if flushed {
			return nil
		}
		if running {
			m.journal.signal()
		} else if first || pause(ctx, m.settings.Probe) {
			go m.journalOnce() // ends when the disk answers
		}
		select {
		case <-changed:
		case <-m.ended(running):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("backup: confirmations are not in the journal: %w", context.Cause(ctx)), err)
		}
	}
}

// ended returns what is closed when the tasks end, nil if they do not run.
func (m *Manager) ended(running bool) <-chan struct{} {
	if running {
		return m.end
	}
	return nil
}

// pause waits for a time. It is false if ctx is done before.
func pause(ctx context.Context, d time.Duration) bool {
	return !newNotice().pauseOr(ctx, nil, d) && ctx.Err() == nil
}
