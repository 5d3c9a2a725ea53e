package backup

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Cursors returns the position of each source up to which everything is durable, or
// was returned as lost, or needs no storing.
func (b *Backup) Cursors() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	cursors := make(map[string][]byte, len(b.mu.facts.cursors))
	for source, p := range b.mu.facts.cursors {
		cursors[source] = bytes.Clone(p.bytes)
	}
	return cursors
}

// Advance notes the position of a source behind rows that need no storing: refused,
// or confirmed by all tracks before they were appended. The caller says that with
// this everything of the source up to the position is settled or was appended; id is
// the greatest that was given to a row of it, or to any before it.
//
// The position counts once all that was appended is durable. It is on the disk with
// the next thing that is noted there (a confirmation, a finished segment), or by
// Close. It waits for no disk.
func (b *Backup) Advance(source string, id uint64, at []byte) error {
	if len(source)+len(at) > maxPayload/2 {
		return fmt.Errorf("backup: a cursor of %d bytes, at most %d are possible", len(source)+len(at), maxPayload/2)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return ErrClosed
	}
	if id >= b.mu.next {
		return fmt.Errorf("backup: id %d was not given out, a cursor of %s cannot speak of it", id, source)
	}
	b.mu.pending[source] = position{id, bytes.Clone(at), true}
	b.settleCursors()
	return nil
}

// settleCursors takes in all pending cursors if nothing is left that is not durable.
// mu is held.
func (b *Backup) settleCursors() {
	if b.mu.appended == b.mu.durable && b.mu.suspect.Empty() {
		b.learnCursors(b.mu.pending)
		clear(b.mu.pending)
	}
}

// learnCursors takes in positions that have become durable. mu is held.
func (b *Backup) learnCursors(cursors map[string]position) {
	for source, p := range cursors {
		b.mu.facts.advance(source, p)
		if p.loose {
			b.mu.loose[source] = b.mu.facts.cursors[source]
		}
	}
}

// learnDurable takes in positions of what was synced. Those of Advance wait as long as
// something before them must be appended again. mu is held.
func (b *Backup) learnDurable(cursors map[string]position) {
	if b.mu.suspect.Empty() {
		b.learnCursors(cursors)
		return
	}
	for source, p := range cursors {
		if _, newer := b.mu.pending[source]; p.loose && !newer {
			b.mu.pending[source] = p
		}
		if p.loose {
			delete(cursors, source)
		}
	}
	b.learnCursors(cursors)
}

// takeCursors returns the pending cursors, which the caller makes durable.
func (b *Backup) takeCursors() map[string]position {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := maps.Clone(b.mu.pending)
	clear(b.mu.pending)
	return taken
}

// noteCursors notes those of a batch that was written. They replace later positions:
// what is written again comes before them. mu is held.
func (b *Backup) noteCursors(cursors []Cursor, ids checkpoint.Range) {
	for _, c := range cursors {
		b.mu.pending[c.Source] = position{ids.Last, bytes.Clone(c.Position), false}
	}
}
