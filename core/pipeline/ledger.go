package pipeline

import (
	"sync"
	"time"
)

// ledger knows which batches of a source are settled: safe or refused, in whatever
// order that happens. Sequences count from 1 without holes.
type ledger struct {
	mu struct {
		sync.Mutex
		through uint64      // everything up to it is settled
		open    []openBatch // what is not settled, for through+1, through+2, …
	}
	// moved holds a token after through has changed.
	moved chan struct{}
}

// openBatch is a batch of a source that is not settled.
type openBatch struct {
	parts int
	since time.Time
}

func newLedger() *ledger { return &ledger{moved: make(chan struct{}, 1)} }

// begin notes the next batch with the number of parts that it is cut into.
func (l *ledger) begin(parts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open = append(l.mu.open, openBatch{parts, time.Now()})
	l.advance()
}

// settle notes that one part of a batch is settled.
func (l *ledger) settle(sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open[sequence-l.mu.through-1].parts--
	l.advance()
}

// advance moves through past settled batches. The lock is held.
func (l *ledger) advance() {
	n := 0
	for n < len(l.mu.open) && l.mu.open[n].parts == 0 {
		n++
	}
	if n == 0 {
		return
	}
	l.mu.open = l.mu.open[n:]
	l.mu.through += uint64(n)
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// settled returns the sequence up to which everything is settled.
func (l *ledger) settled() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.through
}

// allSettled reports whether nothing is open.
func (l *ledger) allSettled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.open) == 0
}

// oldest returns since when the oldest batch is open; the zero time if none is.
func (l *ledger) oldest() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.open) == 0 {
		return time.Time{}
	}
	return l.mu.open[0].since
}
