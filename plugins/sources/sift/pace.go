package siftserver

import (
	"context"
	"sync"
	"time"
)

// pacer lets streams emit: after a quiet interval a row goes at once, then what
// has gathered in all streams goes together, once in an interval.
type pacer struct {
	interval time.Duration // 0: every row goes at once
	wake     chan struct{}

	mu struct { // taken after rows.mu, never before
		sync.Mutex
		busy bool // an emission was less than an interval ago
		due  []*rows
	}
}

func newPacer(interval time.Duration) *pacer {
	return &pacer{interval: interval, wake: make(chan struct{}, 1)}
}

// now reports whether the stream may emit now. Otherwise its tick is called
// later, once.
func (p *pacer) now(r *rows) bool {
	if p.interval <= 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.busy {
		p.mu.due = append(p.mu.due, r)
		return false
	}
	p.mu.busy = true
	select {
	case p.wake <- struct{}{}:
	default: // still to be taken
	}
	return true
}

// run gives the ticks until ctx is done.
func (p *pacer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for busy := true; busy; {
			timer.Reset(p.interval)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			busy = p.round()
		}
	}
}

// round lets all streams emit that wait; it reports whether there were any.
func (p *pacer) round() bool {
	p.mu.Lock()
	due := p.mu.due
	p.mu.due = nil
	p.mu.busy = len(due) > 0
	p.mu.Unlock()
	for _, r := range due {
		r.tick()
	}
	return len(due) > 0
}
