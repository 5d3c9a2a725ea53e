package pipeline

import "sync"

// ledger knows which batches of a source are settled: safe or refused, in whatever
// order that happens. Sequences count from 1 without holes.
type ledger struct {
	mu struct {
		sync.Mutex
		through uint64 // everything up to it is settled
		open    []int  // parts that are not settled, for through+1, through+2, …
	}
	// moved holds a token after through has changed.
	moved chan struct{}
}

func newLedger() *ledger { return &ledger{moved: make(chan struct{}, 1)} }

// begin notes the next batch with the number of parts that it is cut into.
func (l *ledger) begin(parts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open = append(l.mu.open, parts)
	l.advance()
}

// settle notes that one part of a batch is settled.
func (l *ledger) settle(sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open[sequence-l.mu.through-1]--
	l.advance()
}

// advance moves through past settled batches. The lock is held.
func (l *ledger) advance() {
	n := 0
	for n < len(l.mu.open) && l.mu.open[n] == 0 {
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
