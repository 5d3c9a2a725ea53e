package wire

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// decodeCall is one Decode call.
type decodeCall struct {
	*batchStream[pb.DecodeRequest, pb.DecodeResponse]
	encoder  sdk.Encoder
	builders map[uint32]*sdk.Builder // by flow
}

func (s encoderService) Decode(stream grpc.BidiStreamingServer[pb.DecodeRequest, pb.DecodeResponse]) error {
	encoder, err := opened[sdk.Encoder](s.Server)
	if err != nil {
		return err
	}
	sh := shape[pb.DecodeRequest, pb.DecodeResponse]{
		start:   (*pb.DecodeRequest).GetStart,
		release: (*pb.DecodeRequest).GetRelease,
		credit:  (*pb.DecodeRequest).GetCredit,
		sendRelease: func(r *pb.Release) *pb.DecodeResponse {
			return &pb.DecodeResponse{Response: &pb.DecodeResponse_Release{Release: r}}
		},
		sendCredit: func(c *pb.Credit) *pb.DecodeResponse {
			return &pb.DecodeResponse{Response: &pb.DecodeResponse_Credit{Credit: c}}
		},
	}
	return serveBatches(s.Server, stream, sh, func(b *batchStream[pb.DecodeRequest, pb.DecodeResponse]) func(*pb.DecodeRequest) error {
		c := &decodeCall{batchStream: b, encoder: encoder, builders: map[uint32]*sdk.Builder{}}
		return c.handle
	})
}

func (c *decodeCall) handle(req *pb.DecodeRequest) error {
	switch r := req.GetRequest().(type) {
	case *pb.DecodeRequest_Batch:
		return c.batch(r.Batch)
	case *pb.DecodeRequest_Flow:
		return c.announce(r.Flow)
	}
	return hostError{fmt.Errorf("message of a kind that does not belong to Decode")}
}

func (c *decodeCall) batch(head *pb.Batch) error {
	flow, err := c.flows.get(head.GetFlow())
	if err != nil {
		return hostError{fmt.Errorf("batch %d: %w", head.GetSequence(), err)}
	}
	body, done, err := c.payload(head)
	if err != nil {
		return err
	}
	rows := c.builders[head.GetFlow()]
	if rows == nil {
		rows = sdk.NewBuilder(flow)
		c.builders[head.GetFlow()] = rows
	}
	rows.Reset()
	failed := guard(c.server.log.Logger, "Decode", func() error { return c.encoder.Decode(rows, body) })
	if failed != nil {
		// What a panic has left behind is not used again.
		delete(c.builders, head.GetFlow())
	}
	if err := done(); err != nil {
		return err
	}
	return c.answer(head, rows, failed)
}

func (c *decodeCall) answer(head *pb.Batch, rows *sdk.Builder, failed error) error {
	out := &pb.Batch{Sequence: head.GetSequence(), Flow: head.GetFlow()}
	if failed == nil {
		failed = checkBuilt(rows)
	}
	if failed == nil {
		out.Count = uint32(rows.Rows())
		out.MinTimeNs, out.MaxTimeNs = rows.TimeSpan()
		at, dst, err := c.room(rows.Len())
		if err != nil {
			return err
		}
		if out.Payload, err = c.finish(at, rows.Append(dst)); err != nil {
			return err
		}
	}
	decoded := &pb.DecodedBatch{Batch: out, Failure: failure(failed)}
	return c.send.send(&pb.DecodeResponse{Response: &pb.DecodeResponse_Decoded{Decoded: decoded}})
}

// checkBuilt reports rows that do not make a batch.
func checkBuilt(rows *sdk.Builder) error {
	if n := rows.Rows(); n < 1 || n > sdk.MaxRowsInBatch {
		return permanent("%d messages, want 1 to %d", n, sdk.MaxRowsInBatch)
	}
	if n := rows.Len(); n > sdk.MaxPayloadBytes {
		return permanent("decoded batch of %d bytes, the limit is %d", n, sdk.MaxPayloadBytes)
	}
	return nil
}

// rebindCall is one Rebind call.
type rebindCall struct {
	*batchStream[pb.RebindRequest, pb.RebindResponse]
	encoder sdk.Encoder
}

func (s encoderService) Rebind(stream grpc.BidiStreamingServer[pb.RebindRequest, pb.RebindResponse]) error {
	encoder, err := opened[sdk.Encoder](s.Server)
	if err != nil {
		return err
	}
	sh := shape[pb.RebindRequest, pb.RebindResponse]{
		start:   (*pb.RebindRequest).GetStart,
		release: (*pb.RebindRequest).GetRelease,
		credit:  (*pb.RebindRequest).GetCredit,
		sendRelease: func(r *pb.Release) *pb.RebindResponse {
			return &pb.RebindResponse{Response: &pb.RebindResponse_Release{Release: r}}
		},
		sendCredit: func(c *pb.Credit) *pb.RebindResponse {
			return &pb.RebindResponse{Response: &pb.RebindResponse_Credit{Credit: c}}
		},
	}
	return serveBatches(s.Server, stream, sh, func(b *batchStream[pb.RebindRequest, pb.RebindResponse]) func(*pb.RebindRequest) error {
		c := &rebindCall{batchStream: b, encoder: encoder}
		return c.handle
	})
}

// handle copies the messages to where the answer goes and rebinds them there: the
// payload itself cannot be written.
func (c *rebindCall) handle(req *pb.RebindRequest) error {
	r := req.GetBatch()
	if r == nil {
		return hostError{errors.New("message of a kind that does not belong to Rebind")}
	}
	head := r.GetBatch()
	body, done, err := c.payload(head)
	if err != nil {
		return err
	}
	at, dst, err := c.room(len(body))
	if err != nil {
		return err
	}
	dst = append(dst, body...)
	if err := done(); err != nil {
		return err
	}
	failed := guard(c.server.log.Logger, "Rebind", func() error {
		return c.encoder.Rebind(dst, bindingFromPB(r.GetFrom()), bindingFromPB(r.GetTo()))
	})
	if failed == nil && len(dst) == 0 {
		failed = permanent("no messages")
	}
	out := &pb.Batch{Sequence: head.GetSequence(), Flow: head.GetFlow()}
	if failed != nil {
		c.to.cancel(at)
	} else {
		out.Count, out.Format = head.GetCount(), head.GetFormat()
		out.MinTimeNs, out.MaxTimeNs = head.GetMinTimeNs(), head.GetMaxTimeNs()
		if out.Payload, err = c.finish(at, dst); err != nil {
			return err
		}
	}
	rebound := &pb.ReboundBatch{Batch: out, Failure: failure(failed)}
	return c.send.send(&pb.RebindResponse{Response: &pb.RebindResponse_Rebound{Rebound: rebound}})
}
