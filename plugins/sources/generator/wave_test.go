package generator

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

// TestClock holds the clock against arithmetic that needs no care.
func TestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock{
			start: rapid.Int64Range(-1<<50, 1<<50).Draw(t, "start"),
			rate:  rapid.OneOf(rapid.Uint64Range(1, 1e6), rapid.Uint64Range(1, 1e15)).Draw(t, "rate"),
		}
		row := rapid.Uint64Range(0, 1<<20).Draw(t, "row")
		at, ok := c.stamp(row)
		if !ok {
			return
		}
		require.Equal(t, at, c.start+int64(new128(row, unitNs).div(c.rate)))

		// Walking there is the same.
		from := row - rapid.Uint64Range(0, min(row, 100)).Draw(t, "back")
		ticks := c.ticks(from)
		for range row - from {
			ticks.next()
		}
		require.Equal(t, at, ticks.at)

		// A row is due at its time, and not before.
		d := time.Duration(at - c.start)
		require.Greater(t, c.due(d), row)
		if d > 0 {
			require.LessOrEqual(t, c.due(d-1), row)
		}
	})
	assert.Zero(t, clock{rate: 1}.due(-1))
	assert.EqualValues(t, 1, clock{rate: 1}.due(0))
	assert.EqualValues(t, uint64(1<<63)/1_000_000_000*1_000_000_000, clock{rate: unitNs}.due(math.MaxInt64)/1_000_000_000*1_000_000_000)
	_, ok := clock{rate: 1}.stamp(math.MaxUint64)
	assert.False(t, ok)
	_, ok = clock{start: 1, rate: unitNs}.stamp(math.MaxInt64)
	assert.False(t, ok)
}

// new128 is the product of two numbers, as a sum of parts small enough for
// schoolbook division.
type number128 [4]uint64

func new128(a, b uint64) number128 {
	var n number128
	for i, x := range []uint64{a & math.MaxUint32, a >> 32} {
		for j, y := range []uint64{b & math.MaxUint32, b >> 32} {
			p := x * y
			n[i+j] += p & math.MaxUint32
			n[i+j+1] += p >> 32
		}
	}
	for i := range 3 {
		n[i+1] += n[i] >> 32
		n[i] &= math.MaxUint32
	}
	return n
}

// div divides bit by bit.
func (n number128) div(by uint64) uint64 {
	var q, r uint64
	for bit := 127; bit >= 0; bit-- {
		r = r<<1 | n[bit/32]>>(bit%32)&1
		q <<= 1
		if r >= by {
			r -= by
			q |= 1
		}
	}
	return q
}

// TestPlaces: walking to a row ends where jumping to it does, and whole periods
// are counted right.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Uint64Range(1, 1e15).Draw(t, "rate")
		period := rapid.Int64Range(1, 1<<40).Draw(t, "period")
		c := channel{stride: strideOf(rate, period), first: place{part: rapid.Uint64().Draw(t, "phase")}}
		row := rapid.Uint64Range(0, 1<<63).Draw(t, "row")
		walked := c.place(row)
		for range 50 {
			walked = walked.add(c.stride)
			row++
		}
		require.Equal(t, c.place(row), walked)
	})
	ms := strideOf(1000*rateUnit, int64(time.Second)) // 1,000 rows in a period
	assert.EqualValues(t, 0, ms.times(999).period)
	assert.EqualValues(t, 1, ms.times(1001).period)
	assert.InDelta(t, 0.25, unit(ms.times(1_000_000_250).part), 1e-9)
	assert.Equal(t, place{2, 1 << 63}, strideOf(rateUnit, 400_000_000), "two and a half periods from row to row")
}

func TestSine(t *testing.T) {
	table := newSines()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Uint64().Draw(t, "part")
		require.InDelta(t, math.Sin(2*math.Pi*float64(part)/(1<<64)), table.sine(part), 2e-11)
	})
	for part, want := range map[uint64]float64{0: 0, 1 << 62: 1, 1 << 63: 0, 3 << 62: -1} {
		assert.InDelta(t, want, table.sine(part), 2e-16)
	}
}

