package sdk_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

func unhex(t *testing.T, parts ...string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	require.NoError(t, err)
	return raw
}

// sample is a batch with each type, with and without nulls, and absent columns.
func sample(t require.TestingT) (*sdk.Flow, []byte) {
	types := sdk.ChannelTypes()
	flow := flowOf(append(append(types, types...), types...)...)
	b := sdk.NewBuilder(flow)
	for r := range 11 {
		b.Row(int64(r) * 1_000)
		for i, c := range flow.Channels[:2*len(types)] {
			if i >= len(types) && r%3 == 0 {
				continue
			}
			value := cell{set: true, bits: uint64(r * i)}
			switch c.Type {
			case sdk.Bool:
				value.bits = uint64(r % 2)
			case sdk.String, sdk.Bytes:
				value.text = strings.Repeat("x", r)
			case sdk.BitField:
				value.text = "abc"
			}
			require.NoError(t, put(b, i, value))
		}
	}
	return flow, b.Append(nil)
}

// assertSound parses foreign bytes. If they are accepted, everything can be read,
// and copied it is the same.
func assertSound(t require.TestingT, flow *sdk.Flow, raw []byte) {
	batch, err := sdk.ParseBatch(flow, raw)
	if err != nil {
		require.Less(t, len(err.Error()), 300+len(flow.Name))
		return
	}
	require.Equal(t, batch.Rows(), len(batch.Times()))
	least, greatest := batch.TimeSpan()
	require.LessOrEqual(t, least, greatest)
	require.Positive(t, batch.WireBound())
	rows := rowsOf(batch)
	again := sdk.NewBuilder(flow)
	for r := range rows {
		require.NoError(t, again.CopyRow(batch, r))
	}
	require.LessOrEqual(t, again.Len(), again.Bytes())
	if again.TooLarge() {
		return
	}
	canonical := again.Append(nil)
	copied, err := sdk.ParseBatch(flow, canonical)
	require.NoError(t, err)
	require.Equal(t, rows, rowsOf(copied))
}

func TestParseSample(t *testing.T) {
	flow, raw := sample(t)
	assertSound(t, flow, raw)
	batch, err := sdk.ParseBatch(flow, raw)
	require.NoError(t, err)
	assert.Same(t, flow, batch.Flow())
	assert.Equal(t, 11, batch.Rows())
	for i := range batch.Flow().Channels {
		col := batch.Column(i)
		assert.Equal(t, flow.Channels[i].Type, col.Type())
		assert.Equal(t, i < 22, col.Present())
		assert.Equal(t, i < 11, col.AllValid())
		assert.Equal(t, i < 11, col.Valid(0))
		assert.Equal(t, i < 22, col.Valid(1))
	}
}

func TestEveryCut(t *testing.T) {
	flow, raw := sample(t)
	for n := range raw {
		_, err := sdk.ParseBatch(flow, raw[:n])
		require.Error(t, err, n)
		// The same with a length that says so.
		if cut := bytes.Clone(raw[:n]); n >= 24 {
			binary.LittleEndian.PutUint32(cut[16:], uint32(n))
			_, err := sdk.ParseBatch(flow, cut)
			require.Error(t, err, n)
		}
	}
}

func TestEveryBit(t *testing.T) {
	flow, raw := sample(t)
	step := 1
	if testing.Short() {
		step = 13
	}
	for i := 0; i < 8*len(raw); i += step {
		raw[i/8] ^= 1 << (i % 8)
		assertSound(t, flow, raw)
		raw[i/8] ^= 1 << (i % 8)
	}
}

// TestWordsAtTheirBounds puts extreme numbers into the header and the directory,
// where sums and products could overflow.
func TestWordsAtTheirBounds(t *testing.T) {
	flow, raw := sample(t)
	words := 24/4 + 8/4 + 22*4
	for i := range words {
		before := binary.LittleEndian.Uint32(raw[4*i:])
		for _, v := range []uint32{
			0, 1, 7, 8, before - 1, before + 1, before + 8, 1<<22 - 1, 1 << 22, 1 << 24, 1<<29 + before,
			1<<30 + before, 1<<31 - 1, 1 << 31, 1<<31 + before, 1<<32 - 8, 1<<32 - 1, -before,
		} {
			binary.LittleEndian.PutUint32(raw[4*i:], v)
			assertSound(t, flow, raw)
		}
		binary.LittleEndian.PutUint32(raw[4*i:], before)
	}
}

