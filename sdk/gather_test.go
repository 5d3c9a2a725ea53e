package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

// output is a host that takes batches; other calls are not expected.
type output struct {
	sdk.Output
	begun time.Time

	mu      sync.Mutex
	before  func(ctx context.Context) error // called first in Emit, if set
	flows   []sdk.Flow
	taken   []emission
	dropped []sdk.Dropped
}

type emission struct {
	at       time.Duration // since the test began
	flow     string
	rows     []int64
	position string
}

func (o *output) Announce(flow sdk.Flow) (sdk.FlowNumber, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.flows {
		if o.flows[i].Name == flow.Name {
			return sdk.FlowNumber(i + 1), nil
		}
	}
	if err := flow.Check(); err != nil {
		return 0, err
	}
	o.flows = append(o.flows, flow)
	return sdk.FlowNumber(len(o.flows)), nil
}

func (o *output) Emit(ctx context.Context, number sdk.FlowNumber, rows *sdk.Builder, position []byte) (uint64, error) {
	o.mu.Lock()
	before := o.before
	o.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return 0, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	flow := &o.flows[number-1]
	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	if err != nil {
		return 0, err
	}
	rows.Reset()
	o.taken = append(o.taken, emission{
		time.Since(o.begun), flow.Name, append([]int64{}, batch.Times()...), string(position),
	})
	return uint64(len(o.taken)), nil
}

func (o *output) Dropped(d sdk.Dropped) error {
	o.dropped = append(o.dropped, d)
	return nil
}

// beforeEmit sets what Emit calls first.
func (o *output) beforeEmit(f func(ctx context.Context) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before = f
}

// emissions returns what has been emitted.
func (o *output) emissions() []emission {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.taken)
}

func (o *output) times() []time.Duration {
	var out []time.Duration
	for _, e := range o.emissions() {
		out = append(out, e.at)
	}
	return out
}

func named(name string) sdk.Flow {
	return sdk.Flow{Name: name, Channels: []sdk.Channel{{Name: "x", Type: sdk.Double}, {Name: "s", Type: sdk.String}}}
}

// gathering runs a test with a gatherer for flows "a" (1) and "b" (2) in a bubble.
func gathering(t *testing.T, interval time.Duration, test func(t *testing.T, g *sdk.Gatherer, out *output)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out := &output{begun: time.Now()}
		g := sdk.NewGatherer(out, interval)
		for i, name := range []string{"a", "b"} {
			number, err := g.Announce(named(name))
			require.NoError(t, err)
			require.EqualValues(t, i+1, number)
		}
		test(t, g, out)
	})
}

func setX(b *sdk.Builder) { b.Double(0, 1) }

// wait lets time pass in a bubble, and lets all that is due then be done.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFirstRowGoesAtOnce(t *testing.T) {
	gathering(t, 4700*time.Microsecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		for i := range int64(12) { // a row each ms
			require.NoError(t, g.Row(t.Context(), 1, i, fmt.Append(nil, i), setX))
			wait(time.Millisecond)
		}
		wait(time.Second)
		require.NoError(t, g.Row(t.Context(), 1, 100, nil, setX))
		assert.Equal(t, []emission{
			{0, "a", []int64{0}, "0"},
			{4.7e6, "a", []int64{1, 2, 3, 4}, "4"},
			{9.4e6, "a", []int64{5, 6, 7, 8, 9}, "9"},
			{14.1e6, "a", []int64{10, 11}, "11"},
			{1012e6, "a", []int64{100}, "11"},
		}, out.emissions())
		require.NoError(t, g.Close(t.Context()))
		assert.Len(t, out.emissions(), 5, "nothing was left")
	})
}

