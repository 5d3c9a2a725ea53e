package wire

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// StreamRegions are the regions of a stream; nil: payloads travel inline.
type StreamRegions struct {
	In  *shm.Region // host to plugin
	Out *shm.Region // plugin to host
}

func (r StreamRegions) check() error {
	if err := checkRegion(r.In, shm.ToPlugin); err != nil {
		return err
	}
	return checkRegion(r.Out, shm.ToHost)
}

func (r StreamRegions) toPB() *pb.StreamStart {
	return &pb.StreamStart{RegionIn: regionNumber(r.In), RegionOut: regionNumber(r.Out)}
}

// Batch is a batch that the host sends.
type Batch struct {
	Sequence         uint64 // from 1, without holes on one stream
	Flow             uint32 // number of an announced flow
	Count            int    // rows or messages, at least 1
	MinTime, MaxTime int64  // ns since the Unix epoch
	Format           string // of encoded messages; empty for a flow batch
	Payload          []byte
}

// EncoderStream is the host's end of an Encode call. Recv is called from one
// goroutine; Announce, Bind and Send from one other.
type EncoderStream struct {
	*hostStream[pb.EncodeRequest, pb.EncodeResponse]
	to   outlet
	from *inlet
	pool Pool

	mu struct {
		sync.Mutex
		sent    uint64  // sequence of the last batch
		waiting []asked // batches without answer, in order
		closing bool
	}
}

// asked is what is kept of a batch until its answer comes.
type asked struct {
	sequence         uint64
	flow             uint32
	count            int
	minTime, maxTime int64
}

// Encoded answers the batch of the same sequence. Count + len(Refused) is the
// batch's number of rows, and the lengths in the payload have been walked.
type Encoded struct {
	Sequence         uint64
	Flow             uint32
	Count            int   // messages; 0: every row was refused
	MinTime, MaxTime int64 // of the messages, ns since the Unix epoch
	Format           string
	Payload          *Buffer       // nil if Count is 0
	Refused          []sdk.Refused // in order of rows
}

// OpenEncoder begins an Encode call; it ends when ctx does.
func OpenEncoder(ctx context.Context, conn grpc.ClientConnInterface, regions StreamRegions) (*EncoderStream, error) {
	if err := regions.check(); err != nil {
		return nil, err
	}
	h, err := openStream(ctx, pb.NewEncoderServiceClient(conn).Encode, regions.In, regions.Out)
	if err != nil {
		return nil, err
	}
	first := &pb.EncodeRequest{Request: &pb.EncodeRequest_Start{Start: regions.toPB()}}
	in, err := h.receiver(first, regions.Out, frames[pb.EncodeRequest]{
		release: func(r *pb.Release) *pb.EncodeRequest {
			return &pb.EncodeRequest{Request: &pb.EncodeRequest_Release{Release: r}}
		},
		credit: func(c *pb.Credit) *pb.EncodeRequest {
			return &pb.EncodeRequest{Request: &pb.EncodeRequest_Credit{Credit: c}}
		},
	})
	if err != nil {
		return nil, err
	}
	return &EncoderStream{hostStream: h, to: outlet{region: regions.In}, from: in}, nil
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (s *EncoderStream) Announce(number uint32, flow *sdk.Flow) error {
	a, err := announcement(number, flow)
	if err != nil {
		return err
	}
	return s.out.send(&pb.EncodeRequest{Request: &pb.EncodeRequest_Flow{Flow: a}})
}

// Bind sets the ids that messages of the flow carry from the next batch on.
func (s *EncoderStream) Bind(number uint32, b sdk.Binding) error {
	bound := &pb.FlowBinding{Flow: number, Binding: bindingToPB(b)}
	return s.out.send(&pb.EncodeRequest{Request: &pb.EncodeRequest_Binding{Binding: bound}})
}

// Send hands over a flow batch. It waits for room until ctx is done.
func (s *EncoderStream) Send(ctx context.Context, b Batch) error {
	at, err := s.to.reserve(ctx, s.life, len(b.Payload))
	if err != nil {
		return err
	}
	if err := s.ask(&b); err != nil {
		s.to.cancel(at)
		return err
	}
	batch := batchToPB(&b, at.payload(b.Payload))
	return s.out.send(&pb.EncodeRequest{Request: &pb.EncodeRequest_Batch{Batch: batch}})
}

// ask notes that the batch will be answered.
func (s *EncoderStream) ask(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.closing:
		return ErrStreamEnded
	case b.Sequence != s.mu.sent+1:
		return fmt.Errorf("batch %d sent after batch %d", b.Sequence, s.mu.sent)
	}
	s.mu.sent++
	s.mu.waiting = append(s.mu.waiting, asked{b.Sequence, b.Flow, b.Count, b.MinTime, b.MaxTime})
	return nil
}

