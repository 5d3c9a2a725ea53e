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

// unhex also takes spaces.
func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return raw
}

// bodyOf puts messages in hex behind their lengths.
func bodyOf(t *testing.T, messages ...string) []byte {
	t.Helper()
	var body []byte
	for _, m := range messages {
		raw := unhex(t, m)
		body = append(body, byte(len(raw)), byte(len(raw)>>8), 0, 0)
		body = append(body, raw...)
	}
	return body
}

func TestDecodeGolden(t *testing.T) {
	flow := &sdk.Flow{Name: "f", Channels: numbered(sdk.Double, 2)}
	rows := sdk.NewBuilder(flow)
	require.NoError(t, new(encoder).Decode(rows, bodyOf(t, goldenMessage, goldenMessage)))
	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	require.NoError(t, err)
	assert.Equal(t, []int64{1_000_000_002, 1_000_000_002}, batch.Times())
	assert.Equal(t, []float64{1.5, 1.5}, batch.Column(0).Doubles())
	assert.False(t, batch.Column(1).Present())

	rows.Reset()
	require.NoError(t, new(encoder).Decode(rows, nil))
	assert.Zero(t, rows.Rows())
}

// TestDecodeTimes covers the ends of the range, where products overflow.
func TestDecodeTimes(t *testing.T) {
	for _, stamp := range []int64{
		math.MinInt64, math.MinInt64 + 1, math.MinInt64 + 145_224_191, math.MinInt64 + 145_224_192,
		math.MinInt64 + 145_224_193, -1_000_000_001, -1_000_000_000, -999_999_999, -1, 0, 1, 999_999_999,
		1_000_000_000, math.MaxInt64 - 854_775_808, math.MaxInt64 - 854_775_807, math.MaxInt64 - 1, math.MaxInt64,
	} {
		batch := one(t, stamp, channel("x", sdk.Double), func(*sdk.Builder) {})
		rows := sdk.NewBuilder(batch.Flow())
		require.NoError(t, new(encoder).Decode(rows, encode(t, batch, boundIDs()).Body), stamp)
		back, err := sdk.ParseBatch(batch.Flow(), rows.Append(nil))
		require.NoError(t, err)
		assert.Equal(t, stamp, back.Times()[0])
	}
}

