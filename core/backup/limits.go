package backup

import (
	"fmt"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// used returns the bytes of all segments and indexes.
func (b *Backup) used() int64 {
	sum := int64(0)
	for _, s := range b.mu.segments {
		sum += s.bytes
	}
	for _, s := range b.mu.doomed {
		sum += s.bytes
	}
	return sum
}

func (b *Backup) countFull() bool {
	return b.opts.MaxFileCount > 0 && len(b.mu.segments) >= b.opts.MaxFileCount
}

// room fails with ErrFull if a limit forbids to write that many bytes.
func (b *Backup) room(need int64) error {
	if used := b.used(); b.opts.MaxDisk > 0 && used+need > b.opts.MaxDisk {
		return fmt.Errorf("%w: %d bytes of at most %d are used", ErrFull, used, b.opts.MaxDisk)
	}
	if b.opts.MinFree == 0 {
		return nil
	}
	free, err := b.fs.Free(b.dir)
	if err == nil && free < uint64(b.opts.MinFree)+uint64(need) {
		return fmt.Errorf("%w: %d bytes are free on the disk, %d must stay", ErrFull, free, b.opts.MinFree)
	}
	return nil // what the system does not tell is no limit
}

// dropOldest deletes the oldest segment and returns what of it some track has not
// confirmed.
func (b *Backup) dropOldest() (checkpoint.Set, error) {
	if len(b.mu.segments) == 1 && b.io.active != nil {
		if err := b.retire(); err != nil {
			return checkpoint.Set{}, err
		}
	}
	if len(b.mu.segments) == 0 {
		return checkpoint.Set{}, fmt.Errorf("%w: nothing is left to drop", ErrFull)
	}
	seg := b.mu.segments[0]
	lost := seg.ids.Clone()
	lost.RemoveSet(b.confirmedByAll())
	for _, other := range b.mu.segments[1:] { // a suspect's content was written again
		lost.RemoveSet(other.ids)
	}
	lost.RemoveSet(b.mu.facts.lost)

	b.mu.Lock()
	b.mu.facts.deleted[seg.number] = true
	b.mu.Unlock()
	records := appendCursors(appendRecord(nil, journalDeleted, u64(seg.number)), b.mu.facts.cursors)
	if err := b.io.journal.write(b.mu.facts, records); err != nil {
		b.mu.Lock()
		delete(b.mu.facts.deleted, seg.number)
		b.mu.Unlock()
		return checkpoint.Set{}, fmt.Errorf("drop the oldest segment: %w", err)
	}
	b.doom(seg)
	b.finishDeletions()
	return lost, nil
}
