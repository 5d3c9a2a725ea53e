package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// fakeStore keeps batches in memory.
type fakeStore struct {
	mu        sync.Mutex
	batches   []stored
	confirmed checkpoint.Set
	lost      checkpoint.Set
	damaged   checkpoint.Set // cannot be read, for good
	failing   int            // so many reads fail, and then succeed
	lagging   bool
	loseHole  func(*Flow, checkpoint.Set) // called for what is damaged, as the store of a pipeline does
	read      []*memory                   // of the batches that readers gave out
}

// stored is a batch in the store.
type stored struct {
	ids  checkpoint.Range
	flow *Flow
}

func (s *fakeStore) put(b *Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, stored{b.Ids, b.Flow})
}

// lose takes ids out; it returns those of them by flow that were still there.
func (s *fakeStore) lose(ids checkpoint.Range) map[*Flow]*checkpoint.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	losses := map[*Flow]*checkpoint.Set{}
	for _, b := range s.batches {
		gone := checkpoint.SetOf(b.ids).Within(ids)
		gone.RemoveSet(s.confirmed)
		gone.RemoveSet(s.lost)
		if gone.Empty() {
			continue
		}
		if losses[b.flow] == nil {
			losses[b.flow] = &checkpoint.Set{}
		}
		losses[b.flow].AddSet(gone)
		s.lost.AddSet(gone)
	}
	return losses
}

func (s *fakeStore) Missing() checkpoint.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing checkpoint.Set
	for _, b := range s.batches {
		missing.Add(b.ids)
	}
	missing.RemoveSet(s.confirmed)
	missing.RemoveSet(s.lost)
	return missing
}

func (s *fakeStore) Unconfirmed(r checkpoint.Range) checkpoint.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := checkpoint.SetOf(r)
	open.RemoveSet(s.confirmed)
	return open
}

func (s *fakeStore) Confirm(ids checkpoint.Set) checkpoint.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := ids.Clone()
	fresh.RemoveSet(s.confirmed)
	fresh.RemoveSet(s.lost)
	s.confirmed.AddSet(fresh)
	return fresh
}

func (s *fakeStore) Lagging() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lagging
}

func (s *fakeStore) setLagging(lagging bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lagging = lagging
}

func (s *fakeStore) Read(ids checkpoint.Set) Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &fakeReader{store: s, want: ids.Clone(), left: slices.Clone(s.batches)}
}

type fakeReader struct {
	store *fakeStore
	want  checkpoint.Set
	left  []stored
	ready []*Batch
}

var errUnreadable = errors.New("cannot be read")

func (r *fakeReader) Next(ctx context.Context) (*Batch, error) {
	for len(r.ready) == 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(r.left) == 0 {
			return nil, io.EOF
		}
		b := r.left[0]
		r.left = r.left[1:]
		if err := r.take(b); err != nil {
			return nil, err
		}
	}
	b := r.ready[0]
	r.ready = r.ready[1:]
	return b, nil
}

// take prepares what is wanted of a batch.
func (r *fakeReader) take(b stored) error {
	s := r.store
	s.mu.Lock()
	want := r.want.Within(b.ids)
	want.RemoveSet(s.lost)
	var hole checkpoint.Set
	for ids := range want.Ranges() {
		hole.AddSet(s.damaged.Within(ids))
	}
	want.RemoveSet(hole)
	failing := !want.Empty() && s.failing > 0
	if failing {
		s.failing--
	}
	s.mu.Unlock()
	if failing {
		return errUnreadable
	}
	for ids := range want.Ranges() {
		m := &memory{bytes: make([]byte, 10*ids.Count())}
		batch := &Batch{Ids: ids, Flow: b.flow, Encoded: m}
		batch.Open(1, func(*Batch) {})
		s.mu.Lock()
		s.read = append(s.read, m)
		s.mu.Unlock()
		r.ready = append(r.ready, batch)
	}
	if !hole.Empty() {
		s.loseHole(b.flow, hole)
		return errUnreadable
	}
	return nil
}

func (r *fakeReader) Close() {
	for _, b := range r.ready {
		b.Release()
	}
}

