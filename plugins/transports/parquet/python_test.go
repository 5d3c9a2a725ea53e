package parquet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/pyvenv"
	"github.com/pipelined/pipelined/sdk"
)

// reading is what testdata/read.py prints for a file.
type reading struct {
	Arrow struct {
		Types   [][2]string
		Columns [][]any
		Meta    map[string]string
	}
	Duck struct {
		Types   [][2]string
		Columns [][]any
	}
	Frame struct {
		Types [][2]string
		Rows  int
	}
}

// readElsewhere reads files with other implementations.
func readElsewhere(t *testing.T, paths []string) []reading {
	t.Helper()
	args := append([]string{filepath.Join("testdata", "read.py")}, paths...)
	cmd := exec.Command(pyvenv.Python(t, pyvenv.Parquet()...), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	readings := make([]reading, len(paths))
	decoder := json.NewDecoder(bytes.NewReader(out))
	for i := range readings {
		require.NoError(t, decoder.Decode(&readings[i]))
	}
	return readings
}

// elsewhere is a file and what other implementations must find in it.
type elsewhere struct {
	name  string
	path  string
	check func(t *testing.T, got reading)
}

// TestOtherImplementations reads files with Arrow, DuckDB and pandas, all at once
// because these take seconds to start.
func TestOtherImplementations(t *testing.T) {
	pyvenv.Python(t, pyvenv.Parquet()...)
	cases := []elsewhere{everyType(t), tableOf1000(t), hostileNames(t), largeTable(t)}
	var paths []string
	for _, c := range cases {
		paths = append(paths, c.path)
	}
	for i, got := range readElsewhere(t, paths) {
		t.Run(cases[i].name, func(t *testing.T) { cases[i].check(t, got) })
	}
}

// double is how read.py prints a double.
func double(v float64) string {
	if math.IsNaN(v) {
		return "NaN"
	}
	return fmt.Sprintf("%016x", math.Float64bits(v))
}

func text(v any) string { return fmt.Sprint(v) }

func blob(v string) string { return "0x" + hex.EncodeToString([]byte(v)) }

// everyType has extreme values of every type.
func everyType(t *testing.T) elsewhere {
	flow := &sdk.Flow{Name: "all"}
	for _, typ := range sdk.ChannelTypes() {
		c := sdk.Channel{Name: typ.String(), Type: typ, Unit: "u"}
		if typ == sdk.Enum {
			c.Enum = []sdk.EnumValue{{Name: "läuft", Key: 1}}
		}
		flow.Channels = append(flow.Channels, c)
	}
	stamps := []int64{-1_000, -9_223_372_036_000_000_001, 9_223_372_036_000_000_001, 0, 1_760_000_000_123_456_789}
	doubles := []float64{math.NaN(), math.Copysign(0, -1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}
	floats := []float32{float32(math.NaN()), float32(math.Copysign(0, -1)), float32(math.Inf(1)), math.MaxFloat32, -1.5}
	strings := []string{"", "ä\x00\n\"'", "🚀", "x", string(bytes.Repeat([]byte("long"), 10_000))}
	enums := []uint32{1, 0, math.MaxUint32, 1, 2}
	int32s := []int32{math.MinInt32, math.MaxInt32, 0, -1, 1}
	int64s := []int64{math.MinInt64, math.MaxInt64, 0, -1, 1}
	blobs := []string{"", "\x00", "\xff\xfe", "text", string(bytes.Repeat([]byte{7}, 30_000))}

	want := make([][]any, len(flow.Channels)+1)
	expect := func(channel int, v any) { want[channel+1] = append(want[channel+1], v) }
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, delivery(t, flow, func(b *sdk.Builder) {
		for i, stamp := range stamps {
			b.Row(stamp)
			expect(-1, text(stamp))
			b.Double(0, doubles[i])
			expect(0, double(doubles[i]))
			b.String(1, strings[i])
			expect(1, strings[i])
			b.Uint32(2, enums[i])
			expect(2, string(newEnumText(flow.Channels[2].Enum).of(enums[i])))
			require.NoError(t, b.BitField(3, []byte{byte(i), 0x80}))
			expect(3, blob(string([]byte{byte(i), 0x80})))
			b.Bool(4, i%2 == 0)
			expect(4, i%2 == 0)
			b.Float(5, floats[i])
			expect(5, double(float64(floats[i])))
			b.Int32(6, int32s[i])
			expect(6, text(int32s[i]))
			b.Uint32(7, uint32(int32s[i]))
			expect(7, text(uint32(int32s[i])))
			b.Int64(8, int64s[i])
			expect(8, text(int64s[i]))
			b.Uint64(9, uint64(int64s[i]))
			expect(9, text(uint64(int64s[i])))
			b.SetBytes(10, []byte(blobs[i]))
			expect(10, blob(blobs[i]))
		}
		b.Row(7) // nothing
		expect(-1, "7")
		for i := range flow.Channels {
			expect(i, nil)
		}
	}))
	return elsewhere{"every type", finish(t, s)[0], func(t *testing.T, got reading) {
		assert.Equal(t, [][2]string{
			{"time", "timestamp[ns, tz=UTC]"},
			{"double", "double"},
			{"string", "string"},
			{"enum", "string"},
			{"bit_field", "binary"},
			{"bool", "bool"},
			{"float", "float"},
			{"int32", "int32"},
			{"uint32", "uint32"},
			{"int64", "int64"},
			{"uint64", "uint64"},
			{"bytes", "binary"},
		}, got.Arrow.Types)
		assert.Equal(t, want, got.Arrow.Columns)
		var channels []channelMeta
		require.NoError(t, json.Unmarshal([]byte(got.Arrow.Meta[metaChannels]), &channels))
		assert.Equal(t, channelMeta{Column: "double", Channel: "double", Type: "double", Unit: "u"}, channels[0])

		assert.Equal(t, [][2]string{
			{"time", "TIMESTAMP WITH TIME ZONE"},
			{"double", "DOUBLE"},
			{"string", "VARCHAR"},
			{"enum", "VARCHAR"},
			{"bit_field", "BLOB"},
			{"bool", "BOOLEAN"},
			{"float", "FLOAT"},
			{"int32", "INTEGER"},
			{"uint32", "UINTEGER"},
			{"int64", "BIGINT"},
			{"uint64", "UBIGINT"},
			{"bytes", "BLOB"},
		}, got.Duck.Types)
		assert.Equal(t, want[1:], got.Duck.Columns[1:])
		for i, stamp := range stamps { // DuckDB's type has µs
			assert.Equal(t, text(stamp/1000*1000), got.Duck.Columns[0][i])
		}

		assert.Equal(t, len(stamps)+1, got.Frame.Rows)
		assert.Equal(t, [2]string{"time", "datetime64[ns, UTC]"}, got.Frame.Types[0])
		assert.Equal(t, [2]string{"float", "float32"}, got.Frame.Types[6])
	}}
}

// tableOf1000 has 1,000 channels, every other one in each row.
func tableOf1000(t *testing.T) elsewhere {
	const channels, batches, rowsEach = 1000, 6, 30
	b := newBench(t, func(c *Config) { c.RowGroupSize = 1 << 20 })
	flow := doubles("wide", channels)
	s := b.stream(t)
	for i := range batches {
		send(t, s, delivery(t, flow, func(b *sdk.Builder) {
			for row := range rowsEach {
				n := i*rowsEach + row
				b.Row(int64(n))
				for c := n % 2; c < channels; c += 2 { // every other channel
					b.Double(c, float64(n*channels+c))
				}
			}
		}))
	}
	paths := finish(t, s)
	require.Len(t, paths, 1)
	return elsewhere{"wide table", paths[0], func(t *testing.T, got reading) {
		require.Len(t, got.Arrow.Columns, channels+1)
		require.Len(t, got.Duck.Columns, channels+1)
		assert.Equal(t, batches*rowsEach, got.Frame.Rows)
		for c := range channels {
			assert.Equal(t, "c"+strconv.Itoa(c), got.Arrow.Types[c+1][0])
			for n := range batches * rowsEach {
				var want any
				if n%2 == c%2 {
					want = double(float64(n*channels + c))
				}
				require.Equal(t, want, got.Arrow.Columns[c+1][n])
				require.Equal(t, want, got.Duck.Columns[c+1][n])
			}
		}
	}}
}

// hostileNames has them everywhere.
func hostileNames(t *testing.T) elsewhere {
	flow := &sdk.Flow{Origin: sdk.Origin{Asset: "a'b; drop table", ClientKey: "k\"", Run: "r\\"}, Name: "f'\n\x00 ü/.."}
	for _, name := range hostile {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: name, Type: sdk.Double, Unit: name, Description: name})
	}
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, delivery(t, flow, func(b *sdk.Builder) {
		b.Row(1)
		for i := range flow.Channels {
			b.Double(i, float64(i))
		}
	}))
	return elsewhere{"hostile names", finish(t, s)[0], func(t *testing.T, got reading) {
		for i, name := range hostile {
			assert.Equal(t, name, got.Arrow.Types[i+1][0])
			assert.Equal(t, []any{double(float64(i))}, got.Arrow.Columns[i+1])
			assert.Equal(t, []any{double(float64(i))}, got.Duck.Columns[i+1])
		}
		assert.Equal(t, flow.Name, got.Arrow.Meta[metaFlow])
		assert.Equal(t, flow.Origin.Asset, got.Arrow.Meta[metaAsset])
	}}
}

