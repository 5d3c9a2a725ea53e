package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// Decoder is a Decode call used one batch at a time. Its methods may be called
// from many goroutines. It has failed for good when an error other than an
// *sdk.Error was returned or a caller's ctx ended during a call.
type Decoder struct {
	x     *exchange[pb.DecodeRequest, pb.DecodeResponse]
	flows []*sdk.Flow // by number, the first is 1
	rows  sdk.Batch
}

// Decoded is a flow batch.
type Decoded struct {
	Count            int
	MinTime, MaxTime int64 // ns since the Unix epoch
	Payload          *Buffer
}

// OpenDecoder begins a Decode call; it ends when ctx does, or with Close.
func OpenDecoder(ctx context.Context, conn grpc.ClientConnInterface, regions StreamRegions) (*Decoder, error) {
	x, err := openExchange(ctx, pb.NewEncoderServiceClient(conn).Decode, regions,
		func(s *pb.StreamStart) *pb.DecodeRequest {
			return &pb.DecodeRequest{Request: &pb.DecodeRequest_Start{Start: s}}
		},
		frames[pb.DecodeRequest]{
			release: func(r *pb.Release) *pb.DecodeRequest {
				return &pb.DecodeRequest{Request: &pb.DecodeRequest_Release{Release: r}}
			},
			credit: func(c *pb.Credit) *pb.DecodeRequest {
				return &pb.DecodeRequest{Request: &pb.DecodeRequest_Credit{Credit: c}}
			},
		},
		func(m *pb.DecodeResponse) (*pb.Release, *pb.Credit) { return m.GetRelease(), m.GetCredit() },
	)
	if err != nil {
		return nil, err
	}
	return &Decoder{x: x}, nil
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (d *Decoder) Announce(number uint32, flow *sdk.Flow) error {
	<-d.x.turn
	defer func() { d.x.turn <- struct{}{} }()
	if number != uint32(len(d.flows)+1) {
		return errors.New("flows must be announced with dense numbers from 1")
	}
	a, err := announcement(number, flow)
	if err != nil {
		return err
	}
	d.flows = append(d.flows, flow)
	return d.x.out.send(&pb.DecodeRequest{Request: &pb.DecodeRequest_Flow{Flow: a}})
}

// Decode returns an encoded batch as a flow batch. The sequence in b is ignored.
// An *sdk.Error says that the batch is no encoding of its flow.
func (d *Decoder) Decode(ctx context.Context, b Batch) (Decoded, error) {
	unlock, err := d.x.lock(ctx)
	if err != nil {
		return Decoded{}, err
	}
	defer unlock()
	if b.Flow == 0 || int64(b.Flow) > int64(len(d.flows)) {
		return Decoded{}, errors.New("batch of a flow that was not announced")
	}
	m, err := d.x.call(&b, func(batch *pb.Batch) *pb.DecodeRequest {
		return &pb.DecodeRequest{Request: &pb.DecodeRequest_Batch{Batch: batch}}
	})
	if err != nil {
		return Decoded{}, err
	}
	head := m.GetDecoded().GetBatch()
	if err := d.x.checkSequence(head); err != nil {
		return Decoded{}, d.x.fail(err)
	}
	if f := m.GetDecoded().GetFailure(); f != nil {
		return Decoded{}, failureFromPB(f)
	}
	payload, err := d.x.answer(head)
	if err != nil {
		return Decoded{}, d.x.fail(err)
	}
	if err := d.check(payload.Bytes(), head, &b); err != nil {
		payload.Release()
		return Decoded{}, d.x.fail(broken("decoded batch: %w", err))
	}
	return Decoded{Count: b.Count, MinTime: head.GetMinTimeNs(), MaxTime: head.GetMaxTimeNs(), Payload: payload}, nil
}

func (d *Decoder) check(payload []byte, head *pb.Batch, b *Batch) error {
	if int64(head.GetCount()) != int64(b.Count) {
		return errors.New("it has not one row for each message")
	}
	return checkRows(&d.rows, d.flows[b.Flow-1], payload, head)
}

// Close ends the call and waits for the plugin.
func (d *Decoder) Close() error { return d.x.close() }
