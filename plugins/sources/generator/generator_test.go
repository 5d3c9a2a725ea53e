package generator

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

// collect runs a finite source to its end.
func collect(t testing.TB, c Config, resume []byte) *output {
	t.Helper()
	out := newOutput(t)
	out.resume = resume
	require.NoError(t, newSource(t, c).Run(t.Context(), out))
	return out
}

// allWaves has a channel of each wave, and one of each type.
func allWaves(c *Config) {
	for _, w := range waves() {
		c.Channel = append(c.Channel, block(w, func(c *Channel) { c.Wave, c.Period = w, 7*time.Millisecond }))
	}
	for _, typ := range sdk.ChannelTypes() {
		c.Channel = append(c.Channel, block(typ.String(), func(c *Channel) {
			c.Type, c.Wave, c.Amplitude, c.Every = typ.String(), "ramp", 50, 2
			if typ == sdk.Enum {
				c.Values = []string{"off", "on", "failed"}
			}
		}))
	}
}

func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, sdk.KindSource, p.Kind)
	assert.Equal(t, sdk.SourceCapabilities{Replayable: true}, p.Source)
	assert.Equal(t, []sdk.OneOf{{Names: []string{"channels", "channel"}}}, p.Schema.OneOf)

	body := sdk.Body{
		Attributes: map[string]sdk.Value{
			"rate":  {Kind: sdk.KindString, String: "max"},
			"rows":  {Kind: sdk.KindInteger, Integer: 3},
			"start": {Kind: sdk.KindInteger, Integer: 0}, // 1970 is a time like others
		},
		Blocks: []sdk.BlockBody{{
			Type: "channel", Labels: []string{"n"},
			Body: sdk.Body{Attributes: map[string]sdk.Value{
				"type": {Kind: sdk.KindString, String: "uint64"},
				"wave": {Kind: sdk.KindString, String: "counter"},
				"unit": {Kind: sdk.KindString, String: "rows"},
			}},
		}},
	}
	require.Empty(t, p.Validate(body))
	component, err := p.Open(sdk.Settings{}, body)
	require.NoError(t, err)
	s := component.(sdk.Source)
	discovery, err := s.Discover(t.Context())
	require.NoError(t, err)
	want := sdk.Flow{
		Name: "generator", StrictlyIncreasing: true,
		Channels: []sdk.Channel{{Name: "n", Type: sdk.Uint64, Unit: "rows"}},
	}
	assert.Equal(t, sdk.Discovery{Flows: []sdk.Flow{want}, Finite: true}, discovery)

	out := newOutput(t)
	require.NoError(t, s.Run(t.Context(), out))
	assert.Equal(t, want, out.flow)
	require.Len(t, out.emissions, 1)
	assert.Equal(t, []int64{0, 1_000, 2_000}, out.emissions[0].batch.Times())
	assert.Equal(t, []uint64{0, 1, 2}, out.emissions[0].batch.Column(0).Uint64s())
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestDefaultsAreValid(t *testing.T) {
	c := defaultConfig()
	assert.Empty(t, c.Validate())
	flow := c.flow()
	require.NoError(t, flow.Check())
	assert.Len(t, flow.Channels, 10)
	discovery, err := newSource(t, c).Discover(t.Context())
	require.NoError(t, err)
	assert.False(t, discovery.Finite)
}

// raw is everything that a run emitted, in one batch form that does not depend on
// how it was cut.
func (o *output) raw() [][]byte {
	var out [][]byte
	b := sdk.NewBuilder(&o.flow)
	for _, e := range o.emissions {
		for row := range e.batch.Rows() {
			require.NoError(o.t, b.CopyRow(e.batch, row))
			out = append(out, b.Append(nil))
			b.Reset()
		}
	}
	return out
}

func TestSameSeedSameRows(t *testing.T) {
	first := collect(t, config(500, allWaves), nil).raw()
	require.Len(t, first, 500)
	assert.Equal(t, first, collect(t, config(500, allWaves), nil).raw())

	cut := collect(t, config(500, func(c *Config) { allWaves(c); c.Batch = 7 }), nil)
	assert.Equal(t, first, cut.raw(), "the size of batches changes no row")
	assert.Len(t, cut.emissions, 72)

	other := collect(t, config(500, func(c *Config) { allWaves(c); c.Seed = 1 }), nil).raw()
	assert.NotEqual(t, first, other)
}

