package delivery

import (
	"context"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Store keeps batches until they are confirmed, as one track sees it. Its methods
// may be called from many goroutines; none but Reader.Next waits for a disk.
type Store interface {
	// Missing returns the ids that the store holds, or is about to hold, and that
	// the track has not confirmed.
	Missing() checkpoint.Set
	// Unconfirmed returns those ids of a range that the track has not confirmed.
	Unconfirmed(checkpoint.Range) checkpoint.Set
	// Confirm notes that the track has confirmed ids, durably soon, and returns those
	// for which that is new.
	Confirm(checkpoint.Set) (fresh checkpoint.Set)
	// Lagging reports that batches wait for the disk for too long.
	Lagging() bool
	// Read returns a reader of the batches that hold the ids.
	Read(ids checkpoint.Set) Reader
}

// Reader reads batches from a Store, for one goroutine.
type Reader interface {
	// Next returns a batch with none but the ids that were asked for; the caller
	// releases it. The error is io.EOF at the end. After another one, which was
	// reported by the store already, the next call goes on behind what cannot be read.
	Next(ctx context.Context) (*Batch, error)
	Close()
}
