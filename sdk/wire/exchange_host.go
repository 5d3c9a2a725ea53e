package wire

import (
	"context"
	"io"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
)

// exchange is a stream that is used for one batch at a time.
type exchange[Req, Res any] struct {
	*hostStream[Req, Res]
	turn     chan struct{} // holds a token while nobody uses the stream
	to       outlet
	from     *inlet
	pool     Pool
	sequence uint64
	// sort tells messages that are no answers.
	sort func(*Res) (*pb.Release, *pb.Credit)
}

// openExchange begins a call for exchanges.
func openExchange[Req, Res any](
	ctx context.Context,
	call func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[Req, Res], error),
	regions StreamRegions,
	start func(*pb.StreamStart) *Req,
	f frames[Req],
	sort func(*Res) (*pb.Release, *pb.Credit),
) (*exchange[Req, Res], error) {
	if err := regions.check(); err != nil {
		return nil, err
	}
	h, err := openStream(ctx, call, regions.In, regions.Out)
	if err != nil {
		return nil, err
	}
	in, err := h.receiver(start(regions.toPB()), regions.Out, f)
	if err != nil {
		return nil, err
	}
	x := &exchange[Req, Res]{
		hostStream: h, turn: make(chan struct{}, 1),
		to: outlet{region: regions.In}, from: in, sort: sort,
	}
	x.turn <- struct{}{}
	return x, nil
}

// lock waits for the caller's turn. From then on the end of ctx ends the stream:
// there is no way to take a batch back.
func (x *exchange[Req, Res]) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-x.turn:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	stop := context.AfterFunc(ctx, func() { x.life.end(context.Cause(ctx)) })
	return func() {
		stop()
		x.turn <- struct{}{}
	}, nil
}

// call sends a batch and waits for its answer. The turn must be the caller's.
func (x *exchange[Req, Res]) call(b *Batch, request func(*pb.Batch) *Req) (*Res, error) {
	at, err := x.reserve(len(b.Payload))
	if err != nil {
		return nil, err
	}
	x.sequence++
	b.Sequence = x.sequence
	if err := unlessEnded(x.out.send(request(batchToPB(b, at.payload(b.Payload))))); err != nil {
		return nil, x.fail(err)
	}
	for {
		m, isAnswer, err := x.read()
		if err != nil || isAnswer {
			return m, err
		}
	}
}

// reserve returns room for a payload of n bytes. Nobody else reads the stream, so
// it reads until there is some.
func (x *exchange[Req, Res]) reserve(n int) (place, error) {
	for {
		at, ok, err := x.to.try(n)
		if err != nil || ok {
			return at, err
		}
		_, isAnswer, err := x.read()
		if err == nil && isAnswer {
			err = x.fail(broken("an answer, and nothing was asked"))
		}
		if err != nil {
			return place{}, err
		}
	}
}

// read reads one message and takes releases and credit.
func (x *exchange[Req, Res]) read() (m *Res, isAnswer bool, err error) {
	m, err = x.recv()
	if err == io.EOF {
		return nil, false, x.fail(broken("it ended the stream without an answer"))
	}
	if err != nil {
		return nil, false, err
	}
	release, credit := x.sort(m)
	if release != nil {
		if err := x.to.released(release); err != nil {
			return nil, false, x.fail(broken("%w", err))
		}
	}
	if credit != nil {
		x.to.gate.grant(credit)
	}
	return m, release == nil && credit == nil, nil
}

// answer checks an answer's head and returns its payload.
func (x *exchange[Req, Res]) answer(head *pb.Batch) (*Buffer, error) {
	a, err := x.from.arrive(head.GetPayload())
	if err != nil {
		return nil, broken("batch %d: %w", x.sequence, err)
	}
	return x.from.copyOut(a, &x.pool)
}

func (x *exchange[Req, Res]) checkSequence(head *pb.Batch) error {
	if head.GetSequence() != x.sequence {
		return broken("it answered batch %d, batch %d was due", head.GetSequence(), x.sequence)
	}
	return nil
}

func (x *exchange[Req, Res]) close() error {
	<-x.turn
	defer func() { x.turn <- struct{}{} }()
	if err := x.out.closeSend(x.stream); err != nil {
		return x.fail(err)
	}
	for {
		if _, err := x.recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
