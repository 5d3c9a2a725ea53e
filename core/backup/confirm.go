package backup

import (
	"fmt"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Confirm notes that a track has confirmed ids, durably, and then deletes what all
// tracks have confirmed. Ids that it had confirmed already cost nothing. It does not
// wait for segments that are being written. After an error the confirmation counts,
// and what is not durable of it becomes so with the next thing that is noted.
func (b *Backup) Confirm(track string, ids checkpoint.Set) error {
	if !slices.Contains(b.opts.Tracks, track) {
		return fmt.Errorf("backup: there is no track %q", track)
	}
	b.note.Lock()
	defer b.note.Unlock()
	fresh, deletable, err := b.confirm(track, ids)
	if err != nil {
		return err
	}
	if !fresh.Empty() || b.note.journal.file == nil { // what failed before is said again
		if err := b.keep(appendConfirmed(nil, track, fresh)); err != nil {
			return fmt.Errorf("backup: confirmation by %s: %w", track, err)
		}
	}
	if !deletable {
		return nil
	}
	return b.collect()
}

// confirm takes in a confirmation. It returns what is new of it, and whether
// something may be deleted after it.
func (b *Backup) confirm(track string, ids checkpoint.Set) (fresh checkpoint.Set, deletable bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return fresh, false, ErrClosed
	}
	if ids.Last() >= b.mu.next {
		return fresh, false, fmt.Errorf("backup: id %d was not given out, it cannot be confirmed", ids.Last())
	}
	fresh = ids.Clone()
	fresh.RemoveSet(*b.mu.facts.of(track))
	b.mu.facts.of(track).AddSet(fresh)
	enough := b.confirmedByAll(fresh)
	b.mu.enough.AddSet(enough)
	b.mu.suspect.RemoveSet(enough)
	return fresh, !enough.Empty() || len(b.mu.doomed) > 0, nil
}

// confirmedByAll returns those of some ids that need not be kept. mu is held.
func (b *Backup) confirmedByAll(ids checkpoint.Set) checkpoint.Set {
	if len(b.opts.Tracks) == 0 {
		return checkpoint.Set{}
	}
	all := ids.Clone()
	for _, track := range b.opts.Tracks {
		rest := all.Clone()
		rest.RemoveSet(*b.mu.facts.of(track))
		all.RemoveSet(rest)
	}
	for _, owed := range b.mu.owed {
		all.RemoveSet(owed)
	}
	return all
}

// Missing returns the ids that are written and that a track has not confirmed. It
// waits for no disk.
func (b *Backup) Missing(track string) checkpoint.Set {
	b.mu.Lock()
	defer b.mu.Unlock()
	missing := b.mu.written.Clone()
	if confirmed := b.mu.facts.confirmed[track]; confirmed != nil {
		missing.RemoveSet(*confirmed)
	}
	missing.RemoveSet(b.mu.facts.lost)
	return missing
}

// Unconfirmed returns the ids of a range that a track has not confirmed, whether they
// are stored or not, or lost, or were ever given out. It waits for no disk.
func (b *Backup) Unconfirmed(track string, r checkpoint.Range) checkpoint.Set {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.First > r.Last {
		return checkpoint.Set{}
	}
	rest := checkpoint.SetOf(r)
	if confirmed := b.mu.facts.confirmed[track]; confirmed != nil {
		rest.RemoveSet(confirmed.Within(r))
	}
	return rest
}

// keepAside notes that something in a segment cannot be read: it is kept until Forget,
// and the next start reads all of it instead of trusting its seal.
func (b *Backup) keepAside(segment uint64) {
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	known := b.mu.closed
	for _, s := range b.mu.segments {
		if s.number == segment {
			known = known || s.damaged
			s.damaged = true
		}
	}
	delete(b.mu.facts.sealed, segment)
	b.mu.Unlock()
	if !known {
		b.note.journal.abandon() // the seal stands in it
		_ = b.keep(nil)          // after an error the next thing that is noted begins a journal
	}
}

// Forget gives up what a segment holds besides its known chunks: it may then be
// deleted once these are confirmed.
func (b *Backup) Forget(segment uint64) error {
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	closed := b.mu.closed
	for _, s := range b.mu.segments {
		if s.number == segment {
			s.orphans, s.damaged = nil, false
		}
	}
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return b.collect()
}

