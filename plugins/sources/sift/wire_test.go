package siftserver

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

type (
	wireRow   = ingestv1.IngestWithConfigDataStreamRequest
	wireValue = ingestv1.IngestWithConfigDataChannelValue
)

func empty() *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}}
}

func double(v float64) *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: v}}
}

func text(v string) *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: v}}
}

func int32Value(v int32) *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Int32{Int32: v}}
}

func bits(v ...byte) *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_BitField{BitField: v}}
}

func boolean(v bool) *wireValue {
	return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Bool{Bool: v}}
}

// valueOf returns a value of the type.
func valueOf(t sdk.ChannelType, n uint64, b []byte) *wireValue {
	switch t {
	case sdk.Double:
		return double(math.Float64frombits(n))
	case sdk.String:
		return text(hex.EncodeToString(b))
	case sdk.Enum:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Enum{Enum: uint32(n)}}
	case sdk.BitField:
		return bits(append(b, 1)...)
	case sdk.Bool:
		return boolean(n%2 == 1)
	case sdk.Float:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Float{Float: math.Float32frombits(uint32(n))}}
	case sdk.Int32:
		return int32Value(int32(n))
	case sdk.Uint32:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint32{Uint32: uint32(n)}}
	case sdk.Int64:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Int64{Int64: int64(n)}}
	case sdk.Uint64:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: n}}
	default:
		return &wireValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Bytes{Bytes: b}}
	}
}

// allTypes is a flow with a channel of each type.
func allTypes() *registry.Flow {
	flow := &registry.Flow{Flow: sdk.Flow{Name: "all"}}
	for _, t := range sdk.ChannelTypes() {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: t.String(), Type: t})
	}
	return flow
}

// fits says whether a lane must take a message that protobuf takes.
func fits(m *wireRow, flow *registry.Flow) bool {
	if m.GetTimestamp() == nil || m.GetTimestamp().GetNanos() < 0 || m.GetTimestamp().GetNanos() > 999_999_999 {
		return false
	}
	at := m.GetTimestamp().AsTime()
	if at.Unix() < math.MinInt64/second-1 || at.Unix() > math.MaxInt64/second || !at.Equal(timestamppb.New(at).AsTime()) {
		return false
	}
	if ns := at.UnixNano(); (ns < 0) != (at.Unix() < 0) {
		return false
	}
	if len(m.GetChannelValues()) != len(flow.Channels) {
		return false
	}
	for i, v := range m.GetChannelValues() {
		if !valueFits(v, flow.Channels[i].Type) {
			return false
		}
	}
	return true
}

func valueFits(v *wireValue, t sdk.ChannelType) bool {
	switch x := v.GetType().(type) {
	case *ingestv1.IngestWithConfigDataChannelValue_Empty:
		return true
	case *ingestv1.IngestWithConfigDataChannelValue_Double:
		return t == sdk.Double
	case *ingestv1.IngestWithConfigDataChannelValue_String_:
		return t == sdk.String
	case *ingestv1.IngestWithConfigDataChannelValue_Enum:
		return t == sdk.Enum
	case *ingestv1.IngestWithConfigDataChannelValue_BitField:
		return t == sdk.BitField && len(x.BitField) > 0
	case *ingestv1.IngestWithConfigDataChannelValue_Bool:
		return t == sdk.Bool
	case *ingestv1.IngestWithConfigDataChannelValue_Float:
		return t == sdk.Float
	case *ingestv1.IngestWithConfigDataChannelValue_Int32:
		return t == sdk.Int32
	case *ingestv1.IngestWithConfigDataChannelValue_Uint32:
		return t == sdk.Uint32
	case *ingestv1.IngestWithConfigDataChannelValue_Int64:
		return t == sdk.Int64
	case *ingestv1.IngestWithConfigDataChannelValue_Uint64:
		return t == sdk.Uint64
	case *ingestv1.IngestWithConfigDataChannelValue_Bytes:
		return t == sdk.Bytes
	}
	return false
}

