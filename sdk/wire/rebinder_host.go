package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// Rebinder is a Rebind call used one batch at a time, with the rules of Decoder.
type Rebinder struct {
	x      *exchange[pb.RebindRequest, pb.RebindResponse]
	format string
}

// OpenRebinder begins a Rebind call for messages of a format; it ends when ctx
// does, or with Close.
func OpenRebinder(ctx context.Context, conn grpc.ClientConnInterface, regions StreamRegions, format string) (*Rebinder, error) {
	x, err := openExchange(ctx, pb.NewEncoderServiceClient(conn).Rebind, regions,
		func(s *pb.StreamStart) *pb.RebindRequest {
			return &pb.RebindRequest{Request: &pb.RebindRequest_Start{Start: s}}
		},
		frames[pb.RebindRequest]{
			release: func(r *pb.Release) *pb.RebindRequest {
				return &pb.RebindRequest{Request: &pb.RebindRequest_Release{Release: r}}
			},
			credit: func(c *pb.Credit) *pb.RebindRequest {
				return &pb.RebindRequest{Request: &pb.RebindRequest_Credit{Credit: c}}
			},
		},
		func(m *pb.RebindResponse) (*pb.Release, *pb.Credit) { return m.GetRelease(), m.GetCredit() },
	)
	if err != nil {
		return nil, err
	}
	return &Rebinder{x: x, format: format}, nil
}

// Rebind returns the count messages of payload with other ids. The result has the
// same length. An *sdk.Error says that they do not carry the ids in from.
func (r *Rebinder) Rebind(ctx context.Context, payload []byte, count int, from, to sdk.Binding) (*Buffer, error) {
	unlock, err := r.x.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b := Batch{Count: count, Format: r.format, Payload: payload}
	m, err := r.x.call(&b, func(batch *pb.Batch) *pb.RebindRequest {
		request := &pb.RebindBatch{Batch: batch, From: bindingToPB(from), To: bindingToPB(to)}
		return &pb.RebindRequest{Request: &pb.RebindRequest_Batch{Batch: request}}
	})
	if err != nil {
		return nil, err
	}
	head := m.GetRebound().GetBatch()
	if err := r.x.checkSequence(head); err != nil {
		return nil, r.x.fail(err)
	}
	if f := m.GetRebound().GetFailure(); f != nil {
		return nil, failureFromPB(f)
	}
	out, err := r.x.answer(head)
	if err != nil {
		return nil, r.x.fail(err)
	}
	if err := checkRebound(out.Bytes(), payload, head, count); err != nil {
		out.Release()
		return nil, r.x.fail(broken("rebound batch: %w", err))
	}
	return out, nil
}

func checkRebound(out, in []byte, head *pb.Batch, count int) error {
	if len(out) != len(in) || int64(head.GetCount()) != int64(count) {
		return errors.New("it has another length or another number of messages")
	}
	return checkMessages(out, head)
}

// Close ends the call and waits for the plugin.
func (r *Rebinder) Close() error { return r.x.close() }