// TestRandomDamage also tries pairs of changes that agree with each other.
func TestRandomDamage(t *testing.T) {
	flow, sound := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		raw := bytes.Clone(sound)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			at := 4 * rapid.IntRange(0, len(raw)/4-1).Draw(t, "at")
			v := rapid.OneOf(rapid.Uint32Range(0, 300), rapid.Uint32()).Draw(t, "v")
			binary.LittleEndian.PutUint32(raw[at:], v)
		}
		assertSound(t, flow, raw)
	})
}

func TestParseErrors(t *testing.T) {
	flow := flowOf(sdk.Double, sdk.String, sdk.BitField)
	b := sdk.NewBuilder(flow)
	for range 2 {
		b.Row(0)
		b.Double(0, 1)
		b.String(1, "ab")
		require.NoError(t, b.BitField(2, []byte{1}))
	}
	good := b.Append(nil)
	word := func(at int, v uint32) func([]byte) []byte {
		return func(raw []byte) []byte {
			binary.LittleEndian.PutUint32(raw[at:], v)
			return raw
		}
	}
	const first, second, third = 32, 48, 64 // in the directory
	strings := int(binary.LittleEndian.Uint32(good[second:]))
	for _, tc := range []struct {
		name   string
		change func(raw []byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "flow batch of 0 bytes: want 24 to 4194304"},
		{"too long", func([]byte) []byte { return make([]byte, sdk.MaxPayloadBytes+1) }, "flow batch of 4194305 bytes"},
		{"magic", word(0, 0), "not a flow batch: bad magic"},
		{"no rows", word(4, 0), "flow batch has 0 rows: want 1 to 4096"},
		{"too many rows", word(4, 4097), "flow batch has 4097 rows: want 1 to 4096"},
		{"more rows than there are", word(4, 4096), "flow batch is shorter than it says"},
		{"negative rows", word(4, 1<<32-1), "rows: want 1 to 4096"},
		{"other channels", word(8, 4), `flow batch has 4 channels, flow "engine" has 3`},
		{"too many columns", word(12, 4), "flow batch has 4 columns of 3 channels"},
		{"negative columns", word(12, 1<<32-1), "columns of 3 channels"},
		{"more bits than columns", word(12, 2), "more columns than directory entries"},
		{"fewer bits than columns", word(24, 3), "flow batch has fewer columns than directory entries"},
		{"bit beyond the channels", word(24, 11), "flow batch has a column for channel 4 of 3"},
		{"length", word(16, 1), "flow batch says 1 bytes and has"},
		{"offset into the header", word(first, 0), `column "double_0": it lies outside the flow batch`},
		{"offset not at 8 bytes", word(first, 108), `column "double_0": it lies outside`},
		{"offset far away", word(first, 1<<31), `column "double_0": it lies outside`},
		{"columns over each other", word(second, 96), `column "string_1": it lies outside`},
		{"length beyond the end", word(third+4, 1<<31), `column "bit_field_2": it lies outside`},
		{"values cut", word(first+4, 8), `column "double_0": 8 bytes of values, want 16`},
		{"more nulls than rows", word(first+8, 3), `column "double_0": 3 nulls in 2 rows`},
		{"nulls and no bitmap", word(third+8, 1), `column "bit_field_2": validity bitmap is cut off`},
		{"width of a double", word(first+12, 8), `column "double_0": width 8 for type double`},
		{"width of a string", word(second+12, 1), `column "string_1": width 1 for type string`},
		{"no width", word(third+12, 0), `column "bit_field_2": width 0 for type bit_field`},
		{"width that overflows", word(third+12, 1<<31+1), `column "bit_field_2": width`},
		{"offsets cut", word(second+4, 8), `column "string_1": offsets are cut off`},
		{"first offset", word(strings, 1), `column "string_1": offsets cover 1 to 4 of 4 bytes`},
		{"last offset", word(strings+8, 5), `column "string_1": offsets cover 0 to 5 of 4 bytes`},
		{"offsets go back", word(strings+4, 5), `column "string_1": offsets go back`},
		{"negative offset", word(strings+4, 1<<31), `column "string_1": offsets go back`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := sdk.ParseBatch(flow, tc.change(bytes.Clone(good)))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestBatchIsReused: nothing of the batch before is seen, after whatever came
// before, a refused batch included.
func TestBatchIsReused(t *testing.T) {
	var batch sdk.Batch
	wide, raw := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		switch rapid.IntRange(0, 3).Draw(t, "before") {
		case 0:
			require.NoError(t, batch.Parse(wide, raw))
		case 1:
			require.Error(t, batch.Parse(wide, raw[:len(raw)-1]))
		case 2:
			bad := bytes.Clone(raw)
			bad[24+8+16*5+8] = 200 // nulls of the sixth column
			require.Error(t, batch.Parse(wide, bad))
		}
		m := newMachine(t)
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			m.reset(t)
			m.begin(t)
			m.set(t)
			require.NoError(t, batch.Parse(m.b.Flow(), m.b.Append(nil)))
			require.Equal(t, m.rows, rowsOf(&batch))
		}
	})
}

