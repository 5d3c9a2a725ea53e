package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipelined/pipelined/core/delivery"
)

// introductionGrace is how long data waits for destinations to be told of its flow,
// so that messages carry their ids from the first on.
const introductionGrace = 5 * time.Second

// introduction is flows that a destination is to be told of.
type introduction struct {
	flows []*delivery.Flow
	tried func() // called when that succeeded, or failed for the first time
}

// ask asks for an introduction; introduceFlows does it.
func (t *track) ask(flows []*delivery.Flow, tried func()) {
	if t.waiting.Load() != nil {
		tried() // the destination is away: this has to wait
		tried = func() {}
	}
	t.mu.Lock()
	t.mu.asked = append(t.mu.asked, introduction{flows, tried})
	t.mu.Unlock()
	select {
	case t.introduce <- struct{}{}:
	default:
	}
}

// introduceFlows tells the destination of flows, in the background, until ctx is done.
func (t *track) introduceFlows(ctx context.Context) {
	for {
		t.mu.Lock()
		asked := t.mu.asked
		t.mu.asked = nil
		t.mu.Unlock()
		var flows []*delivery.Flow
		for _, a := range asked {
			flows = append(flows, a.flows...)
		}
		tried := func() {
			for _, a := range asked {
				a.tried()
			}
		}
		if len(flows) > 0 {
			// Without a store an error ends the pipeline; with one there is none but ctx's.
			_ = t.announceAll(ctx, flows, tried)
			tried()
			t.delivery.LookAgain()
		}
		select {
		case <-t.introduce:
		case <-ctx.Done():
			return
		}
	}
}

// introduceTo asks all destinations to be told of flows, and waits a moment for
// those that answer at once.
func (p *Pipeline) introduceTo(ctx context.Context, flows []*delivery.Flow) error {
	all := make(chan struct{})
	var open atomic.Int32
	open.Store(int32(len(p.tracks)))
	for _, t := range p.tracks {
		t.ask(flows, sync.OnceFunc(func() {
			if open.Add(-1) == 0 {
				close(all)
			}
		}))
	}
	select {
	case <-all:
	case <-time.After(introductionGrace):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
