package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultGather is how long rows are gathered before a batch is emitted.
const DefaultGather = 5 * time.Millisecond

// gatherBytes is the size at which gathered rows are emitted at once.
const gatherBytes = 64 << 10

// Gatherer collects rows of several flows and emits them as batches: after a quiet
// interval the first row goes at once, then at most one emission in that interval,
// or when 64 KiB have gathered. With an interval of 0 every row goes at once.
//
// It may be used from many goroutines. An emission that fails is the end of it:
// all calls return its error. Close emits the rest and joins its timer.
type Gatherer struct {
	out      Output
	interval time.Duration
	timers   sync.WaitGroup

	// turn holds a token while somebody uses mu. It is a lock that one can stop
	// waiting for: an emission has it for as long as the host gives no credit,
	// because the order of rows matters more than waiting.
	turn chan struct{}
	mu   struct {
		flows    []*gathered // in order of their announcement
		byFlow   map[FlowNumber]*gathered
		bytes    int
		position []byte
		quiet    time.Time // an emission before this waits
		timer    *time.Timer
		armed    bool
		err      error
		sequence uint64
	}
}

type gathered struct {
	number FlowNumber
	rows   *Builder
}

var errClosed = errors.New("the gatherer is closed")

// NewGatherer returns a gatherer that emits to out.
func NewGatherer(out Output, interval time.Duration) *Gatherer {
	g := &Gatherer{out: out, interval: interval, turn: make(chan struct{}, 1)}
	g.mu.byFlow = map[FlowNumber]*gathered{}
	return g
}

// lock waits for the turn until ctx is done.
func (g *Gatherer) lock(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gatherer) unlock() { <-g.turn }

// Announce announces a flow and returns its number.
func (g *Gatherer) Announce(flow Flow) (FlowNumber, error) {
	number, err := g.out.Announce(flow)
	if err != nil {
		return 0, err
	}
	g.turn <- struct{}{}
	defer g.unlock()
	if g.mu.byFlow[number] == nil {
		f := &gathered{number: number, rows: NewBuilder(&flow)}
		g.mu.byFlow[number] = f
		g.mu.flows = append(g.mu.flows, f)
	}
	return number, nil
}

// Row adds a row: set puts its values into the builder, whose row is begun; it may
// be called a second time for the same row. Position is where to go on after this
// row; nil keeps the last one. Ctx is that of the source's Run: a later emission
// uses it as well. A row that is too large for a payload is refused by Dropped and
// is no error.
func (g *Gatherer) Row(ctx context.Context, flow FlowNumber, at int64, position []byte, set func(*Builder)) error {
	if err := g.lock(ctx); err != nil {
		return err
	}
	defer g.unlock()
	if g.mu.err != nil {
		return g.mu.err
	}
	f := g.mu.byFlow[flow]
	if f == nil {
		return fmt.Errorf("flow %d was not announced to the gatherer", flow)
	}
	if err := g.add(ctx, f, at, set); err != nil {
		return err
	}
	if position != nil {
		g.mu.position = append([]byte{}, position...)
	}
	wait := time.Until(g.mu.quiet)
	if wait <= 0 || g.interval <= 0 || g.mu.bytes >= gatherBytes {
		return g.flush(ctx)
	}
	g.arm(ctx, wait)
	return nil
}

// add appends the row, after the others have been emitted if there is no room.
func (g *Gatherer) add(ctx context.Context, f *gathered, at int64, set func(*Builder)) error {
	if f.rows.Full() {
		if err := g.flush(ctx); err != nil {
			return err
		}
	}
	before := f.rows.Bytes()
	f.rows.Row(at)
	set(f.rows)
	if f.rows.TooLarge() && f.rows.Rows() > 1 {
		f.rows.DropRow()
		if err := g.flush(ctx); err != nil {
			return err
		}
		before = 0
		f.rows.Row(at)
		set(f.rows)
	}
	if f.rows.TooLarge() {
		reason := fmt.Sprintf("the row takes more than %d bytes", MaxPayloadBytes)
		f.rows.DropRow()
		return g.out.Dropped(Dropped{Flow: f.number, Rows: 1, Reason: reason, From: at, To: at, Refused: true})
	}
	g.mu.bytes += f.rows.Bytes() - before
	return nil
}

// arm makes sure that what is gathered goes out after wait.
func (g *Gatherer) arm(ctx context.Context, wait time.Duration) {
	if g.mu.armed {
		return
	}
	g.mu.armed = true
	g.timers.Add(1)
	g.mu.timer = time.AfterFunc(wait, func() {
		defer g.timers.Done()
		g.turn <- struct{}{}
		defer g.unlock()
		g.mu.armed = false
		if g.mu.err != nil || g.mu.bytes == 0 {
			return
		}
		if wait := time.Until(g.mu.quiet); wait > 0 { // much has come and gone meanwhile
			g.arm(ctx, wait)
			return
		}
		_ = g.flush(ctx) // kept for the next call
	})
}

// Flush emits what is gathered and returns the sequence of the last batch.
func (g *Gatherer) Flush(ctx context.Context) (uint64, error) {
	if err := g.lock(ctx); err != nil {
		return 0, err
	}
	defer g.unlock()
	err := g.mu.err
	switch {
	case errors.Is(err, errClosed):
		err = nil
	case err == nil:
		err = g.flush(ctx)
	}
	return g.mu.sequence, err
}

// flush emits all flows. Only the last batch carries the position: it covers the
// others. Called by who has the turn.
func (g *Gatherer) flush(ctx context.Context) error {
	last := -1
	for i, f := range g.mu.flows {
		if f.rows.Rows() > 0 {
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	for i, f := range g.mu.flows[:last+1] {
		if f.rows.Rows() == 0 {
			continue
		}
		var position []byte
		if i == last {
			position = g.mu.position
		}
		sequence, err := g.out.Emit(ctx, f.number, f.rows, position)
		if err != nil {
			g.mu.err = err
			return err
		}
		g.mu.sequence = sequence
	}
	g.mu.bytes = 0
	g.mu.quiet = time.Now().Add(g.interval)
	return nil
}

// Close emits what is left and joins the timer; an emission that the timer has
// begun goes by the context of its Row. Rows that follow are refused with an
// error. It may come twice.
func (g *Gatherer) Close(ctx context.Context) error {
	g.turn <- struct{}{}
	err := g.mu.err
	switch {
	case errors.Is(err, errClosed):
		err = nil
	case err == nil:
		if err = g.flush(ctx); err == nil {
			g.mu.err = errClosed
		}
	}
	if g.mu.armed && g.mu.timer.Stop() {
		g.mu.armed = false
		g.timers.Done()
	}
	g.unlock()
	g.timers.Wait()
	return err
}