// TestResume: from each position on the rest is the same, whatever the rate, with
// and without a configured start.
func TestResume(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := config(rapid.Int64Range(1, 300).Draw(rt, "rows"), func(c *Config) {
			if rapid.Bool().Draw(rt, "types") {
				allWaves(c)
			}
			if rapid.Bool().Draw(rt, "no start") {
				c.Start = nil
			}
			c.Batch = rapid.IntRange(1, 50).Draw(rt, "batch")
			c.Seed = rapid.Int64().Draw(rt, "seed")
			c.NominalRate = rapid.Float64Range(0.001, 1e9).Draw(rt, "rate")
		})
		whole := collect(t, c, nil)
		rows := whole.raw()
		done := 0
		for _, e := range whole.emissions {
			done += e.batch.Rows()
			rest := collect(t, c, e.position).raw()
			require.Equal(rt, len(rows), done+len(rest))
			for i := range rest {
				require.Equal(rt, rows[done+i], rest[i])
			}
		}
	})
}

func TestForeignPosition(t *testing.T) {
	out := newOutput(t)
	out.resume = []byte("csv:12345")
	err := newSource(t, config(10, nil)).Run(t.Context(), out)
	require.EqualError(t, err, "position of 9 bytes is none of the generator's: want 16")
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)

	// A position behind the end: nothing is left to do.
	out.resume = binary.LittleEndian.AppendUint64(nil, 11)
	out.resume = binary.LittleEndian.AppendUint64(out.resume, 0)
	require.NoError(t, newSource(t, config(10, nil)).Run(t.Context(), out))
	assert.Empty(t, out.emissions)
}

// TestCounterForLoss: a counter has each number once, also beyond what a double
// can count.
func TestCounterForLoss(t *testing.T) {
	c := config(1<<53+20, func(c *Config) {
		c.NominalRate = 1e9
		for _, typ := range []string{"uint64", "int64"} {
			c.Channel = append(c.Channel, block(typ, func(c *Channel) { c.Type, c.Wave = typ, "counter" }))
		}
	})
	resume := binary.LittleEndian.AppendUint64(nil, 1<<53-20)
	out := collect(t, c, append(resume, make([]byte, 8)...))
	require.Len(t, out.emissions, 1)
	for i := range 40 {
		assert.EqualValues(t, int64(1<<53-20)+int64(i), out.emissions[0].batch.Column(0).Uint64s()[i])
		assert.EqualValues(t, int64(1<<53-20)+int64(i), out.emissions[0].batch.Column(1).Int64s()[i])
	}
}

// TestBatchesAreCut: no batch is larger than one should be, with few channels or
// many.
func TestBatchesAreCut(t *testing.T) {
	for _, channels := range []int{1, 10, 1000, 20_000} {
		for _, typ := range []string{"double", "string"} {
			c := config(5000, func(c *Config) {
				for i := range channels {
					c.Channel = append(c.Channel, block(string(rune('a'+i/26_000))+time.Duration(i).String(), func(c *Channel) { c.Type = typ }))
				}
			})
			if channels > 10 {
				c.Rows = 30
			}
			out := collect(t, c, nil)
			assert.EqualValues(t, c.Rows, out.count())
			for _, e := range out.emissions {
				if e.batch.Rows() > 1 {
					assert.LessOrEqual(t, e.batch.WireBound(), sdk.MaxBatchBytes)
					assert.LessOrEqual(t, len(e.batch.Raw()), sdk.MaxBatchBytes)
				}
			}
			if typ == "double" && channels == 1000 {
				assert.Len(t, out.emissions, 1, "there is room for all 30 rows")
			}
		}
	}
}

