package sdk_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

// machine drives a builder and a model of it side by side.
type machine struct {
	b      *sdk.Builder
	rows   []row
	widths []int // that bit fields mostly have
}

func newMachine(t *rapid.T) *machine {
	m := &machine{b: sdk.NewBuilder(drawFlow(t))}
	for range m.b.Flow().Channels {
		m.widths = append(m.widths, rapid.IntRange(1, 9).Draw(t, "width"))
	}
	return m
}

func (m *machine) begin(t *rapid.T) {
	time := rapid.Int64().Draw(t, "time")
	m.b.Row(time)
	m.rows = append(m.rows, row{time: time, cells: make([]cell, len(m.b.Flow().Channels))})
}

// set sets some channels of the current row, perhaps again.
func (m *machine) set(t *rapid.T) {
	if len(m.rows) == 0 {
		t.Skip("no row")
	}
	last := m.rows[len(m.rows)-1].cells
	for range rapid.IntRange(1, 2*len(last)).Draw(t, "sets") {
		i := rapid.IntRange(0, len(last)-1).Draw(t, "channel")
		c := drawCell(t, m.b.Flow().Channels[i].Type, m.widths[i])
		last[i] = c
		require.NoError(t, put(m.b, i, c))
	}
}

// setAll sets all channels, as most sources do.
func (m *machine) setAll(t *rapid.T) {
	m.begin(t)
	for i := range m.widths {
		c := drawCell(t, m.b.Flow().Channels[i].Type, m.widths[i])
		m.rows[len(m.rows)-1].cells[i] = c
		require.NoError(t, put(m.b, i, c))
	}
}

// columns sets some double channels for several rows at once.
func (m *machine) columns(t *rapid.T) {
	times := rapid.SliceOfN(rapid.Int64(), 0, 20).Draw(t, "times")
	m.b.AppendRows(times)
	for _, time := range times {
		m.rows = append(m.rows, row{time: time, cells: make([]cell, len(m.widths))})
	}
	for i, c := range m.b.Flow().Channels {
		if c.Type != sdk.Double {
			continue
		}
		values := rapid.SliceOfN(rapid.Float64(), 0, len(times)).Draw(t, "values")
		m.b.Doubles(i, values)
		for j, v := range values {
			m.rows[len(m.rows)-len(values)+j].cells[i] = cell{set: true, bits: math.Float64bits(v)}
		}
	}
}

// misfit offers a bit field of a wrong width.
func (m *machine) misfit(t *rapid.T) {
	i := rapid.IntRange(0, len(m.widths)-1).Draw(t, "channel")
	if len(m.rows) == 0 || m.b.Flow().Channels[i].Type != sdk.BitField {
		t.Skip("no bit field")
	}
	cells := &m.rows[len(m.rows)-1].cells[i]
	*cells = cell{}
	v := make([]byte, m.widths[i]+1)
	if !slices.ContainsFunc(m.rows, func(r row) bool { return r.cells[i].set }) {
		v = nil // any other width would become that of the batch
	}
	require.Error(t, m.b.BitField(i, v))
}

func (m *machine) drop(t *rapid.T) {
	if len(m.rows) == 0 {
		t.Skip("no row")
	}
	m.b.DropRow()
	m.rows = m.rows[:len(m.rows)-1]
}

// look uses what only reads the builder.
func (m *machine) look(*rapid.T) {
	if len(m.rows) > 0 {
		m.b.Len()
		m.b.Append(nil)
		m.b.Full()
	}
}

func (m *machine) reset(*rapid.T) {
	m.b.Reset()
	m.rows = nil
}

func TestBuilderAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"row":     m.begin,
			"set":     m.set,
			"set all": m.setAll,
			"columns": m.columns,
			"misfit":  m.misfit,
			"drop":    m.drop,
			"look":    m.look,
			"reset":   m.reset,
			"":        func(t *rapid.T) { checkBuilder(t, m.b, m.rows) },
		})
	})
}

// TestBuilderUnchecked is the same, but the batch is written only once at the
// end: writing fills up columns, and may hide what happens without it.
func TestBuilderUnchecked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		steps := []func(*rapid.T){m.begin, m.set, m.set, m.setAll, m.drop, m.columns}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if i := rapid.IntRange(0, len(steps)-1).Draw(t, "step"); len(m.rows) > 0 || i == 0 || i == 3 {
				steps[i](t)
			}
		}
		checkBuilder(t, m.b, m.rows)
	})
}

func TestCopyRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		for range rapid.IntRange(1, 20).Draw(t, "rows") {
			m.begin(t)
			m.set(t)
		}
		batch, err := sdk.ParseBatch(m.b.Flow(), m.b.Append(nil))
		require.NoError(t, err)
		copied := sdk.NewBuilder(m.b.Flow())
		var want []row
		for range rapid.IntRange(1, 30).Draw(t, "copies") {
			r := rapid.IntRange(0, len(m.rows)-1).Draw(t, "row")
			require.NoError(t, copied.CopyRow(batch, r))
			want = append(want, m.rows[r])
		}
		checkBuilder(t, copied, want)
	})
}

func TestCopyRowThatDoesNotFit(t *testing.T) {
	flow := flowOf(sdk.Double, sdk.BitField)
	narrow, wide := sdk.NewBuilder(flow), sdk.NewBuilder(flow)
	write(t, narrow, []row{{1, []cell{{true, 5, ""}, {true, 0, "a"}}}})
	write(t, wide, []row{{2, []cell{{true, 6, ""}, {true, 0, "bb"}}}})
	batch, err := sdk.ParseBatch(flow, wide.Append(nil))
	require.NoError(t, err)
	before := narrow.Bytes()
	require.EqualError(t, narrow.CopyRow(batch, 0), `bit field "bit_field_1" has 2 bytes, want 1`)
	assert.Equal(t, 1, narrow.Rows())
	assert.Equal(t, before, narrow.Bytes())
}

func TestBitFieldWidths(t *testing.T) {
	b := sdk.NewBuilder(flowOf(sdk.BitField))
	b.Row(0)
	require.EqualError(t, b.BitField(0, nil), `bit field "bit_field_0" has 0 bytes, want 1`)
	require.NoError(t, b.BitField(0, []byte{1, 2}))
	require.NoError(t, b.BitField(0, []byte{1, 2, 3}), "the only value so far may change its width")
	b.Row(1)
	require.EqualError(t, b.BitField(0, []byte{1}), `bit field "bit_field_0" has 1 bytes, want 3`)
	b.Row(2)
	require.NoError(t, b.BitField(0, []byte{4, 5, 6}))
	batch, err := sdk.ParseBatch(b.Flow(), b.Append(nil))
	require.NoError(t, err)
	assert.Equal(t, 3, batch.Column(0).Width())
	assert.Equal(t, []bool{true, false, true}, []bool{
		batch.Column(0).Valid(0), batch.Column(0).Valid(1), batch.Column(0).Valid(2),
	})

	b.DropRow()
	b.DropRow()
	b.DropRow()
	b.Row(3)
	require.NoError(t, b.BitField(0, []byte{9}), "no value is left that has a width")
	b.Reset()
	b.Row(4)
	require.NoError(t, b.BitField(0, []byte{9, 9}))
}

// TestBitFieldOfManyRows: the first wide value must not make the batch larger
// than a payload.
func TestBitFieldOfManyRows(t *testing.T) {
	b := sdk.NewBuilder(flowOf(sdk.BitField))
	for i := range sdk.MaxRowsInBatch {
		b.Row(int64(i))
	}
	require.EqualError(t, b.BitField(0, make([]byte, 1025)),
		`bit field "bit_field_0" has 1025 bytes, too many for a batch of 4096 rows`)
	require.NoError(t, b.BitField(0, make([]byte, 1000)))
	assert.LessOrEqual(t, b.Len(), b.Bytes())
	assert.Greater(t, b.Len(), 4_000_000)
	_, err := sdk.ParseBatch(b.Flow(), b.Append(nil))
	require.NoError(t, err)
}

// TestBytesOfSparseRows: slots of nulls count, in a wide flow whose channels have
// few values.
func TestBytesOfSparseRows(t *testing.T) {
	flow := flowOf(slices.Repeat([]sdk.ChannelType{sdk.Double}, 500)...)
	b := sdk.NewBuilder(flow)
	for i := range 500 {
		b.Row(int64(i))
		b.Double(i, 1)
	}
	assert.LessOrEqual(t, b.Len(), b.Bytes())
	assert.Greater(t, b.Len(), 500*500*8)
}

func TestFull(t *testing.T) {
	b := sdk.NewBuilder(flowOf(sdk.Bool))
	for !b.Full() {
		b.Row(0)
	}
	assert.Equal(t, sdk.MaxRowsInBatch, b.Rows())

	b = sdk.NewBuilder(flowOf(sdk.String))
	for !b.Full() {
		b.Row(0)
		b.String(0, strings.Repeat("x", 10_000))
	}
	assert.LessOrEqual(t, b.Bytes(), sdk.MaxBatchBytes)
	assert.Greater(t, b.Bytes(), sdk.MaxBatchBytes*9/10)
	assert.False(t, b.TooLarge())

	b.Row(0)
	b.String(0, strings.Repeat("x", 3_500_000))
	assert.True(t, b.TooLarge())
	b.DropRow()
	assert.False(t, b.TooLarge())
}

