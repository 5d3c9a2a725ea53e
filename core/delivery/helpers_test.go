package delivery

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// destination is a transport whose behaviour the test decides.
type destination struct {
	mu       sync.Mutex
	streams  map[uint64]*checkpoint.Set
	received []uint64 // first ids in the order in which batches came
	renewed  int      // streams on a new connection
	finished map[uint64]bool

	// answer is called when a stream is finished or aborted; false: no answer yet.
	answer func(stream uint64, aborted bool) (Event, bool)
	// onSend may end a stream in its middle.
	onSend func(stream uint64, b *Batch) (Event, bool)
	sendOK chan struct{} // nil: Send never waits

	events    chan Event
	closeOnce sync.Once
	closed    chan struct{}
}

func newDestination() *destination {
	return &destination{
		streams: map[uint64]*checkpoint.Set{}, finished: map[uint64]bool{},
		events: make(chan Event, 1000), closed: make(chan struct{}),
		answer: func(stream uint64, aborted bool) (Event, bool) {
			if aborted {
				return Event{Stream: stream, Outcome: checkpoint.Aborted}, true
			}
			return ok(stream), true
		},
		onSend: func(uint64, *Batch) (Event, bool) { return Event{}, false },
	}
}

func ok(stream uint64) Event { return Event{Stream: stream, Outcome: checkpoint.Confirmed} }

func (d *destination) Open(stream uint64, newConnection bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[stream] = &checkpoint.Set{}
	if newConnection {
		d.renewed++
	}
	return nil
}

func (d *destination) Send(ctx context.Context, stream uint64, b *Batch) error {
	if d.sendOK != nil {
		select {
		case <-d.sendOK:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[stream].Add(b.Ids)
	d.received = append(d.received, b.Ids.First)
	if event, now := d.onSend(stream, b); now {
		d.events <- event
	}
	return nil
}

func (d *destination) Finish(stream uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finished[stream] = true
	if event, now := d.answer(stream, false); now {
		d.events <- event
	}
	return nil
}

func (d *destination) Abort(stream uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if event, now := d.answer(stream, true); now {
		d.events <- event
	}
	return nil
}

func (d *destination) Recv() (Event, error) {
	select {
	case e := <-d.events:
		return e, nil
	case <-d.closed:
		return Event{}, io.EOF
	}
}

func (d *destination) Close() { d.closeOnce.Do(func() { close(d.closed) }) }

// memory is a buffer that counts how often it is released.
type memory struct {
	bytes    []byte
	released int
}

func (m *memory) Bytes() []byte { return m.bytes }

func (m *memory) Release() { m.released++ }

// harness is a track with what feeds it.
type harness struct {
	t       *testing.T
	track   *Track
	dest    *destination
	flow    *Flow
	next    uint64
	buffers []*memory
	done    chan error

	mu        sync.Mutex
	confirmed []uint64 // last ids of batches that are safe
}

func settings() Settings {
	return Settings{
		Name: "test", Queue: channel.Size{Messages: 1000, Bytes: 1 << 20}, Memory: 1 << 20,
		Interval: time.Minute, Timeout: 10 * time.Second, Linger: 30 * time.Second, Overlap: true,
		Retry:  backoff.Policy{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 5},
		Bus:    control.NewBus(16),
		Logger: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, s Settings, d *destination) *harness {
	account := telemetry.NewAccount([]string{s.Name})
	h := &harness{
		t: t, dest: d, track: NewTrack(s, d), done: make(chan error, 1),
		flow: NewFlow(sdk.Flow{Name: "f"}, account.Flow(sdk.Origin{}, "f"), 1),
	}
	go func() { h.done <- h.track.Run(t.Context()) }()
	return h
}

// push hands over a batch of n messages of ten bytes each.
func (h *harness) push(n int) {
	buffer := &memory{bytes: make([]byte, 10*n)}
	h.buffers = append(h.buffers, buffer)
	b := &Batch{Ids: checkpoint.Range{First: h.next + 1, Last: h.next + uint64(n)}, Flow: h.flow, Encoded: buffer}
	h.next = b.Ids.Last
	b.Open(1, func(b *Batch) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.confirmed = append(h.confirmed, b.Ids.Last)
	})
	h.track.Claim(b)
	require.NoError(h.t, h.track.Push(h.t.Context(), b))
	b.Release()
}

// finish ends the queue and waits for the track; everything must be confirmed and
// every buffer released exactly once.
func (h *harness) finish() {
	h.t.Helper()
	h.track.CloseQueue()
	require.NoError(h.t, <-h.done)
	require.Equal(h.t, h.next, h.delivered())
	require.Zero(h.t, h.track.Pending())
	require.Len(h.t, h.safe(), len(h.buffers))
	for i, b := range h.buffers {
		require.Equal(h.t, 1, b.released, "buffer %d", i)
	}
}

func (h *harness) delivered() uint64 { return h.flow.Account.Tracks[0].Delivered.Load() }

func (h *harness) safe() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.confirmed
}
