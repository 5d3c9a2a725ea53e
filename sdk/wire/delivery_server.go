package wire

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// progressInterval is how often a delivery stream tells how far it is.
const progressInterval = 200 * time.Millisecond

// task is something for a delivery stream to do: a batch, or to finish.
type task struct {
	batch   *pb.StreamBatch // nil: finish
	flow    *sdk.Flow
	payload arrival
	finish  bool
}

// deliveryStream is one conversation with the destination. Its goroutine, run, is
// joined by the Deliver call; it sends exactly one answer.
type deliveryStream struct {
	call      *deliverCall
	number    uint64
	options   sdk.StreamOptions
	tasks     *queue[task]
	aborted   chan struct{}
	abortOnce sync.Once
	rows      sdk.Batch // used again

	sent, told struct{ batches, messages, bytes uint64 }
}

func newDeliveryStream(c *deliverCall, number uint64, options sdk.StreamOptions) *deliveryStream {
	return &deliveryStream{
		call: c, number: number, options: options,
		tasks: newQueue[task](), aborted: make(chan struct{}),
	}
}

func (d *deliveryStream) abort() { d.abortOnce.Do(func() { close(d.aborted) }) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (d *deliveryStream) run() {
	answer := d.converse()
	answer.Stream = d.number
	d.tasks.close(nil)
	for {
		t, ok := d.tasks.take()
		if !ok {
			break
		}
		if t.batch != nil {
			d.giveBack(t.payload)
		}
	}
	d.call.answer(answer)
	d.call.server.work.end(1)
}

func (d *deliveryStream) guard(what string, call func() error) error {
	return guard(d.call.server.log.Logger, what, call)
}

// converse opens the stream to the destination when there is something for it,
// feeds it and finishes it.
func (d *deliveryStream) converse() *pb.StreamAnswer {
	if !d.begins() {
		d.call.unopened(d.options)
		if isClosed(d.aborted) {
			return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_ABORTED}
		}
		return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_CONFIRMED}
	}
	ctx, cancel := context.WithCancel(d.call.life.ctx)
	defer cancel()
	stream, err := d.open(ctx, cancel)
	if err != nil {
		return d.verdict(sdk.Finished{}, nil, err, false)
	}
	over := make(chan struct{})
	var aborter sync.WaitGroup
	aborter.Go(func() { // plugin code may take its time in Abort
		select {
		case <-d.aborted:
			_ = d.guard("Abort", func() error { stream.Abort(); return nil })
		case <-over:
		}
	})
	asked, sendErr := d.feed(ctx, stream)
	var fin sdk.Finished
	err = d.guard("Finish", func() (err error) {
		fin, err = stream.Finish(ctx)
		return err
	})
	close(over)
	aborter.Wait()
	return d.verdict(fin, sendErr, err, asked)
}

// begins waits for the first batch; it returns false when the stream is finished or
// aborted without one.
func (d *deliveryStream) begins() bool {
	for !isClosed(d.aborted) {
		if t, ok := d.tasks.peek(); ok {
			return !t.finish
		}
		select {
		case <-d.tasks.wake:
		case <-d.aborted:
		}
	}
	return false
}

// open calls OpenStream; an abort cancels its context.
func (d *deliveryStream) open(ctx context.Context, cancel context.CancelFunc) (stream sdk.Stream, err error) {
	opened := make(chan struct{})
	var aborter sync.WaitGroup
	aborter.Go(func() {
		select {
		case <-d.aborted:
			cancel()
		case <-opened:
		}
	})
	options := d.call.optionsFor(d.options)
	err = d.guard("OpenStream", func() (err error) {
		stream, err = d.call.transport.OpenStream(ctx, options)
		return err
	})
	close(opened)
	aborter.Wait()
	if err == nil && stream == nil {
		err = permanent("OpenStream returned no stream")
	}
	return stream, err
}

// feed sends batches until the host asks to finish, an error, an abort, or the
// destination's own end. Asked is true only in the first case.
func (d *deliveryStream) feed(ctx context.Context, stream sdk.Stream) (asked bool, err error) {
	var ended <-chan struct{}
	if w, ok := stream.(sdk.Watcher); ok {
		ended = w.Done()
	}
	tell := time.NewTimer(0) // armed while there is something to tell
	tell.Stop()
	defer tell.Stop()
	for {
		if isClosed(d.aborted) || isClosed(ended) {
			return false, nil
		}
		if t, ok := d.tasks.take(); ok {
			if t.finish {
				return true, nil
			}
			if d.sent == d.told {
				tell.Reset(progressInterval)
			}
			if err := d.send(ctx, stream, t); err != nil {
				return false, err
			}
			select {
			case <-tell.C:
				d.tell()
			default:
			}
			continue
		}
		select {
		case <-d.tasks.wake:
		case <-d.aborted:
		case <-ended:
			return false, nil
		case <-tell.C:
			d.tell()
		}
	}
}

// send hands one batch to plugin code and gives its memory back.
func (d *deliveryStream) send(ctx context.Context, stream sdk.Stream, t task) error {
	defer d.giveBack(t.payload)
	data, err := d.call.in.view(t.payload)
	if err != nil {
		return err
	}
	head := t.batch.GetBatch()
	delivery := &sdk.Delivery{
		Flow: t.flow, Count: int(head.GetCount()), Format: head.GetFormat(),
		Binding: bindingFromPB(t.batch.GetBinding()), MinTime: head.GetMinTimeNs(), MaxTime: head.GetMaxTimeNs(),
	}
	if delivery.Format != "" {
		delivery.Body = data
	} else {
		if err := d.rows.Parse(t.flow, data); err != nil {
			return sdk.Permanent(err)
		}
		delivery.Rows = &d.rows
	}
	if err := d.guard("Send", func() error { return stream.Send(ctx, delivery) }); err != nil {
		return err
	}
	d.sent.batches++
	d.sent.messages += uint64(head.GetCount())
	d.sent.bytes += uint64(t.payload.size())
	return nil
}

func (d *deliveryStream) giveBack(a arrival) {
	if err := d.call.in.done(a); err != nil {
		d.call.server.log.Logger.Debug("memory cannot be given back", "stream", d.number, "error", err)
	}
}

func (d *deliveryStream) tell() {
	d.told = d.sent
	p := &pb.StreamProgress{
		Stream: d.number, Batches: d.sent.batches, Messages: d.sent.messages, Bytes: d.sent.bytes,
	}
	err := d.call.send.send(&pb.DeliverResponse{Response: &pb.DeliverResponse_Progress{Progress: p}})
	if err != nil {
		d.call.server.log.Logger.Debug("progress cannot be sent", "stream", d.number, "error", err)
	}
}

// verdict is the answer. Only a Finish without error that the host had asked for,
// after batches that were all sent, confirms.
func (d *deliveryStream) verdict(fin sdk.Finished, sendErr, err error, asked bool) *pb.StreamAnswer {
	if err == nil {
		err = sendErr
	}
	switch {
	case err == nil && asked:
		return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_CONFIRMED, Paths: fin.Paths}
	case isClosed(d.aborted):
		return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_ABORTED}
	case err == nil || errors.Is(err, sdk.ErrEndedEarly):
		return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_ENDED_EARLY}
	}
	return &pb.StreamAnswer{Outcome: pb.Outcome_OUTCOME_FAILED, Failure: failureToPB(err)}
}