func TestSlowRowsDoNotWait(t *testing.T) {
	gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		for i := range int64(5) {
			require.NoError(t, g.Row(t.Context(), 1, i, nil, setX))
			wait(5 * time.Millisecond)
		}
		assert.Equal(t, []time.Duration{0, 5e6, 10e6, 15e6, 20e6}, out.times())
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestNoInterval(t *testing.T) {
	gathering(t, 0, func(t *testing.T, g *sdk.Gatherer, out *output) {
		for i := range int64(3) {
			require.NoError(t, g.Row(t.Context(), 1, i, nil, setX))
		}
		assert.Len(t, out.emissions(), 3)
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestMuchGoesAtOnce: 64 KiB do not wait, and the interval begins again then,
// with and without a timer that was already running.
func TestMuchGoesAtOnce(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		row := func(set func(b *sdk.Builder)) { require.NoError(t, g.Row(t.Context(), 1, 0, nil, set)) }
		row(setX)
		wait(time.Millisecond)
		for range 7 {
			row(func(b *sdk.Builder) { b.String(1, long) })
		}
		row(setX)
		wait(4500 * time.Microsecond) // the first timer has fired meanwhile
		assert.Equal(t, []time.Duration{0, 1e6}, out.times())
		assert.Len(t, out.emissions()[1].rows, 7)
		wait(time.Millisecond)
		assert.Equal(t, []time.Duration{0, 1e6, 6e6}, out.times())

		wait(time.Millisecond)
		for range 7 {
			row(func(b *sdk.Builder) { b.String(1, long) })
		}
		wait(5 * time.Millisecond) // nothing was left for the timer
		row(setX)
		assert.Equal(t, []time.Duration{0, 1e6, 6e6, 7.5e6, 12.5e6}, out.times(), "quiet since 7.5 ms")
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestPositionOnTheLastBatch: a position covers all flows, so no batch before the
// last one may carry it.
func TestPositionOnTheLastBatch(t *testing.T) {
	gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		position := []byte("1")
		row := func(flow sdk.FlowNumber, text string) {
			if copy(position, text) == 0 {
				position = nil
			}
			require.NoError(t, g.Row(t.Context(), flow, 0, position, setX))
		}
		row(2, "1")
		row(2, "2")
		row(1, "3")
		row(2, "4")
		sequence, err := g.Flush(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 3, sequence)
		row(1, "5")
		sequence, err = g.Flush(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 4, sequence)
		again, err := g.Flush(t.Context())
		require.NoError(t, err)
		assert.Equal(t, sequence, again, "nothing new")
		assert.Equal(t, []emission{
			{0, "b", []int64{0}, "1"},
			{0, "a", []int64{0}, ""},
			{0, "b", []int64{0, 0}, "4"},
			{0, "a", []int64{0}, "5"},
		}, out.emissions())
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestCloseEmitsTheRest(t *testing.T) {
	gathering(t, time.Hour, func(t *testing.T, g *sdk.Gatherer, out *output) {
		for i := range int64(3) {
			require.NoError(t, g.Row(t.Context(), 1, i, nil, setX))
		}
		begun := time.Now()
		require.NoError(t, g.Close(t.Context()))
		require.NoError(t, g.Close(t.Context()))
		assert.Zero(t, time.Since(begun), "it does not wait for the interval")
		assert.Equal(t, []int64{1, 2}, out.emissions()[1].rows)
		require.EqualError(t, g.Row(t.Context(), 1, 4, nil, setX), "the gatherer is closed")
		sequence, err := g.Flush(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 2, sequence)
	}) // the bubble ends only when no timer or goroutine is left behind
}

// TestCloseJoinsTheTimer: an emission that the timer has begun ends before Close
// returns.
func TestCloseJoinsTheTimer(t *testing.T) {
	gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		require.NoError(t, g.Row(t.Context(), 1, 0, nil, setX))
		require.NoError(t, g.Row(t.Context(), 1, 1, nil, setX))
		out.beforeEmit(func(context.Context) error {
			<-time.After(time.Second)
			return nil
		})
		wait(6 * time.Millisecond) // the timer's emission waits for credit
		require.NoError(t, g.Close(t.Context()))
		assert.Len(t, out.emissions(), 2)
		assert.Equal(t, 1005*time.Millisecond, time.Since(out.begun))
	})
}

func TestErrorsEndIt(t *testing.T) {
	broken := errors.New("stream is broken")
	for _, tc := range []struct {
		name string
		fail func(t *testing.T, g *sdk.Gatherer) // makes an emission that fails
	}{
		{"of a row", func(t *testing.T, g *sdk.Gatherer) {
			require.ErrorIs(t, g.Row(t.Context(), 1, 0, nil, setX), broken)
		}},
		{"of Flush", func(t *testing.T, g *sdk.Gatherer) {
			require.NoError(t, g.Row(t.Context(), 1, 0, nil, setX))
			_, err := g.Flush(t.Context())
			require.ErrorIs(t, err, broken)
		}},
		{"of the timer", func(t *testing.T, g *sdk.Gatherer) {
			require.NoError(t, g.Row(t.Context(), 1, 0, nil, setX))
			wait(10 * time.Millisecond)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
				require.NoError(t, g.Row(t.Context(), 2, 0, nil, setX))
				if tc.name == "of a row" {
					wait(10 * time.Millisecond)
				}
				out.beforeEmit(func(context.Context) error { return broken })
				tc.fail(t, g)
				out.beforeEmit(nil)
				require.ErrorIs(t, g.Row(t.Context(), 2, 0, nil, setX), broken)
				_, err := g.Flush(t.Context())
				require.ErrorIs(t, err, broken)
				require.ErrorIs(t, g.Close(t.Context()), broken)
				require.ErrorIs(t, g.Close(t.Context()), broken)
				assert.Len(t, out.emissions(), 1, "nothing follows a batch that failed: order would be lost")
			})
		})
	}
}

// TestCloseWithoutCredit: Close gives up when its time is over.
func TestCloseWithoutCredit(t *testing.T) {
	gathering(t, time.Hour, func(t *testing.T, g *sdk.Gatherer, out *output) {
		require.NoError(t, g.Row(t.Context(), 1, 0, nil, setX))
		require.NoError(t, g.Row(t.Context(), 1, 1, nil, setX))
		out.beforeEmit(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Close(ctx), context.DeadlineExceeded)
	})
}

func TestUnknownFlow(t *testing.T) {
	gathering(t, 0, func(t *testing.T, g *sdk.Gatherer, _ *output) {
		require.EqualError(t, g.Row(t.Context(), 9, 0, nil, setX), "flow 9 was not announced to the gatherer")
		_, err := g.Announce(sdk.Flow{})
		require.EqualError(t, err, "flow has no name")
		number, err := g.Announce(named("b"))
		require.NoError(t, err)
		assert.EqualValues(t, 2, number, "announced again")
		require.NoError(t, g.Close(t.Context()))
	})
}

// TestLargeRows: a row that does not fit goes into a batch of its own; one that
// fits into none is refused, and the source goes on.
func TestLargeRows(t *testing.T) {
	gathering(t, time.Hour, func(t *testing.T, g *sdk.Gatherer, out *output) {
		row := func(at int64, bytes int) {
			long := strings.Repeat("x", bytes)
			require.NoError(t, g.Row(t.Context(), 1, at, fmt.Append(nil, at), func(b *sdk.Builder) { b.String(1, long) }))
		}
		row(0, 1) // at once
		row(1, 60_000)
		row(2, sdk.MaxPayloadBytes-30_000)
		row(3, sdk.MaxPayloadBytes)
		row(4, 1)
		require.NoError(t, g.Close(t.Context()))
		assert.Equal(t, []emission{
			{0, "a", []int64{0}, "0"},
			{0, "a", []int64{1}, "1"},
			{0, "a", []int64{2}, "2"},
			{0, "a", []int64{4}, "4"},
		}, out.emissions())
		assert.Equal(t, []sdk.Dropped{{
			Flow: 1, Rows: 1, Reason: "the row takes more than 4194304 bytes", From: 3, To: 3, Refused: true,
		}}, out.dropped)
	})
}

// TestGathererKeepsOrder: whatever comes when, all rows go out once, in order for
// each flow, at most one emission in an interval unless there is much.
func TestGathererKeepsOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pauses := rapid.SliceOfN(rapid.IntRange(0, 9_000), 1, 60).Draw(rt, "pauses") // µs
		flows := rapid.SliceOfN(rapid.IntRange(1, 2), len(pauses), len(pauses)).Draw(rt, "flows")
		want, got := map[string][]int64{}, map[string][]int64{}
		var emissions []emission
		gathering(t, 5*time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
			for i, pause := range pauses {
				wait(time.Duration(pause) * time.Microsecond)
				assert.NoError(t, g.Row(t.Context(), sdk.FlowNumber(flows[i]), int64(i), fmt.Append(nil, i), setX))
			}
			wait(6 * time.Millisecond)
			emissions = out.emissions()
			assert.NoError(t, g.Close(t.Context()))
		})
		for i, flow := range flows {
			name := string(rune('a' + flow - 1))
			want[name] = append(want[name], int64(i))
		}
		for i, e := range emissions {
			got[e.flow] = append(got[e.flow], e.rows...)
			if i > 0 && emissions[i-1].at != e.at {
				require.GreaterOrEqual(rt, e.at-emissions[i-1].at, 5*time.Millisecond)
			}
		}
		require.Equal(rt, want, got)
		require.Equal(rt, fmt.Sprint(len(pauses)-1), emissions[len(emissions)-1].position)
	})
}

// TestManySources: rows from many goroutines, under the race detector.
func TestManySources(t *testing.T) {
	gathering(t, time.Millisecond, func(t *testing.T, g *sdk.Gatherer, out *output) {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				number, err := g.Announce(named(string(rune('c' + i))))
				if !assert.NoError(t, err) {
					return
				}
				for row := range int64(50) {
					assert.NoError(t, g.Row(t.Context(), number, row, nil, setX))
					<-time.After(100 * time.Microsecond)
				}
			})
		}
		all.Wait()
		require.NoError(t, g.Close(t.Context()))
		rows := 0
		for _, e := range out.emissions() {
			rows += len(e.rows)
		}
		assert.Equal(t, 200, rows)
	})
}