// checkAgainstProtobuf gives a message to a lane and holds it to what protobuf
// makes of it: it is taken exactly if it fits, and then with the same values.
func checkAgainstProtobuf(t require.TestingT, raw []byte) {
	flow := allTypes()
	l := newLane(flow, 1)
	var r request
	scanned := r.scan(raw)
	var wrong *misfit
	var err error
	if scanned == nil {
		wrong, err = l.add(&r, raw)
	}
	taken := scanned == nil && wrong == nil && err == nil

	m := new(wireRow)
	if proto.Unmarshal(raw, m) != nil {
		require.False(t, taken, "protobuf does not take it")
		require.Zero(t, l.rows.Rows())
		return
	}
	require.NoError(t, scanned)
	require.NoError(t, err)
	require.Equal(t, m.GetIngestionConfigId(), string(r.config))
	require.Equal(t, m.GetFlow(), string(r.flow))
	require.Equal(t, m.GetRunId(), string(r.run))
	require.Equal(t, m.GetEndStreamOnValidationError(), r.strict)
	require.Equal(t, len(m.GetChannelValues()), r.values)
	require.Equal(t, fits(m, flow), taken, "%v", wrong)
	if !taken {
		require.Zero(t, l.rows.Rows())
		require.Zero(t, l.rows.Bytes())
		return
	}
	batch, err := sdk.ParseBatch(&flow.Flow, l.rows.Append(nil))
	require.NoError(t, err)
	require.Equal(t, []int64{m.GetTimestamp().AsTime().UnixNano()}, batch.Times())
	for i, v := range m.GetChannelValues() {
		checkValue(t, v, batch.Column(i))
	}
}

// checkValue compares a value with the first row of its column, bit by bit.
func checkValue(t require.TestingT, want *wireValue, col *sdk.Column) {
	if _, nothing := want.GetType().(*ingestv1.IngestWithConfigDataChannelValue_Empty); nothing {
		require.False(t, col.Valid(0))
		return
	}
	require.True(t, col.Valid(0), col.Type())
	switch col.Type() {
	case sdk.Double:
		require.Equal(t, math.Float64bits(want.GetDouble()), math.Float64bits(col.Doubles()[0]))
	case sdk.String:
		require.Equal(t, want.GetString_(), string(col.Bytes(0)))
	case sdk.Enum:
		require.Equal(t, want.GetEnum(), col.Uint32s()[0])
	case sdk.BitField:
		require.Equal(t, want.GetBitField(), col.Bytes(0))
	case sdk.Bool:
		require.Equal(t, want.GetBool(), col.Bool(0))
	case sdk.Float:
		require.Equal(t, math.Float32bits(want.GetFloat()), math.Float32bits(col.Floats()[0]))
	case sdk.Int32:
		require.Equal(t, want.GetInt32(), col.Int32s()[0])
	case sdk.Uint32:
		require.Equal(t, want.GetUint32(), col.Uint32s()[0])
	case sdk.Int64:
		require.Equal(t, want.GetInt64(), col.Int64s()[0])
	case sdk.Uint64:
		require.Equal(t, want.GetUint64(), col.Uint64s()[0])
	case sdk.Bytes:
		require.Equal(t, string(want.GetBytes()), string(col.Bytes(0)))
	}
}

// fullRow is a row of allTypes.
func fullRow() *wireRow {
	row := &wireRow{IngestionConfigId: "c", Flow: "f", Timestamp: &timestamppb.Timestamp{Seconds: 1, Nanos: 2}, RunId: "r"}
	for i, t := range sdk.ChannelTypes() {
		row.ChannelValues = append(row.ChannelValues, valueOf(t, 1<<63+uint64(i), []byte("abc")))
	}
	return row
}

func marshal(t require.TestingT, m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}

func TestDecodeGoldenVector(t *testing.T) {
	raw, err := hex.DecodeString("0a01631201661a0408011002220911000000000000f83f22025a002a0172")
	require.NoError(t, err)
	var r request
	require.NoError(t, r.scan(raw))
	assert.Equal(t, "c", string(r.config))
	assert.Equal(t, "f", string(r.flow))
	assert.Equal(t, "r", string(r.run))
	at, ok := r.time()
	assert.True(t, ok)
	assert.EqualValues(t, 1_000_000_002, at)

	l := newLane(&registry.Flow{Flow: sdk.Flow{Name: "f", Channels: []sdk.Channel{{Name: "a", Type: sdk.Double}, {Name: "b", Type: sdk.Double}}}}, 1)
	wrong, err := l.add(&r, raw)
	require.NoError(t, err)
	require.Nil(t, wrong)
	batch, err := sdk.ParseBatch(&l.flow.Flow, l.rows.Append(nil))
	require.NoError(t, err)
	assert.Equal(t, []float64{1.5}, batch.Column(0).Doubles())
	assert.False(t, batch.Column(1).Present())
}

