package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
)

// Settings of a track.
type Settings struct {
	Name  string // "sift.live"
	Index int    // position among the pipeline's tracks
	// Queue bounds what waits to be sent.
	Queue channel.Size
	// Memory bounds the bytes that are sent and not confirmed. A checkpoint is due
	// when a stream has a quarter of it.
	Memory   int
	Interval time.Duration // between checkpoints
	Timeout  time.Duration // for the answer to a checkpoint
	Linger   time.Duration // how much longer a late answer is waited for
	Overlap  bool
	Retry    Retry
	Logger   *slog.Logger
}

// ackSpacing is the least time between checkpoints that sources ask for.
const ackSpacing = 200 * time.Millisecond

// Track delivers batches to one destination.
type Track struct {
	settings  Settings
	transport Transport
	queue     *channel.Queue[*Batch]
	wanted    atomic.Uint64 // a source wants the confirmation of this id soon
	wake      chan struct{} // holds a token after a change of wanted

	events   chan Event // from the receiver
	commands chan func(context.Context) error
	failed   chan error // from receiver or sender; the plugin is gone

	mu struct { // what a census and a status read
		sync.Mutex
		entries []*entry // not confirmed, in the order of their ids
		state   State
	}

	// Owned by Run.
	machine     *checkpoint.Machine
	resend      []*entry
	streams     map[uint64]*sent
	outbox      []func(context.Context) error
	deadlines   map[uint64]time.Time
	checkpoint  time.Time // when the next one is due
	lastAsked   time.Time // checkpoint asked for by a source
	handed      uint64    // greatest id handed to a stream
	asked       uint64    // greatest id that a checkpoint was asked for
	unconfirmed int       // bytes in entries that are not in the queue
	backoff     backoff
	retryAt     time.Time // zero: not backing off
	logged      string    // failure that was logged last
	hung        error     // the transport owes an answer and gives none
}

// entry is a batch that the track has not seen confirmed.
type entry struct {
	batch     *Batch
	confirmed bool
	waiting   bool // in resend
}

// sent is what a stream was given.
type sent struct {
	entries  []*entry
	bytes    int
	finished atomic.Bool  // the transport was asked for the answer
	aborted  atomic.Int64 // when it was told to give up, ns since the Unix epoch; 0 = it was not

	life context.Context // ends when the stream is to be given up, or has ended
	end  context.CancelFunc
}

func newSent() *sent {
	s := &sent{}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// NewTrack returns a track; Run does its work.
func NewTrack(settings Settings, transport Transport) *Track {
	t := &Track{
		settings:  settings,
		transport: transport,
		wake:      make(chan struct{}, 1),
		events:    make(chan Event),
		commands:  make(chan func(context.Context) error),
		failed:    make(chan error, 2),
		machine: checkpoint.NewMachine(checkpoint.Options{
			Overlap: settings.Overlap, Timeout: settings.Timeout, Linger: settings.Linger,
		}),
		streams:   map[uint64]*sent{},
		deadlines: map[uint64]time.Time{},
		backoff:   backoff{policy: settings.Retry},
	}
	t.queue = channel.NewQueue(settings.Queue, func(b *Batch) channel.Size {
		return channel.Size{Messages: int(b.count()), Bytes: b.bytes()}
	})
	return t
}

// Name returns the track's name.
func (t *Track) Name() string { return t.settings.Name }

// Push hands a batch to the track; it waits while the track is full. A batch that
// the track does not take loses the track's reference.
func (t *Track) Push(ctx context.Context, b *Batch) error {
	t.account(b).Taken.Add(b.count())
	if err := t.queue.Push(ctx, b); err != nil {
		t.account(b).Taken.Add(-b.count())
		b.release()
		return fmt.Errorf("track %s: %w", t.settings.Name, err)
	}
	return nil
}

// WantAck asks for the confirmation of everything up to the id soon.
func (t *Track) WantAck(id uint64) {
	for {
		old := t.wanted.Load()
		if id <= old {
			return
		}
		if t.wanted.CompareAndSwap(old, id) {
			break
		}
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// CloseQueue says that no batch follows. Run returns when everything is confirmed.
func (t *Track) CloseQueue() { t.queue.Close() }

// Run delivers until the queue was closed and everything is confirmed, or until
// ctx is done or the transport is gone; then what is unconfirmed stays pending. It
// closes the transport.
func (t *Track) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { t.send(ctx) })
	tasks.Go(func() { t.receive(ctx) })
	err := t.loop(ctx)
	cancel()
	t.transport.Close()
	t.queue.Close() // before the wait: who pushes must not wait for a track that is over
	tasks.Wait()
	t.giveUp()
	return err
}

// giveUp drops the references on what is still unconfirmed. It stays in the census.
func (t *Track) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b, ok := t.queue.Pop(); ok; b, ok = t.queue.Pop() {
		t.mu.entries = append(t.mu.entries, &entry{batch: b})
	}
	for _, e := range t.mu.entries {
		e.batch.release()
	}
}

