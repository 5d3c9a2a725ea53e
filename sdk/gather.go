package sdk

import (
	"context"
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
// It may be used from many goroutines. Close emits the rest and joins its timer.
type Gatherer struct {
	out      Output
	interval time.Duration
	timer    *time.Timer
	timers   sync.WaitGroup

	mu struct {
		sync.Mutex
		flows    []*gathered // in order of their first row
		byFlow   map[FlowNumber]*gathered
		bytes    int
		position []byte
		quiet    time.Time // an emission before this waits
		armed    bool
		closed   bool
		err      error
		sequence uint64
	}
}

type gathered struct {
	number FlowNumber
	rows   *Builder
}

// NewGatherer returns a gatherer that emits to out.
func NewGatherer(out Output, interval time.Duration) *Gatherer {
	g := &Gatherer{out: out, interval: interval}
	g.mu.byFlow = map[FlowNumber]*gathered{}
	return g
}

// Announce announces a flow and returns its number.
func (g *Gatherer) Announce(flow Flow) (FlowNumber, error) {
	number, err := g.out.Announce(flow)
	if err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.byFlow[number] == nil {
		f := &gathered{number: number, rows: NewBuilder(&flow)}
		g.mu.byFlow[number] = f
		g.mu.flows = append(g.mu.flows, f)
	}
	return number, nil
}

// Row adds a row: set puts its values into the builder, whose row is begun.
// Position is where to go on after this row; nil keeps the last one. An error of
// an earlier emission is returned here.
func (g *Gatherer) Row(ctx context.Context, flow FlowNumber, at int64, position []byte, set func(*Builder)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.err != nil {
		return g.mu.err
	}
	rows := g.mu.byFlow[flow].rows
	if rows.Full() {
		if err := g.flush(ctx); err != nil {
			return err
		}
	}
	before := rows.Bytes()
	rows.Row(at)
	set(rows)
	g.mu.bytes += rows.Bytes() - before
	if position != nil {
		g.mu.position = append(g.mu.position[:0], position...)
	}
	wait := time.Until(g.mu.quiet)
	if wait <= 0 || g.interval <= 0 || g.mu.bytes >= gatherBytes {
		return g.flush(ctx)
	}
	g.arm(ctx, wait)
	return nil
}

// arm makes sure that what is gathered goes out after wait.
func (g *Gatherer) arm(ctx context.Context, wait time.Duration) {
	if g.mu.armed || g.mu.closed {
		return
	}
	g.mu.armed = true
	g.timers.Add(1)
	g.timer = time.AfterFunc(wait, func() {
		defer g.timers.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.mu.armed = false
		if g.mu.err == nil {
			g.mu.err = g.flush(ctx)
		}
	})
}

// Flush emits what is gathered and returns the sequence of the last batch.
func (g *Gatherer) Flush(ctx context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.err == nil {
		g.mu.err = g.flush(ctx)
	}
	return g.mu.sequence, g.mu.err
}

// flush emits all flows. Only the last batch carries the position: it covers the
// others. Called with the lock held, because order matters more than waiting.
func (g *Gatherer) flush(ctx context.Context) error {
	last := -1
	for i, f := range g.mu.flows {
		if f.rows.Rows() > 0 {
			last = i
		}
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
			return err
		}
		g.mu.sequence = sequence
	}
	g.mu.bytes = 0
	g.mu.quiet = time.Now().Add(g.interval)
	return nil
}

// Close emits what is left and joins the timer. Rows must not follow.
func (g *Gatherer) Close(ctx context.Context) error {
	g.mu.Lock()
	g.mu.closed = true
	if g.mu.armed && g.timer.Stop() {
		g.mu.armed = false
		g.timers.Done()
	}
	g.mu.Unlock()
	g.timers.Wait()
	_, err := g.Flush(ctx)
	return err
}