// TestFlowsInOnePlace: a caller may use one variable for several flows.
func TestFlowsInOnePlace(t *testing.T) {
	var batch sdk.Batch
	var flow sdk.Flow
	for _, typ := range append(sdk.ChannelTypes(), sdk.ChannelTypes()...) {
		flow = *flowOf(typ)
		b := sdk.NewBuilder(&flow)
		b.Row(0)
		require.NoError(t, put(b, 0, cell{set: true, bits: 1, text: "x"}))
		require.NoError(t, batch.Parse(&flow, b.Append(nil)))
		assert.Equal(t, typ, batch.Column(0).Type())
	}
}

// TestUnaligned: memory from elsewhere may begin anywhere.
func TestUnaligned(t *testing.T) {
	flow, raw := sample(t)
	want, err := sdk.ParseBatch(flow, raw)
	require.NoError(t, err)
	for shift := range 9 {
		moved := append(make([]byte, shift, shift+len(raw)), raw...)[shift:]
		batch, err := sdk.ParseBatch(flow, moved)
		require.NoError(t, err)
		assert.Equal(t, rowsOf(want), rowsOf(batch))
		assert.Equal(t, raw, batch.Raw())
	}
}

func FuzzParseBatch(f *testing.F) {
	flow, raw := sample(f)
	f.Add(raw)
	b := sdk.NewBuilder(flow)
	b.Row(1)
	f.Add(b.Append(nil))
	b.Double(0, 1)
	b.String(1, "a")
	f.Add(b.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) { assertSound(t, flow, raw) })
}

// TestMemory: what a batch takes does not depend on the numbers in it.
func TestMemory(t *testing.T) {
	flow, raw := sample(t)
	bad := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(bad[24+8+4:], 1<<31) // length of the first column
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() {
		_, _ = sdk.ParseBatch(flow, bad)
	}), 12.0)

	var batch sdk.Batch
	require.NoError(t, batch.Parse(flow, raw))
	assert.Zero(t, testing.AllocsPerRun(20, func() {
		if err := batch.Parse(flow, raw); err != nil {
			t.Error(err)
		}
	}))
}

func TestBuilderAllocatesNothing(t *testing.T) {
	flow, raw := sample(t)
	batch, err := sdk.ParseBatch(flow, raw)
	require.NoError(t, err)
	b := sdk.NewBuilder(flow)
	var dst []byte
	fill := func() {
		b.Reset()
		for r := range batch.Rows() {
			if err := b.CopyRow(batch, r); err != nil {
				t.Error(err)
			}
		}
		b.DropRow()
		dst = b.Append(dst[:0])
	}
	fill()
	assert.Zero(t, testing.AllocsPerRun(20, fill))
}
