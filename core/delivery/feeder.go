package delivery

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/sdk"
)

// Waits of the feeder for what nobody tells it: that the live queue has become
// shorter, and that a disk can be read again.
const (
	yieldInterval = 10 * time.Millisecond
	retryInterval = time.Second
)

// feeder brings what the store has and no lane owns to the second lane: the
// re-ingestion of a track.
type feeder struct {
	track    *Track
	liveOver chan struct{} // closed when the live lane has ended

	group uint64 // of the newest batches that went together; owned by run

	mu struct {
		sync.Mutex
		parked    checkpoint.Set // of flows that the destination does not know yet
		bisection *checkpoint.Bisection
	}
}

func newFeeder(t *Track) *feeder {
	f := &feeder{track: t, liveOver: make(chan struct{})}
	f.mu.bisection = checkpoint.NewBisection()
	return f
}

// run feeds until the live lane has ended and nothing is left for any lane.
func (f *feeder) run(ctx context.Context) error {
	t := f.track
	defer t.again.queue.Close()
	notices := t.settings.Bus.Subscribe(t.settings.Index,
		control.CheckpointNeedsReingestion, control.ReingestBackups, control.CheckpointComplete)
	defer notices.Close()
	retry := time.NewTimer(0)
	defer retry.Stop()
	liveOver := f.liveOver
	for {
		f.bury(ctx)
		missing, owned := f.missing()
		if liveOver == nil && missing.Empty() && owned.Empty() {
			return nil
		}
		fed, err := f.feed(ctx, missing)
		if err != nil {
			return err
		}
		if fed {
			continue
		}
		t.again.wantFlush()
		retry.Reset(retryInterval)
		select {
		case <-notices.Ready():
			notices.Take()
		case <-retry.C:
		case <-liveOver:
			liveOver = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// missing returns what the store has and no lane owns, and what the lanes own. What
// is owned is looked at before and after: in between, a lane may confirm something,
// or a new batch may come.
func (f *feeder) missing() (missing, owned checkpoint.Set) {
	owned = f.track.owned()
	missing = f.track.store.Missing()
	owned.AddSet(f.track.owned())
	missing.RemoveSet(owned)
	return missing, owned
}

// feed brings what can be sent of the missing ids to the lane, oldest first. It
// stops when the destination takes nothing.
func (f *feeder) feed(ctx context.Context, missing checkpoint.Set) (fed bool, err error) {
	f.mu.Lock()
	missing.RemoveSet(f.mu.parked)
	part, alone := f.mu.bisection.Next(missing)
	f.mu.Unlock()
	if part.Empty() || f.away() {
		return false, nil
	}
	group := uint64(0)
	if alone {
		f.group++
		group = f.group
	}
	f.track.again.flush.Store(false)
	reader := f.track.store.Read(part)
	defer reader.Close()
	var waiting *item // the newest batch: it may be the last of its group
	push := func(last bool) error {
		if waiting == nil {
			return nil
		}
		i := *waiting
		i.last, waiting, fed = last, nil, true
		return f.push(ctx, i)
	}
	for !f.away() {
		b, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if ctx.Err() != nil {
			if waiting != nil {
				waiting.batch.Release()
			}
			return fed, context.Cause(ctx)
		}
		if err != nil {
			f.track.settings.Logger.Error("backup cannot be read", "track", f.track.settings.Name, "error", err)
			continue
		}
		i := item{batch: b, filtered: !f.track.wants(b.Flow), group: group}
		if !i.filtered && !f.track.settings.Sendable(b) {
			f.park(b)
			b.Release()
			continue
		}
		if err := push(false); err != nil {
			b.Release()
			return fed, err
		}
		waiting = &i
	}
	return fed, push(true)
}

// push hands a batch to the lane, when the live lane leaves room for it.
func (f *feeder) push(ctx context.Context, i item) error {
	defer i.batch.Release()
	for f.liveIsBusy() {
		select {
		case <-time.After(yieldInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := f.track.again.push(ctx, i)
	if errors.Is(err, channel.ErrClosed) {
		<-ctx.Done() // the lane is over: its error ends the track
		return context.Cause(ctx)
	}
	return err
}

// liveIsBusy reports whether the live lane has more to send than it should wait for.
func (f *feeder) liveIsBusy() bool {
	live := f.track.live
	used, limit := live.queue.Used(), live.settings.queue
	return !live.holding.Load() && (used.Messages > limit.Messages/2 || used.Bytes > limit.Bytes/2)
}

// away reports whether the destination takes nothing at the moment.
func (f *feeder) away() bool { return f.track.live.holding.Load() || f.track.again.holding.Load() }

// park leaves a batch that cannot be sent aside until unpark.
func (f *feeder) park(b *Batch) {
	f.mu.Lock()
	f.mu.parked.Add(b.Ids)
	f.mu.Unlock()
	if f.track.settings.Sendable(b) { // since a moment ago: unpark may have come before
		f.track.LookAgain()
	}
}

func (f *feeder) unpark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.parked = checkpoint.Set{}
}

// confirmed tells the bisection what the destination has taken.
func (f *feeder) confirmed(ids checkpoint.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.bisection.Confirmed(ids)
}

// failed tells the bisection what was in a stream that the destination refused.
func (f *feeder) failed(ids checkpoint.Set, err *sdk.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.bisection.Failed(ids, checkpoint.Refusal{
		Permanent: err.Class == sdk.ClassPermanent, Code: uint32(err.Code), Text: err.Text(),
	})
}

// bury puts the messages that the destination refuses for good where people find
// them; from then on they are lost. One for which that fails stays pending, and is
// tried again.
func (f *feeder) bury(ctx context.Context) {
	f.mu.Lock()
	dead := f.mu.bisection.Dead()
	f.mu.Unlock()
	for _, letter := range dead {
		if err := f.buryOne(ctx, letter); err != nil && ctx.Err() == nil {
			f.track.settings.Logger.Error("a message that the destination refuses cannot be put aside",
				"track", f.track.settings.Name, "id", letter.ID, "error", err)
		}
	}
}

func (f *feeder) buryOne(ctx context.Context, letter checkpoint.Letter) error {
	ids := checkpoint.SetOf(checkpoint.Range{First: letter.ID, Last: letter.ID})
	reader := f.track.store.Read(ids)
	defer reader.Close()
	b, err := reader.Next(ctx)
	if errors.Is(err, io.EOF) { // it is gone from the store, and counted
		f.forget(ids)
		return nil
	}
	if err != nil {
		return err
	}
	defer b.Release()
	if err := f.track.settings.Bury(b, letter); err != nil {
		return err
	}
	f.track.settings.Logger.Error("the destination refuses a message for good; it is in the dead letter",
		"track", f.track.settings.Name, "flow", b.Flow.Flow.Name, "id", letter.ID, "error", letter.Text)
	f.track.Lose(b.Flow, ids, "refused by the destination: "+codes.Code(letter.Code).String())
	return nil
}

// forget tells the bisection that ids are settled.
func (f *feeder) forget(ids checkpoint.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.bisection.Forget(ids)
}
