package backup

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// countFull reports whether there are as many segments as are allowed. mu is held.
func (b *Backup) countFull() bool {
	return b.opts.MaxFileCount > 0 && len(b.mu.segments) >= b.opts.MaxFileCount
}

// room fails with ErrFull if a limit forbids to write that many bytes.
func (b *Backup) room(need int64) error {
	b.mu.Lock()
	used := b.mu.bytes
	b.mu.Unlock()
	if b.opts.MaxDisk > 0 && used+need > b.opts.MaxDisk {
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
// confirmed. One that all have confirmed goes before that. Ids that are about to be
// written are not lost.
func (b *Backup) dropOldest(coming checkpoint.Range) ([]Loss, error) {
	b.mu.Lock()
	only := len(b.mu.segments) == 1 && b.mu.active != nil
	b.mu.Unlock()
	if only {
		if err := b.retire(); err != nil {
			return nil, err
		}
	}
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	seg, lost := b.oldest()
	b.mu.Unlock()
	lost.Remove(coming)
	if seg == nil {
		return nil, fmt.Errorf("%w: nothing is left to drop", ErrFull)
	}
	losses := b.lossesOf(seg, lost)

	b.mu.Lock()
	confirmed := b.needless(seg)
	b.mu.facts.deleted[seg.number] = true
	noteIn(b.mu.facts.dropped, seg.number, lost)
	records := appendRanges(nil, journalDropped, u64(seg.number), lost)
	records = appendCursors(appendRecord(records, journalDeleted, u64(seg.number)), b.mu.facts.cursors)
	b.mu.Unlock()
	if err := b.keep(records); err != nil {
		b.mu.Lock()
		delete(b.mu.facts.deleted, seg.number)
		delete(b.mu.facts.dropped, seg.number)
		b.mu.Unlock()
		return nil, fmt.Errorf("drop the oldest segment: %w", err)
	}
	b.doom(seg)
	if confirmed {
		b.countDone(1)
	}
	b.finishDeletions()
	return losses, nil
}

// oldest returns the segment that is dropped next, and what is lost with it. mu is
// held.
func (b *Backup) oldest() (*segment, checkpoint.Set) {
	var seg *segment
	for _, s := range b.mu.segments {
		if s == b.mu.active {
			continue
		}
		if b.needless(s) {
			return s, checkpoint.Set{}
		}
		if seg == nil {
			seg = s
		}
	}
	if seg == nil {
		return nil, checkpoint.Set{}
	}
	lost := seg.ids.Clone()
	lost.RemoveSet(b.mu.enough)
	lost.RemoveSet(b.mu.suspect)          // it is still in its owner's memory
	for _, other := range b.mu.segments { // a suspect's content was written again
		if other != seg {
			lost.RemoveSet(other.ids)
		}
	}
	lost.RemoveSet(b.mu.suspect) // it will be written again
	return seg, lost
}

// lossesOf says to which flows the ids belong that are lost with a segment. The index
// says it, as far as it can be read. The result is smaller than the index.
func (b *Backup) lossesOf(seg *segment, lost checkpoint.Set) []Loss {
	byFlow := make(map[uint32]*checkpoint.Set)
	rest := lost.Clone()
	if seg.ours {
		b.readFlows(seg, &rest, byFlow)
	}
	var losses []Loss
	if !rest.Empty() {
		losses = append(losses, Loss{0, rest})
	}
	for _, flow := range slices.Sorted(maps.Keys(byFlow)) {
		losses = append(losses, Loss{flow, *byFlow[flow]})
	}
	return losses
}

// readFlows moves ids from rest to the flows that an index gives them.
func (b *Backup) readFlows(seg *segment, rest *checkpoint.Set, byFlow map[uint32]*checkpoint.Set) {
	index, err := b.fs.Open(b.indexPath(seg.number))
	if err != nil {
		return
	}
	defer index.Close()
	for records := newRecordReader(index, seg.indexEnd); !rest.Empty(); {
		rec, err := records.read()
		if err != nil {
			return
		}
		if rec.kind != indexChunk {
			continue
		}
		e, ok := parseEntry(rec.payload)
		if !ok || !rest.Overlaps(e.Ids) {
			continue
		}
		if byFlow[e.Flow] == nil {
			byFlow[e.Flow] = &checkpoint.Set{}
		}
		byFlow[e.Flow].AddSet(rest.Within(e.Ids))
		rest.Remove(e.Ids)
	}
}