// values runs a single channel for n rows, 10 of them in a period, and returns
// column and batch.
func values(t *testing.T, n int64, change func(c *Channel)) *sdk.Column {
	t.Helper()
	c := config(n, func(c *Config) {
		c.Channel = []Channel{block("x", func(c *Channel) {
			c.Period = 10 * time.Millisecond
			change(c)
		})}
	})
	require.Empty(t, c.Validate())
	out := newOutput(t)
	require.NoError(t, newSource(t, c).Run(t.Context(), out))
	require.Len(t, out.emissions, 1)
	return out.emissions[0].batch.Column(0)
}

func TestWaves(t *testing.T) {
	doubles := func(wave string, n int64) []float64 {
		return values(t, n, func(c *Channel) { c.Wave, c.Amplitude, c.Offset = wave, 4, 100 }).Doubles()
	}
	assert.InDeltaSlice(t, []float64{100, 100 + 4*math.Sin(math.Pi/5), 100 + 4*math.Sin(2*math.Pi/5)}, doubles("sine", 3), 1e-9)
	assert.InDeltaSlice(t, []float64{96, 96.8, 97.6, 98.4, 99.2, 100, 100.8, 101.6, 102.4, 103.2, 96, 96.8}, doubles("ramp", 12), 1e-9)
	assert.Equal(t, []float64{104, 104, 104, 104, 104, 96, 96, 96, 96, 96, 104}, doubles("square", 11))
	assert.Equal(t, []float64{100, 101, 102}, doubles("counter", 3))
	assert.Equal(t, []float64{100, 100, 100}, doubles("constant", 3))

	steps := doubles("step", 1000)
	levels := map[float64]int{}
	for i, v := range steps {
		levels[v]++
		assert.Equal(t, steps[i/10*10], v)
	}
	assert.Len(t, levels, 100)

	noise := doubles("noise", 4000)
	sum, least, greatest := 0.0, noise[0], noise[0]
	for _, v := range noise {
		sum, least, greatest = sum+v, min(least, v), max(greatest, v)
	}
	assert.InDelta(t, 100, sum/4000, 0.2)
	assert.InDelta(t, 96, least, 0.02)
	assert.InDelta(t, 104, greatest, 0.02)
	assert.LessOrEqual(t, greatest, 104.0)
}

func TestPhaseRangeAndInterval(t *testing.T) {
	col := values(t, 4, func(c *Channel) { c.Wave, c.Phase = "ramp", 0.5 })
	assert.InDeltaSlice(t, []float64{0, 0.2, 0.4, 0.6}, col.Doubles(), 1e-9)
	col = values(t, 4, func(c *Channel) { c.Wave, c.Phase = "ramp", 1 })
	assert.InDelta(t, -1, col.Doubles()[0], 1e-9)

	low, high := -10.0, 30.0
	col = values(t, 10, func(c *Channel) { c.Wave, c.Min, c.Max = "square", &low, &high })
	assert.Equal(t, []float64{30, 30, 30, 30, 30, -10, -10, -10, -10, -10}, col.Doubles())

	col = values(t, 7, func(c *Channel) { c.Wave, c.Every = "counter", 3 })
	for row := range 7 {
		assert.Equal(t, row%3 == 0, col.Valid(row))
	}
	assert.Equal(t, []float64{0, 0, 0, 3, 0, 0, 6}, col.Doubles())
}

