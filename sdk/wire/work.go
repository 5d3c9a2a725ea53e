package wire

import (
	"context"
	"errors"
	"sync"
)

var errDrained = errors.New("the plugin has been drained")

// work counts what a plugin holds and must finish before it has drained.
type work struct {
	mu struct {
		sync.Mutex
		held   int
		sealed bool
		idle   chan struct{} // closed when nothing is held; nil: nobody waits
	}
}

// begin counts something to be finished. It fails after seal.
func (w *work) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.sealed {
		return errDrained
	}
	w.mu.held++
	return nil
}

// end says that n things are finished.
func (w *work) end(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.held -= n
	if w.mu.held == 0 && w.mu.idle != nil {
		w.mu.sealed = true
		close(w.mu.idle)
		w.mu.idle = nil
	}
}

// seal waits until nothing is held; from then on nothing begins. Only one
// goroutine calls it.
func (w *work) seal(ctx context.Context) error {
	w.mu.Lock()
	if w.mu.sealed || w.mu.held == 0 {
		w.mu.sealed = true
		w.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	w.mu.idle = idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// queue hands things from the goroutine that reads a stream, which must never
// wait, to the one that works on them. The sender's credit bounds it.
type queue[T any] struct {
	wake chan struct{} // holds a token while there may be something to take
	mu   struct {
		sync.Mutex
		items  []T
		closed bool
		err    error // why it was closed; nil: a good end
	}
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

// push reports false if nobody will take the item any more.
func (q *queue[T]) push(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return false
	}
	q.mu.items = append(q.mu.items, item)
	q.signal()
	return true
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// peek returns the next item, if there is one, and leaves it there.
func (q *queue[T]) peek() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 {
		return item, false
	}
	return q.mu.items[0], true
}

// take returns the next item, if there is one.
func (q *queue[T]) take() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.items) == 0 {
		return item, false
	}
	item = q.mu.items[0]
	var zero T
	q.mu.items[0] = zero
	q.mu.items = q.mu.items[1:]
	return item, true
}

// next waits for an item. After close it returns what is left, then false.
func (q *queue[T]) next() (item T, ok bool) {
	for {
		if item, ok := q.take(); ok {
			return item, true
		}
		if closed, _ := q.end(); closed {
			return q.take() // what came in between
		}
		<-q.wake
	}
}

// end tells whether the queue was closed, and why.
func (q *queue[T]) end() (closed bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.closed, q.mu.err
}

// close lets nothing more in.
func (q *queue[T]) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.mu.closed {
		q.mu.closed, q.mu.err = true, err
	}
	q.signal()
}
