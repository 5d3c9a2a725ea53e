package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// Session is a running transport. It is used by one goroutine.
type Session interface {
	// Open begins a delivery stream; one at a time.
	Open(newConnection bool) error
	// Send hands a batch to the open stream and does not keep it. It waits for room.
	// ErrAnswered says that the stream has its answer already. Any other error ends
	// the session.
	Send(ctx context.Context, b *Batch) error
	// Finish returns nil if everything that was sent is confirmed, otherwise an
	// *sdk.Error that says why not; the stream is over then. Any other error ends the
	// session. Without a sign of life from the transport it gives up after patience.
	Finish(ctx context.Context, patience time.Duration) error
	// Full reports whether the session should be replaced before the next stream.
	Full() bool
	// Close ends the session and everything that belongs to it.
	Close()
}

// ErrAnswered is returned by Session.Send when the stream was answered before it was
// finished.
var ErrAnswered = errors.New("the stream has been answered")

// Bounds of what is announced in one session.
const (
	maxAnnounced      = 10_000
	maxAnnouncedBytes = 16 << 20
)

// abortPatience is how long a transport may take to answer that it gave up a stream.
const abortPatience = 15 * time.Second

// remote is a Session over the plugin contract.
type remote struct {
	stream *wire.DeliverStream
	format string
	clean  func(error) error
	done   func()
	cancel context.CancelFunc
	reader sync.WaitGroup
	ended  chan struct{} // closed when the call has ended
	err    error         // why; before ended is closed

	numbers map[announcedFlow]uint32
	bytes   int // of names that were announced
	current *conversation
	last    uint64

	mu struct {
		sync.Mutex
		waiting map[uint64]*conversation // by number; those without answer
	}
}

// conversation is one delivery stream.
type conversation struct {
	number uint64
	life   context.Context // until it is answered
	end    context.CancelFunc
	moved  chan struct{} // capacity 1: there was progress
	answer *wire.Answer  // before life ends
}

// SessionSettings say how a plugin is used.
type SessionSettings struct {
	Region *shm.Region // nil: payloads travel inline
	Format string      // of the messages
	// Clean names the plugin in an error of a call, and takes secrets out of it.
	// *sdk.Errors stay such. Nil: errors stay as they are.
	Clean func(error) error
	// Closed is called at the end of Close; it may be nil.
	Closed func()
}

// NewSession begins a Deliver call of a transport that is configured.
func NewSession(conn grpc.ClientConnInterface, s SessionSettings) (Session, error) {
	ctx, cancel := context.WithCancel(context.Background()) // until Close
	stream, err := wire.OpenDeliver(ctx, conn, s.Region)
	if err != nil {
		cancel()
		return nil, err
	}
	if s.Clean == nil {
		s.Clean = func(err error) error { return err }
	}
	r := &remote{
		stream: stream, format: s.Format, clean: s.Clean, done: s.Closed, cancel: cancel,
		ended: make(chan struct{}), numbers: map[announcedFlow]uint32{},
	}
	r.mu.waiting = map[uint64]*conversation{}
	r.reader.Go(r.receive)
	return r, nil
}

func (r *remote) Close() {
	r.cancel()
	r.reader.Wait()
	for _, c := range r.mu.waiting { // nobody else is left
		c.end()
	}
	if r.done != nil {
		r.done()
		r.done = nil
	}
}

func (r *remote) Full() bool { return len(r.numbers) > maxAnnounced || r.bytes > maxAnnouncedBytes }

// receive passes on what the plugin says until the call ends.
func (r *remote) receive() {
	defer close(r.ended)
	for {
		event, err := r.stream.Recv()
		if err != nil {
			r.err = err
			return
		}
		switch event := event.(type) {
		case *wire.StreamProgress:
			if c := r.take(event.Stream, false); c != nil {
				select {
				case c.moved <- struct{}{}:
				default:
				}
			}
		case *wire.Answer:
			if c := r.take(event.Stream, true); c != nil {
				c.answer = event
				c.end()
			}
		}
	}
}

