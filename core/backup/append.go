package backup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Appended is what became of a batch.
type Appended struct {
	Sequence uint64 // of this Append, from 1, to be compared with what Sync returns; 0: not stored
	Lost     []Loss // what was dropped for want of room
	// CountFull: there are as many segments as MaxFileCount.
	CountFull bool
}

// Loss is what was dropped of a flow: ids that some track has not confirmed. They are
// in no Missing any more. A track may have confirmed part of them, see Unconfirmed.
type Loss struct {
	Flow uint32 // its number, given to DefineFlow; 0: stored by an earlier process, or not known
	Ids  checkpoint.Set
}

// Append writes a batch: a body as of package pbfs with as many messages as ids.
// It is written when Append returns, and durable when Sync says so. A segment that
// is long enough is synced and finished first.
//
// Lost is set also beside an error. The error is ErrFull if there is no room; a
// *SuspectError if the sync of the last segment failed, and then this batch must be
// appended again as well. After any other error it is not stored, and the next
// Append begins a new segment.
func (b *Backup) Append(meta Meta, body []byte) (Appended, error) {
	b.io.Lock()
	defer b.io.Unlock()
	if err := b.checkBatch(meta, body); err != nil {
		return Appended{}, err
	}
	if err := b.takeUnreported(); err != nil {
		return Appended{}, err
	}
	return b.append(meta, body)
}

// append is Append; io is held.
func (b *Backup) append(meta Meta, body []byte) (Appended, error) {
	done := Appended{}
	err := b.store(meta, body, &done.Lost)
	b.mu.Lock()
	defer b.mu.Unlock()
	done.CountFull = b.countFull()
	if errors.Is(err, ErrFull) && b.opts.OnFull == DropNewest {
		lost := checkpoint.SetOf(meta.Ids)
		lost.RemoveSet(b.mu.enough)
		if !lost.Empty() {
			done.Lost = append(done.Lost, Loss{meta.Flow, lost})
		}
		b.mu.suspect.Remove(meta.Ids)
		return done, nil
	}
	if err == nil {
		done.Sequence = b.mu.appended
	}
	return done, err
}

// takeUnreported returns a failure that the owner has not heard of.
func (b *Backup) takeUnreported() error {
	s := b.io.unreported
	b.io.unreported = nil
	if s == nil {
		return nil
	}
	return s
}

func (b *Backup) checkBatch(meta Meta, body []byte) error {
	count, err := pbfs.CheckBody(body)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mu.closed:
		return ErrClosed
	case err != nil:
		return fmt.Errorf("backup: %w", err)
	case !meta.Ids.Valid() || meta.Ids.Last >= b.mu.next:
		return fmt.Errorf("backup: ids %d to %d were not given out", meta.Ids.First, meta.Ids.Last)
	case uint64(count) != meta.Ids.Count():
		return fmt.Errorf("backup: %d messages for %d ids", count, meta.Ids.Count())
	case len(body) > maxBody:
		return fmt.Errorf("backup: batch of %d bytes, at most %d are possible", len(body), maxBody)
	}
	if _, ok := b.mu.defined.flows[meta.Flow]; !ok {
		return fmt.Errorf("backup: flow %d is not defined", meta.Flow)
	}
	if _, ok := b.mu.defined.bindings[meta.Binding]; !ok && meta.Binding != 0 {
		return fmt.Errorf("backup: binding %d is not defined", meta.Binding)
	}
	size := 0
	for _, c := range meta.Cursors {
		size += 8 + len(c.Source) + len(c.Position)
	}
	if size > maxPayload/2 {
		return fmt.Errorf("backup: cursors of %d bytes, at most %d are possible", size, maxPayload/2)
	}
	return nil
}

// store makes room as OnFull says and writes.
func (b *Backup) store(meta Meta, body []byte, lost *[]Loss) error {
	e := entry{Meta: meta}
	need := int64(chunkHeader + len(body) + entrySize(e))
	for full := 0; ; {
		err := b.room(need)
		if err == nil {
			err = b.put(e, body, need)
		}
		if suspect := (*SuspectError)(nil); errors.As(err, &suspect) {
			return err
		}
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
			full++
		}
		// Where one segment's room does not help, others would be dropped in vain.
		if !errors.Is(err, ErrFull) || full > 1 || b.opts.OnFull != DropOldest {
			return err
		}
		dropped, dropErr := b.dropOldest(meta.Ids)
		*lost = append(*lost, dropped...)
		if dropErr != nil {
			return errors.Join(err, dropErr)
		}
	}
}

// put writes a chunk, into a new segment where needed.
func (b *Backup) put(e entry, body []byte, need int64) error {
	unbound := b.isUnbound(e.Binding)
	if w := b.io.active; w != nil && w.seg.chunks > 0 &&
		(w.seg.unbound != unbound || w.seg.dataEnd+need > b.opts.MaxFileSize) {
		if err := b.retire(); err != nil {
			return err
		}
	}
	if b.io.active == nil {
		w, err := b.create(unbound)
		if err != nil {
			return err
		}
		b.io.active = w
	}
	w := b.io.active
	err := b.putInto(w, e, body, need)
	if err == nil {
		return nil
	}
	// The files end with something unknown: they are finished at the last good chunk.
	b.measure(w)
	return errors.Join(b.retire(), fmt.Errorf("write segment %s: %w", b.dataPath(w.seg), err))
}

