package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
	nextID   uint64
	keepRows bool // a track wants rows

	mu sync.Mutex // held by submitRows
}

// submitRows admits a batch of a pipeline without encoder.
func (a *admitter) submitRows(ctx context.Context, j job) error {
	a.mu.Lock() // several sources submit
	defer a.mu.Unlock()
	return a.push(ctx, j, &delivery.Batch{Rows: j.rows, MinTime: j.minTime, MaxTime: j.maxTime}, j.count)
}

// encoded admits the encoder's answer to a job: refused rows leave here.
func (a *admitter) encoded(ctx context.Context, j job, e wire.Encoded, format string, binding sdk.Binding) error {
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
		j.admitted(0)
		j.source.ledger.settle(j.sequence)
		return nil
	}
	b := &delivery.Batch{
		Encoded: e.Payload, Format: format, Binding: binding, MinTime: e.MinTime, MaxTime: e.MaxTime,
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

// push gives the batch its ids and hands it to every track that wants its flow.
func (a *admitter) push(ctx context.Context, j job, b *delivery.Batch, count int) error {
	b.Flow = j.flow.flow
	b.Ids = checkpoint.Range{First: a.nextID + 1, Last: a.nextID + uint64(count)}
	a.nextID = b.Ids.Last
	var takers []*track
	for _, t := range a.tracks {
		if t.wants(b.Flow) {
			takers = append(takers, t)
		}
	}
	b.Open(len(takers), func(b *delivery.Batch) {
		b.Flow.Account.Accepted.Add(b.Ids.Count())
		j.source.ledger.settle(j.sequence)
	})
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
