package delivery

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// ackSpacing is the least time between checkpoints that sources ask for.
const ackSpacing = 200 * time.Millisecond

// laggingInterval is the longest time between checkpoints while batches are in
// memory only because the disk lags.
const laggingInterval = 2 * time.Second

// laneSettings are what the lanes of a track differ in.
type laneSettings struct {
	name        string // added to the track's in logs
	queue       channel.Size
	streamBytes int  // after which a checkpoint is due; 0: no limit
	memory      int  // bytes that may be sent and not confirmed; 0: they are not kept
	evict       bool // the queue drops the oldest
	lazy        bool // a stream is open only while there is something to send
}

// item is a batch in the queue of a lane.
type item struct {
	batch    *Batch
	filtered bool   // the track does not take it: it only passes by
	group    uint64 // what goes in a stream of its own, together; 0: with everything
	last     bool   // of its group
}

// lane is one Deliver call of a track with its queue, its streams and everything
// that they have not confirmed.
type lane struct {
	track     *Track
	settings  laneSettings
	transport Transport
	queue     *channel.Queue[item]
	wanted    atomic.Uint64 // a source wants the confirmation of this id soon
	flush     atomic.Bool   // what is sent is to be confirmed once the queue is empty
	holding   atomic.Bool   // it backs off
	wake      chan struct{} // holds a token after a change of wanted or flush

	events   chan Event // from the receiver
	commands chan func(context.Context) error
	failed   chan error // from receiver or sender; the plugin is gone

	mu struct { // what a census and a status read
		sync.Mutex
		entries     []*entry       // kept until they are confirmed, in the order of their ids
		owned       checkpoint.Set // in the queue, or in a stream that may still confirm them in time
		state       State
		codes       map[codes.Code]uint64 // how streams ended
		answerTimes *telemetry.Histogram
	}

	// Owned by run.
	machine     *checkpoint.Machine
	resend      []*entry
	streams     map[uint64]*sent
	outbox      []func(context.Context) error
	deadlines   map[uint64]time.Time
	began       time.Time // when the current stream got its first entry
	urgent      bool      // a checkpoint is wanted at once
	lastAsked   time.Time // checkpoint asked for by a source
	handed      uint64    // greatest id handed to a stream
	asked       uint64    // greatest id that a checkpoint was asked for
	unconfirmed int       // bytes of entries that are kept
	backoff     backoff.Backoff
	retryAt     time.Time  // zero: not backing off
	logged      string     // failure that was logged last
	failure     *sdk.Error // of the stream that ended last; nil: it did not fail
	hung        error      // the transport owes an answer and gives none
}

func newLane(t *Track, settings laneSettings, transport Transport) *lane {
	l := &lane{
		track:     t,
		settings:  settings,
		transport: transport,
		wake:      make(chan struct{}, 1),
		events:    make(chan Event),
		commands:  make(chan func(context.Context) error),
		failed:    make(chan error, 2),
		machine: checkpoint.NewMachine(checkpoint.Options{
			Overlap: t.settings.Overlap, Timeout: t.settings.Timeout, Linger: t.settings.Linger,
		}),
		streams:   map[uint64]*sent{},
		deadlines: map[uint64]time.Time{},
		backoff:   backoff.New(t.settings.Retry),
	}
	l.mu.codes = map[codes.Code]uint64{}
	l.mu.answerTimes = telemetry.NewHistogram(telemetry.DiskBounds()...)
	l.queue = channel.NewQueue(settings.queue, func(i item) channel.Size {
		return channel.Size{Messages: int(i.batch.count()), Bytes: i.batch.Bytes()}
	})
	return l
}

// kept reports whether batches stay in memory until they are confirmed.
func (l *lane) kept() bool { return l.track.store == nil }

// push queues a batch; it waits while the queue is full.
func (l *lane) push(ctx context.Context, i item) error {
	i.batch.Retain()
	l.own(i.batch.Ids)
	if err := l.queue.Push(ctx, i); err != nil {
		l.leaveToStore(checkpoint.SetOf(i.batch.Ids))
		i.batch.Release()
		return err
	}
	return nil
}

// pushEvicting queues a batch at the cost of the oldest ones. A lane that is over
// takes none: its track ends.
func (l *lane) pushEvicting(i item) {
	i.batch.Retain()
	l.own(i.batch.Ids)
	evicted, err := l.queue.PushEvicting(i)
	if err != nil {
		evicted = []item{i}
	}
	for _, e := range evicted {
		if e.filtered {
			l.passBy(&entry{ids: e.batch.Ids, flow: e.batch.Flow, filtered: true})
			e.batch.Release()
			continue
		}
		l.note(func(s *State) { s.Evicted += e.batch.count() })
		l.leaveToStore(checkpoint.SetOf(e.batch.Ids))
		l.track.publish(control.CheckpointNeedsReingestion, checkpoint.SetOf(e.batch.Ids))
		e.batch.Release()
	}
}