// paced runs a source in a bubble for some time and returns what it emitted, with
// times since the run began.
func paced(t *testing.T, c Config, gather, length time.Duration, emit func(n int)) *output {
	t.Helper()
	var out *output
	synctest.Test(t, func(t *testing.T) {
		out = newOutput(t)
		begun := time.Now()
		out.emit = func(emission) {
			out.emissions[len(out.emissions)-1].at = time.Unix(0, int64(time.Since(begun)))
			if emit != nil {
				emit(len(out.emissions))
			}
		}
		s, err := open(sdk.Settings{Gather: gather}, c)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		if err := s.Run(ctx, out); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
	return out
}

func (o *output) times() []time.Duration {
	var out []time.Duration
	for _, e := range o.emissions {
		out = append(out, time.Duration(e.at.UnixNano()))
	}
	return out
}

func pacedConfig(rate float64) Config {
	c := defaultConfig()
	c.Rate = sdk.NumberOr{Number: rate}
	return c
}

// TestSlowRowsGoAtOnce: each row is emitted when it is due, exactly.
func TestSlowRowsGoAtOnce(t *testing.T) {
	out := paced(t, pacedConfig(3), sdk.DefaultGather, 1900*time.Millisecond, nil)
	assert.Equal(t, []time.Duration{0, 333_333_333, 666_666_666, 1e9, 1_333_333_333, 1_666_666_666}, out.times())
	for _, e := range out.emissions {
		assert.Equal(t, 1, e.batch.Rows())
	}
	stamps, _ := out.rows()
	assert.EqualValues(t, 1_666_666_666, stamps[5]-stamps[0])
}

func TestFastRowsAreGathered(t *testing.T) {
	out := paced(t, pacedConfig(1000), 5*time.Millisecond, 21*time.Millisecond, nil)
	assert.Equal(t, []time.Duration{0, 5e6, 10e6, 15e6, 20e6}, out.times())
	assert.Equal(t, 1, out.emissions[0].batch.Rows(), "the first row waits for no other")
	assert.Equal(t, 21, out.count())

	out = paced(t, pacedConfig(1000), 0, 5500*time.Microsecond, nil)
	assert.Equal(t, []time.Duration{0, 1e6, 2e6, 3e6, 4e6, 5e6}, out.times(), "without gathering each row goes at once")
}

// TestMillionRows: all rows of a second are there after a second, although a batch
// has room for a part of what is due each time.
func TestMillionRows(t *testing.T) {
	c := pacedConfig(1e6)
	one := 1
	c.Channels = &one
	out := paced(t, c, 5*time.Millisecond, time.Second, nil)
	assert.GreaterOrEqual(t, out.count(), 995_000)
	assert.LessOrEqual(t, out.count(), 1_000_001)
	stamps, _ := out.rows()
	for i := range stamps {
		if stamps[i] != stamps[0]+int64(i)*1_000 {
			t.Fatalf("row %d is at %d ns", i, stamps[i]-stamps[0])
		}
	}
}

// TestNoDrift: odd rates and slow hosts lose no time over an hour.
func TestNoDrift(t *testing.T) {
	out := paced(t, pacedConfig(7.3), 5*time.Millisecond, time.Hour+50*time.Millisecond, func(int) { <-time.After(3 * time.Millisecond) })
	assert.Equal(t, int(math.Floor(7.3*3600))+1, out.count())
	times := out.times()
	last := len(times) - 1
	assert.Equal(t, time.Duration(float64(last)/7.3*1e9).Truncate(time.Millisecond), times[last].Truncate(time.Millisecond))
}

// TestCatchesUp: what could not be emitted while the host was busy follows at
// once, and then the pace is as before.
func TestCatchesUp(t *testing.T) {
	out := paced(t, pacedConfig(100), 5*time.Millisecond, 1495*time.Millisecond, func(n int) {
		if n == 11 {
			<-time.After(time.Second)
		}
	})
	assert.Equal(t, 150, out.count())
	times := out.times()
	assert.Equal(t, 100*time.Millisecond, times[10])
	assert.Equal(t, 1105*time.Millisecond, times[11], "a gathering time after the last emission")
	assert.Equal(t, 1110*time.Millisecond, times[12])
	assert.Equal(t, 100, out.emissions[11].batch.Rows())
	assert.Equal(t, 1490*time.Millisecond, times[len(times)-1])
}

func TestFiniteRunEndsByItself(t *testing.T) {
	c := pacedConfig(10)
	c.Rows = 11
	out := paced(t, c, 5*time.Millisecond, time.Hour, nil)
	assert.Equal(t, 11, out.count())
	assert.Equal(t, time.Second, out.times()[10])
}

// TestPacedResume: a resumed run goes on with the next row at once.
func TestPacedResume(t *testing.T) {
	c := pacedConfig(10)
	first := paced(t, c, 0, time.Second, nil)
	synctest.Test(t, func(t *testing.T) {
		out := newOutput(t)
		out.resume = first.emissions[4].position
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, newSource(t, c).Run(ctx, out), context.DeadlineExceeded)
		require.Len(t, out.emissions, 3)
		assert.Zero(t, out.emissions[0].at.Sub(begun))
		assert.Equal(t, 200*time.Millisecond, out.emissions[2].at.Sub(begun))
		before, _ := first.rows()
		after, _ := out.rows()
		assert.Equal(t, before[5:8], after, "stamps go on in the time of the first run")
	})
}

func TestStopsPromptly(t *testing.T) {
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out := newOutput(t)
			done := make(chan error)
			go func() { done <- newSource(t, pacedConfig(0.001)).Run(t.Context(), out) }()
			synctest.Wait()
			begun := time.Now()
			close(out.stopping)
			require.NoError(t, <-done)
			assert.Zero(t, time.Since(begun))
			assert.Equal(t, 1, out.count())
		})
	})
	t.Run("at full speed", func(t *testing.T) {
		out := newOutput(t)
		out.emit = func(emission) {
			if len(out.emissions) == 3 {
				close(out.stopping)
			}
		}
		require.NoError(t, newSource(t, config(0, nil)).Run(t.Context(), out))
		assert.Len(t, out.emissions, 3)
	})
	t.Run("before it begins", func(t *testing.T) {
		out := newOutput(t)
		close(out.stopping)
		require.NoError(t, newSource(t, config(0, nil)).Run(t.Context(), out))
		assert.Empty(t, out.emissions)
	})
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		out := newOutput(t)
		out.emit = func(emission) { cancel(assert.AnError) }
		require.ErrorIs(t, newSource(t, pacedConfig(1)).Run(ctx, out), assert.AnError)
		assert.Len(t, out.emissions, 1)
	})
}

