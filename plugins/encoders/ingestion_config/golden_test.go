package ingestionconfig

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// one returns a batch of one row of a flow "f".
func one(t *testing.T, stamp int64, channels []sdk.Channel, set func(b *sdk.Builder)) *sdk.Batch {
	t.Helper()
	flow := &sdk.Flow{Name: "f", Channels: channels}
	b := sdk.NewBuilder(flow)
	b.Row(stamp)
	set(b)
	batch, err := sdk.ParseBatch(flow, b.Append(nil))
	require.NoError(t, err)
	return batch
}

func channel(name string, t sdk.ChannelType) []sdk.Channel {
	return []sdk.Channel{{Name: name, Type: t}}
}

func encode(t *testing.T, batch *sdk.Batch, binding sdk.Binding) sdk.Encoded {
	t.Helper()
	out, err := new(encoder).Encode(nil, batch, binding)
	require.NoError(t, err)
	return out
}

// The message of the golden vectors: config c, flow f, 1 s 2 ns, [1.5, empty],
// run r.
const goldenMessage = "0a0163" + "120166" + "1a0408011002" +
	"220911000000000000f83f" + "22025a00" + "2a0172"

func goldenBatch(t *testing.T) *sdk.Batch {
	return one(t, 1_000_000_002, numbered(sdk.Double, 2), func(b *sdk.Builder) { b.Double(0, 1.5) })
}

func TestGoldenMessage(t *testing.T) {
	out := encode(t, goldenBatch(t), sdk.Binding{ConfigID: "c", RunID: "r"})
	assert.Equal(t, "1e000000"+goldenMessage, hex.EncodeToString(out.Body))
	assert.Equal(t, 1, out.Count)
	assert.Empty(t, out.Refused)
	assert.EqualValues(t, 1_000_000_002, out.MinTime)
	assert.EqualValues(t, 1_000_000_002, out.MaxTime)
}

func TestIDsAreLeftOutIfEmpty(t *testing.T) {
	out := encode(t, goldenBatch(t), sdk.Binding{ConfigID: "c"})
	want := strings.TrimSuffix(goldenMessage, "2a0172")
	assert.Equal(t, "1b000000"+want, hex.EncodeToString(out.Body))

	out = encode(t, goldenBatch(t), sdk.Binding{})
	assert.Equal(t, "18000000"+strings.TrimPrefix(want, "0a0163"), hex.EncodeToString(out.Body))
}

func TestGoldenTimestamps(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stamp int64
		want  string
	}{
		{"epoch", 0, "1a00"},
		{"1 ns", 1, "1a021001"},
		{"1 s", 1_000_000_000, "1a020801"},
		{"last ns", 999_999_999, "1a0610ff93ebdc03"},
		{"before 1970: seconds go down, nanos stay positive", -1, "1a1108ffffffffffffffffff0110ff93ebdc03"},
		{"a full second before 1970", -1_000_000_000, "1a0b08ffffffffffffffffff01"},
		{"year 2025", 1_760_000_000_123_456_789, "1a0b0880f09dc70610959aef3a"},
		{"least", math.MinInt64, "1a1008fb85fad1ddffffffff011080e49f45"},
		{"greatest", math.MaxInt64, "1a0c0884fa85ae2210ffafcb9703"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			batch := one(t, tc.stamp, channel("x", sdk.Double), func(*sdk.Builder) {})
			out := encode(t, batch, sdk.Binding{})
			assert.Equal(t, "120166"+tc.want+"22025a00", hex.EncodeToString(out.Body[4:]))
		})
	}
}

