package backup

import (
	"fmt"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Lose gives ids up that a SuspectError named and that cannot be appended again: their
// content is gone. That is noted durably; they are in no Missing any more, and the
// owner has counted them. After an error they are given up, and what is not durable of
// it becomes so with the next thing that is noted.
func (b *Backup) Lose(ids checkpoint.Set) error {
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	closed := b.mu.closed
	b.mu.facts.lost.AddSet(ids)
	b.mu.enough.AddSet(ids)
	b.mu.suspect.RemoveSet(ids)
	b.settleCursors()
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := b.keep(appendRanges(nil, journalLost, nil, ids)); err != nil {
		return fmt.Errorf("backup: note lost messages: %w", err)
	}
	return b.collect()
}