// Recv waits for the next answer. Answers come in the order of the batches, each
// exactly once. After CloseSend it returns io.EOF when all have been answered.
func (s *EncoderStream) Recv() (Encoded, error) {
	for {
		m, err := s.recv()
		if err != nil {
			return Encoded{}, err
		}
		switch r := m.GetResponse().(type) {
		case *pb.EncodeResponse_Encoded:
			out, err := s.answer(r.Encoded)
			if err != nil {
				return Encoded{}, s.fail(err)
			}
			return out, nil
		case *pb.EncodeResponse_Release:
			err = s.to.released(r.Release)
		case *pb.EncodeResponse_Credit:
			s.to.gate.grant(r.Credit)
		default:
			err = fmt.Errorf("message of a kind that does not belong to an encoder")
		}
		if err != nil {
			return Encoded{}, s.fail(broken("%w", err))
		}
	}
}

func (s *EncoderStream) answer(e *pb.EncodedBatch) (Encoded, error) {
	head := e.GetBatch()
	due, err := s.due(head.GetSequence())
	if err != nil {
		return Encoded{}, err
	}
	out := Encoded{
		Sequence: due.sequence, Flow: due.flow, Count: int(head.GetCount()),
		MinTime: head.GetMinTimeNs(), MaxTime: head.GetMaxTimeNs(), Format: head.GetFormat(),
	}
	if out.Refused, err = refusedFromPB(e.GetRefused(), due.count); err != nil {
		return Encoded{}, broken("batch %d: %w", due.sequence, err)
	}
	if out.Count+len(out.Refused) != due.count {
		return Encoded{}, broken("batch %d had %d rows, answered with %d messages and %d refused rows",
			due.sequence, due.count, out.Count, len(out.Refused))
	}
	if out.Count > 0 {
		err = s.body(&out, head, due)
	}
	if err == nil {
		err = s.closeIfDone()
	}
	return out, err
}

// due takes the batch that must be answered next off the list.
func (s *EncoderStream) due(sequence uint64) (asked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.waiting) == 0 {
		return asked{}, broken("it answered batch %d, nothing was due", sequence)
	}
	next := s.mu.waiting[0]
	if next.sequence != sequence {
		return asked{}, broken("it answered batch %d, batch %d was due", sequence, next.sequence)
	}
	s.mu.waiting = s.mu.waiting[1:]
	return next, nil
}

func (s *EncoderStream) body(out *Encoded, head *pb.Batch, due asked) error {
	if out.MinTime < due.minTime || out.MaxTime > due.maxTime {
		return broken("batch %d had stamps from %d to %d, answered with %d to %d",
			due.sequence, due.minTime, due.maxTime, out.MinTime, out.MaxTime)
	}
	a, err := s.from.arrive(head.GetPayload())
	if err != nil {
		return broken("batch %d: %w", due.sequence, err)
	}
	if out.Payload, err = s.from.copyOut(a, &s.pool); err != nil {
		return err
	}
	if err := checkMessages(out.Payload.Bytes(), head); err != nil {
		out.Payload.Release()
		return broken("batch %d: %w", due.sequence, err)
	}
	return nil
}

// CloseSend says that no batch follows. The plugin hears of it when it has
// answered what it has: until then it needs its slots back.
func (s *EncoderStream) CloseSend() error {
	s.mu.Lock()
	s.mu.closing = true
	s.mu.Unlock()
	return s.closeIfDone()
}

func (s *EncoderStream) closeIfDone() error {
	s.mu.Lock()
	done := s.mu.closing && len(s.mu.waiting) == 0
	s.mu.Unlock()
	if !done {
		return nil
	}
	return s.out.closeSend(s.stream)
}
