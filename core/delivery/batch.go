package delivery

import (
	"context"
	"sync/atomic"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// Buffer is a payload in host memory with counted references.
type Buffer interface {
	Bytes() []byte
	Release()
}

// Flow is a flow as the host knows it.
type Flow struct {
	Number  uint32 // in the pipeline, from 1
	Flow    sdk.Flow
	Account *telemetry.Flow
	// Bindings holds what each track's destination gave for the flow; the zero
	// value where it gives nothing. Set before the flow's first batch.
	Bindings []sdk.Binding
}

// Batch is a run of consecutive messages of one flow.
type Batch struct {
	Ids              checkpoint.Range
	Flow             *Flow
	MinTime, MaxTime int64  // ns since the Unix epoch
	Rows             Buffer // flow batch; nil if no track wants rows
	Encoded          Buffer // messages; nil if there is no encoder
	Format           string // of the messages
	Binding          sdk.Binding

	open  atomic.Int32 // tracks that have not confirmed it
	users atomic.Int32 // who may read the payloads: tracks, and a Send that goes on
	done  func(*Batch)
}

// Open prepares the batch for a number of tracks; done is called once, when the
// last of them has confirmed it, from that track's goroutine; without any track at
// once.
func (b *Batch) Open(tracks int, done func(*Batch)) {
	b.done = done
	b.open.Store(int32(tracks))
	b.users.Store(int32(tracks))
	if tracks == 0 {
		b.free()
		b.done(b)
	}
}

// confirm notes one track's confirmation and ends its use.
func (b *Batch) confirm() {
	b.release()
	if b.open.Add(-1) == 0 {
		b.done(b)
	}
}

func (b *Batch) retain() { b.users.Add(1) }

func (b *Batch) release() {
	if b.users.Add(-1) == 0 {
		b.free()
	}
}

func (b *Batch) free() {
	if b.Rows != nil {
		b.Rows.Release()
	}
	if b.Encoded != nil {
		b.Encoded.Release()
	}
}

func (b *Batch) count() uint64 { return b.Ids.Count() }

// bytes is what the batch occupies in memory.
func (b *Batch) bytes() int {
	n := 0
	if b.Rows != nil {
		n += len(b.Rows.Bytes())
	}
	if b.Encoded != nil {
		n += len(b.Encoded.Bytes())
	}
	return n
}

// Event is something that a transport tells.
type Event struct {
	Stream  uint64
	Outcome checkpoint.Outcome
	Err     *sdk.Error // with Failed
	Paths   []string   // finished files
}

// Transport is a transport plugin as a track sees it. Recv is called from one
// goroutine, Close from any, the others from one more. Errors mean that the plugin is gone.
type Transport interface {
	Open(stream uint64, newConnection bool) error
	// Send waits while the transport gives no credit.
	Send(ctx context.Context, stream uint64, b *Batch) error
	Finish(stream uint64) error
	Abort(stream uint64) error
	Recv() (Event, error)
	// Close ends Recv and everything that waits; it may be called twice.
	Close()
}
