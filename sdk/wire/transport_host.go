package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// ErrAnswered is returned by calls for a delivery stream that has its answer.
var ErrAnswered = errors.New("delivery stream has been answered")

// Register makes flows and run known to the destination. A failure of the
// destination is an *sdk.Error.
func Register(ctx context.Context, conn grpc.ClientConnInterface, r sdk.Registration) (sdk.Registered, error) {
	req, err := registrationToPB(&r)
	if err != nil {
		return sdk.Registered{}, err
	}
	res, err := pb.NewTransportServiceClient(conn).Register(ctx, req)
	if err != nil {
		return sdk.Registered{}, fromStatus(err)
	}
	if f := res.GetFailure(); f != nil {
		return sdk.Registered{}, failureFromPB(f)
	}
	out := sdk.Registered{Destination: res.GetDestination(), Binding: bindingFromPB(res.GetBinding())}
	for _, c := range res.GetConflicts() {
		out.Conflicts = append(out.Conflicts, sdk.FlowConflict{
			Flow: c.GetFlow(), Difference: cutText(c.GetDifference(), maxFailureText),
		})
	}
	return out, nil
}

// DeliverStream is the host's end of a Deliver call, which carries any number of
// delivery streams. Recv is called from one goroutine, the other methods from
// any; the order of the calls for one delivery stream is their caller's.
type DeliverStream struct {
	*hostStream[pb.DeliverRequest, pb.DeliverResponse]
	to       outlet
	sequence uint64 // guarded by out.mu

	mu struct { // taken after out.mu, never before
		sync.Mutex
		last uint64              // greatest number of a delivery stream
		open map[uint64]delivery // those without answer
	}
}

// delivery is what the host remembers of a delivery stream until its answer.
type delivery struct{ finishing bool }

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
	if err := checkRegion(region, shm.ToPlugin); err != nil {
		return nil, err
	}
	h, err := openStream(ctx, pb.NewTransportServiceClient(conn).Deliver, region)
	if err != nil {
		return nil, err
	}
	s := &DeliverStream{hostStream: h, to: outlet{region: region}}
	s.mu.open = map[uint64]delivery{}
	start := &pb.DeliverStart{Region: regionNumber(region)}
	if err := h.out.send(&pb.DeliverRequest{Request: &pb.DeliverRequest_Start{Start: start}}); err != nil {
		return nil, h.fail(err)
	}
	return s, nil
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (s *DeliverStream) Announce(number uint32, flow *sdk.Flow) error {
	a, err := announcement(number, flow)
	if err != nil {
		return err
	}
	return s.out.send(&pb.DeliverRequest{Request: &pb.DeliverRequest_Flow{Flow: a}})
}

// Open begins a delivery stream with a number that is greater than all before.
func (s *DeliverStream) Open(stream uint64, newConnection bool) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if err := s.note(stream); err != nil {
		return err
	}
	open := &pb.OpenStream{Stream: stream, NewConnection: newConnection}
	return s.out.sendLocked(&pb.DeliverRequest{Request: &pb.DeliverRequest_Open{Open: open}})
}

// note remembers that a delivery stream will be answered.
func (s *DeliverStream) note(stream uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream <= s.mu.last {
		return fmt.Errorf("delivery stream %d opened after %d", stream, s.mu.last)
	}
	s.mu.last = stream
	s.mu.open[stream] = delivery{}
	return nil
}

// check reports whether the delivery stream can still be used.
func (s *DeliverStream) check(stream uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checkLocked(stream)
}

func (s *DeliverStream) checkLocked(stream uint64) error {
	if stream == 0 || stream > s.mu.last {
		return fmt.Errorf("delivery stream %d was not opened", stream)
	}
	if _, open := s.mu.open[stream]; !open {
		return ErrAnswered
	}
	return nil
}

