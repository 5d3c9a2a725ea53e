package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// StreamRegions are the regions of a stream; nil: payloads travel inline.
type StreamRegions struct {
	In  *shm.Region // host to plugin
	Out *shm.Region // plugin to host
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
type EncoderStream struct{}

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
	return nil, errors.ErrUnsupported
}

// Announce gives a flow its number, from 1 and dense, before its first batch.
func (s *EncoderStream) Announce(number uint32, flow *sdk.Flow) error { return errors.ErrUnsupported }

// Bind sets the ids that messages of the flow carry from the next batch on.
func (s *EncoderStream) Bind(number uint32, b sdk.Binding) error { return errors.ErrUnsupported }

// Send hands over a flow batch. It waits for room until ctx is done.
func (s *EncoderStream) Send(ctx context.Context, b Batch) error { return errors.ErrUnsupported }

// Recv waits for the next answer. Answers come in the order of the batches, each
// exactly once. After CloseSend it returns io.EOF when all have been answered.
func (s *EncoderStream) Recv() (Encoded, error) { return Encoded{}, errors.ErrUnsupported }

// CloseSend says that no batch follows.
func (s *EncoderStream) CloseSend() error { return errors.ErrUnsupported }
