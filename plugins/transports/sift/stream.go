package sift

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/plugins/transports/sift/h2"
	"github.com/pipelined/pipelined/sdk"
)

// stream is one call of the ingest method.
type stream struct {
	transport *transport
	call      *h2.Stream
	packer    *packer // nil after Finish
	failure   error   // of Send: the stream is over
	settle    sync.Once
}

// Done is closed when the destination ended the stream, or the connection did.
func (s *stream) Done() <-chan struct{} { return s.call.Done() }

// Send packs the batch and writes it, as far as the destination takes it. A batch
// that cannot be sent is refused before anything of it has left.
func (s *stream) Send(ctx context.Context, d *sdk.Delivery) error {
	if s.failure != nil {
		return s.failure
	}
	n, err := checkDelivery(d)
	if err == nil {
		err = s.write(ctx, d.Body)
	}
	if err != nil {
		s.call.Reset()
		s.failure = err
		return err
	}
	s.transport.counters.messages.Add(uint64(n))
	return nil
}

// checkDelivery returns the number of messages.
func checkDelivery(d *sdk.Delivery) (int, error) {
	if d.Format != format {
		return 0, unsendable(fmt.Errorf("messages are in format %q, this transport takes %s", d.Format, format))
	}
	if d.Binding.IsUnbound() {
		return 0, unbound(d.Binding)
	}
	n, err := countMessages(d.Body)
	if err != nil {
		return 0, unsendable(err)
	}
	if i := findUnbound(d.Body); i >= 0 {
		return 0, unsendable(fmt.Errorf("message %d of the batch carries a placeholder id: it was not bound to this destination", i+1))
	}
	return n, nil
}

func unbound(b sdk.Binding) error {
	id := b.ConfigID
	if !sdk.IsPlaceholder(id) {
		id = b.RunID
	}
	return unsendable(fmt.Errorf("messages carry the placeholder id %s: they were not bound to this destination", id))
}

func (s *stream) write(ctx context.Context, body []byte) error {
	n, err := s.packer.send(ctx, s.call, body)
	s.transport.counters.bytes.Add(uint64(n))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, h2.ErrEnded):
		return early(s.call.Response())
	default:
		return interrupted(ctx)
	}
}

// Finish fences, half-closes and waits for the answer as long as ctx allows.
func (s *stream) Finish(ctx context.Context) (sdk.Finished, error) {
	if s.packer != nil {
		s.transport.packers.Put(s.packer)
		s.packer = nil
	}
	err := s.failure
	if err == nil {
		err = s.finish(ctx)
	}
	s.call.Reset() // if it is still open, nobody waits for its answer any more
	s.account(err)
	return sdk.Finished{}, err
}

func (s *stream) finish(ctx context.Context) error {
	err := s.call.Fence(ctx)
	if err == nil {
		err = s.call.CloseSend()
	}
	switch {
	case errors.Is(err, h2.ErrEnded):
		return early(s.call.Response())
	case err != nil:
		return interrupted(ctx)
	}
	select {
	case <-s.call.Done():
		return judge(s.call.Response())
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// early says how a stream ended that the destination was not asked to end. OK
// without its message is OK all the same.
func early(r h2.Response) error {
	if r.Err == nil && grpcStatus(r) == "0" {
		return sdk.ErrEndedEarly
	}
	return judge(r)
}

// account counts the end of the stream and reports what it says about the
// destination.
func (s *stream) account(err error) {
	s.settle.Do(func() {
		t := s.transport
		t.counters.open.Add(-1)
		switch {
		case err == nil:
			t.counters.answers.count(uint32(codes.OK))
			t.health.ok()
		case errors.Is(err, sdk.ErrEndedEarly):
			t.counters.endedEarly.Add(1)
			t.counters.answers.count(uint32(codes.OK))
		default:
			t.counters.answers.count(sdk.AsError(err).Code)
			t.health.failed(err)
		}
	})
}

// Abort gives the stream up.
func (s *stream) Abort() {
	s.call.Reset()
	s.account(streamFailure(h2.ErrReset))
}
