package sdk

import (
	"context"
	"time"
)

// Source reads data from somewhere and emits it as flow batches.
type Source interface {
	Component
	// Discover says which flows will come. It emits nothing.
	Discover(ctx context.Context) (Discovery, error)
	// Run emits data until the source has ended, out.Stopping is closed or ctx is
	// done. After out.Finish it may go on to wait for acks; when it returns, the
	// source is done. Batches already emitted are safe with the host. An error is
	// the end of the source and of its pipeline.
	Run(ctx context.Context, out Output) error
}

// Discovery is what a source knows before it runs.
type Discovery struct {
	Flows   []Flow
	Dynamic bool // more flows than these may come
	Finite  bool // Run ends by itself
}

// FlowNumber names an announced flow; it is valid within one Run.
type FlowNumber uint32

// Output is the host as a running source sees it. All methods may be called from
// many goroutines; the order of Emit calls is the order of the data.
type Output interface {
	// Resume returns the position to go on from; ok is false for a start from the
	// beginning. It never changes.
	Resume() (position []byte, ok bool)
	// Announce makes a flow known, once; announcing an equal flow again returns
	// the same number.
	Announce(flow Flow) (FlowNumber, error)
	// Emit hands over the builder's rows, at least one, and resets it. It waits
	// while the host gives no credit. Position may be nil.
	Emit(ctx context.Context, flow FlowNumber, rows *Builder, position []byte) (sequence uint64, err error)
	// Progress promises that nothing of the flow at or before upTo follows.
	Progress(flow FlowNumber, upTo int64) error
	// Dropped reports rows that the source itself lost or refused.
	Dropped(d Dropped) error
	// AckWanted asks for the ack of a batch within a time.
	AckWanted(sequence uint64, within time.Duration) error
	// WaitAck returns nil when everything through the sequence is safe.
	WaitAck(ctx context.Context, sequence uint64) error
	// Rewinds delivers requests to emit again from a position. Only sources that
	// are replayable get any.
	Rewinds() <-chan Rewind
	// Stopping is closed when nothing more shall be emitted.
	Stopping() <-chan struct{}
	// Finish says that no batch follows. Returning from Run implies it.
	Finish() error
}

// Dropped is an account of rows that a source lost or refused itself.
type Dropped struct {
	Flow     FlowNumber // 0: rows that belong to no known flow
	Rows     uint64
	Reason   string
	From, To int64 // stamps in ns since the Unix epoch; 0 = unknown
	Refused  bool  // the rows were wrong, rather than lost
}

// Rewind asks for everything after a position again.
type Rewind struct {
	Position      []byte
	FromBeginning bool
	Reason        string
}
