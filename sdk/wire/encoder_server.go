package wire

import (
	"fmt"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// encoderService drives an sdk.Encoder.
type encoderService struct {
	pb.UnimplementedEncoderServiceServer
	*Server
}

// encodeCall is one Encode call.
type encodeCall struct {
	*batchStream[pb.EncodeRequest, pb.EncodeResponse]
	encoder  sdk.Encoder
	bindings map[uint32]sdk.Binding // by flow; those not there are unbound
	rows     sdk.Batch
}

func (s encoderService) Encode(stream grpc.BidiStreamingServer[pb.EncodeRequest, pb.EncodeResponse]) error {
	encoder, err := opened[sdk.Encoder](s.Server)
	if err != nil {
		return err
	}
	sh := shape[pb.EncodeRequest, pb.EncodeResponse]{
		start:   (*pb.EncodeRequest).GetStart,
		release: (*pb.EncodeRequest).GetRelease,
		credit:  (*pb.EncodeRequest).GetCredit,
		sendRelease: func(r *pb.Release) *pb.EncodeResponse {
			return &pb.EncodeResponse{Response: &pb.EncodeResponse_Release{Release: r}}
		},
		sendCredit: func(c *pb.Credit) *pb.EncodeResponse {
			return &pb.EncodeResponse{Response: &pb.EncodeResponse_Credit{Credit: c}}
		},
	}
	return serveBatches(s.Server, stream, sh, func(b *batchStream[pb.EncodeRequest, pb.EncodeResponse]) func(*pb.EncodeRequest) error {
		c := &encodeCall{batchStream: b, encoder: encoder, bindings: map[uint32]sdk.Binding{}}
		return c.handle
	})
}

func (c *encodeCall) handle(req *pb.EncodeRequest) error {
	switch r := req.GetRequest().(type) {
	case *pb.EncodeRequest_Batch:
		return c.batch(r.Batch)
	case *pb.EncodeRequest_Flow:
		return c.announce(r.Flow)
	case *pb.EncodeRequest_Binding:
		c.bindings[r.Binding.GetFlow()] = bindingFromPB(r.Binding.GetBinding())
		return nil
	}
	return hostError{fmt.Errorf("message of a kind that does not belong to Encode")}
}

func (c *encodeCall) batch(head *pb.Batch) error {
	flow, err := c.flows.get(head.GetFlow())
	if err != nil {
		return hostError{fmt.Errorf("batch %d: %w", head.GetSequence(), err)}
	}
	data, done, err := c.payload(head)
	if err != nil {
		return err
	}
	if err := c.rows.Parse(flow, data); err != nil {
		return hostError{fmt.Errorf("batch %d: %w", head.GetSequence(), err)}
	}
	at, dst, err := c.room(c.rows.WireBound())
	if err != nil {
		return err
	}
	binding, ok := c.bindings[head.GetFlow()]
	if !ok {
		binding = sdk.Unbound()
	}
	var encoded sdk.Encoded
	err = guard(c.server.log.Logger, "Encode", func() (err error) {
		encoded, err = c.encoder.Encode(dst, &c.rows, binding)
		return err
	})
	if err != nil {
		return fmt.Errorf("encode batch %d of flow %s: %w", head.GetSequence(), shorten(flow.Name), err)
	}
	// The slot goes back first: who has the answer has the release.
	if err := done(); err != nil {
		return err
	}
	return c.answer(head, at, &encoded)
}

func (c *encodeCall) answer(head *pb.Batch, at place, e *sdk.Encoded) error {
	out := &pb.Batch{Sequence: head.GetSequence(), Flow: head.GetFlow(), Count: uint32(e.Count)}
	if e.Count == 0 {
		c.to.cancel(at)
	} else {
		out.MinTimeNs, out.MaxTimeNs = e.MinTime, e.MaxTime
		out.Format = c.server.plugin.Encoder.Format
		if len(e.Body) == 0 {
			return permanent("encoder said %d messages and gave none", e.Count)
		}
		var err error
		if out.Payload, err = c.finish(at, e.Body); err != nil {
			return err
		}
	}
	encoded := &pb.EncodedBatch{Batch: out, Refused: refusedToPB(e.Refused)}
	return c.send.send(&pb.EncodeResponse{Response: &pb.EncodeResponse_Encoded{Encoded: encoded}})
}