func (l *lane) own(ids checkpoint.Range) {
	if l.kept() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.owned.Add(ids)
}

func (l *lane) disown(ids checkpoint.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.owned.RemoveSet(ids)
}

// leaveToStore disowns ids that are not confirmed: the store has them, or nothing has.
func (l *lane) leaveToStore(ids checkpoint.Set) {
	l.disown(ids)
	l.track.abandon(ids)
}

func (l *lane) owned() checkpoint.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.owned.Clone()
}

func (l *lane) wantAck(id uint64) {
	for {
		old := l.wanted.Load()
		if id <= old {
			return
		}
		if l.wanted.CompareAndSwap(old, id) {
			break
		}
	}
	l.signal()
}

// wantFlush asks for the confirmation of what is sent, once the queue is empty.
func (l *lane) wantFlush() {
	l.flush.Store(true)
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run delivers until the queue was closed and no stream is left that may confirm
// something, or until ctx is done or the transport is gone. It closes the transport.
func (l *lane) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { l.send(ctx) })
	tasks.Go(func() { l.receive(ctx) })
	err := l.loop(ctx)
	cancel()
	l.holding.Store(false) // the other lane goes on by itself
	l.transport.Close()
	l.queue.Close() // before the wait: who pushes must not wait for a lane that is over
	tasks.Wait()
	l.giveUp()
	return err
}

// giveUp drops the references on what is still here. What the track does not take has
// passed it by. The rest stays in the census: the store has it, and the next run sends it.
func (l *lane) giveUp() {
	left := l.releaseAll()
	for _, s := range l.streams {
		s.end()
		left = append(left, s.entries...)
	}
	if !l.kept() {
		l.passBy(left...)
	}
	l.leaveToStore(l.owned())
}

// releaseAll returns what was in the queue.
func (l *lane) releaseAll() (left []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ok := l.queue.Pop(); ok; i, ok = l.queue.Pop() {
		e := &entry{ids: i.batch.Ids, flow: i.batch.Flow, filtered: i.filtered}
		left = append(left, e)
		if l.kept() {
			e.batch = i.batch
			l.mu.entries = append(l.mu.entries, e)
		} else {
			i.batch.Release()
		}
	}
	for _, e := range l.mu.entries {
		e.batch.Release()
	}
	return left
}