func TestBuilderPanics(t *testing.T) {
	for _, typ := range sdk.ChannelTypes() {
		b := sdk.NewBuilder(flowOf(typ))
		for _, set := range []struct {
			types []sdk.ChannelType
			call  func()
		}{
			{[]sdk.ChannelType{sdk.Double}, func() { b.Double(0, 1) }},
			{[]sdk.ChannelType{sdk.Float}, func() { b.Float(0, 1) }},
			{[]sdk.ChannelType{sdk.Int32}, func() { b.Int32(0, 1) }},
			{[]sdk.ChannelType{sdk.Uint32, sdk.Enum}, func() { b.Uint32(0, 1) }},
			{[]sdk.ChannelType{sdk.Int64}, func() { b.Int64(0, 1) }},
			{[]sdk.ChannelType{sdk.Uint64}, func() { b.Uint64(0, 1) }},
			{[]sdk.ChannelType{sdk.Bool}, func() { b.Bool(0, true) }},
			{[]sdk.ChannelType{sdk.String}, func() { b.String(0, "") }},
			{[]sdk.ChannelType{sdk.Bytes, sdk.String}, func() { b.SetBytes(0, nil) }},
			{[]sdk.ChannelType{sdk.BitField}, func() { _ = b.BitField(0, []byte{1}) }},
		} {
			b.Reset()
			assert.Panics(t, set.call, "no row has begun")
			b.Row(0)
			if slices.Contains(set.types, typ) {
				assert.NotPanics(t, set.call)
			} else {
				assert.PanicsWithValue(t, "sdk: channel \""+typ.String()+"_0\" of flow \"engine\" has type "+
					typ.String()+", not "+set.types[0].String(), set.call)
			}
		}
	}
}

func TestDoublesPanics(t *testing.T) {
	b := sdk.NewBuilder(flowOf(sdk.Double, sdk.Float))
	b.AppendRows([]int64{1, 2})
	assert.Panics(t, func() { b.Doubles(0, make([]float64, 3)) }, "more values than rows")
	assert.Panics(t, func() { b.Doubles(1, make([]float64, 1)) }, "other type")
	b.Double(0, 1)
	assert.Panics(t, func() { b.Doubles(0, make([]float64, 1)) }, "set already")
	b.Row(3)
	assert.NotPanics(t, func() { b.Doubles(0, make([]float64, 1)) })
	assert.Panics(t, func() { b.Doubles(0, make([]float64, 1)) }, "set already")
}

// TestAppendLeavesNoTraces: padding is zero, whatever was in the memory before.
func TestAppendLeavesNoTraces(t *testing.T) {
	b := sdk.NewBuilder(flowOf(sdk.ChannelTypes()...))
	write(t, b, []row{
		{1, append([]cell{{true, 1, ""}, {true, 0, "text"}}, make([]cell, 9)...)},
		{2, make([]cell, 11)},
		{3, append(make([]cell, 4), append([]cell{{true, 1, ""}}, make([]cell, 6)...)...)},
	})
	clean := b.Append(nil)
	dirty := bytes.Repeat([]byte{0xff}, 4096)
	assert.Equal(t, clean, b.Append(dirty[:0]))
}

func TestGoldenLayout(t *testing.T) {
	flow := flowOf(sdk.Double, sdk.String, sdk.Bool, sdk.Int32, sdk.BitField)
	b := sdk.NewBuilder(flow)
	b.Row(1)
	b.Double(0, 1.5)
	b.String(1, "ab")
	b.Bool(2, true)
	require.NoError(t, b.BitField(4, []byte{1, 2, 3}))
	b.Row(-1)
	b.String(1, "c")
	b.Bool(2, true)
	require.NoError(t, b.BitField(4, []byte{4, 5, 6}))
	b.Row(math.MaxInt64)
	b.Double(0, math.Inf(-1))
	b.String(1, "")
	require.NoError(t, b.BitField(4, []byte{7, 8, 9}))

	assert.Equal(t, unhex(t,
		"50464231 03000000 05000000 04000000", // magic, rows, channels, columns
		"c9000000 00000000",                   // length
		"1700000000000000",                    // channels 0, 1, 2, 4
		"78000000 20000000 01000000 00000000", // directory: offset, length, nulls, width
		"98000000 13000000 00000000 00000000",
		"b0000000 09000000 01000000 00000000",
		"c0000000 09000000 00000000 03000000",
		"0100000000000000 ffffffffffffffff ffffffffffffff7f",
		"0500000000000000 000000000000f83f 0000000000000000 000000000000f0ff",
		"00000000 02000000 03000000 03000000 616263 0000000000",
		"0300000000000000 03 00000000000000",
		"010203040506070809",
	), b.Append(nil))
}