// largeTable has many pages, row groups and dictionaries that are given up.
func largeTable(t *testing.T) elsewhere {
	const total = 30_000
	b := newBench(t, func(c *Config) { c.RowGroupSize = 1 << 20 })
	flow := &sdk.Flow{Name: "f", Channels: []sdk.Channel{
		{Name: "few", Type: sdk.String},
		{Name: "many", Type: sdk.String},
		{Name: "sometimes", Type: sdk.Int64},
		{Name: "late", Type: sdk.Bool},
		{Name: "never", Type: sdk.Float},
	}}
	many := func(n int) string {
		return fmt.Sprintf("%d %x", n, n*n*7919) + "-----------------------------------------"
	}
	s := b.stream(t)
	for first := 0; first < total; first += 1000 {
		send(t, s, delivery(t, flow, func(b *sdk.Builder) {
			for n := first; n < first+1000; n++ {
				b.Row(int64(n))
				b.String(0, strconv.Itoa(n%7))
				b.String(1, many(n))
				if n%3 == 0 {
					b.Int64(2, int64(-n))
				}
				if n >= total/2 {
					b.Bool(3, n%2 == 0)
				}
			}
		}))
	}
	paths := finish(t, s)
	require.Len(t, paths, 1)
	info, err := os.Stat(paths[0])
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(total*40))
	assert.Greater(t, len(read(t, paths[0]).groups), 1)
	return elsewhere{"large table", paths[0], func(t *testing.T, got reading) {
		for name, columns := range map[string][][]any{"arrow": got.Arrow.Columns, "duck": got.Duck.Columns} {
			require.Len(t, columns[1], total, name)
			for n := range total {
				var sometimes, late any
				if n%3 == 0 {
					sometimes = text(-n)
				}
				if n >= total/2 {
					late = n%2 == 0
				}
				row := []any{columns[1][n], columns[2][n], columns[3][n], columns[4][n], columns[5][n]}
				require.Equal(t, []any{strconv.Itoa(n % 7), many(n), sometimes, late, nil}, row, "%s, row %d", name, n)
			}
		}
	}}
}