func TestDecodeErrors(t *testing.T) {
	flow := &sdk.Flow{Name: "f", Channels: []sdk.Channel{
		{Name: "temp", Type: sdk.Double},
		{Name: "count", Type: sdk.Int32},
		{Name: "state", Type: sdk.String},
	}}
	const head = "0a0163 120166 1a0408011002 "
	const double, number, text = "2209110000000000000000 ", "22022805 ", "22030a0161 "
	const values = double + number + text
	for _, tc := range []struct {
		name string
		body string // one message, unless raw
		raw  bool
		want string
	}{
		{name: "good", body: head + values + "2a0172"},
		{name: "good without ids", body: "120166 1a00 22025a00 22025a00 22025a00"},

		{name: "part of a length", body: "0100", raw: true, want: "message 1: the body ends with a part of a length"},
		{name: "length beyond the end", body: "05000000 0a0163", raw: true, want: "message 1: the length before a message goes beyond the end of the body"},
		{name: "absurd length", body: "ffffffff 0a0163", raw: true, want: "goes beyond the end of the body"},
		{name: "empty message", body: "", want: "message 1: it has no flow"},

		{name: "other flow", body: "0a0163 120167 1a00" + values, want: `message 1: it is of flow "g", not of "f"`},
		{name: "long name of another flow", body: "127f" + strings.Repeat("61", 127), want: `not of "f"`},
		{name: "no flow", body: "0a0163 1a00" + values, want: "it has no flow"},
		{name: "empty flow", body: "0a0163 1200 1a00" + values, want: `it is of flow "", not of "f"`},
		{name: "flow cut off", body: "0a0163 120266", want: "flow: a length goes beyond the end"},
		{name: "flow before config", body: "120166 0a0163 1a00" + values, want: "field 1 (ingestion_config_id) of wire type 2 is not expected there"},
		{name: "config twice", body: "0a0163 0a0163 120166", want: "field 1 (ingestion_config_id)"},
		{name: "empty config", body: "0a00 120166 1a00" + values, want: "ingestion_config_id is there and empty"},
		{name: "config not UTF-8", body: "0a01ff 120166 1a00" + values, want: "ingestion_config_id is not UTF-8"},
		{name: "config cut off", body: "0a24 63", want: "ingestion_config_id: a length goes beyond the end"},

		{name: "no timestamp", body: "0a0163 120166" + values, want: "it has no timestamp"},
		{name: "ends behind the flow", body: "0a0163 120166", want: "it has no timestamp"},
		{name: "run instead of a timestamp", body: "120166 2a0172", want: "field 5 (run_id)"},
		{name: "seconds 0", body: "120166 1a020800" + values, want: "timestamp: seconds are there and 0"},
		{name: "nanos 0", body: "120166 1a021000" + values, want: "timestamp: nanos are there and 0"},
		{name: "a billion nanos", body: "120166 1a0610 8094ebdc03" + values, want: "timestamp: nanos are there and 1000000000"},
		{name: "negative nanos", body: "120166 1a0b10 ffffffffffffffffff01" + values, want: "timestamp: nanos"},
		{name: "nanos before seconds", body: "120166 1a0410020801" + values, want: "timestamp: it has other fields"},
		{name: "third field in the timestamp", body: "120166 1a021801" + values, want: "timestamp: it has other fields"},
		{name: "year 10000", body: "120166 1a0708 80dc8bd5cf07" + values, want: "lie outside the years 1677 to 2262"},
		{name: "one second too late", body: "120166 1a0608 85fa85ae22" + values, want: "9223372037 s and 0 ns since 1970 lie outside"},
		{name: "1 ns too late", body: "120166 1a0c08 84fa85ae22 10 80b0cb9703" + values, want: "lie outside"},
		{name: "1 ns too early", body: "120166 1a1008 fb85fad1ddffffffff01 10 ffe39f45" + values, want: "lie outside"},
		{name: "timestamp cut off", body: "120166 1a0408", want: "timestamp: a length goes beyond the end"},
		{name: "seconds cut off", body: "120166 1a020880" + values, want: "timestamp: it is cut off"},
		{name: "number not in shortest form", body: "120166 1a03088100" + values, want: "timestamp: a number is not in its shortest form"},
		{name: "length not in shortest form", body: "12810066", want: "flow: a number is not in its shortest form"},
		{name: "number over 64 bits", body: "120166 1a0c08 ffffffffffffffffffff01" + values, want: "timestamp: a number is not in its shortest form"},

		{name: "no values", body: head, want: `it has 0 values, flow "f" has 3 channels`},
		{name: "too few values", body: head + double + number, want: `it has 2 values, flow "f" has 3 channels`},
		{name: "too few values and a run", body: head + double + "2a0172", want: `it has 1 values, flow "f" has 3 channels`},
		{name: "too many values", body: head + values + text, want: `it has more values than flow "f" has channels (3)`},
		{name: "value after the run", body: head + values + "2a0172" + text, want: "it has more values"},
		{name: "run twice", body: head + values + "2a0172 2a0172", want: "field 5 (run_id)"},
		{name: "empty run", body: head + values + "2a00", want: "run_id is there and empty"},
		{name: "run not UTF-8", body: head + values + "2a01ff", want: "run_id is not UTF-8"},
		{name: "field 6", body: head + values + "3001", want: "field 6 (end_stream_on_validation_error) of wire type 0 is not expected there"},
		{name: "field 7", body: head + values + "3a016f", want: "field 7 (organization_id)"},
		{name: "field 8", body: head + values + "4001", want: "unknown field 8"},
		{name: "field 0", body: head + values + "00", want: "unknown field 0"},
		{name: "field 1000", body: head + values + "c03e00", want: "unknown field 1000"},
		{name: "flow in the wrong wire type", body: "1001", want: "field 2 (flow) of wire type 0 is not expected there"},
		{name: "value in the wrong wire type", body: head + "2001", want: "field 4 (channel_values) of wire type 0"},

		{name: "value of another type", body: head + "22022805", want: `channel "temp": the value is of type int32, the channel's type is double`},
		{name: "enum for a number", body: head + double + "22025005", want: `channel "count": the value is of type enum, the channel's type is int32`},
		{name: "bytes for a string", body: head + double + number + "22036201ff", want: `channel "state": the value is of type bytes, the channel's type is string`},
		{name: "unknown type", body: head + "22026a00", want: `channel "temp": the value is of an unknown type (field 13, wire type 2)`},
		{name: "double in the wrong wire type", body: head + "22021005", want: `channel "temp": the value is of an unknown type (field 2, wire type 0)`},
		{name: "no type", body: head + "2200", want: `channel "temp": the value has no type, not even empty`},
		{name: "empty with content", body: head + "22045a020801", want: `channel "temp": an empty value has content`},
		{name: "empty cut off", body: head + "22015a", want: `channel "temp": an empty value has content`},
		{name: "two values in one", body: head + "2212 110000000000000000 110000000000000000", want: `channel "temp": 9 bytes follow the value`},
		{name: "value and empty", body: head + "220b 110000000000000000 5a00", want: `channel "temp": 2 bytes follow the value`},
		{name: "double cut off", body: head + "2208 1100000000000000", want: `channel "temp": it is cut off`},
		{name: "value cut off", body: head + "2209 1100", want: `channel "temp": a length goes beyond the end`},
		{name: "int32 out of range", body: head + double + "2206 288080808008", want: `channel "count": 2147483648 is no int32`},
		{name: "negative int32 in 5 bytes", body: head + double + "2206 28ffffffff0f", want: `channel "count": 4294967295 is no int32`},
		{name: "string not UTF-8", body: head + double + number + "22030aff", want: `channel "state"`},
		{name: "string with bad bytes", body: head + double + number + "22030a01ff", want: `channel "state": the string is not UTF-8`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := unhex(t, tc.body)
			if !tc.raw {
				body = bodyOf(t, tc.body)
			}
			rows := sdk.NewBuilder(flow)
			err := new(encoder).Decode(rows, body)
			if tc.want == "" {
				require.NoError(t, err)
				assert.Equal(t, 1, rows.Rows())
				return
			}
			require.ErrorContains(t, err, tc.want)
			assert.Less(t, len(err.Error()), 400)
			assert.Zero(t, rows.Rows())
			assert.Zero(t, rows.Bytes(), "no part of a row stays behind")
		})
	}
}

