package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/telemetry"
)

// Settings of a track.
type Settings struct {
	Name  string // "sift.live"
	Index int    // position among the pipeline's tracks
	// Queue bounds what waits to be sent.
	Queue channel.Size
	// Memory bounds the bytes that are sent and not confirmed, without a store. A
	// checkpoint is due when a stream has a quarter of it.
	Memory   int
	Interval time.Duration // between checkpoints
	Timeout  time.Duration // for the answer to a checkpoint
	Linger   time.Duration // how much longer a late answer is waited for
	Overlap  bool
	Retry    backoff.Policy
	// Wants reports whether the track takes a flow; nil: it takes all. With a store
	// the others pass it by, counted as filtered.
	Wants func(*Flow) bool
	// Sendable reports whether a batch of a flow that the track takes can be sent now;
	// with a store only. The others wait there until LookAgain.
	Sendable func(*Batch) bool
	// Bury makes a message durable elsewhere that the destination refuses for good;
	// with a store only.
	Bury   func(*Batch, checkpoint.Letter) error
	Bus    *control.Bus
	Logger *slog.Logger
}

// Track delivers batches to one destination.
type Track struct {
	settings Settings
	store    Store // nil: a batch stays in memory until it is confirmed
	live     *lane
	again    *lane   // nil without a store
	feeder   *feeder // nil without a store
	ages     ages

	mu struct {
		sync.Mutex
		claimed checkpoint.Set // on their way to the live lane
		dropped []dropped      // gone from the store while a lane had them
	}
}

// dropped is ids of a flow that nothing but a lane has.
type dropped struct {
	flow *Flow
	ids  checkpoint.Set
}

// NewTrack returns a track that keeps batches in memory until they are confirmed.
// Run does its work.
func NewTrack(settings Settings, transport Transport) *Track {
	t := &Track{settings: settings}
	t.live = newLane(t, laneSettings{queue: settings.Queue, streamBytes: settings.Memory / 4, memory: settings.Memory}, transport)
	return t
}

// Bounds of re-ingestion: what may wait to be sent again, and after how much a
// stream is asked for its answer, so that progress is confirmed.
const (
	againQueueBytes  = 16 << 20
	againStreamBytes = 64 << 20
)

// NewStoredTrack returns a track over a store: it keeps nothing that is sent, and
// sends again what the store has and no lane owns. Each of the transports is one
// Deliver call.
func NewStoredTrack(settings Settings, store Store, live, again Transport) *Track {
	t := &Track{settings: settings, store: store}
	t.live = newLane(t, laneSettings{queue: settings.Queue, evict: true}, live)
	t.again = newLane(t, laneSettings{
		name:  " (again)",
		queue: channel.Size{Messages: settings.Queue.Messages, Bytes: againQueueBytes}, streamBytes: againStreamBytes, lazy: true,
	}, again)
	t.feeder = newFeeder(t)
	return t
}

// Name returns the track's name.
func (t *Track) Name() string { return t.settings.Name }

