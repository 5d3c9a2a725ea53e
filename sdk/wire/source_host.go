package wire

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// Discover asks a configured source which flows will come.
func Discover(ctx context.Context, conn grpc.ClientConnInterface) (sdk.Discovery, error) {
	return sdk.Discovery{}, errors.ErrUnsupported
}

// SourceStart opens a source's run.
type SourceStart struct {
	Region *shm.Region // of direction ToHost; nil: payloads come inline
	Resume []byte      // position to go on from; nil: from the beginning
}

// SourceStream is the host's end of a source's run. Recv is called from one
// goroutine; the other methods from any.
type SourceStream struct{}

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
	return nil, errors.ErrUnsupported
}

// Recv waits for the next event. It returns io.EOF when the source has returned.
func (s *SourceStream) Recv() (SourceEvent, error) { return nil, errors.ErrUnsupported }

// Ack says that everything through the sequence is safe.
func (s *SourceStream) Ack(through uint64) error { return errors.ErrUnsupported }

// Rewind asks for everything after a position again.
func (s *SourceStream) Rewind(r sdk.Rewind) error { return errors.ErrUnsupported }

// Stop asks the source to emit nothing more; it still hears acks.
func (s *SourceStream) Stop() error { return errors.ErrUnsupported }

// CloseSend says that no ack follows; the source ends.
func (s *SourceStream) CloseSend() error { return errors.ErrUnsupported }
