package pipeline

import (
	"context"
	"errors"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// deliverAdapter lets a track talk to its transport plugin. It numbers flows for
// the stream and gives messages the ids of the track's own destination.
type deliverAdapter struct {
	stream  *wire.DeliverStream
	cancel  context.CancelFunc
	track   *track
	input   sdk.Input
	numbers map[*delivery.Flow]uint32

	openRebinder func() (*wire.Rebinder, error)
	rebinder     *wire.Rebinder // opened when first needed; ends with its stream's context
}

func (a *deliverAdapter) Open(stream uint64, newConnection bool) error {
	return a.stream.Open(stream, newConnection)
}

func (a *deliverAdapter) Finish(stream uint64) error { return known(a.stream.Finish(stream)) }

func (a *deliverAdapter) Abort(stream uint64) error { return known(a.stream.Abort(stream)) }

func (a *deliverAdapter) Close() { a.cancel() }

// known drops the error of calls for a stream that was answered meanwhile: its
// batches are sent again.
func known(err error) error {
	if errors.Is(err, wire.ErrAnswered) {
		return nil
	}
	return err
}

func (a *deliverAdapter) Send(ctx context.Context, stream uint64, b *delivery.Batch) error {
	number, err := a.announce(b.Flow)
	if err != nil {
		return err
	}
	out := wire.Batch{
		Flow: number, Count: int(b.Ids.Count()), MinTime: b.MinTime, MaxTime: b.MaxTime,
	}
	if a.input == sdk.InputRows {
		out.Payload = b.Rows.Bytes()
		return known(a.stream.Send(ctx, stream, out, sdk.Binding{}))
	}
	out.Format, out.Payload = b.Format, b.Encoded.Bytes()
	binding := b.Binding
	if own, _ := b.Flow.Binding(a.track.index); own.ConfigID != "" && own != binding {
		rebound, err := a.rebind(ctx, b, own)
		if err != nil {
			return err
		}
		defer rebound.Release()
		out.Payload, binding = rebound.Bytes(), own
	}
	return known(a.stream.Send(ctx, stream, out, binding))
}

// rebind returns a copy of the batch's messages with the track's own ids.
func (a *deliverAdapter) rebind(ctx context.Context, b *delivery.Batch, to sdk.Binding) (*wire.Buffer, error) {
	if a.rebinder == nil {
		var err error
		if a.rebinder, err = a.openRebinder(); err != nil {
			return nil, err
		}
	}
	return a.rebinder.Rebind(ctx, b.Encoded.Bytes(), int(b.Ids.Count()), b.Binding, to)
}

func (a *deliverAdapter) announce(f *delivery.Flow) (uint32, error) {
	if number := a.numbers[f]; number != 0 {
		return number, nil
	}
	number := uint32(len(a.numbers) + 1)
	a.numbers[f] = number
	return number, a.stream.Announce(number, &f.Flow)
}

func (a *deliverAdapter) Recv() (delivery.Event, error) {
	for {
		event, err := a.stream.Recv()
		if err != nil {
			return delivery.Event{}, err
		}
		if answer, ok := event.(*wire.Answer); ok {
			event := delivery.Event{Stream: answer.Stream, Outcome: outcomes[answer.Outcome], Paths: answer.Paths}
			if answer.Failure != nil {
				event.Err = a.track.plugin.scrubbed(answer.Failure)
			}
			return event, nil
		}
	}
}

var outcomes = map[wire.Outcome]checkpoint.Outcome{
	wire.OutcomeConfirmed:  checkpoint.Confirmed,
	wire.OutcomeEndedEarly: checkpoint.EndedEarly,
	wire.OutcomeFailed:     checkpoint.Failed,
	wire.OutcomeAborted:    checkpoint.Aborted,
}
