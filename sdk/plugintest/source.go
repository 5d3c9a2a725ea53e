package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

const (
	enoughBatches = 100
	// listenTime is how long an endless source is listened to.
	listenTime = time.Second
)

func sourceChecks() []check {
	return []check{
		{"discover", checkDiscover},
		{"run", checkRun},
		{"run twice", checkRunAgain},
		{"resume", checkResume},
		{"drain while running", checkDrainRunning},
		{"host closes the run", checkCloseRun},
	}
}

func checkDiscover(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		d, err := wire.Discover(ctx, l.Conn())
		if err != nil {
			return fmt.Errorf("discover: %w", err)
		}
		seen := map[flowIdentity]bool{}
		for _, f := range d.Flows {
			id := flowIdentity{f.Origin, f.Name}
			if seen[id] {
				return fmt.Errorf("flow %q is there twice", f.Name)
			}
			seen[id] = true
		}
		if len(d.Flows) == 0 && !d.Dynamic {
			return errors.New("it has no flows, and none will come")
		}
		return nil
	})
}

type flowIdentity struct {
	origin sdk.Origin
	name   string
}

// recording is what a run of a source gave.
type recording struct {
	whole     bool     // the source is repeatable and ended by itself; else the rest is empty
	rows      []string // one for each row, in order, of all flows
	positions []mark   // where a run can go on
}

// mark says that a run from position goes on with row.
type mark struct {
	position []byte
	row      int
}

// player runs a source and checks what it promises on the way.
type player struct {
	k       *kit
	stream  *wire.SourceStream
	fixed   map[flowIdentity]sdk.Fingerprint // all flows that may come; nil: any
	flows   map[uint32]*playedFlow
	got     recording
	batches int
}

type playedFlow struct {
	flow     *sdk.Flow
	newest   int64
	promised int64 // nothing at or before this follows
	any, due bool  // newest, promised are set
}

// play runs the source to its end, or for a while.
func (k *kit) play(ctx context.Context, l *Launched, start wire.SourceStart) (recording, error) {
	p := &player{k: k, flows: map[uint32]*playedFlow{}}
	d, err := wire.Discover(ctx, l.Conn())
	if err != nil {
		return p.got, fmt.Errorf("discover: %w", err)
	}
	p.got.whole = d.Finite && k.options.Repeatable
	if !d.Dynamic {
		p.fixed = map[flowIdentity]sdk.Fingerprint{}
		for _, f := range d.Flows {
			p.fixed[flowIdentity{f.Origin, f.Name}] = f.Fingerprint()
		}
	}
	if p.stream, err = wire.OpenSource(ctx, l.Conn(), start); err != nil {
		return p.got, err
	}
	stop := make(chan struct{})
	err = beside(ctx, func(ctx context.Context) error {
		if p.got.whole {
			return nil
		}
		timer := time.NewTimer(listenTime)
		defer timer.Stop()
		select {
		case <-stop:
		case <-timer.C:
		case <-ctx.Done():
		}
		_ = p.stream.Stop() // it may have ended by itself
		return nil
	}, func(context.Context) error { return p.listen(sync.OnceFunc(func() { close(stop) })) })
	return p.got, err
}

