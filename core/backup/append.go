package backup

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Appended is what became of a batch.
type Appended struct {
	Sequence uint64         // of this Append, from 1, to be compared with what Sync returns; 0: not stored
	Lost     checkpoint.Set // ids that some track has not confirmed and that were dropped for want of room
	// CountFull: there are as many segments as MaxFileCount.
	CountFull bool
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
	done := Appended{}
	err := b.store(meta, body, &done.Lost)
	done.CountFull = b.countFull()
	if errors.Is(err, ErrFull) && b.opts.OnFull == DropNewest {
		done.Lost.Add(meta.Ids)
		return done, nil
	}
	if err == nil {
		done.Sequence = b.io.appended
	}
	return done, err
}

func (b *Backup) checkBatch(meta Meta, body []byte) error {
	if b.io.closed {
		return ErrClosed
	}
	count, err := pbfs.CheckBody(body)
	switch {
	case err != nil:
		return fmt.Errorf("backup: %w", err)
	case !meta.Ids.Valid() || meta.Ids.Last >= b.io.next:
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
func (b *Backup) store(meta Meta, body []byte, lost *checkpoint.Set) error {
	e := entry{Meta: meta}
	need := int64(chunkHeader+len(body)) + int64(len(appendEntry(nil, e)))
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
		dropped, dropErr := b.dropOldest()
		lost.AddSet(dropped)
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
	return errors.Join(b.retire(), fmt.Errorf("write segment %s: %w", b.dataPath(w.seg), err))
}

func (b *Backup) putInto(w *writer, e entry, body []byte, need int64) error {
	_, flow := w.defined.flows[e.Flow]
	_, binding := w.defined.bindings[e.Binding]
	if !flow || !binding && e.Binding != 0 {
		if err := b.define(w, nil); err != nil {
			return err
		}
	}
	e, err := w.write(e, body)
	if err != nil {
		return err
	}
	for _, c := range e.Cursors {
		w.cursors[c.Source] = position{e.Ids.Last, append([]byte(nil), c.Position...)}
	}
	w.unsynced.Add(e.Ids)
	b.io.appended++
	b.mu.Lock()
	defer b.mu.Unlock()
	w.seg.note(e)
	w.seg.bytes += need
	w.seg.indexEnd += need - chunkHeader - e.length
	return nil
}

// Sync makes everything durable that was appended before the call and returns the
// sequence up to which that is so. Other calls go on meanwhile.
//
// If it fails with a *SuspectError, the segment is finished, and what the error
// names must be appended again; the sequences that it had stand for nothing.
func (b *Backup) Sync() (uint64, error) {
	b.io.Lock()
	defer b.io.Unlock()
	if b.io.closed {
		return b.io.durable, ErrClosed
	}
	w, through := b.io.active, b.io.appended
	if w == nil || through == b.io.durable {
		return b.io.durable, nil
	}
	cursors, unsynced := takeCursors(w), w.unsynced
	w.unsynced = checkpoint.Set{}

	b.io.Unlock()
	err := w.sync()
	b.io.Lock()

	if b.io.active != w { // finished meanwhile, by an Append that knows how
		if err == nil {
			b.learnCursors(cursors)
		} else if !unsynced.Empty() {
			return b.io.durable, b.suspect(w, unsynced, err)
		}
		return b.io.durable, nil
	}
	if err != nil {
		w.unsynced.AddSet(unsynced)
		return b.io.durable, b.retire()
	}
	b.learnCursors(cursors)
	b.io.durable = max(b.io.durable, through)
	return b.io.durable, nil
}

func (b *Backup) suspect(w *writer, ids checkpoint.Set, err error) error {
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
		b.forgetSegment(w.seg)
		b.removeFiles(w.seg)
		return nil
	}
	err := w.sync()
	w.close()
	if err != nil {
		return b.suspect(w, w.unsynced, err)
	}
	b.io.durable = b.io.appended
	b.learnCursors(takeCursors(w))
	sealed := seal{w.seg.dataEnd, w.seg.indexEnd}
	b.mu.Lock()
	b.mu.facts.sealed[w.seg.number] = sealed
	b.mu.Unlock()
	// Without the seal the next start reads the whole segment, no more.
	_ = b.io.journal.write(b.mu.facts, appendSealed(nil, w.seg.number, sealed))
	return nil
}

// forgetSegment takes a segment off the list.
func (b *Backup) forgetSegment(seg *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.mu.segments {
		if s == seg {
			b.mu.segments = append(b.mu.segments[:i:i], b.mu.segments[i+1:]...)
			return
		}
	}
}
