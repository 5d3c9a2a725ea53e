package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// ErrAnswered is returned by calls for a delivery stream that has its answer.
var ErrAnswered = errors.New("delivery stream has been answered")

// Register makes flows and run known to the destination. A failure of the
// destination is an *sdk.Error.
func Register(ctx context.Context, conn grpc.ClientConnInterface, r sdk.Registration) (sdk.Registered, error) {
	return sdk.Registered{}, errors.ErrUnsupported
}

// DeliverStream is the host's end of a Deliver call, which carries any number of
// delivery streams. Recv is called from one goroutine, the other methods from
// any; the order of the calls for one delivery stream is their caller's.
type DeliverStream struct{}

// DeliverEvent is an *Answer or a *StreamProgress.
type DeliverEvent interface{ deliverEvent() }

// Outcome says how a delivery stream ended; the numbers are those of the plugin
// contract.
type Outcome uint8

// The outcomes.
const (
	// OutcomeConfirmed: everything handed to the stream has been taken.
	OutcomeConfirmed Outcome = iota + 1
	// OutcomeEndedEarly: the destination said OK before it was asked. Nothing is
	// confirmed.
	OutcomeEndedEarly
	// OutcomeFailed: see Answer.Failure.
	OutcomeFailed
	// OutcomeAborted: the host gave the stream up.
	OutcomeAborted
)

// String returns the outcome for messages.
func (o Outcome) String() string {
	switch o {
	case OutcomeConfirmed:
		return "confirmed"
	case OutcomeEndedEarly:
		return "ended early"
	case OutcomeFailed:
		return "failed"
	case OutcomeAborted:
		return "aborted"
	}
	return "unknown outcome"
}

// Answer comes exactly once for each delivery stream.
type Answer struct {
	Stream  uint64
	Outcome Outcome
	Failure *sdk.Error // set if and only if Outcome is OutcomeFailed
	Paths   []string   // finished files
}

// StreamProgress says how much of a stream has left the plugin. It confirms
// nothing.
type StreamProgress struct {
	Stream                   uint64
	Batches, Messages, Bytes uint64
}

func (*Answer) deliverEvent()         {}
func (*StreamProgress) deliverEvent() {}

// OpenDeliver begins a Deliver call; it ends when ctx does. The region is of
// direction ToPlugin; nil: payloads travel inline.
func OpenDeliver(ctx context.Context, conn grpc.ClientConnInterface, region *shm.Region) (*DeliverStream, error) {
	return nil, errors.ErrUnsupported
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (s *DeliverStream) Announce(number uint32, flow *sdk.Flow) error { return errors.ErrUnsupported }

// Open begins a delivery stream with a number that is greater than all before.
func (s *DeliverStream) Open(stream uint64, newConnection bool) error { return errors.ErrUnsupported }

// Send hands a batch to a delivery stream; the sequence in b is ignored. It waits
// for room until ctx is done.
func (s *DeliverStream) Send(ctx context.Context, stream uint64, b Batch, binding sdk.Binding) error {
	return errors.ErrUnsupported
}

// Finish asks for the answer to everything that was sent.
func (s *DeliverStream) Finish(stream uint64) error { return errors.ErrUnsupported }

// Abort gives a delivery stream up. It is answered like any other.
func (s *DeliverStream) Abort(stream uint64) error { return errors.ErrUnsupported }

// CloseSend says that nothing follows; open delivery streams are aborted.
func (s *DeliverStream) CloseSend() error { return errors.ErrUnsupported }

// Recv waits for the next event. After CloseSend it returns io.EOF in the end.
func (s *DeliverStream) Recv() (DeliverEvent, error) { return nil, errors.ErrUnsupported }