// TestDecodeRanges has the other types' ranges.
func TestDecodeRanges(t *testing.T) {
	for _, tc := range []struct {
		typ   sdk.ChannelType
		value string
		want  string
	}{
		{sdk.Bool, "22022001", ""},
		{sdk.Bool, "22022002", "2 is no bool"},
		{sdk.Uint32, "2206 30ffffffff0f", ""},
		{sdk.Uint32, "2206 308080808010", "4294967296 is no uint32"},
		{sdk.Enum, "2206 508080808010", "4294967296 is no enum"},
		{sdk.Int32, "220b 2880808080f8ffffffff01", ""},
		{sdk.Int32, "220b 28fffffff7f7ffffffff01", "is no int32"},
		{sdk.Uint64, "220b 40ffffffffffffffffff01", ""},
		{sdk.Uint64, "220b 40ffffffffffffffffff02", "a number is not in its shortest form"},
		{sdk.Float, "2204 1d0000c0", "it is cut off"},
		{sdk.BitField, "22024a00", "has 0 bytes"},
		{sdk.Bytes, "22026200", ""},
	} {
		rows := sdk.NewBuilder(&sdk.Flow{Name: "f", Channels: channel("x", tc.typ)})
		err := new(encoder).Decode(rows, bodyOf(t, "120166 1a00"+tc.value))
		if tc.want == "" {
			require.NoError(t, err, tc.value)
		} else {
			require.ErrorContains(t, err, `message 1: channel "x": `, tc.value)
			require.ErrorContains(t, err, tc.want, tc.value)
		}
	}
}

func TestDecodeKeepsWhatCameBefore(t *testing.T) {
	rows := sdk.NewBuilder(&sdk.Flow{Name: "f", Channels: numbered(sdk.Double, 2)})
	err := new(encoder).Decode(rows, bodyOf(t, goldenMessage, goldenMessage, goldenMessage[:30], goldenMessage))
	require.ErrorContains(t, err, "message 3: ")
	assert.Equal(t, 2, rows.Rows())
}

func TestDecodeBitFieldsOfTwoWidths(t *testing.T) {
	rows := sdk.NewBuilder(&sdk.Flow{Name: "f", Channels: channel("bits", sdk.BitField)})
	err := new(encoder).Decode(rows, bodyOf(t, "120166 1a00 22044a020100", "120166 1a00 22034a0101"))
	require.ErrorContains(t, err, `message 2: channel "bits": bit field "bits" has 1 bytes, want 2`)
}

func TestDecodeManyRows(t *testing.T) {
	rows := sdk.NewBuilder(&sdk.Flow{Name: "f", Channels: channel("x", sdk.Double)})
	message := bodyOf(t, "120166 1a00 22025a00")
	var body []byte
	for range sdk.MaxRowsInBatch + 1 {
		body = append(body, message...)
	}
	require.ErrorContains(t, new(encoder).Decode(rows, body), "message 4097: a batch has at most 4096 rows")
	assert.Equal(t, sdk.MaxRowsInBatch, rows.Rows())
}
