package wire

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// Discover asks a configured source which flows will come.
func Discover(ctx context.Context, conn grpc.ClientConnInterface) (sdk.Discovery, error) {
	res, err := pb.NewSourceServiceClient(conn).Discover(ctx, &pb.DiscoverRequest{}, grpc.MaxCallRecvMsgSize(maxFlowsBytes))
	if err != nil {
		return sdk.Discovery{}, fromStatus(err)
	}
	out := sdk.Discovery{Dynamic: res.GetDynamic(), Finite: res.GetFinite()}
	for _, f := range res.GetFlows() {
		flow, err := flowFromPB(f)
		if err != nil {
			return sdk.Discovery{}, broken("discovered %w", err)
		}
		out.Flows = append(out.Flows, *flow)
	}
	return out, nil
}

// SourceStart opens a source's run.
type SourceStart struct {
	Region *shm.Region // of direction ToHost; nil: payloads come inline
	Resume []byte      // position to go on from; nil: from the beginning
}

// SourceStream is the host's end of a source's run. Recv is called from one
// goroutine; the other methods from any.
type SourceStream struct {
	*hostStream[pb.RunRequest, pb.RunResponse]
	in       *inlet
	pool     Pool
	flows    flowTable
	rows     sdk.Batch // used again
	sequence uint64
	finished bool
}

// SourceEvent is a *FlowAnnounced, *SourceBatch, *Progress, *Dropped, *AckWanted
// or *Finished.
type SourceEvent interface{ sourceEvent() }

// FlowAnnounced is a flow's definition; it is checked.
type FlowAnnounced struct {
	Number      uint32 // from 1, dense
	Flow        *sdk.Flow
	Fingerprint sdk.Fingerprint
}

// SourceBatch is a flow batch. It has been parsed against its flow: count and
// times are those of its rows.
type SourceBatch struct {
	Sequence         uint64 // from 1, without holes
	Flow             uint32 // number of an announced flow
	Count            int    // rows
	MinTime, MaxTime int64  // ns since the Unix epoch
	WireBound        int    // upper bound in bytes of its encoded form
	Position         []byte // nil: none
	Payload          *Buffer
}

// Progress promises that nothing of the flow at or before UpTo follows.
type Progress struct {
	Flow uint32
	UpTo int64 // ns since the Unix epoch
}

// Dropped is what the source itself lost or refused.
type Dropped struct{ sdk.Dropped }

// AckWanted asks for the ack of a batch within a time.
type AckWanted struct {
	Sequence uint64
	Within   time.Duration
}

// Finished says that no batch follows.
type Finished struct {
	LastSequence uint64     // 0: there was none
	Failure      *sdk.Error // nil: the source ended well
}

func (*FlowAnnounced) sourceEvent() {}
func (*SourceBatch) sourceEvent()   {}
func (*Progress) sourceEvent()      {}
func (*Dropped) sourceEvent()       {}
func (*AckWanted) sourceEvent()     {}
func (*Finished) sourceEvent()      {}

// OpenSource starts the source. The run ends when ctx does.
func OpenSource(ctx context.Context, conn grpc.ClientConnInterface, start SourceStart) (*SourceStream, error) {
	if err := checkRegion(start.Region, shm.ToHost); err != nil {
		return nil, err
	}
	h, err := openStream(ctx, pb.NewSourceServiceClient(conn).Run, start.Region)
	if err != nil {
		return nil, err
	}
	first := &pb.RunStart{Region: regionNumber(start.Region), Resume: start.Resume}
	in, err := h.receiver(&pb.RunRequest{Request: &pb.RunRequest_Start{Start: first}}, start.Region, frames[pb.RunRequest]{
		release: func(r *pb.Release) *pb.RunRequest { return &pb.RunRequest{Request: &pb.RunRequest_Release{Release: r}} },
		credit:  func(c *pb.Credit) *pb.RunRequest { return &pb.RunRequest{Request: &pb.RunRequest_Credit{Credit: c}} },
	})
	if err != nil {
		return nil, err
	}
	return &SourceStream{hostStream: h, in: in}, nil
}

// Recv waits for the next event. It returns io.EOF when the source has returned.
func (s *SourceStream) Recv() (SourceEvent, error) {
	m, err := s.recv()
	if err != nil {
		return nil, err
	}
	event, err := s.event(m)
	if err != nil {
		return nil, s.fail(err)
	}
	return event, nil
}