// Send hands a batch to a delivery stream; the sequence in b is ignored. It waits
// for room until ctx is done.
func (s *DeliverStream) Send(ctx context.Context, stream uint64, b Batch, binding sdk.Binding) error {
	if err := s.check(stream); err != nil {
		return err
	}
	at, err := s.to.reserve(ctx, s.life, len(b.Payload))
	if err != nil {
		return err
	}
	out := &pb.StreamBatch{Stream: stream, Batch: batchToPB(&b, at.payload(b.Payload))}
	if b.Format != "" {
		out.Binding = bindingToPB(binding)
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.sequence++
	out.Batch.Sequence = s.sequence
	return s.out.sendLocked(&pb.DeliverRequest{Request: &pb.DeliverRequest_Batch{Batch: out}})
}

// Finish asks for the answer to everything that was sent.
func (s *DeliverStream) Finish(stream uint64) error {
	s.mu.Lock()
	err := s.checkLocked(stream)
	if err == nil {
		s.mu.open[stream] = delivery{finishing: true}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	finish := &pb.FinishStream{Stream: stream}
	return s.out.send(&pb.DeliverRequest{Request: &pb.DeliverRequest_Finish{Finish: finish}})
}

// Abort gives a delivery stream up. It is answered like any other.
func (s *DeliverStream) Abort(stream uint64) error {
	if err := s.check(stream); err != nil {
		return err
	}
	abort := &pb.AbortStream{Stream: stream}
	return s.out.send(&pb.DeliverRequest{Request: &pb.DeliverRequest_Abort{Abort: abort}})
}

// CloseSend says that nothing follows; open delivery streams are aborted.
func (s *DeliverStream) CloseSend() error { return s.out.closeSend(s.stream) }

// Recv waits for the next event. After CloseSend it returns io.EOF in the end.
func (s *DeliverStream) Recv() (DeliverEvent, error) {
	for {
		m, err := s.recv()
		if err != nil {
			return nil, err
		}
		switch r := m.GetResponse().(type) {
		case *pb.DeliverResponse_Answer:
			answer, err := s.answer(r.Answer)
			if err != nil {
				return nil, s.fail(err)
			}
			return answer, nil
		case *pb.DeliverResponse_Progress:
			p := r.Progress
			if s.check(p.GetStream()) == nil {
				return &StreamProgress{p.GetStream(), p.GetBatches(), p.GetMessages(), p.GetBytes()}, nil
			}
		case *pb.DeliverResponse_Release:
			if err := s.to.released(r.Release); err != nil {
				return nil, s.fail(broken("%w", err))
			}
		case *pb.DeliverResponse_Credit:
			s.to.gate.grant(r.Credit)
		default:
			return nil, s.fail(broken("message of a kind that does not belong to a transport"))
		}
	}
}

func (s *DeliverStream) answer(a *pb.StreamAnswer) (*Answer, error) {
	s.mu.Lock()
	d, open := s.mu.open[a.GetStream()]
	delete(s.mu.open, a.GetStream())
	s.mu.Unlock()
	out := &Answer{Stream: a.GetStream(), Paths: a.GetPaths()}
	switch {
	case !open:
		return nil, broken("it answered delivery stream %d, which is not open", out.Stream)
	case a.GetOutcome() < pb.Outcome_OUTCOME_CONFIRMED || a.GetOutcome() > pb.Outcome_OUTCOME_ABORTED:
		return nil, broken("it answered delivery stream %d with unknown outcome %d", out.Stream, a.GetOutcome())
	}
	out.Outcome = Outcome(a.GetOutcome())
	if out.Outcome == OutcomeConfirmed && !d.finishing {
		return nil, broken("it confirmed delivery stream %d, which was not finished", out.Stream)
	}
	if out.Outcome == OutcomeFailed {
		failure := a.GetFailure()
		if failure == nil {
			failure = &pb.Failure{}
		}
		out.Failure = failureFromPB(failure)
	}
	return out, nil
}