// send carries out commands, which may block on the transport.
func (l *lane) send(ctx context.Context) {
	for {
		select {
		case command := <-l.commands:
			if err := command(ctx); err != nil {
				if ctx.Err() == nil {
					l.failed <- err
				}
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// receive brings events to the loop. Closing the transport ends it.
func (l *lane) receive(ctx context.Context) {
	for {
		event, err := l.transport.Recv()
		if err != nil {
			if ctx.Err() == nil {
				l.failed <- err
			}
			return
		}
		select {
		case l.events <- event:
		case <-ctx.Done():
		}
	}
}

func (l *lane) loop(ctx context.Context) error {
	notices := l.track.settings.Bus.Subscribe(l.track.settings.Index, control.SignalNextCheckpoint, control.BackupFull)
	defer notices.Close()
	if l.settings.lazy {
		l.machine.Hold()
	} else {
		l.do(l.machine.Start())
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.fill()
		if l.finished() {
			return nil
		}
		if l.hung != nil {
			return l.hung
		}
		now := time.Now()
		timer.Reset(l.nextDeadline(now).Sub(now))
		if err := l.wait(ctx, timer, notices); err != nil {
			return err
		}
	}
}

// wait does one thing that comes from outside.
func (l *lane) wait(ctx context.Context, timer *time.Timer, notices *control.Subscription) error {
	var commands chan<- func(context.Context) error
	var head func(context.Context) error
	if len(l.outbox) > 0 {
		commands, head = l.commands, l.outbox[0]
	}
	var ready <-chan struct{}
	if l.canTake() || l.isIdle() {
		ready = l.queue.Ready()
	}
	select {
	case commands <- head:
		l.outbox = l.outbox[1:]
	case event := <-l.events:
		l.answered(event)
	case <-ready:
	case <-l.wake:
	case <-notices.Ready():
		notices.Take()
		l.urgent = true
	case <-timer.C:
		l.expire(time.Now())
	case err := <-l.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// canTake reports whether a batch could be handed to a stream now.
func (l *lane) canTake() bool {
	return len(l.outbox) == 0 && l.machine.Current() != 0
}

// isIdle reports whether a lazy lane has no stream because it needs none.
func (l *lane) isIdle() bool {
	return l.settings.lazy && l.machine.Current() == 0 && l.retryAt.IsZero()
}

// fill hands the next batch to the current stream, asks for due checkpoints, and
// begins the end once there is nothing left to hand over.
func (l *lane) fill() {
	if _, waits := l.queue.Peek(); waits && l.isIdle() {
		l.do(l.machine.Release())
	}
	if l.canTake() {
		l.handNext()
	}
	l.checkpointIfDue(time.Now())
	if l.queue.Closed() && len(l.outbox) == 0 && l.nothingWaits() && l.machine.Current() != 0 {
		l.do(l.machine.Stop())
	}
}

func (l *lane) nothingWaits() bool {
	for len(l.resend) > 0 && l.resend[0].confirmed {
		l.resend = l.resend[1:]
	}
	return len(l.resend) == 0
}

// handNext hands over what is to be sent next: what must be sent again comes first.
func (l *lane) handNext() {
	if !l.nothingWaits() {
		e := l.resend[0]
		l.resend = l.resend[1:]
		e.waiting = false
		l.hand(e, e.batch)
		return
	}
	if l.settings.memory > 0 && l.unconfirmed >= l.settings.memory {
		return
	}
	s := l.streams[l.machine.Current()]
	if first, ok := l.queue.Peek(); !ok || len(s.entries) > 0 && s.group != first.group {
		s.whole = s.whole || ok // what does not go together waits for the next stream
		return
	}
	i, kept, ok := l.take()
	switch {
	case !ok:
	case kept != nil:
		l.unconfirmed += i.batch.Bytes()
		l.hand(kept, i.batch)
	case l.settled(i):
		s.whole = s.whole || i.last && len(s.entries) > 0
		i.batch.Release()
	default:
		s.group, s.whole = i.group, s.whole || i.last
		l.hand(&entry{ids: i.batch.Ids, flow: i.batch.Flow, filtered: i.filtered}, i.batch)
		i.batch.Release()
	}
}

// take takes a batch out of the queue. One that is kept gets its entry at the same
// moment, so that a census always sees it.
func (l *lane) take() (i item, kept *entry, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok = l.queue.Pop()
	if ok && l.kept() {
		kept = &entry{ids: i.batch.Ids, flow: i.batch.Flow, batch: i.batch}
		l.mu.entries = append(l.mu.entries, kept)
	}
	return i, kept, ok
}

// settled reports whether a batch was confirmed while it waited, by a late answer.
func (l *lane) settled(i item) bool {
	open := l.track.store.Unconfirmed(i.batch.Ids)
	if open.Empty() {
		l.disown(checkpoint.SetOf(i.batch.Ids))
		return true
	}
	return false
}

// hand gives a batch to the current stream.
func (l *lane) hand(e *entry, b *Batch) {
	stream := l.machine.Current()
	s := l.streams[stream]
	if len(s.entries) == 0 {
		l.began = time.Now()
	}
	s.add(e)
	l.handed = max(l.handed, e.ids.Last)
	if e.filtered {
		return
	}
	l.machine.Sent(e.ids)
	size := uint64(b.Bytes())
	s.bytes += int(size)
	s.messages += b.count()
	l.note(func(state *State) {
		state.Live.Messages += b.count()
		state.Live.Bytes += size
		state.Live.Stream = StreamState{Since: l.began, Messages: s.messages, Bytes: uint64(s.bytes)}
	})
	// A late answer of another stream may confirm the batch while it is being sent.
	// One that is never sent, at the end of run, is left to the garbage collector.
	b.Retain()
	l.command(func(ctx context.Context) error {
		defer b.Release()
		return l.transmit(ctx, s, stream, b)
	})
}

// transmit sends a batch. While the transport gives no credit it waits, but not for a
// stream that is to be given up: nothing else could be said to the transport.
func (l *lane) transmit(ctx context.Context, s *sent, stream uint64, b *Batch) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := l.transport.Send(waiting, stream, b)
	if s.life.Err() != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil // it is missing, and sent again with another stream
	}
	return err
}

// finished reports whether nothing follows, nothing is kept, and no stream is left
// whose answer may come in time.
func (l *lane) finished() bool {
	if !l.queue.Closed() {
		return false
	}
	if !l.kept() && !l.retryAt.IsZero() { // the other lane waits with this one
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.entries) == 0 && l.machine.Current() == 0 && len(l.outbox) == 0 && l.machine.Waiting() == 0
}
