package generator

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Plugin returns the source.
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "generator",
		Version: "1.0.0",
		Description: "Made-up telemetry: sines, ramps, steps, noise and counters at up to a million rows per second, or " +
			"as fast as they are taken. Values depend on the seed and the number of the row alone.",
	}
	return sdk.NewSource(info, sdk.SourceCapabilities{Replayable: true}, defaultConfig(), open)
}

func open(settings sdk.Settings, config Config) (sdk.Source, error) {
	if problems := config.Validate(); len(problems) > 0 {
		return nil, sdk.Permanent(fmt.Errorf("configuration: %s", problems[0].Detail))
	}
	return &source{settings: settings, config: config}, nil
}

type source struct {
	settings sdk.Settings
	config   Config
}

// Shutdown has nothing to free.
func (s *source) Shutdown(context.Context) error { return nil }

// Discover says what will come.
func (s *source) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{s.config.flow()}, Finite: s.config.Rows > 0}, nil
}

// Run emits rows until the last one, or until it is stopped.
func (s *source) Run(ctx context.Context, out sdk.Output) error {
	r, err := s.run(out)
	if err != nil {
		return err
	}
	for r.next < r.end {
		stopped, err := r.wait(ctx)
		if stopped || err != nil {
			return err
		}
		if err := r.emit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run is the state of one Run.
type run struct {
	source   *source
	out      sdk.Output
	number   sdk.FlowNumber
	rows     *sdk.Builder
	channels []channel
	columnar bool // all channels are doubles with a value in each row
	places   []place
	scratch  []byte
	stamps   []int64
	values   []float64
	clock    clock
	next     uint64 // row
	target   uint64 // row up to which rows are due and not yet emitted
	end      uint64 // row; the greatest number = never
	first    uint64 // row that was due when the run began
	begun    time.Time
	emitted  time.Time // end of the last emission
	rewinds  <-chan sdk.Rewind
}

func (s *source) run(out sdk.Output) (*run, error) {
	flow := s.config.flow()
	number, err := out.Announce(flow)
	if err != nil {
		return nil, err
	}
	r := &run{
		source: s, out: out, number: number, rows: sdk.NewBuilder(&flow),
		channels: compile(s.config), end: math.MaxUint64, begun: time.Now(), rewinds: out.Rewinds(),
	}
	r.places = make([]place, len(r.channels))
	r.columnar = !slices.ContainsFunc(r.channels, func(c channel) bool { return c.typ != sdk.Double || c.every > 1 })
	if s.config.Rows > 0 {
		r.end = uint64(s.config.Rows)
	}
	start := r.begun.UnixNano()
	if position, ok := out.Resume(); ok {
		if r.next, start, err = parsePosition(position); err != nil {
			return nil, sdk.Permanent(err)
		}
	}
	if s.config.Start != nil {
		start = s.config.Start.UnixNano()
	}
	r.clock, r.first = s.config.clock(start), r.next
	return r, nil
}

// position is where a run goes on: the next row, and when row 0 was.
func (r *run) position() []byte {
	out := binary.LittleEndian.AppendUint64(nil, r.next)
	return binary.LittleEndian.AppendUint64(out, uint64(r.clock.start))
}

func parsePosition(position []byte) (next uint64, start int64, err error) {
	if len(position) != 16 {
		return 0, 0, fmt.Errorf("position of %d bytes is none of the generator's: want 16", len(position))
	}
	return binary.LittleEndian.Uint64(position), int64(binary.LittleEndian.Uint64(position[8:])), nil
}

// wait returns when another row is due and may be emitted: at once while the run
// is behind, else not before the gathering time has passed since the last batch.
// A rewind changes the next row.
func (r *run) wait(ctx context.Context) (stopped bool, err error) {
	if pause := r.pause(); pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.out.Stopping():
		case <-ctx.Done():
		case rewind, ok := <-r.rewinds:
			return false, r.rewind(rewind, ok)
		}
	}
	select {
	case <-r.out.Stopping():
		return true, nil
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case rewind, ok := <-r.rewinds:
		return false, r.rewind(rewind, ok)
	default:
		return false, nil
	}
}

func (r *run) pause() time.Duration {
	if r.next < r.target || r.source.config.Rate.Keyword == keywordMax {
		return 0
	}
	// Rows before the first one, after a rewind, are always due.
	due, _, _ := r.clock.after(r.next - min(r.next, r.first))
	return max(time.Until(r.begun.Add(time.Duration(due))), time.Until(r.emitted.Add(r.source.settings.Gather)))
}

func (r *run) rewind(to sdk.Rewind, ok bool) error {
	switch {
	case !ok:
		r.rewinds = nil
		return nil
	case to.FromBeginning:
		r.next = 0
		return nil
	}
	next, _, err := parsePosition(to.Position)
	if err != nil {
		return sdk.Permanent(fmt.Errorf("rewind: %w", err))
	}
	r.next = next
	return nil
}

// due returns the row up to which all are due now.
func (r *run) due() uint64 {
	if r.source.config.Rate.Keyword == keywordMax {
		return r.end
	}
	n := r.clock.due(time.Since(r.begun))
	if n > r.end-min(r.first, r.end) {
		return r.end
	}
	return r.first + n
}

// emit emits one batch of the rows that are due, if there are any.
func (r *run) emit(ctx context.Context) error {
	if r.next >= r.target {
		r.target = r.due()
	}
	if r.next >= r.target {
		return nil
	}
	n := min(r.target-r.next, uint64(r.source.config.Batch))
	if _, ok := r.clock.stamp(r.next + n - 1); !ok {
		return sdk.Permanent(fmt.Errorf("row %d would be after the year 2262, the end of what stamps can say", r.next+n-1))
	}
	r.fill(n)
	if _, err := r.out.Emit(ctx, r.number, r.rows, r.position()); err != nil {
		return err
	}
	r.emitted = time.Now()
	return nil
}

// fill puts up to n rows into the builder, as many as a batch should have.
func (r *run) fill(n uint64) {
	if r.columnar {
		r.fillColumns(n)
		return
	}
	ticks := r.clock.ticks(r.next)
	for i := range r.channels {
		r.places[i] = r.channels[i].place(r.next)
	}
	for ; n > 0 && !r.rows.Full(); n-- {
		r.rows.Row(ticks.at)
		for i := range r.channels {
			c := &r.channels[i]
			r.scratch = c.set(r.rows, i, r.next, r.places[i], r.scratch)
			r.places[i] = r.places[i].add(c.stride)
		}
		ticks.next()
		r.next++
	}
}

// fillColumns does the same for channels of doubles with a value in each row: as
// many rows at once as there is room for, going by those before.
func (r *run) fillColumns(n uint64) {
	for n > 0 && !r.rows.Full() {
		room := 1
		if rows, bytes := r.rows.Rows(), r.rows.Bytes(); rows > 0 {
			room = min((sdk.MaxBatchBytes-bytes)/(bytes/rows), sdk.MaxRowsInBatch-rows)
		}
		next := min(n, uint64(max(1, room)))
		r.appendColumns(int(next))
		n -= next
	}
}

func (r *run) appendColumns(n int) {
	r.stamps = r.stamps[:0]
	ticks := r.clock.ticks(r.next)
	for range n {
		r.stamps = append(r.stamps, ticks.at)
		ticks.next()
	}
	r.rows.AppendRows(r.stamps)
	for i := range r.channels {
		r.values = r.channels[i].appendNumbers(r.values[:0], r.next, n)
		r.rows.Doubles(i, r.values)
	}
	r.next += uint64(n)
}
