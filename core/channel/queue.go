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
	if !q.fits(size) && len(q.mu.items) > 0 {
		return q.mu.room, nil
	}
	q.append(item, size)
	return nil, nil
}

// PushEvicting appends an item without waiting. It returns the oldest items, which
// it takes out to make room.
func (q *Queue[T]) PushEvicting(item T) (evicted []T, err error) {
	size := q.size(item)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return nil, ErrClosed
	}
	for !q.fits(size) && len(q.mu.items) > 0 {
		evicted = append(evicted, q.takeFirst())
	}
	q.append(item, size)
	return evicted, nil
}

// fits, append and takeFirst need the lock.
func (q *Queue[T]) fits(size Size) bool {
	return q.mu.used.Messages+size.Messages <= q.limit.Messages && q.mu.used.Bytes+size.Bytes <= q.limit.Bytes
}

func (q *Queue[T]) append(item T, size Size) {
	q.mu.items = append(q.mu.items, item)
	q.mu.used.Messages += size.Messages
	q.mu.used.Bytes += size.Bytes
	q.signal()
}

func (q *Queue[T]) takeFirst() T {
	item := q.mu.items[0]
	var none T
	q.mu.items[0] = none
	q.mu.items = q.mu.items[1:]
	size := q.size(item)
	q.mu.used.Messages -= size.Messages
	q.mu.used.Bytes -= size.Bytes
	return item
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
	item = q.takeFirst()
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

// Peek returns the oldest item without taking it out; ok is false if there is none.
func (q *Queue[T]) Peek() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 {
		return item, false
	}
	return q.mu.items[0], true
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