// measure counts also what a failed write left in the files of a segment.
func (b *Backup) measure(w *writer) {
	data, dataErr := w.data.Size()
	index, indexErr := w.index.Size()
	if dataErr != nil || indexErr != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.bytes += data + index - w.seg.bytes
	w.seg.bytes = data + index
}

func (b *Backup) putInto(w *writer, e entry, body []byte, need int64) error {
	_, flow := w.defined.flows[e.Flow]
	_, binding := w.defined.bindings[e.Binding]
	if !flow || !binding && e.Binding != 0 {
		n, err := b.define(w, nil)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.mu.bytes += n
		b.mu.Unlock()
	}
	e, err := w.write(e, body)
	if err != nil {
		return err
	}
	w.unsynced.Add(e.Ids)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.appended++
	b.mu.bytes += need
	b.mu.written.Add(e.Ids)
	b.mu.suspect.Remove(e.Ids)
	b.noteCursors(e.Cursors, e.Ids)
	w.seg.note(e)
	w.seg.bytes += need
	w.seg.indexEnd += need - chunkHeader - e.length
	return nil
}

// Sync makes everything durable that was appended before the call and returns the
// sequence up to which that is so. Other calls go on meanwhile.
//
// If it fails with a *SuspectError, the segment is finished, and what the error
// names must be appended again, before anything else; the sequences that it had
// stand for nothing.
func (b *Backup) Sync() (uint64, error) {
	b.io.Lock()
	defer b.io.Unlock()
	if b.isClosed() {
		return b.mu.durable, ErrClosed
	}
	if err := b.takeUnreported(); err != nil {
		return b.mu.durable, err
	}
	w, through := b.io.active, b.mu.appended
	if w == nil || through == b.mu.durable {
		return b.mu.durable, nil
	}
	cursors, unsynced := b.takeCursors(), w.unsynced
	w.unsynced = checkpoint.Set{}

	b.io.Unlock()
	err := w.sync()
	b.io.Lock()

	if b.io.active != w { // finished meanwhile, by an Append that knows how
		switch {
		case err == nil: // also if what was appended since is suspect
			b.mu.Lock()
			b.mu.durable = max(b.mu.durable, through)
			b.learnDurable(cursors)
			b.mu.Unlock()
		case !unsynced.Empty():
			return b.mu.durable, b.suspect(w, unsynced, err)
		}
		return b.mu.durable, nil
	}
	if err != nil {
		w.unsynced.AddSet(unsynced)
		return b.mu.durable, b.retire()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.durable = max(b.mu.durable, through)
	b.learnDurable(cursors)
	b.settleCursors()
	return b.mu.durable, nil
}

// suspect notes that ids must be appended again.
func (b *Backup) suspect(w *writer, ids checkpoint.Set, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.seg.suspect = true
	b.mu.suspect.AddSet(ids)
	clear(b.mu.pending)
	return &SuspectError{Ids: ids, File: b.dataPath(w.seg), Err: err}
}

// retire syncs and finishes the active segment. It is sealed as whole, or it is
// suspect: then it stays as it is, for what of it is readable.
func (b *Backup) retire() error {
	w := b.io.active
	if w == nil {
		return nil
	}
	b.io.active = nil
	if w.seg.chunks == 0 {
		w.close()
		b.discard(w.seg)
		return nil
	}
	err := w.sync()
	w.close()
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	b.mu.active = nil
	b.mu.finished++
	b.mu.Unlock()
	if err != nil {
		return b.suspect(w, w.unsynced, err)
	}
	sealed := seal{w.seg.dataEnd, w.seg.indexEnd}
	b.mu.Lock()
	b.mu.durable = b.mu.appended
	b.mu.facts.sealed[w.seg.number] = sealed
	pending := maps.Clone(b.mu.pending)
	clear(b.mu.pending)
	b.learnDurable(pending)
	b.mu.Unlock()
	// Without the seal the next start reads the whole segment, no more.
	_ = b.keep(appendSealed(nil, w.seg.number, sealed))
	return nil
}

// discard removes the active segment, which has no chunk.
func (b *Backup) discard(seg *segment) {
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	b.mu.active = nil
	b.mu.bytes -= seg.bytes
	b.forgetSegment(seg)
	b.mu.Unlock()
	b.removeFiles(seg)
}

// forgetSegment takes a segment off the list. mu and note are held.
func (b *Backup) forgetSegment(seg *segment) {
	b.mu.segments = slices.DeleteFunc(b.mu.segments, func(s *segment) bool { return s == seg })
	if seg.ids.Empty() {
		return
	}
	b.mu.written.RemoveSet(seg.ids)
	around := checkpoint.Range{First: seg.ids.First(), Last: seg.ids.Last()}
	for _, s := range b.mu.segments {
		if s.ids.Overlaps(around) { // something may have been written twice
			b.mu.written.AddSet(s.ids.Within(around))
		}
	}
}