// TestGoldenValues has the bounds of each type, and the zero values that proto3
// leaves out elsewhere but not in a oneof.
func TestGoldenValues(t *testing.T) {
	long := strings.Repeat("a", 130)
	for _, tc := range []struct {
		name string
		typ  sdk.ChannelType
		set  func(b *sdk.Builder)
		want string
	}{
		{"double", sdk.Double, func(b *sdk.Builder) { b.Double(0, 1.5) }, "220911000000000000f83f"},
		{"double 0", sdk.Double, func(b *sdk.Builder) { b.Double(0, 0) }, "2209110000000000000000"},
		{"double -0", sdk.Double, func(b *sdk.Builder) { b.Double(0, math.Copysign(0, -1)) }, "2209110000000000000080"},
		{
			"double NaN with its bits", sdk.Double,
			func(b *sdk.Builder) { b.Double(0, math.Float64frombits(0x7ff8_0000_dead_beef)) },
			"220911efbeadde0000f87f",
		},
		{"string", sdk.String, func(b *sdk.Builder) { b.String(0, "é") }, "22040a02c3a9"},
		{"empty string", sdk.String, func(b *sdk.Builder) { b.String(0, "") }, "22020a00"},
		{"long string", sdk.String, func(b *sdk.Builder) { b.String(0, long) }, "2285010a8201" + hex.EncodeToString([]byte(long))},
		{"enum", sdk.Enum, func(b *sdk.Builder) { b.Uint32(0, 300) }, "220350ac02"},
		{"enum 0", sdk.Enum, func(b *sdk.Builder) { b.Uint32(0, 0) }, "22025000"},
		{"bit field", sdk.BitField, func(b *sdk.Builder) { _ = b.BitField(0, []byte{1, 0}) }, "22044a020100"},
		{"true", sdk.Bool, func(b *sdk.Builder) { b.Bool(0, true) }, "22022001"},
		{"false", sdk.Bool, func(b *sdk.Builder) { b.Bool(0, false) }, "22022000"},
		{"float", sdk.Float, func(b *sdk.Builder) { b.Float(0, 1.5) }, "22051d0000c03f"},
		{"float 0", sdk.Float, func(b *sdk.Builder) { b.Float(0, 0) }, "22051d00000000"},
		{"int32", sdk.Int32, func(b *sdk.Builder) { b.Int32(0, math.MaxInt32) }, "220628ffffffff07"},
		{"int32 0", sdk.Int32, func(b *sdk.Builder) { b.Int32(0, 0) }, "22022800"},
		{"negative int32 takes 10 bytes", sdk.Int32, func(b *sdk.Builder) { b.Int32(0, -1) }, "220b28ffffffffffffffffff01"},
		{"least int32", sdk.Int32, func(b *sdk.Builder) { b.Int32(0, math.MinInt32) }, "220b2880808080f8ffffffff01"},
		{"uint32", sdk.Uint32, func(b *sdk.Builder) { b.Uint32(0, math.MaxUint32) }, "220630ffffffff0f"},
		{"int64", sdk.Int64, func(b *sdk.Builder) { b.Int64(0, math.MinInt64) }, "220b3880808080808080808001"},
		{"uint64", sdk.Uint64, func(b *sdk.Builder) { b.Uint64(0, math.MaxUint64) }, "220b40ffffffffffffffffff01"},
		{"bytes", sdk.Bytes, func(b *sdk.Builder) { b.SetBytes(0, []byte{0xff, 0}) }, "22046202ff00"},
		{"no bytes", sdk.Bytes, func(b *sdk.Builder) { b.SetBytes(0, nil) }, "22026200"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := encode(t, one(t, 0, channel("x", tc.typ), tc.set), sdk.Binding{})
			assert.Equal(t, "1201661a00"+tc.want, hex.EncodeToString(out.Body[4:]))
		})
	}
	for _, typ := range sdk.ChannelTypes() {
		t.Run("no "+typ.String(), func(t *testing.T) {
			out := encode(t, one(t, 0, channel("x", typ), func(*sdk.Builder) {}), sdk.Binding{})
			assert.Equal(t, "1201661a00"+"22025a00", hex.EncodeToString(out.Body[4:]))
		})
	}
}