// storedHarness is a track over a store, with what feeds it.
type storedHarness struct {
	t           *testing.T
	track       *Track
	store       *fakeStore
	live, again *destination
	account     *telemetry.Account
	flows       []*Flow
	next        uint64
	buffers     []*memory
	done        chan error
	cancel      context.CancelCauseFunc

	mu     sync.Mutex
	buried []checkpoint.Letter
}

func storedSettings() Settings {
	s := settings()
	s.Sendable = func(*Batch) bool { return true }
	return s
}

// newStored prepares a track with some flows; begin starts it.
func newStored(t *testing.T, s Settings, flows int) *storedHarness {
	h := &storedHarness{
		t: t, store: &fakeStore{}, live: newDestination(), again: newDestination(), done: make(chan error, 1),
		account: telemetry.NewAccount([]string{s.Name}),
	}
	for i := range flows {
		name := fmt.Sprint("f", i)
		h.flows = append(h.flows, NewFlow(sdk.Flow{Name: name}, h.account.Flow(sdk.Origin{}, name), 1))
	}
	if s.Bury == nil {
		s.Bury = func(_ *Batch, l checkpoint.Letter) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.buried = append(h.buried, l)
			return nil
		}
	}
	h.track = NewStoredTrack(s, h.store, h.live, h.again)
	h.store.loseHole = func(f *Flow, ids checkpoint.Set) { h.track.Lose(f, ids, "not readable") }
	return h
}

func (h *storedHarness) begin() {
	ctx, cancel := context.WithCancelCause(h.t.Context())
	h.cancel = cancel
	h.t.Cleanup(func() { cancel(nil) })
	go func() { h.done <- h.track.Run(ctx) }()
}

func startStored(t *testing.T, s Settings, flows int) *storedHarness {
	h := newStored(t, s, flows)
	h.begin()
	return h
}

// batch returns the next batch of n messages of ten bytes each.
func (h *storedHarness) batch(flow, n int) *Batch {
	buffer := &memory{bytes: make([]byte, 10*n)}
	h.buffers = append(h.buffers, buffer)
	b := &Batch{Ids: checkpoint.Range{First: h.next + 1, Last: h.next + uint64(n)}, Flow: h.flows[flow], Encoded: buffer}
	h.next = b.Ids.Last
	b.Open(1, func(*Batch) {})
	return b
}

// push hands over a batch of n messages, as an admitter does.
func (h *storedHarness) push(flow, n int) {
	b := h.batch(flow, n)
	h.track.Claim(b)
	h.store.put(b)
	require.NoError(h.t, h.track.Push(h.t.Context(), b))
	b.Release()
}

// before puts a batch in the store that an earlier run has left.
func (h *storedHarness) before(flow, n int) {
	b := h.batch(flow, n)
	h.flows[flow].Account.Tracks[0].Taken.Add(uint64(n))
	h.store.put(b)
	b.Release()
}

// drop loses ids in the store, as when its disk is full.
func (h *storedHarness) drop(first, last uint64) {
	for flow, ids := range h.store.lose(checkpoint.Range{First: first, Last: last}) {
		h.track.Drop(flow, *ids, "dropped")
	}
}

// finish ends the queue and waits for the track: everything is settled, counted once,
// and given back.
func (h *storedHarness) finish() {
	h.t.Helper()
	h.end()
	require.Zero(h.t, h.track.Pending())
	h.requireBalanced()
	h.requireGivenBack()
}

// end ends the queue and waits for the track, an hour at most.
func (h *storedHarness) end() {
	h.t.Helper()
	h.track.CloseQueue()
	select {
	case err := <-h.done:
		require.NoError(h.t, err)
	case <-time.After(time.Hour):
		h.cancel(errors.New("the track does not end"))
		require.NoError(h.t, <-h.done)
	}
}

// requireBalanced holds that the account and the census agree.
func (h *storedHarness) requireBalanced() {
	h.t.Helper()
	taken, pending := uint64(0), uint64(0)
	for i, f := range h.account.Totals() {
		pending += f.Tracks[0].Pending
		taken += h.flows[i].Account.Tracks[0].Taken.Load()
		require.LessOrEqual(h.t, f.Tracks[0].Pending, h.next, "flow %s: more has left than came", f.Name)
	}
	require.Equal(h.t, h.next, taken)
	require.Equal(h.t, h.track.Pending(), pending)
}

