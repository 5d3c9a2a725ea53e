package siftserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// output is the host of a source under test. Everything that it is told can be
// waited for.
type output struct {
	stopping chan struct{}

	mu struct {
		sync.Mutex
		changed  chan struct{} // closed at every change
		flows    []sdk.Flow
		numbers  map[sdk.Fingerprint]sdk.FlowNumber
		batches  []emitted
		dropped  []sdk.Dropped
		sequence uint64 // of the last batch
		wanted   []ackWanted
		acked    uint64
		ackAll   bool // every AckWanted is met at once
		ackError error
		held     bool // no credit
		blocked  int  // emissions that wait for credit
		finished bool
		forget   bool // keep no batches
		refuse   func(sdk.Flow) error
	}
}

type emitted struct {
	flow sdk.FlowNumber
	raw  []byte
}

type ackWanted struct {
	sequence uint64
	within   time.Duration
}

func newOutput() *output {
	o := &output{stopping: make(chan struct{})}
	o.mu.changed = make(chan struct{})
	o.mu.numbers = map[sdk.Fingerprint]sdk.FlowNumber{}
	o.mu.ackAll = true
	return o
}

// change does something under the lock and tells those who wait.
func (o *output) change(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
	close(o.mu.changed)
	o.mu.changed = make(chan struct{})
}

// until waits for a condition, which is asked under the lock.
func (o *output) until(ctx context.Context, condition func() bool) error {
	for {
		o.mu.Lock()
		ok, changed := condition(), o.mu.changed
		o.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await is until for tests.
func (o *output) await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, o.until(ctx, condition), what)
}

func (o *output) Resume() ([]byte, bool)               { return nil, false }
func (o *output) Rewinds() <-chan sdk.Rewind           { return nil }
func (o *output) Stopping() <-chan struct{}            { return o.stopping }
func (o *output) Progress(sdk.FlowNumber, int64) error { return nil }

func (o *output) Announce(flow sdk.Flow) (number sdk.FlowNumber, err error) {
	if err := flow.Check(); err != nil {
		return 0, err
	}
	o.change(func() {
		if o.mu.refuse != nil {
			if err = o.mu.refuse(flow); err != nil {
				return
			}
		}
		number = o.mu.numbers[flow.Fingerprint()]
		if number == 0 {
			o.mu.flows = append(o.mu.flows, flow)
			number = sdk.FlowNumber(len(o.mu.flows))
			o.mu.numbers[flow.Fingerprint()] = number
		}
	})
	return number, err
}

func (o *output) Emit(ctx context.Context, flow sdk.FlowNumber, rows *sdk.Builder, _ []byte) (sequence uint64, err error) {
	o.change(func() { o.mu.blocked++ })
	err = o.until(ctx, func() bool { return !o.mu.held })
	o.change(func() {
		o.mu.blocked--
		if err != nil {
			return
		}
		if rows.Rows() == 0 || rows.Len() > sdk.MaxPayloadBytes {
			panic(fmt.Sprintf("a batch of %d rows and %d bytes", rows.Rows(), rows.Len()))
		}
		if !o.mu.forget {
			o.mu.batches = append(o.mu.batches, emitted{flow, rows.Append(nil)})
		}
		rows.Reset()
		o.mu.sequence++
		sequence = o.mu.sequence
	})
	return sequence, err
}

func (o *output) Dropped(d sdk.Dropped) error {
	o.change(func() { o.mu.dropped = append(o.mu.dropped, d) })
	return nil
}

func (o *output) AckWanted(sequence uint64, within time.Duration) (err error) {
	o.change(func() {
		o.mu.wanted = append(o.mu.wanted, ackWanted{sequence, within})
		if o.mu.ackAll {
			o.mu.acked = max(o.mu.acked, sequence)
		}
	})
	return nil
}

func (o *output) WaitAck(ctx context.Context, sequence uint64) error {
	err := o.until(ctx, func() bool { return o.mu.acked >= sequence || o.mu.ackError != nil })
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(err, o.mu.ackError)
}

func (o *output) Finish() error {
	o.change(func() { o.mu.finished = true })
	return nil
}

// rowCount returns the number of rows that were emitted.
func (o *output) rowCount() int {
	n := 0
	for _, b := range o.mu.batches {
		batch, err := sdk.ParseBatch(&o.mu.flows[b.flow-1], b.raw)
		if err != nil {
			panic(err)
		}
		n += batch.Rows()
	}
	return n
}

// awaitRows waits until n rows were emitted and returns them all as text, by
// flow, in the order in which they came.
func (o *output) awaitRows(t testing.TB, n int) map[string][]string {
	t.Helper()
	o.await(t, fmt.Sprintf("%d rows", n), func() bool { return o.rowCount() >= n })
	return o.rows()
}

// rows returns what was emitted, by flow: "asset/key/run/name".
func (o *output) rows() map[string][]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string][]string{}
	for _, b := range o.mu.batches {
		flow := &o.mu.flows[b.flow-1]
		batch, err := sdk.ParseBatch(flow, b.raw)
		if err != nil {
			panic(err)
		}
		key := flowKey(flow)
		for row, at := range batch.Times() {
			text := []string{fmt.Sprint(at)}
			for i := range flow.Channels {
				text = append(text, valueText(batch.Column(i), row))
			}
			out[key] = append(out[key], strings.Join(text, " "))
		}
	}
	return out
}

func flowKey(f *sdk.Flow) string {
	return strings.Join([]string{f.Origin.Asset, f.Origin.ClientKey, f.Origin.Run, f.Name}, "/")
}

func valueText(col *sdk.Column, row int) string {
	if !col.Valid(row) {
		return "-"
	}
	switch col.Type() {
	case sdk.Double:
		return fmt.Sprint(col.Doubles()[row])
	case sdk.Float:
		return fmt.Sprint(col.Floats()[row])
	case sdk.Int32:
		return fmt.Sprint(col.Int32s()[row])
	case sdk.Uint32, sdk.Enum:
		return fmt.Sprint(col.Uint32s()[row])
	case sdk.Int64:
		return fmt.Sprint(col.Int64s()[row])
	case sdk.Uint64:
		return fmt.Sprint(col.Uint64s()[row])
	case sdk.Bool:
		return fmt.Sprint(col.Bool(row))
	case sdk.String:
		return fmt.Sprintf("%q", col.Bytes(row))
	default:
		return fmt.Sprintf("%x", col.Bytes(row))
	}
}
