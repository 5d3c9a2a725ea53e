package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// admitter gives ids to messages and hands them to the tracks, one batch at a time:
// ids are in the order in which tracks get the batches.
type admitter struct {
	tracks   []*track
	store    *store // nil: live only
	memory   *channel.Share
	nextID   uint64 // without a store
	keepRows bool   // a track wants rows

	mu sync.Mutex // held by submitRows
}

// submitRows admits a batch of a pipeline without encoder.
func (a *admitter) submitRows(ctx context.Context, j job) error {
	a.mu.Lock() // several sources submit
	defer a.mu.Unlock()
	return a.push(ctx, j, &delivery.Batch{Rows: j.rows, MinTime: j.minTime, MaxTime: j.maxTime}, j.count)
}

// encoded admits the encoder's answer to a job: refused rows leave here.
func (a *admitter) encoded(ctx context.Context, j job, e wire.Encoded, format string) error {
	if e.Count+len(e.Refused) != j.count {
		j.rows.Release()
		return fmt.Errorf("the encoder answered %d messages and %d refusals for %d rows", e.Count, len(e.Refused), j.count)
	}
	account := j.flow.flow.Account
	for _, r := range e.Refused {
		account.Refused.Add(fmt.Sprintf("channel %.100q: %s", r.Channel, r.Reason), 1)
	}
	if e.Count == 0 {
		j.rows.Release()
		if !j.more {
			j.source.passed(j.position)
		}
		j.admitted(0)
		j.source.ledger.settle(j.sequence)
		return nil
	}
	b := &delivery.Batch{
		Encoded: e.Payload, Format: format, Binding: j.binding, MinTime: e.MinTime, MaxTime: e.MaxTime,
	}
	if !a.keepRows {
		j.rows.Release()
	} else if err := a.keep(b, j, e.Refused); err != nil {
		return err
	}
	return a.push(ctx, j, b, e.Count)
}

// keep gives the batch its rows, without those that were refused.
func (a *admitter) keep(b *delivery.Batch, j job, refused []sdk.Refused) error {
	if len(refused) == 0 {
		b.Rows = j.rows
		return nil
	}
	defer j.rows.Release()
	batch, err := sdk.ParseBatch(&j.flow.flow.Flow, j.rows.Bytes())
	if err != nil {
		return err
	}
	builder := sdk.NewBuilder(&j.flow.flow.Flow)
	for row := range batch.Rows() {
		if len(refused) > 0 && refused[0].Row == row {
			refused = refused[1:]
			continue
		}
		if err := builder.CopyRow(batch, row); err != nil {
			return err
		}
	}
	b.Rows = wire.BufferOf(builder.Append(nil))
	return nil
}

// push gives the batch its ids, and hands it to the store and to every track.
func (a *admitter) push(ctx context.Context, j job, b *delivery.Batch, count int) error {
	b.Flow = j.flow.flow
	size := b.Bytes()
	if err := a.memory.Take(ctx, size); err != nil {
		return err
	}
	b.Freed = a.memory.Give
	ids, err := a.ids(ctx, count)
	if err != nil {
		a.memory.Give(size)
		return err
	}
	b.Ids = ids
	takers := a.takers(b.Flow)
	b.Open(a.holders(takers), func(b *delivery.Batch) {
		b.Flow.Account.Accepted.Add(b.Ids.Count())
		j.source.ledger.settle(j.sequence)
	})
	defer b.Release()
	if len(takers) == 0 {
		if !j.more {
			j.source.passed(j.position)
		}
		j.admitted(b.Ids.Last)
		return nil
	}
	if a.store != nil {
		takers = a.tracks // those that do not take the flow pass it by
		if err := a.keepOnDisk(ctx, j, b); err != nil {
			return err
		}
	} else {
		claim(takers, b)
	}
	for _, t := range takers {
		// A closed track has lost its plugin, which ends the run; the others still
		// get what there is.
		if err := t.delivery.Push(ctx, b); err != nil && !errors.Is(err, channel.ErrClosed) {
			return err
		}
	}
	j.admitted(b.Ids.Last)
	return nil
}

func (a *admitter) takers(f *delivery.Flow) []*track {
	var takers []*track
	for _, t := range a.tracks {
		if t.wants(f) {
			takers = append(takers, t)
		}
	}
	return takers
}

// holders returns how many have to confirm a batch until it is safe: with a store
// that is the store alone.
func (a *admitter) holders(takers []*track) int {
	if a.store != nil {
		return min(1, len(takers))
	}
	return len(takers)
}

// leaseRetry is how often a lease of ids is tried again that cannot be written.
const leaseRetry = time.Second

// ids gives out the next ids; it waits while the backup cannot note that.
func (a *admitter) ids(ctx context.Context, count int) (checkpoint.Range, error) {
	if a.store == nil {
		r := checkpoint.Range{First: a.nextID + 1, Last: a.nextID + uint64(count)}
		a.nextID = r.Last
		return r, nil
	}
	for {
		r, err := a.store.manager.NextIDs(count)
		if err == nil {
			return r, nil
		}
		a.store.logger.Error("backup cannot give out ids; sources wait", "error", err)
		select {
		case <-time.After(leaseRetry):
		case <-ctx.Done():
			return r, context.Cause(ctx)
		}
	}
}

// keepOnDisk hands the batch to the store. The tracks claim it before, so that none
// of them finds it there and sends it twice.
func (a *admitter) keepOnDisk(ctx context.Context, j job, b *delivery.Batch) error {
	batch, err := a.store.wrap(b, j.cursor())
	if err != nil {
		return err
	}
	claim(a.tracks, b)
	if err := a.store.push(ctx, batch); err != nil {
		for _, t := range a.tracks {
			t.delivery.Unclaim(b)
		}
		return err
	}
	return nil
}

func claim(tracks []*track, b *delivery.Batch) {
	for _, t := range tracks {
		t.delivery.Claim(b)
	}
}
