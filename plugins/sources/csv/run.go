package csv

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// run is one pass over the files, from a position to the end or a rewind.
type run struct {
	source *source
	log    *slog.Logger
	out    *output
	files  []*file
	emit   emitter
	pace   pacer

	rewinds <-chan sdk.Rewind
	shift   int64 // added to event times, ns
	shifted bool  // the shift is known
	looked  time.Time
	buf     []byte // for positions
}

// rewindError ends a pass because the host asked to go back.
type rewindError struct{ sdk.Rewind }

func (e *rewindError) Error() string { return "rewind: " + e.Reason }

// checkEvery is after how many rows without a pause a run looks for requests.
const checkEvery = 1024

func (s *source) newRun(out sdk.Output, raw []byte) (*run, error) {
	p, err := parsePosition(raw)
	if err != nil {
		return nil, sdk.Permanent(err)
	}
	r := &run{
		source: s, log: s.settings.Logger, out: &output{Output: out, account: &s.account},
		pace: newPacer(s.config), rewinds: out.Rewinds(),
	}
	if s.config.Rebase == "now" {
		r.shift, r.shifted = p.shift, p.shifted
	}
	if r.pace.speed == 0 && !s.config.Follow {
		r.emit = &bulk{out: r.out, position: r.position}
	} else {
		r.emit = newGather(r.out, s.settings.Gather, r.position)
	}
	for i := range s.specs {
		f := &file{spec: &s.specs[i], key: flowKey(s.specs[i].flow), log: r.log, account: &s.account, schema: s.schemas[i]}
		if at := p.places[f.key]; at.mark.Offset > 0 {
			f.from = &at
		}
		r.files = append(r.files, f)
	}
	return r, nil
}

// finish ends the pass: what is gathered is emitted only if all went well.
func (r *run) finish(ctx context.Context, err error) error {
	if err != nil {
		r.out.close()
		_ = r.emit.close(ctx) // joins its timer; its error is that nothing may follow
	} else {
		err = r.emit.close(ctx)
	}
	for _, f := range r.files {
		if f.in != nil {
			f.report("the file is not read on")
			f.close()
		}
	}
	if err == nil {
		err = r.source.account.report(r.out)
	}
	return err
}

// replay reads the files to their ends, in the order of event time.
func (r *run) replay(ctx context.Context) error {
	for i, f := range r.files {
		if err := r.open(ctx, i, f); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		if n%checkEvery == 0 {
			if err := r.check(ctx); err != nil {
				return err
			}
		}
		f := r.least()
		if f == nil {
			return r.check(ctx) // for a rewind that came with the last rows
		}
		if err := r.step(ctx, f); err != nil {
			return err
		}
		if !f.ready {
			if err := r.ended(ctx, f); err != nil {
				return err
			}
		}
	}
}

// open prepares a file for a replay and reads its first row.
func (r *run) open(ctx context.Context, i int, f *file) error {
	if f.schema == nil {
		if err := r.inspect(ctx, i, f); err != nil {
			return err
		}
	}
	if f.schema == nil {
		r.log.Warn("the file has no rows", "path", f.spec.path)
		return nil
	}
	if err := r.announce(f); err != nil {
		return err
	}
	resumed := f.from != nil
	if err := f.open(ctx); err != nil {
		return err
	}
	ok, err := f.next(ctx)
	if err != nil || ok {
		return err
	}
	if f.count == 0 && !resumed {
		r.log.Warn("the file has no rows", "path", f.spec.path)
	}
	return r.ended(ctx, f)
}

func (r *run) inspect(ctx context.Context, i int, f *file) error {
	schema, trouble, err := inspect(ctx, f.spec, memory{r.source.settings.StateDir}, r.log)
	if err != nil && ctx.Err() == nil {
		return sdk.Permanent(err)
	}
	f.schema, f.trouble, r.source.schemas[i] = schema, trouble, schema
	return err
}

func (r *run) announce(f *file) error {
	if err := r.emit.announce(f); err != nil {
		return fmt.Errorf("announce flow %q: %w", f.spec.flow, err)
	}
	f.announced = true
	if tree := f.schema.table.tree; tree != nil && !f.spec.onlyDeclared {
		tree.OnUnknown(f.noteUnknown)
	}
	return nil
}

// least returns the file whose row at hand has the least event time, the first of
// equal ones; nil if there is no row.
func (r *run) least() *file {
	var least *file
	for _, f := range r.files {
		if f.ready && (least == nil || f.stamp < least.stamp) {
			least = f
		}
	}
	return least
}