func (r *remote) take(number uint64, remove bool) *conversation {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.mu.waiting[number]
	if remove {
		delete(r.mu.waiting, number)
	}
	return c
}

func (r *remote) Open(newConnection bool) error {
	r.last++
	c := &conversation{number: r.last, moved: make(chan struct{}, 1)}
	c.life, c.end = context.WithCancel(context.Background()) // ended by its answer
	r.mu.Lock()
	r.mu.waiting[c.number] = c
	r.mu.Unlock()
	r.current = c
	return r.failure(r.stream.Open(c.number, newConnection))
}

func (r *remote) Send(ctx context.Context, b *Batch) error {
	number, err := r.announce(b)
	if err != nil {
		return r.failure(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.current.life, cancel)()
	err = r.stream.Send(ctx, r.current.number, wire.Batch{
		Flow: number, Count: b.Count, MinTime: b.MinTime, MaxTime: b.MaxTime, Format: r.format, Payload: b.Body,
	}, b.Binding)
	if err != nil && (errors.Is(err, wire.ErrAnswered) || r.current.life.Err() != nil) {
		return ErrAnswered
	}
	return r.failure(err)
}

// failure is an error of a call as it is passed on.
func (r *remote) failure(err error) error {
	if err == nil {
		return nil
	}
	return r.clean(err)
}

// announce returns the number of the flow. Of a flow that is not known but by name
// one channel is made up: the contract has no flow without.
func (r *remote) announce(b *Batch) (uint32, error) {
	key := announcedFlow{name: b.Flow}
	flow := &sdk.Flow{Name: b.Flow, Channels: []sdk.Channel{{Name: "unknown", Type: sdk.Bytes}}}
	if b.Target != nil {
		key.known, key.origin, flow = true, b.Target.Flow.Origin, b.Target.Flow
	}
	if number := r.numbers[key]; number != 0 {
		return number, nil
	}
	number := uint32(len(r.numbers) + 1)
	if err := r.stream.Announce(number, flow); err != nil {
		return 0, err
	}
	r.numbers[key] = number
	r.bytes += len(b.Flow)
	return number, nil
}

// announcedFlow tells flows apart.
type announcedFlow struct {
	name   string
	known  bool
	origin sdk.Origin
}

func (r *remote) Finish(ctx context.Context, patience time.Duration) error {
	c := r.current
	if err := r.stream.Finish(c.number); err != nil && !errors.Is(err, wire.ErrAnswered) {
		return r.failure(err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-c.life.Done():
			return r.verdict(c.answer)
		case <-r.ended:
			return r.broken()
		case <-c.moved:
			timer.Reset(patience)
		case <-timer.C:
			return r.abort(c)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// abort gives a stream up. An answer that is under way still counts.
func (r *remote) abort(c *conversation) error {
	if err := r.stream.Abort(c.number); err != nil && !errors.Is(err, wire.ErrAnswered) {
		return r.failure(err)
	}
	timer := time.NewTimer(abortPatience)
	defer timer.Stop()
	select {
	case <-c.life.Done():
	case <-r.ended:
		return r.broken()
	case <-timer.C:
		return errors.New("the plugin does not answer: a delivery stream was given up, and it says nothing")
	}
	if c.answer.Outcome == wire.OutcomeAborted {
		return &sdk.Error{Class: sdk.ClassRetry, Code: codeDeadline, Message: "the destination did not answer in time"}
	}
	return r.verdict(c.answer)
}

// codeDeadline is DEADLINE_EXCEEDED.
const codeDeadline = 4

// broken is why the call has ended.
func (r *remote) broken() error { return r.failure(fmt.Errorf("the transport ended: %w", r.err)) }

func (r *remote) verdict(a *wire.Answer) error {
	switch a.Outcome {
	case wire.OutcomeConfirmed:
		return nil
	case wire.OutcomeFailed:
		return r.clean(a.Failure)
	case wire.OutcomeEndedEarly:
		return sdk.AsError(sdk.ErrEndedEarly)
	}
	return &sdk.Error{Class: sdk.ClassRetry, Code: sdk.CodeUnknown, Message: "the stream was given up"}
}