// send carries out commands, which may block on the transport.
func (t *Track) send(ctx context.Context) {
	for {
		select {
		case command := <-t.commands:
			if err := command(ctx); err != nil {
				if ctx.Err() == nil {
					t.failed <- err
				}
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// receive brings events to the loop. Closing the transport ends it.
func (t *Track) receive(ctx context.Context) {
	for {
		event, err := t.transport.Recv()
		if err != nil {
			if ctx.Err() == nil {
				t.failed <- err
			}
			return
		}
		select {
		case t.events <- event:
		case <-ctx.Done():
		}
	}
}

func (t *Track) loop(ctx context.Context) error {
	t.do(t.machine.Start())
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t.fill()
		if t.finished() {
			return nil
		}
		if t.hung != nil {
			return t.hung
		}
		now := time.Now()
		timer.Reset(t.nextDeadline(now).Sub(now))
		if err := t.wait(ctx, timer); err != nil {
			return err
		}
	}
}

// wait does one thing that comes from outside.
func (t *Track) wait(ctx context.Context, timer *time.Timer) error {
	var commands chan<- func(context.Context) error
	var head func(context.Context) error
	if len(t.outbox) > 0 {
		commands, head = t.commands, t.outbox[0]
	}
	var ready <-chan struct{}
	if t.canTake() {
		ready = t.queue.Ready()
	}
	select {
	case commands <- head:
		t.outbox = t.outbox[1:]
	case event := <-t.events:
		t.answered(event)
	case <-ready:
	case <-t.wake:
	case <-timer.C:
		t.expire(time.Now())
	case err := <-t.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// canTake reports whether a batch could be handed to a stream now.
func (t *Track) canTake() bool {
	return len(t.outbox) == 0 && t.machine.Current() != 0
}

// fill hands the next batch to the current stream, asks for due checkpoints, and
// begins the end once there is nothing left to hand over.
func (t *Track) fill() {
	if t.canTake() {
		if e := t.next(); e != nil {
			t.hand(e)
		}
	}
	t.checkpointIfDue(time.Now())
	if t.queue.Closed() && len(t.outbox) == 0 && t.nothingWaits() && t.machine.Current() != 0 {
		t.do(t.machine.Stop())
	}
}

func (t *Track) nothingWaits() bool {
	for len(t.resend) > 0 && t.resend[0].confirmed {
		t.resend = t.resend[1:]
	}
	return len(t.resend) == 0
}

// next returns what to send next: what must be sent again comes first.
func (t *Track) next() *entry {
	if !t.nothingWaits() {
		e := t.resend[0]
		t.resend = t.resend[1:]
		e.waiting = false
		return e
	}
	if t.unconfirmed >= t.settings.Memory {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.queue.Pop()
	if !ok {
		return nil
	}
	e := &entry{batch: b}
	t.mu.entries = append(t.mu.entries, e)
	t.unconfirmed += b.bytes()
	return e
}

// hand gives an entry to the current stream.
func (t *Track) hand(e *entry) {
	stream := t.machine.Current()
	t.machine.Sent(e.batch.Ids)
	s := t.streams[stream]
	if len(s.entries) == 0 {
		t.checkpoint = time.Now().Add(t.settings.Interval)
	}
	s.entries = append(s.entries, e)
	s.bytes += e.batch.bytes()
	t.handed = max(t.handed, e.batch.Ids.Last)
	// A late answer of another stream may confirm the batch while it is being sent.
	// One that is never sent, at the end of Run, is left to the garbage collector.
	e.batch.retain()
	t.command(func(ctx context.Context) error {
		defer e.batch.release()
		return t.transmit(ctx, s, stream, e.batch)
	})
}

// transmit sends a batch. While the transport gives no credit it waits, but not for a
// stream that is to be given up: nothing else could be said to the transport.
func (t *Track) transmit(ctx context.Context, s *sent, stream uint64, b *Batch) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := t.transport.Send(waiting, stream, b)
	if s.life.Err() != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil // it is missing, and sent again with another stream
	}
	return err
}

// checkpointIfDue asks for an answer when time, memory or a source wants it.
func (t *Track) checkpointIfDue(now time.Time) {
	s := t.streams[t.machine.Current()]
	if s == nil || len(s.entries) == 0 {
		return
	}
	switch {
	case s.bytes >= t.settings.Memory/4, !now.Before(t.checkpoint):
	case t.ackWanted() && !now.Before(t.lastAsked.Add(ackSpacing)):
		t.lastAsked = now
	default:
		return
	}
	t.asked = t.handed
	t.do(t.machine.Checkpoint())
}

// ackWanted reports whether a source waits for ids that are all handed over and
// that no checkpoint was asked for.
func (t *Track) ackWanted() bool {
	wanted := t.wanted.Load()
	return wanted > t.asked && t.nothingWaits() && (t.handed >= wanted || t.queue.Used().Messages == 0)
}

// answered handles the end of a stream.
func (t *Track) answered(event Event) {
	// The machine counts a stream as finished when it decides so; what is still on
	// its way to the transport then is not covered by an OK that comes before it.
	if s := t.streams[event.Stream]; s != nil && event.Outcome == checkpoint.Confirmed && !s.finished.Load() {
		event.Outcome = checkpoint.EndedEarly
	}
	if event.Outcome == checkpoint.Confirmed {
		t.backoff.reset()
		t.logged = ""
	} else {
		t.hold(time.Now(), event)
	}
	t.do(t.machine.Answered(event.Stream, event.Outcome))
	if s := t.streams[event.Stream]; s != nil {
		s.end()
	}
	delete(t.streams, event.Stream)
	delete(t.deadlines, event.Stream)
	t.noteAnswer(event)
}

// hold backs off: no new stream opens before the time is over.
func (t *Track) hold(now time.Time, event Event) {
	if event.Outcome == checkpoint.Aborted {
		return
	}
	err := failureOf(event)
	delay := t.backoff.next(err)
	if err.Message != t.logged {
		t.logged = err.Message // repeats are counted in State.Failures
		t.settings.Logger.Warn("delivery stream ended", "track", t.settings.Name, "stream", event.Stream,
			"error", err.Text(), "retry_in", delay.String())
	}
	t.machine.Hold()
	if at := now.Add(delay); at.After(t.retryAt) {
		t.retryAt = at
	}
}

// expire does everything whose time has come.
func (t *Track) expire(now time.Time) {
	if !t.retryAt.IsZero() && !now.Before(t.retryAt) {
		t.retryAt = time.Time{}
		t.do(t.machine.Release())
	}
	for stream, at := range t.deadlines {
		if !now.Before(at) {
			delete(t.deadlines, stream)
			t.do(t.machine.Expired(stream))
		}
	}
}

// nextDeadline returns when expire or a due checkpoint has something to do.
func (t *Track) nextDeadline(now time.Time) time.Time {
	next := now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if !t.retryAt.IsZero() {
		sooner(t.retryAt)
	}
	for _, at := range t.deadlines {
		sooner(at)
	}
	if s := t.streams[t.machine.Current()]; s != nil && len(s.entries) > 0 && !t.machine.Full() {
		sooner(t.checkpoint)
		if t.ackWanted() {
			sooner(t.lastAsked.Add(ackSpacing))
		}
	}
	return next
}

// finished reports whether everything is confirmed and nothing follows.
func (t *Track) finished() bool {
	if !t.queue.Closed() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.mu.entries) == 0 && t.machine.Current() == 0 && len(t.outbox) == 0 && t.machine.Waiting() == 0
}
