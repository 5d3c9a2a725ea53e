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
	Flow    sdk.Flow
	Account *telemetry.Flow

	bindings []atomic.Pointer[sdk.Binding] // by track; nil: its destination does not know the flow yet
}

// NewFlow returns a flow that no destination knows yet.
func NewFlow(def sdk.Flow, account *telemetry.Flow, tracks int) *Flow {
	return &Flow{Flow: def, Account: account, bindings: make([]atomic.Pointer[sdk.Binding], tracks)}
}

// Bind notes that a track's destination knows the flow, and the ids that it gave
// for it; the zero value where it gives none.
func (f *Flow) Bind(track int, b sdk.Binding) { f.bindings[track].Store(&b) }

// Binding returns what Bind noted; ok is false before.
func (f *Flow) Binding(track int) (b sdk.Binding, ok bool) {
	if p := f.bindings[track].Load(); p != nil {
		return *p, true
	}
	return sdk.Binding{}, false
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
	Freed            func(bytes int) // called when the payloads are given back; may be nil

	open  atomic.Int32 // tracks that have not confirmed it; live only
	users atomic.Int32 // who may read the payloads
	safe  atomic.Bool
	done  func(*Batch)
}

// Open prepares the batch for a number of tracks. The caller has a reference, which
// it releases when it has handed the batch on. done is called once, when the batch
// is safe, from the goroutine that made it so; without any track at once.
func (b *Batch) Open(tracks int, done func(*Batch)) {
	b.done = done
	b.open.Store(int32(tracks))
	b.users.Store(1)
	if tracks == 0 {
		b.Safe()
	}
}

// Safe notes that nothing more can lose the batch: it is stored, or confirmed by
// every track, or counted as lost.
func (b *Batch) Safe() {
	if b.safe.CompareAndSwap(false, true) {
		b.done(b)
	}
}

// confirm notes one track's confirmation.
func (b *Batch) confirm() {
	if b.open.Add(-1) == 0 {
		b.Safe()
	}
}

// Retain adds a reference on the payloads.
func (b *Batch) Retain() { b.users.Add(1) }

// Release drops a reference. The payloads are given back with the last one.
func (b *Batch) Release() {
	if b.users.Add(-1) > 0 {
		return
	}
	size := b.Bytes()
	if b.Rows != nil {
		b.Rows.Release()
	}
	if b.Encoded != nil {
		b.Encoded.Release()
	}
	if b.Freed != nil {
		b.Freed(size)
	}
}

func (b *Batch) count() uint64 { return b.Ids.Count() }

// Bytes is what the batch occupies in memory.
func (b *Batch) Bytes() int {
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
