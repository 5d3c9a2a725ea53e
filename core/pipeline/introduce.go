package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
)

// introductionGrace is how long data waits for destinations to be told of its flow,
// so that messages carry their ids from the first on.
const introductionGrace = 5 * time.Second

// introduction is flows that a destination is to be told of.
type introduction struct {
	flows []*delivery.Flow
	tried func() // called after each attempt
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

// introduceFlows tells the destination of flows, in the background, until ctx is
// done. It never gives up: their messages wait on the disk.
func (t *track) introduceFlows(ctx context.Context) {
	var waiting []introduction
	wait := backoff.New(backoff.Policy(t.block.Retry))
	for {
		waiting = append(waiting, t.takeAsked()...)
		before := len(waiting)
		waiting = t.introduceAll(ctx, waiting)
		if len(waiting) < before {
			t.delivery.LookAgain()
			wait.Reset()
		}
		var again <-chan time.Time
		asked := t.introduce
		if len(waiting) > 0 {
			asked = nil // what is asked for now waits, too
			again = time.After(wait.Next(0))
		}
		select {
		case <-asked:
		case <-again:
		case <-ctx.Done():
			for _, i := range waiting {
				i.tried()
			}
			return
		}
	}
}

// takeAsked returns what was asked for since the last call, by origin.
func (t *track) takeAsked() []introduction {
	t.mu.Lock()
	asked := t.mu.asked
	t.mu.asked = nil
	t.mu.Unlock()
	var out []introduction
	for _, a := range asked {
		groups := t.byOrigin(a.flows)
		if len(groups) == 0 {
			a.tried()
		}
		open := len(groups)
		for _, group := range groups {
			out = append(out, introduction{group, func() {
				if open--; open == 0 {
					a.tried()
				}
			}})
		}
	}
	return out
}

// introduceAll tries each introduction once, and returns those that have to wait. When
// the destination is away it tries no other.
func (t *track) introduceAll(ctx context.Context, all []introduction) (waiting []introduction) {
	var last error
	away := false
	for _, i := range all {
		if away {
			i.tried()
			waiting = append(waiting, i)
			continue
		}
		err := t.introduceOnce(ctx, i.flows)
		if err != nil {
			waiting = append(waiting, i)
			last = err
			away = sdk.AsError(err).Class != sdk.ClassPermanent
			if ctx.Err() == nil {
				t.noteWaiting(sdk.AsError(err).Text(), t.lastRefusal)
				t.lastRefusal = err
			}
		}
		i.tried()
	}
	if last == nil {
		t.waiting.Store(nil)
		t.lastRefusal = nil
	}
	return waiting
}

// introduceOnce tells the destination of flows of one origin. Flows that it cannot
// be told of are left out: they stay unbound.
func (t *track) introduceOnce(ctx context.Context, flows []*delivery.Flow) error {
	r := t.registration(flows)
	var kept []*delivery.Flow
	r.Flows = slices.DeleteFunc(r.Flows, func(f sdk.Flow) bool {
		flow := flows[0]
		flows = flows[1:]
		if err := f.Check(); err != nil { // its channels may have longer names now
			t.noteUnbound(map[string]string{f.Name: fmt.Sprintf("%v; see channel_names", err)})
			return true
		}
		kept = append(kept, flow)
		return false
	})
	if len(kept) == 0 {
		return nil
	}
	registered, err := t.try(ctx, r)
	if err != nil {
		return err
	}
	return t.bind(registered, kept)
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