// requireGivenBack holds that each payload was released once.
func (h *storedHarness) requireGivenBack() {
	h.t.Helper()
	for i, b := range slices.Concat(h.buffers, h.store.read) {
		require.Equal(h.t, 1, b.released, "buffer %d of %d, those behind the %dth were read", i, len(h.store.read), len(h.buffers))
	}
}

// counts are the sums over all flows.
func (h *storedHarness) delivered() (n uint64) {
	for _, f := range h.flows {
		n += f.Account.Tracks[0].Delivered.Load()
	}
	return n
}

func (h *storedHarness) filtered() (n uint64) {
	for _, f := range h.flows {
		n += f.Account.Tracks[0].Filtered.Load()
	}
	return n
}

func (h *storedHarness) lost() (n uint64) {
	for _, f := range h.flows {
		n += f.Account.Tracks[0].Lost.Total()
	}
	return n
}

// got returns what a destination got, ids in the order of the batches.
func (d *destination) got() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.received)
}

// set changes how the destination behaves.
func (d *destination) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// failing is an answer of a destination that cannot be reached.
func failing(stream uint64, aborted bool) (Event, bool) {
	if aborted {
		return Event{Stream: stream, Outcome: checkpoint.Aborted}, true
	}
	err := &sdk.Error{Class: sdk.ClassRetry, Code: uint32(codes.Unavailable), Message: "gone"}
	return Event{Stream: stream, Outcome: checkpoint.Failed, Err: err}, true
}

// working answers OK.
func working(stream uint64, aborted bool) (Event, bool) {
	if aborted {
		return Event{Stream: stream, Outcome: checkpoint.Aborted}, true
	}
	return ok(stream), true
}

// silent answers nothing but Abort.
func silent(stream uint64, aborted bool) (Event, bool) {
	return Event{Stream: stream, Outcome: checkpoint.Aborted}, aborted
}

// refusing refuses streams with poisoned messages for good.
func (d *destination) refusing(poison checkpoint.Set) func(uint64, bool) (Event, bool) {
	return func(stream uint64, aborted bool) (Event, bool) {
		event, now := working(stream, aborted)
		for r := range poison.Ranges() {
			if !aborted && d.streams[stream].Overlaps(r) {
				err := &sdk.Error{Class: sdk.ClassPermanent, Code: uint32(codes.InvalidArgument), Message: "bad value"}
				return Event{Stream: stream, Outcome: checkpoint.Failed, Err: err}, true
			}
		}
		return event, now
	}
}

// faults lets a destination fail at random, and notes what it promised.
type faults struct {
	random   *rand.Rand
	poison   checkpoint.Set
	promised checkpoint.Set
}

// faultsOf gives a destination random faults.
func faultsOf(d *destination, seed uint64, poison checkpoint.Set) *faults {
	f := &faults{random: rand.New(rand.NewPCG(seed, 1)), poison: poison}
	ended := map[uint64]bool{}
	end := func(e Event) Event {
		ended[e.Stream] = true
		if e.Outcome == checkpoint.Confirmed && d.finished[e.Stream] {
			f.promised.AddSet(*d.streams[e.Stream])
		}
		return e
	}
	d.onSend = func(stream uint64, _ *Batch) (Event, bool) {
		if ended[stream] || f.random.IntN(20) > 0 {
			return Event{}, false
		}
		return end(Event{Stream: stream, Outcome: checkpoint.EndedEarly + checkpoint.Outcome(f.random.IntN(2))}), true
	}
	refuse := d.refusing(poison)
	d.answer = func(stream uint64, aborted bool) (Event, bool) {
		switch {
		case ended[stream]:
			return Event{}, false
		case aborted:
			return end(Event{Stream: stream, Outcome: checkpoint.Aborted}), true
		case f.random.IntN(6) == 0:
			return end(Event{Stream: stream, Outcome: checkpoint.Failed}), true
		case f.random.IntN(10) == 0:
			return Event{}, false // never answers
		}
		event, _ := refuse(stream, false)
		if f.random.IntN(6) > 0 {
			return end(event), true
		}
		ended[stream] = true // late, or after it was given up
		late := time.After(time.Duration(f.random.IntN(45_000)) * time.Millisecond)
		go func() {
			select {
			case <-late:
			case <-d.closed:
				return
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events <- end(event)
		}()
		return Event{}, false
	}
	return f
}