// Messages in unusual form are read as protobuf reads them.
func TestDecodeUnusualForms(t *testing.T) {
	whole := marshal(t, fullRow())
	noFlow := fullRow()
	noFlow.Flow = ""
	value := func(parts ...[]byte) []byte { // the first value of a row, and the others as they are
		row := fullRow()
		row.ChannelValues = row.ChannelValues[1:]
		var inner []byte
		for _, p := range parts {
			inner = append(inner, p...)
		}
		head := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), inner)
		return append(head, marshal(t, row)...)
	}
	field := func(m proto.Message) []byte { return marshal(t, m) }
	for name, raw := range map[string][]byte{
		"usual":                      whole,
		"nothing":                    {},
		"flow twice":                 append(marshal(t, &wireRow{Flow: "first"}), whole...),
		"flow last":                  append(marshal(t, noFlow), marshal(t, &wireRow{Flow: "last"})...),
		"timestamp in parts":         append(marshal(t, &wireRow{Timestamp: &timestamppb.Timestamp{Nanos: 77}}), whole...),
		"second timestamp empty":     append(whole[:len(whole):len(whole)], 0x1a, 0),
		"long tag":                   append([]byte{0x92, 0x80, 0x00, 1, 'x'}, whole...),
		"long length":                append([]byte{0x12, 0x81, 0x80, 0x00, 'x'}, whole...),
		"unknown field":              append([]byte{0xfa, 0x01, 1, 'x'}, whole...),
		"unknown group":              append([]byte{0x53, 0x08, 0x01, 0x54}, whole...),
		"open group":                 append([]byte{0x53, 0x08, 0x01}, whole...),
		"end of no group":            append([]byte{0x54}, whole...),
		"field 0":                    append([]byte{0x02, 0}, whole...),
		"greatest field":             append(protowire.AppendBytes(protowire.AppendTag(nil, protowire.MaxValidNumber, 2), nil), whole...),
		"too great a field":          append(append(protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3|2), 0), whole...),
		"flow of another wire type":  append([]byte{0x10, 5}, whole...),
		"value of another wire type": append([]byte{0x20, 5}, whole...),
		"strict":                     append([]byte{0x30, 0x80, 0x01}, whole...),
		"strict and not":             append([]byte{0x30, 1, 0x30, 0}, whole...),
		"name not UTF-8":             append([]byte{0x12, 1, 0xff}, whole...),
		"organization not UTF-8":     append([]byte{0x3a, 1, 0xff}, whole...),
		"one value missing":          value()[2:],
		"value of nothing":           value(),
		"last member wins":           value(field(text("x")), field(double(3))),
		"last member is wrong":       value(field(double(3)), field(text("x"))),
		"member twice":               value(field(double(3)), field(double(4))),
		"empty last":                 value(field(double(3)), field(empty())),
		"empty first":                value(field(empty()), field(double(3))),
		"empty with content":         value([]byte{0x5a, 2, 0x08, 0x01}),
		"empty with junk":            value([]byte{0x5a, 1, 0x08}),
		"unknown member":             value([]byte{0x6a, 1, 'x'}),
		"unknown member and double":  value([]byte{0x6a, 1, 'x'}, field(double(3))),
		"double of wrong wire type":  value([]byte{0x15, 1, 2, 3, 4}),
		"lost string not UTF-8":      value([]byte{0x0a, 1, 0xff}, field(double(3))),
		"timestamp with junk":        append(whole[:len(whole):len(whole)], 0x1a, 1, 0x08),
		"timestamp with unknown":     append(whole[:len(whole):len(whole)], 0x1a, 2, 0x18, 1),
		"nanos of ten bytes":         append(whole[:len(whole):len(whole)], 0x1a, 11, 0x10, 0x82, 0x80, 0x80, 0x80, 0xf0, 0xff, 0xff, 0xff, 0xff, 0x01),
		"endless varint":             {0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		t.Run(name, func(t *testing.T) { checkAgainstProtobuf(t, raw) })
	}
	for cut := range whole {
		checkAgainstProtobuf(t, whole[:cut])
	}
}

