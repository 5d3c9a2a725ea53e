package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
)

// Decoder is a Decode call used one batch at a time. Its methods may be called
// from many goroutines. It has failed for good when an error other than an
// *sdk.Error was returned or a caller's ctx ended during a call.
type Decoder struct{}

// Decoded is a flow batch.
type Decoded struct {
	Count            int
	MinTime, MaxTime int64 // ns since the Unix epoch
	Payload          *Buffer
}

// OpenDecoder begins a Decode call; it ends when ctx does, or with Close.
func OpenDecoder(ctx context.Context, conn grpc.ClientConnInterface, regions StreamRegions) (*Decoder, error) {
	return nil, errors.ErrUnsupported
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (d *Decoder) Announce(number uint32, flow *sdk.Flow) error { return errors.ErrUnsupported }

// Decode returns an encoded batch as a flow batch. The sequence in b is ignored.
// An *sdk.Error says that the batch is no encoding of its flow.
func (d *Decoder) Decode(ctx context.Context, b Batch) (Decoded, error) {
	return Decoded{}, errors.ErrUnsupported
}

// Close ends the call and waits for the plugin.
func (d *Decoder) Close() error { return errors.ErrUnsupported }

// Rebinder is a Rebind call used one batch at a time, with the rules of Decoder.
type Rebinder struct{}

// OpenRebinder begins a Rebind call for messages of a format; it ends when ctx
// does, or with Close.
func OpenRebinder(ctx context.Context, conn grpc.ClientConnInterface, regions StreamRegions, format string) (*Rebinder, error) {
	return nil, errors.ErrUnsupported
}

// Rebind returns the count messages of payload with other ids. The result has the
// same length. An *sdk.Error says that they do not carry the ids in from.
func (r *Rebinder) Rebind(ctx context.Context, payload []byte, count int, from, to sdk.Binding) (*Buffer, error) {
	return nil, errors.ErrUnsupported
}

// Close ends the call and waits for the plugin.
func (r *Rebinder) Close() error { return errors.ErrUnsupported }