// step emits the row at hand of a file when it is due, and reads the next.
func (r *run) step(ctx context.Context, f *file) error {
	if err := r.untilDue(ctx, f); err != nil {
		return err
	}
	if !r.shifted && r.source.config.Rebase == "now" {
		r.shift, r.shifted = time.Now().UnixNano()-f.stamp, true
	}
	stamp := f.stamp + r.shift
	if (stamp > f.stamp) != (r.shift > 0) && r.shift != 0 {
		f.refuse(f.stamp, true, misfit{reason: "event time is out of range when it is shifted"})
		f.done = f.reader.Mark()
	} else if err := r.emit.row(ctx, f, stamp); err != nil {
		return err
	}
	_, err := f.next(ctx)
	return err
}

// untilDue waits until the row at hand of a file is due.
func (r *run) untilDue(ctx context.Context, f *file) error {
	if r.pace.speed == 0 {
		return nil
	}
	wait := r.pace.wait(f.stamp, time.Now())
	if wait == 0 {
		return nil
	}
	if wait > time.Minute {
		r.log.Info("the next row is due later; max_gap cuts pauses", "in", wait.Round(time.Second), "path", f.spec.path, "line", f.line)
	}
	return r.pause(ctx, wait)
}

// ended is called when a replayed file has no more rows. Nothing of its flow
// follows, so nobody has to wait for it.
func (r *run) ended(ctx context.Context, f *file) error {
	f.report("the file is read")
	f.close()
	if err := r.emit.flush(ctx); err != nil {
		return err
	}
	return r.out.Progress(f.number, math.MaxInt64)
}

// follow reads what is written to the files until it is stopped.
func (r *run) follow(ctx context.Context) error {
	if err := r.lookAll(ctx); err != nil {
		return err
	}
	for n := 1; ; n++ {
		f := r.least()
		switch {
		case f == nil:
			if err := r.source.account.report(r.out); err != nil {
				return err
			}
			if err := r.pause(ctx, r.source.config.Poll); err != nil {
				return err
			}
			if err := r.lookAll(ctx); err != nil {
				return err
			}
			continue
		case n%checkEvery == 0:
			if err := r.check(ctx); err != nil {
				return err
			}
			if time.Since(r.looked) >= r.source.config.Poll {
				if err := r.lookAll(ctx); err != nil {
					return err
				}
			}
		}
		if err := r.step(ctx, f); err != nil {
			return err
		}
	}
}

// lookAll looks after the files that have no row at hand.
func (r *run) lookAll(ctx context.Context) error {
	r.looked = time.Now()
	var troubles []string
	for i, f := range r.files {
		if f.ready {
			continue
		}
		if err := r.lookAt(ctx, i, f); err != nil {
			return err
		}
		if f.trouble != "" {
			troubles = append(troubles, f.spec.path+" "+f.trouble)
		}
	}
	h := sdk.Health{State: sdk.HealthOK}
	if len(troubles) > 0 {
		h = sdk.Health{State: sdk.HealthBlocked, Reason: strings.Join(troubles, "; ")}
	}
	r.source.setHealth(h)
	return nil
}

func (r *run) lookAt(ctx context.Context, i int, f *file) error {
	if f.schema == nil {
		if err := r.inspect(ctx, i, f); err != nil {
			return err
		}
		if f.schema == nil {
			return nil
		}
	}
	if !f.announced {
		if err := r.announce(f); err != nil {
			return err
		}
	}
	if err := f.look(ctx); err != nil || f.in == nil {
		return err
	}
	_, err := f.next(ctx)
	return err
}

// check returns what ends the pass early, if anything.
func (r *run) check(ctx context.Context) error {
	if r.source.account.full() {
		if err := r.source.account.report(r.out); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w, ok := <-r.rewinds:
		return r.rewound(w, ok)
	default:
		return nil
	}
}

// pause waits.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case w, ok := <-r.rewinds:
			if err := r.rewound(w, ok); err != nil {
				return err
			}
		}
	}
}

func (r *run) rewound(w sdk.Rewind, ok bool) error {
	if !ok {
		r.rewinds = nil // no more of them
		return nil
	}
	return &rewindError{w}
}

// position returns where to go on after the rows that were emitted.
func (r *run) position() []byte {
	known := 0
	for _, f := range r.files {
		if _, ok := f.place(); ok {
			known++
		}
	}
	r.buf = appendShift(r.buf[:0], r.shift, r.shifted, known)
	for _, f := range r.files {
		if at, ok := f.place(); ok {
			r.buf = appendPlace(r.buf, f.key, at)
		}
	}
	return r.buf
}