// ForgetTrack gives up what a track was owed that is not in Options.Tracks any more,
// see Recovered.Strangers.
func (b *Backup) ForgetTrack(track string) error {
	if slices.Contains(b.opts.Tracks, track) {
		return fmt.Errorf("backup: track %q is in use, it cannot be forgotten", track)
	}
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	closed := b.mu.closed
	owed := b.mu.owed[track]
	delete(b.mu.owed, track)
	delete(b.mu.facts.tracks, track)
	delete(b.mu.facts.confirmed, track)
	b.mu.enough.AddSet(b.confirmedByAll(owed))
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	// Facts are only forgotten with the journal that has them.
	if err := b.note.journal.begin(b.allFacts); err != nil {
		return fmt.Errorf("backup: forget track %s: %w", track, err)
	}
	return b.collect()
}

// collect deletes the segments that all tracks have confirmed: noted durably, then
// removed. note is held.
func (b *Backup) collect() error {
	done := b.deletable()
	if len(done) > 0 {
		var records []byte
		b.mu.Lock()
		for _, s := range done {
			b.mu.facts.deleted[s.number] = true
			records = appendRecord(records, journalDeleted, u64(s.number))
		}
		// Their indexes have cursors that stand nowhere else.
		records = appendCursors(records, b.mu.facts.cursors)
		b.mu.Unlock()
		if err := b.keep(records); err != nil {
			return fmt.Errorf("backup: delete confirmed segments: %w", err)
		}
		for _, s := range done {
			b.doom(s)
		}
		b.countDone(len(done))
	}
	b.finishDeletions()
	if len(done) > 0 {
		b.refillReserve()
	}
	return nil
}

// deletable returns the segments that nobody needs.
func (b *Backup) deletable() []*segment {
	if len(b.opts.Tracks) == 0 || b.opts.Retain {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var done []*segment
	for _, s := range b.mu.segments {
		if s != b.mu.active && !s.damaged && b.needless(s) {
			done = append(done, s)
		}
	}
	return done
}

// needless reports whether all that is known of a segment is confirmed. mu is held.
func (b *Backup) needless(s *segment) bool {
	return len(s.orphans) == 0 && b.mu.enough.ContainsSet(s.ids)
}

// doom takes a segment whose deletion is durable off the list.
func (b *Backup) doom(s *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetSegment(s)
	b.mu.doomed = append(b.mu.doomed, s)
}

// countDone counts segments that go and are confirmed.
func (b *Backup) countDone(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.done += uint64(n)
}

// finishDeletions removes the files of doomed segments. That a deletion was decided
// is forgotten only when the directories are synced; what fails is tried again. note
// is held.
func (b *Backup) finishDeletions() {
	b.mu.Lock()
	doomed := slices.Clone(b.mu.doomed)
	b.mu.Unlock()
	if len(doomed) == 0 {
		return
	}
	var gone, left []*segment
	for _, s := range doomed {
		if b.removeFiles(s) {
			gone = append(gone, s)
		} else {
			left = append(left, s)
		}
	}
	if b.fs.SyncDir(b.dir) != nil || b.fs.SyncDir(b.opts.StateDir) != nil {
		return // all of them again: a removed file is no error
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.doomed = left
	for _, s := range gone {
		b.mu.bytes -= s.bytes
		b.mu.facts.forgetSegment(s.number)
	}
}

// refillReserve makes the reserve again once there is room.
func (b *Backup) refillReserve() {
	if b.room(b.opts.Reserve) == nil {
		b.note.journal.keepReserve()
	}
}

// forgetConfirmed drops confirmations of ids that no segment holds and that were
// given out before this start. Those of later ids are kept, for Unconfirmed.
func (b *Backup) forgetConfirmed(floor uint64) {
	for _, s := range slices.Concat(b.mu.segments, b.mu.doomed) {
		for _, ids := range []checkpoint.Set{s.ids, s.gone} {
			if !ids.Empty() {
				floor = min(floor, ids.First())
			}
		}
	}
	if floor < 2 {
		return
	}
	before := checkpoint.Range{First: 1, Last: floor - 1}
	for _, s := range b.mu.facts.confirmed {
		s.Remove(before)
	}
	b.mu.facts.lost.Remove(before)
}