func TestRewind(t *testing.T) {
	c := config(100, func(c *Config) { c.Batch = 10 })
	rewound := func(to func(o *output) sdk.Rewind) *output {
		out := newOutput(t)
		out.rewinds = make(chan sdk.Rewind, 1)
		out.emit = func(emission) {
			if len(out.emissions) == 5 {
				out.rewinds <- to(out)
			}
		}
		require.NoError(t, newSource(t, c).Run(t.Context(), out))
		return out
	}
	whole := collect(t, c, nil).raw()

	out := rewound(func(o *output) sdk.Rewind { return sdk.Rewind{Position: o.emissions[1].position} })
	assert.Equal(t, slices.Concat(whole[:50], whole[20:]), out.raw())

	out = rewound(func(*output) sdk.Rewind { return sdk.Rewind{FromBeginning: true} })
	assert.Equal(t, slices.Concat(whole[:50], whole), out.raw())

	out = newOutput(t)
	out.rewinds = make(chan sdk.Rewind, 1)
	out.rewinds <- sdk.Rewind{Position: []byte{1}}
	require.ErrorContains(t, newSource(t, c).Run(t.Context(), out), "rewind: position of 1 bytes")

	out = newOutput(t)
	close(out.rewinds)
	require.NoError(t, newSource(t, c).Run(t.Context(), out))
	assert.Equal(t, whole, out.raw())
}

// TestPacedRewind: rows from before are due, so they follow at once; then the
// pace goes on.
func TestPacedRewind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput(t)
		begun := time.Now()
		var times []time.Duration
		out.emit = func(emission) { times = append(times, time.Since(begun)) }
		done := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), 750*time.Millisecond)
		defer cancel()
		go func() { done <- newSource(t, pacedConfig(10)).Run(ctx, out) }()
		<-time.After(450 * time.Millisecond)
		out.rewinds <- sdk.Rewind{FromBeginning: true}
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
		assert.Equal(t, []time.Duration{0, 100e6, 200e6, 300e6, 400e6, 450e6, 500e6, 600e6, 700e6}, times)
		assert.Equal(t, 5, out.emissions[5].batch.Rows())
	})
}

func TestEndOfTime(t *testing.T) {
	start := time.Unix(0, math.MaxInt64-1_500)
	c := config(0, func(c *Config) { c.Start, c.NominalRate, c.Batch = &start, 1e6, 1 })
	out := newOutput(t)
	err := newSource(t, c).Run(t.Context(), out)
	require.EqualError(t, err, "row 2 would be after the year 2262, the end of what stamps can say")
	assert.Equal(t, 2, out.count())

	c.Rows = 2
	assert.Empty(t, c.Validate())
	c.Rows = 3
	require.Len(t, c.Validate(), 1)
	assert.Equal(t, "Rows end too late", c.Validate()[0].Summary)
}
