package backup

import (
	"fmt"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Confirm notes that a track has confirmed ids, durably, and then deletes what all
// tracks have confirmed. After an error the confirmation counts, and what is not
// durable of it becomes so with the next thing that is noted.
func (b *Backup) Confirm(track string, ids checkpoint.Set) error {
	b.io.Lock()
	defer b.io.Unlock()
	if b.io.closed {
		return ErrClosed
	}
	if !slices.Contains(b.opts.Tracks, track) {
		return fmt.Errorf("backup: there is no track %q", track)
	}
	if ids.Empty() {
		return nil
	}
	if ids.Last() >= b.io.next {
		return fmt.Errorf("backup: id %d was not given out, it cannot be confirmed", ids.Last())
	}
	b.mu.Lock()
	b.mu.facts.of(track).AddSet(ids)
	b.mu.Unlock()
	b.forgetConfirmed()
	if err := b.io.journal.write(b.mu.facts, appendConfirmed(nil, track, ids)); err != nil {
		b.io.journal.abandon() // so that the next write says it again
		return fmt.Errorf("backup: confirmation by %s: %w", track, err)
	}
	return b.collect()
}

// Missing returns the ids that are written and that a track has not confirmed.
func (b *Backup) Missing(track string) checkpoint.Set {
	b.mu.Lock()
	defer b.mu.Unlock()
	var missing checkpoint.Set
	for _, s := range b.mu.segments {
		missing.AddSet(s.ids)
	}
	if confirmed := b.mu.facts.confirmed[track]; confirmed != nil {
		missing.RemoveSet(*confirmed)
	}
	missing.RemoveSet(b.mu.facts.lost)
	return missing
}

// Forget gives up what a segment holds besides its known chunks: it may then be
// deleted once these are confirmed.
func (b *Backup) Forget(segment uint64) error {
	b.io.Lock()
	defer b.io.Unlock()
	if b.io.closed {
		return ErrClosed
	}
	b.mu.Lock()
	for _, s := range b.mu.segments {
		if s.number == segment {
			s.orphans, s.damaged = nil, false
		}
	}
	b.mu.Unlock()
	return b.collect()
}

// confirmedByAll returns the ids that need not be kept.
func (b *Backup) confirmedByAll() checkpoint.Set {
	var all checkpoint.Set
	for i, track := range b.opts.Tracks {
		confirmed := checkpoint.Set{}
		if s := b.mu.facts.confirmed[track]; s != nil {
			confirmed = *s
		}
		if i == 0 {
			all = confirmed.Clone()
			continue
		}
		rest := all.Clone()
		rest.RemoveSet(confirmed)
		all.RemoveSet(rest)
	}
	return all
}

// collect deletes the segments that all tracks have confirmed: noted durably, then
// removed.
func (b *Backup) collect() error {
	var done []*segment
	var records []byte
	if len(b.opts.Tracks) > 0 && !b.opts.Retain {
		enough := b.confirmedByAll()
		enough.AddSet(b.mu.facts.lost)
		for _, s := range b.mu.segments {
			active := b.io.active != nil && b.io.active.seg == s
			if !active && !s.damaged && len(s.orphans) == 0 && enough.ContainsSet(s.ids) {
				done = append(done, s)
				records = appendRecord(records, journalDeleted, u64(s.number))
			}
		}
	}
	if len(done) > 0 {
		b.mu.Lock()
		for _, s := range done {
			b.mu.facts.deleted[s.number] = true
		}
		b.mu.Unlock()
		records = appendCursors(records, b.mu.facts.cursors)
		if err := b.io.journal.write(b.mu.facts, records); err != nil {
			return fmt.Errorf("backup: delete confirmed segments: %w", err)
		}
		for _, s := range done {
			b.doom(s)
		}
	}
	b.finishDeletions()
	if len(done) > 0 {
		b.refillReserve()
	}
	return nil
}

// doom takes a segment whose deletion is durable off the list.
func (b *Backup) doom(s *segment) {
	b.forgetSegment(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.doomed = append(b.mu.doomed, s)
}

// finishDeletions removes the files of doomed segments. That a deletion was decided
// is forgotten only when the directories are synced; what fails is tried again.
func (b *Backup) finishDeletions() {
	if len(b.mu.doomed) == 0 {
		return
	}
	var gone, left []*segment
	for _, s := range b.mu.doomed {
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
		delete(b.mu.facts.deleted, s.number)
		delete(b.mu.facts.sealed, s.number)
	}
}

// refillReserve makes the reserve again once there is room.
func (b *Backup) refillReserve() {
	if b.room(b.opts.Reserve) == nil {
		b.io.journal.keepReserve()
	}
}

// forgetConfirmed drops confirmations of ids that no segment holds and that were
// given out before this start.
func (b *Backup) forgetConfirmed() {
	floor := b.mu.floor
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
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.mu.facts.confirmed {
		s.Remove(checkpoint.Range{First: 1, Last: floor - 1})
	}
	b.mu.facts.lost.Remove(checkpoint.Range{First: 1, Last: floor - 1})
}