func TestDecodeStamps(t *testing.T) {
	for _, stamp := range []*timestamppb.Timestamp{
		{},
		{Seconds: -1, Nanos: 1},
		{Seconds: 1, Nanos: -1},
		{Seconds: 1, Nanos: 999_999_999},
		{Seconds: 1, Nanos: 1_000_000_000},
		{Seconds: math.MaxInt64 / second, Nanos: math.MaxInt64 % second},
		{Seconds: math.MaxInt64 / second, Nanos: math.MaxInt64%second + 1},
		{Seconds: math.MaxInt64/second + 1},
		{Seconds: math.MinInt64/second - 1, Nanos: second + math.MinInt64%second},
		{Seconds: math.MinInt64/second - 1, Nanos: second + math.MinInt64%second - 1},
		{Seconds: math.MinInt64/second - 2},
		{Seconds: math.MinInt64},
		{Seconds: math.MaxInt64},
		nil,
	} {
		row := fullRow()
		row.Timestamp = stamp
		checkAgainstProtobuf(t, marshal(t, row))
	}
}

func TestDecodeAnyRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := fullRow()
		row.Flow = rapid.String().Draw(t, "flow")
		row.Timestamp = &timestamppb.Timestamp{Seconds: rapid.Int64().Draw(t, "seconds"), Nanos: rapid.Int32().Draw(t, "nanos")}
		if rapid.Bool().Draw(t, "time") {
			row.Timestamp = timestamppb.New(rapid.Custom(drawTime).Draw(t, "at").AsTime())
		}
		row.ChannelValues = row.ChannelValues[:0]
		for _, typ := range sdk.ChannelTypes() {
			if rapid.IntRange(0, 20).Draw(t, "wrong") == 0 {
				typ = rapid.SampledFrom(sdk.ChannelTypes()).Draw(t, "type")
			}
			v := valueOf(typ, rapid.Uint64().Draw(t, "number"), rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
			if rapid.Bool().Draw(t, "empty") {
				v = empty()
			}
			row.ChannelValues = append(row.ChannelValues, v)
		}
		checkAgainstProtobuf(t, marshal(t, row))
	})
}

func drawTime(t *rapid.T) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{
		Seconds: rapid.Int64Range(math.MinInt64/second, math.MaxInt64/second).Draw(t, "s"),
		Nanos:   rapid.Int32Range(0, 999_999_999).Draw(t, "ns"),
	}
}

// What is accepted equals protobuf's view of the message.
func FuzzDecode(f *testing.F) {
	f.Add(marshal(f, fullRow()))
	f.Add(marshal(f, &wireRow{EndStreamOnValidationError: true, ChannelValues: []*wireValue{empty(), double(1)}}))
	f.Add([]byte{0x53, 0x08, 0x01, 0x54, 0x92, 0x80, 0x00, 1, 'x'})
	f.Fuzz(func(t *testing.T, raw []byte) { checkAgainstProtobuf(t, raw) })
}

func BenchmarkDecode(b *testing.B) {
	row := &wireRow{IngestionConfigId: "0f8fad5b-d9cb-469f-a165-70867728950e", Flow: "flow", Timestamp: &timestamppb.Timestamp{Seconds: 1_700_000_000, Nanos: 5}}
	flow := &registry.Flow{Flow: sdk.Flow{Name: "flow"}}
	for i := range 10 {
		row.ChannelValues = append(row.ChannelValues, double(float64(i)))
		flow.Channels = append(flow.Channels, sdk.Channel{Name: string(rune('a' + i)), Type: sdk.Double})
	}
	raw := marshal(b, row)
	l := newLane(flow, 1)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var r request
		if r.scan(raw) != nil {
			b.Fatal("scan")
		}
		if wrong, err := l.add(&r, raw); wrong != nil || err != nil {
			b.Fatal(wrong, err)
		}
		if l.rows.Rows() == 800 {
			l.rows.Reset()
		}
	}
}
