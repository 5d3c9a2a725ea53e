package channel

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
)

// ErrClosed is returned by Push after Close.
var ErrClosed = errors.New("queue is closed")

// Size is what an item counts for.
type Size struct {
	Messages int
	Bytes    int
}

// Queue holds items in order. It may be used from many goroutines.
type Queue[T any] struct {
	limit Size
	size  func(T) Size

	mu struct {
		sync.Mutex
		items  []T
		used   Size
		closed bool
		room   chan struct{} // closed when something was taken out
	}
	ready chan struct{} // holds a token while there may be items
}

// NewQueue returns an empty queue. An item that is larger than the limit by itself
// is still taken when the queue is empty.
func NewQueue[T any](limit Size, size func(T) Size) *Queue[T] {
	q := &Queue[T]{limit: limit, size: size, ready: make(chan struct{}, 1)}
	q.mu.room = make(chan struct{})
	return q
}

// Push appends an item; it waits while the queue is full.
func (q *Queue[T]) Push(ctx context.Context, item T) error {
	size := q.size(item)
	for {
		room, err := q.tryPush(item, size)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryPush returns a channel to wait on if there is no room.
func (q *Queue[T]) tryPush(item T, size Size) (<-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return nil, ErrClosed
	}
	fits := q.mu.used.Messages+size.Messages <= q.limit.Messages && q.mu.used.Bytes+size.Bytes <= q.limit.Bytes
	if !fits && len(q.mu.items) > 0 {
		return q.mu.room, nil
	}
	q.mu.items = append(q.mu.items, item)
	q.mu.used.Messages += size.Messages
	q.mu.used.Bytes += size.Bytes
	q.signal()
	return nil, nil
}

// Ready delivers a token when there may be an item, or when the queue was closed.
// One reader uses it together with Pop.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Pop takes the oldest item out; ok is false if there is none.
func (q *Queue[T]) Pop() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 {
		return item, false
	}
	item = q.mu.items[0]
	var none T
	q.mu.items[0] = none
	q.mu.items = q.mu.items[1:]
	size := q.size(item)
	q.mu.used.Messages -= size.Messages
	q.mu.used.Bytes -= size.Bytes
	close(q.mu.room)
	q.mu.room = make(chan struct{})
	if len(q.mu.items) > 0 || q.mu.closed {
		q.signal()
	}
	return item, true
}

// Close ends the queue for writers.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.mu.closed {
		q.mu.closed = true
		close(q.mu.room)
		q.mu.room = make(chan struct{})
		q.signal()
	}
}

// Closed reports whether the queue is closed and empty.
func (q *Queue[T]) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.closed && len(q.mu.items) == 0
}

// All yields what is in the queue without taking it out.
func (q *Queue[T]) All() iter.Seq[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Values(slices.Clone(q.mu.items))
}

// Used returns what is in the queue.
func (q *Queue[T]) Used() Size {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.used
}

func (q *Queue[T]) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