func TestTypes(t *testing.T) {
	typed := func(n int64, typ, wave string, amplitude, offset float64, more ...func(c *Channel)) *sdk.Column {
		return values(t, n, func(c *Channel) {
			c.Type, c.Wave, c.Amplitude, c.Offset = typ, wave, amplitude, offset
			for _, change := range more {
				change(c)
			}
		})
	}
	texts := func(col *sdk.Column, n int) []string {
		var out []string
		for row := range n {
			out = append(out, string(col.Bytes(row)))
		}
		return out
	}
	bools := func(col *sdk.Column, n int) []bool {
		var out []bool
		for row := range n {
			out = append(out, col.Bool(row))
		}
		return out
	}
	names := func(c *Channel) { c.Values = []string{"a", "b", "c", "d", "e"} }

	assert.Equal(t, []float32{1.5, 1.5}, typed(2, "float", "constant", 1, 1.5).Floats())
	assert.Equal(t, []int32{-10, -8, -6, -4, -2, 0}, typed(6, "int32", "ramp", 10, 0).Int32s())
	assert.Equal(t, []int32{math.MaxInt32, math.MinInt32}, append(
		typed(1, "int32", "constant", 1, 1e12).Int32s(), typed(1, "int32", "constant", 1, -1e12).Int32s()...))
	assert.Equal(t, []uint32{0, 0, 0, 0, 0, 0, 2}, typed(7, "uint32", "ramp", 10, 0).Uint32s())
	assert.Equal(t, []uint32{math.MaxUint32}, typed(1, "uint32", "constant", 1, 1e12).Uint32s())
	assert.Equal(t, []int64{-3, -2, -1, 0}, typed(4, "int64", "counter", 1, -3).Int64s())
	assert.Equal(t, []int64{math.MaxInt64}, typed(1, "int64", "constant", 1, 1e30).Int64s())
	assert.Equal(t, []int64{math.MinInt64}, typed(1, "int64", "constant", 1, -1e30).Int64s())
	assert.Equal(t, []uint64{5, 6, 7}, typed(3, "uint64", "counter", 1, 5).Uint64s())
	assert.Equal(t, []uint64{0, 0, 0, 1}, typed(4, "uint64", "counter", 1, -2).Uint64s())
	assert.Equal(t, []uint64{1 << 63, 1<<63 + 1}, typed(2, "uint64", "counter", 1, 1<<63).Uint64s())
	assert.Equal(t, []uint64{math.MaxUint64}, typed(1, "uint64", "constant", 1, 1e30).Uint64s())
	assert.Equal(t, []bool{true, true, true, true, true, false}, bools(typed(6, "bool", "square", 1, 9), 6))
	assert.Equal(t, []bool{false, true, false, true}, bools(typed(4, "bool", "counter", 1, 0), 4))
	assert.Equal(t, []bool{true, true}, bools(typed(2, "bool", "constant", 1, 1), 2))
	assert.Equal(t, []string{"-1.5", "-1.5"}, texts(typed(2, "string", "constant", 1, -1.5), 2))
	assert.Equal(t, []string{"9", "10", "11"}, texts(typed(3, "string", "counter", 1, 9), 3))
	assert.Equal(t, []uint32{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0}, typed(11, "enum", "ramp", 3, 50, names, func(c *Channel) { c.Phase = 0.05 }).Uint32s())
	assert.Equal(t, []uint32{0, 1, 2, 3, 4, 0, 1}, typed(7, "enum", "counter", 1, 0, names).Uint32s())
	assert.Equal(t, []uint32{4}, typed(1, "enum", "constant", 1, 9, names).Uint32s())
	assert.Equal(t, []string{"\xff", "\x00", "\x01"}, texts(typed(3, "bit_field", "counter", 1, 255), 3))
	wide := typed(3, "bit_field", "counter", 1, 1023, func(c *Channel) { c.Bits = make([]string, 10) })
	assert.Equal(t, []string{"\xff\x03", "\x00\x00", "\x01\x00"}, texts(wide, 3))
	assert.Equal(t, []string{"\x01\x02\x00\x00\x00\x00\x00\x00"}, texts(typed(1, "bytes", "counter", 1, 513), 1))
}

// TestGoldenRandom: seeds must not change their meaning from version to version.
func TestGoldenRandom(t *testing.T) {
	assert.Equal(t, uint64(0xe220a8397b1dcdaf), mix(odd), "the first number of SplitMix64 with seed 0")
	assert.Equal(t, uint64(0x6e789e6aa1b965f4), mix(2*odd&math.MaxUint64))
}
