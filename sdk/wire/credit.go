package wire

import (
	"context"
	"fmt"
	"sync"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
)

// Payloads that travel inline, and what a sender may have under way.
const (
	inlineBytes   = 4 << 10 // payloads up to this size travel inline in any case
	windowBatches = 64
	windowBytes   = 4 << 20
)

// totals counts payloads since a stream began.
type totals struct{ batches, bytes uint64 }

func (t *totals) add(n int) {
	t.batches++
	t.bytes += uint64(n)
}

// reached reports whether nothing more may be sent. As the contract counts, the
// last payload may go beyond the total of bytes.
func (t totals) reached(limit totals) bool {
	return t.batches >= limit.batches || t.bytes >= limit.bytes
}

// gate makes a sender of inline payloads wait for the receiver's credit.
type gate struct {
	mu struct {
		sync.Mutex
		sent, granted totals
		more          chan struct{} // closed when credit comes; nil: nobody waits
	}
}

// try counts a payload of n bytes if it may be sent now.
func (g *gate) try(n int) bool {
	ok, _ := g.tryOrWait(n, false)
	return ok
}

// pass waits until a payload of n bytes may be sent, and counts it.
func (g *gate) pass(ctx context.Context, n int) error {
	for {
		ok, more := g.tryOrWait(n, true)
		if ok {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryOrWait counts the payload, or returns a channel that is closed when there is
// more credit, if the caller wants to wait.
func (g *gate) tryOrWait(n int, wait bool) (ok bool, more <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mu.sent.reached(g.mu.granted) {
		g.mu.sent.add(n)
		return true, nil
	}
	if wait && g.mu.more == nil {
		g.mu.more = make(chan struct{})
	}
	return false, g.mu.more
}

// grant takes the receiver's word. Totals only grow, so messages that overtook
// each other do no harm.
func (g *gate) grant(c *pb.Credit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.granted.batches = max(g.mu.granted.batches, c.GetBatches())
	g.mu.granted.bytes = max(g.mu.granted.bytes, c.GetBytes())
	if g.mu.more != nil {
		close(g.mu.more)
		g.mu.more = nil
	}
}

// window is the receiver's side of credit.
type window struct {
	received, consumed, granted totals
}

// open returns the first credit.
func (w *window) open() *pb.Credit {
	w.granted = totals{windowBatches, windowBytes}
	return w.credit()
}

func (w *window) credit() *pb.Credit {
	return &pb.Credit{Batches: w.granted.batches, Bytes: w.granted.bytes}
}

// receive counts a payload that came in; it fails if there was no credit for it.
func (w *window) receive(n int) error {
	if w.received.reached(w.granted) {
		return fmt.Errorf("%d payloads and %d bytes sent without credit", w.received.batches+1, w.received.bytes+uint64(n))
	}
	w.received.add(n)
	return nil
}

// consume counts a payload that was worked off, and returns new credit once a
// quarter of the window has been used up: nil until then.
func (w *window) consume(n int) *pb.Credit {
	w.consumed.add(n)
	next := totals{w.consumed.batches + windowBatches, w.consumed.bytes + windowBytes}
	if next.batches-w.granted.batches < windowBatches/4 && next.bytes-w.granted.bytes < windowBytes/4 {
		return nil
	}
	w.granted = next
	return w.credit()
}