// Claim notes that a batch is about to be pushed. With a store this must happen
// before the store has the batch, so that it is not sent twice. Push or Unclaim
// follows.
func (t *Track) Claim(b *Batch) {
	t.account(b.Flow).Taken.Add(b.count())
	t.ages.note(b.Ids.First, time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.claimed.Add(b.Ids)
}

// Unclaim takes a claim back: nobody has the batch.
func (t *Track) Unclaim(b *Batch) {
	t.account(b.Flow).Taken.Add(-b.count())
	t.endClaim(b)
}

// Leave takes batches out of the account that are neither confirmed nor in the store.
// Run has ended.
func (t *Track) Leave(batches []*Batch) {
	kept := t.store.Missing() // what was written and could not be synced may be there
	for _, b := range batches {
		gone := t.store.Unconfirmed(b.Ids)
		gone.RemoveSet(kept)
		t.account(b.Flow).Taken.Add(-gone.Count())
	}
}

func (t *Track) endClaim(b *Batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.claimed.Remove(b.Ids)
}

// Push hands a claimed batch to the track. Without a store it waits while the track
// is full. With one it never waits, and what waits longest loses its place: it is
// read from the store later. A batch whose flow the destination does not know yet
// is left to the store as well.
func (t *Track) Push(ctx context.Context, b *Batch) error {
	if t.store == nil {
		if err := t.live.push(ctx, item{batch: b}); err != nil {
			t.Unclaim(b)
			return fmt.Errorf("track %s: %w", t.settings.Name, err)
		}
		t.endClaim(b)
		return nil
	}
	i := item{batch: b, filtered: !t.wants(b.Flow)}
	if i.filtered || t.settings.Sendable(b) {
		t.live.pushEvicting(i)
		t.endClaim(b)
		return nil
	}
	t.feeder.park(b)
	t.endClaim(b)
	t.abandon(checkpoint.SetOf(b.Ids))
	return nil
}

func (t *Track) wants(f *Flow) bool { return t.settings.Wants == nil || t.settings.Wants(f) }

// WantAck asks for the confirmation of everything up to the id soon.
func (t *Track) WantAck(id uint64) { t.live.wantAck(id) }

// CloseQueue says that no batch follows. Run returns when everything is confirmed.
func (t *Track) CloseQueue() { t.live.queue.Close() }

// Run delivers until the queue was closed and everything is confirmed, or until
// ctx is done or the transport is gone; then what is unconfirmed stays pending. It
// closes the transports.
func (t *Track) Run(ctx context.Context) error {
	if t.store == nil {
		return t.live.run(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var tasks sync.WaitGroup
	var once sync.Once
	var first error
	run := func(task func(context.Context) error) {
		tasks.Go(func() {
			if err := task(ctx); err != nil {
				once.Do(func() { first = err })
				cancel(err)
			}
		})
	}
	run(func(ctx context.Context) error {
		defer close(t.feeder.liveOver)
		return t.live.run(ctx)
	})
	run(t.again.run)
	run(t.feeder.run)
	tasks.Wait()
	return first
}

// LookAgain tells the track that the destination knows a flow that it did not know,
// or that the store has something from before.
func (t *Track) LookAgain() {
	if t.feeder != nil {
		t.feeder.unpark()
		t.publish(control.ReingestBackups, checkpoint.Set{})
	}
}

// Drop tells that ids of a flow are gone from the store. What no lane has of them
// is lost; a lane may still deliver what it has.
func (t *Track) Drop(flow *Flow, ids checkpoint.Set, reason string) {
	t.countLost(flow, t.keepDropped(flow, ids), reason)
}

// keepDropped notes those ids that a lane still has, and returns the others.
func (t *Track) keepDropped(flow *Flow, ids checkpoint.Set) (gone checkpoint.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A lane that lets go of ids looks for them in dropped after that: they are
	// either there then, or not owned here.
	owned := t.mu.claimed.Clone()
	owned.AddSet(t.live.owned())
	owned.AddSet(t.again.owned())
	var kept checkpoint.Set
	for r := range ids.Ranges() {
		open := t.store.Unconfirmed(r)
		gone.AddSet(open)
		kept.AddSet(open)
	}
	gone.RemoveSet(owned)
	kept.RemoveSet(gone)
	if !kept.Empty() {
		t.mu.dropped = append(t.mu.dropped, dropped{flow, kept})
	}
	return gone
}

// takeDropped returns those ids that are gone from the store, and forgets them.
func (t *Track) takeDropped(ids checkpoint.Set) []dropped {
	t.mu.Lock()
	defer t.mu.Unlock()
	var taken, left []dropped
	for _, d := range t.mu.dropped {
		var part checkpoint.Set
		for r := range ids.Ranges() {
			part.AddSet(d.ids.Within(r))
		}
		if !part.Empty() {
			taken = append(taken, dropped{d.flow, part})
			d.ids.RemoveSet(part)
		}
		if !d.ids.Empty() {
			left = append(left, d)
		}
	}
	t.mu.dropped = left
	return taken
}

// abandon counts as lost what is gone from the store, of ids that no lane has any more.
func (t *Track) abandon(ids checkpoint.Set) {
	for _, d := range t.takeDropped(ids) {
		t.countLost(d.flow, d.ids, reasonDropped)
	}
}

// countLost counts ids as lost that the store has given up.
func (t *Track) countLost(flow *Flow, ids checkpoint.Set, reason string) {
	if !ids.Empty() {
		t.feeder.forget(ids)
		t.account(flow).Lost.Add(reason, ids.Count())
	}
}

// Lose counts ids as lost that the store has and the track has not confirmed. From
// then on they are settled for it.
func (t *Track) Lose(flow *Flow, ids checkpoint.Set, reason string) {
	t.feeder.forget(ids)
	if fresh := t.store.Confirm(ids); !fresh.Empty() {
		t.account(flow).Lost.Add(reason, fresh.Count())
	}
}

// owned returns the ids that are queued, or in a stream that may still confirm them
// in time.
func (t *Track) owned() checkpoint.Set {
	t.mu.Lock()
	owned := t.mu.claimed.Clone()
	t.mu.Unlock()
	owned.AddSet(t.live.owned())
	if t.again != nil {
		owned.AddSet(t.again.owned())
	}
	return owned
}

func (t *Track) publish(kind control.Kind, ids checkpoint.Set) {
	t.settings.Bus.Publish(control.Notice{Kind: kind, Track: t.settings.Index, First: ids.First(), Last: ids.Last()})
}

func (t *Track) account(f *Flow) *telemetry.Track { return &f.Account.Tracks[t.settings.Index] }