// listen reads the run to its end. It calls enough when it has heard enough.
func (p *player) listen(enough func()) error {
	defer enough()
	finished := false
	for {
		event, err := p.stream.Recv()
		if err == io.EOF {
			if !finished {
				return errors.New("it returned without saying that it had finished")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		if f, ok := event.(*wire.Finished); ok {
			finished = true
			if f.Failure != nil {
				return fmt.Errorf("run: %w", f.Failure)
			}
			if err := p.ack(f.LastSequence); err != nil {
				return err
			}
			continue
		}
		if err := p.take(event); err != nil {
			return err
		}
		if p.batches >= enoughBatches && !p.got.whole {
			enough()
		}
	}
}

func (p *player) take(event wire.SourceEvent) error {
	switch e := event.(type) {
	case *wire.FlowAnnounced:
		want, known := p.fixed[flowIdentity{e.Flow.Origin, e.Flow.Name}]
		if p.fixed != nil && (!known || want != e.Fingerprint) {
			return fmt.Errorf("flow %q is none of those that it said would come", e.Flow.Name)
		}
		p.flows[e.Number] = &playedFlow{flow: e.Flow}
	case *wire.Progress:
		f := p.flows[e.Flow]
		f.promised, f.due = max(f.promised, e.UpTo), true
	case *wire.SourceBatch:
		defer e.Payload.Release()
		p.batches++
		if err := p.rows(e); err != nil {
			return fmt.Errorf("batch %d: %w", e.Sequence, err)
		}
		return p.ack(e.Sequence)
	}
	return nil
}

// ack says that everything is safe. A source need not wait to hear it.
func (p *player) ack(through uint64) error {
	if err := p.stream.Ack(through); err != nil && !errors.Is(err, wire.ErrStreamEnded) {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}

func (p *player) rows(e *wire.SourceBatch) error {
	f := p.flows[e.Flow]
	rows, err := sdk.ParseBatch(f.flow, e.Payload.Bytes())
	if err != nil {
		return err
	}
	for row, at := range rows.Times() {
		if f.due && at <= f.promised {
			return fmt.Errorf("stamp %d of flow %q, which it promised not to give after %d", at, f.flow.Name, f.promised)
		}
		if f.flow.StrictlyIncreasing && f.any && at <= f.newest {
			return fmt.Errorf("stamp %d of flow %q follows %d, and it promised increasing ones", at, f.flow.Name, f.newest)
		}
		f.newest, f.any = max(f.newest, at), true
		if p.got.whole {
			p.got.rows = append(p.got.rows, printRow(rows, row))
		}
	}
	if p.got.whole && p.k.description.Source.Replayable && e.Position != nil {
		p.got.positions = append(p.got.positions, mark{e.Position, len(p.got.rows)})
	}
	return nil
}

func printRow(b *sdk.Batch, row int) string {
	out := fmt.Appendf(nil, "%q %d", b.Flow().Name, b.Times()[row])
	for i := range b.Flow().Channels {
		if c := b.Column(i); c.Valid(row) {
			out = fmt.Appendf(out, " %d:%x", i, valueBits(c, row))
		}
	}
	return string(out)
}

func sameRecording(a, b recording) error {
	if !a.whole {
		return nil
	}
	for i := range min(len(a.rows), len(b.rows)) {
		if a.rows[i] != b.rows[i] {
			return fmt.Errorf("row %d was %s, then %s", i, a.rows[i], b.rows[i])
		}
	}
	if len(a.rows) != len(b.rows) {
		return fmt.Errorf("%d rows, then %d", len(a.rows), len(b.rows))
	}
	return nil
}

// byFlow puts the rows of each flow together, in their order: a run that was resumed
// may cut batches of several flows otherwise.
func byFlow(r recording) recording {
	flowOf := func(row string) string {
		flow, err := strconv.QuotedPrefix(row)
		if err != nil {
			return row
		}
		return flow
	}
	r.rows = slices.Clone(r.rows)
	slices.SortStableFunc(r.rows, func(a, b string) int { return strings.Compare(flowOf(a), flowOf(b)) })
	return r
}

// checkRun runs the source in both forms; acks of everything let it end.
func checkRun(ctx context.Context, k *kit) error {
	return inEachForm(ctx, k, func(l *Launched, r wire.StreamRegions) (recording, error) {
		return k.play(ctx, l, wire.SourceStart{Region: r.Out})
	}, sameRecording)
}

// checkRunAgain runs the source twice in one process.
func checkRunAgain(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		first, err := k.play(ctx, l, wire.SourceStart{})
		if err != nil {
			return err
		}
		second, err := k.play(ctx, l, wire.SourceStart{})
		if err != nil {
			return fmt.Errorf("for the second time: %w", err)
		}
		return sameRecording(first, second)
	})
}

// checkResume goes on from positions that the source has given.
func checkResume(ctx context.Context, k *kit) error {
	if !k.description.Source.Replayable {
		return skip("the source is not replayable")
	}
	var whole recording
	err := k.configured(ctx, func(l *Launched) (err error) {
		whole, err = k.play(ctx, l, wire.SourceStart{})
		return err
	})
	if err != nil {
		return err
	}
	if !whole.whole {
		return skip("the source does not end, or Options.Repeatable is not set")
	}
	if len(whole.positions) == 0 {
		return errors.New("it is replayable and gives no position")
	}
	for _, i := range []int{0, len(whole.positions) / 2, len(whole.positions) - 1} {
		from := whole.positions[i]
		err := k.configured(ctx, func(l *Launched) error {
			rest, err := k.play(ctx, l, wire.SourceStart{Resume: from.position})
			if err != nil {
				return err
			}
			return sameRecording(byFlow(recording{whole: true, rows: whole.rows[from.row:]}), byFlow(rest))
		})
		if err != nil {
			return fmt.Errorf("resumed after row %d: %w", from.row, err)
		}
	}
	return nil
}

// checkDrainRunning drains a source that runs, as a host does.
func checkDrainRunning(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		control, err := wire.OpenControl(ctx, l.Conn())
		if err != nil {
			return err
		}
		stream, err := wire.OpenSource(ctx, l.Conn(), wire.SourceStart{})
		if err != nil {
			return err
		}
		if err := ping(control, 1); err != nil {
			return fmt.Errorf("while it runs: %w", err)
		}
		if err := control.Drain(k.options.Timeout); err != nil {
			return err
		}
		// It may have been drained before it began; that is an end as good as any.
		p := &player{k: k, stream: stream, flows: map[uint32]*playedFlow{}}
		if err := p.listen(func() {}); err != nil && p.batches > 0 {
			return fmt.Errorf("drained: %w", err)
		}
		for {
			event, err := control.Recv()
			if err != nil {
				return fmt.Errorf("drain has no answer: %w", err)
			}
			if _, ok := event.(wire.Drained); ok {
				return nil
			}
		}
	})
}

// checkCloseRun ends a run without a word.
func checkCloseRun(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		stream, err := wire.OpenSource(ctx, l.Conn(), wire.SourceStart{})
		if err != nil {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		for {
			event, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("the host has closed the run: %w", err)
			}
			if b, ok := event.(*wire.SourceBatch); ok {
				b.Payload.Release()
			}
		}
	})
}