func (s *SourceStream) event(m *pb.RunResponse) (SourceEvent, error) {
	switch r := m.GetResponse().(type) {
	case *pb.RunResponse_Batch:
		return s.batch(r.Batch)
	case *pb.RunResponse_Flow:
		flow, fingerprint, err := s.flows.add(r.Flow)
		if err != nil {
			return nil, broken("%w", err)
		}
		return &FlowAnnounced{Number: r.Flow.GetNumber(), Flow: flow, Fingerprint: fingerprint}, nil
	case *pb.RunResponse_Progress:
		p := &Progress{Flow: r.Progress.GetFlow(), UpTo: r.Progress.GetUpToNs()}
		return p, s.checkFlow("progress of", p.Flow)
	case *pb.RunResponse_Dropped:
		d := droppedFromPB(r.Dropped)
		if d.Flow == 0 {
			return d, nil
		}
		return d, s.checkFlow("rows dropped of", uint32(d.Flow))
	case *pb.RunResponse_AckWanted:
		a := &AckWanted{Sequence: r.AckWanted.GetSequence(), Within: max(0, time.Duration(r.AckWanted.GetWithinNs()))}
		if a.Sequence > s.sequence {
			return nil, broken("it wants batch %d acknowledged, the last one was %d", a.Sequence, s.sequence)
		}
		return a, nil
	case *pb.RunResponse_Finished:
		return s.finish(r.Finished)
	}
	return nil, broken("message of a kind that does not belong to a source")
}

func (s *SourceStream) batch(b *pb.SourceBatch) (*SourceBatch, error) {
	head := b.GetBatch()
	out := &SourceBatch{
		Sequence: head.GetSequence(), Flow: head.GetFlow(), Count: int(head.GetCount()),
		MinTime: head.GetMinTimeNs(), MaxTime: head.GetMaxTimeNs(),
	}
	if len(b.GetPosition()) > 0 {
		out.Position = b.GetPosition()
	}
	flow, err := s.flows.get(out.Flow)
	switch {
	case err != nil:
		return nil, broken("batch %d: %w", out.Sequence, err)
	case s.finished:
		return nil, broken("batch %d after it said that it had finished", out.Sequence)
	case out.Sequence != s.sequence+1:
		return nil, broken("batch %d follows batch %d", out.Sequence, s.sequence)
	case len(out.Position) > sdk.MaxPositionBytes:
		return nil, broken("batch %d has a position of %d bytes, the limit is %d", out.Sequence, len(out.Position), sdk.MaxPositionBytes)
	}
	s.sequence++
	a, err := s.in.arrive(head.GetPayload())
	if err != nil {
		return nil, broken("batch %d: %w", out.Sequence, err)
	}
	if out.Payload, err = s.in.copyOut(a, &s.pool); err != nil {
		return nil, err
	}
	if err := checkRows(&s.rows, flow, out.Payload.Bytes(), head); err != nil {
		out.Payload.Release()
		return nil, broken("batch %d of flow %s: %w", out.Sequence, shorten(flow.Name), err)
	}
	out.WireBound = s.rows.WireBound()
	return out, nil
}

func (s *SourceStream) checkFlow(what string, number uint32) error {
	if _, err := s.flows.get(number); err != nil {
		return broken("%s a flow: %w", what, err)
	}
	return nil
}

func (s *SourceStream) finish(f *pb.Finished) (*Finished, error) {
	switch {
	case s.finished:
		return nil, broken("it finished twice")
	case f.GetLastSequence() != s.sequence:
		return nil, broken("it finished after batch %d, the last one was %d", f.GetLastSequence(), s.sequence)
	}
	s.finished = true
	return &Finished{LastSequence: s.sequence, Failure: failureFromPB(f.GetFailure())}, nil
}

// Ack says that everything through the sequence is safe.
func (s *SourceStream) Ack(through uint64) error {
	return s.out.send(&pb.RunRequest{Request: &pb.RunRequest_Ack{Ack: &pb.Ack{Through: through}}})
}

// Rewind asks for everything after a position again.
func (s *SourceStream) Rewind(r sdk.Rewind) error {
	out := &pb.Rewind{Position: r.Position, Reason: r.Reason}
	if r.FromBeginning {
		out.Position = nil
	} else if out.Position == nil {
		out.Position = []byte{}
	}
	return s.out.send(&pb.RunRequest{Request: &pb.RunRequest_Rewind{Rewind: out}})
}

// Stop asks the source to emit nothing more; it still hears acks.
func (s *SourceStream) Stop() error {
	return s.out.send(&pb.RunRequest{Request: &pb.RunRequest_Stop{Stop: &pb.RunStop{}}})
}

// CloseSend says that no ack follows; the source ends.
func (s *SourceStream) CloseSend() error { return s.out.closeSend(s.stream) }
