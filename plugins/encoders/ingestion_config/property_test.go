package ingestionconfig

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

type (
	message = ingestv1.IngestWithConfigDataStreamRequest
	value   = ingestv1.IngestWithConfigDataChannelValue
)

// drawn is a batch with the messages that it must become.
type drawn struct {
	batch    *sdk.Batch
	binding  sdk.Binding
	messages []*message
}

func drawFlow(t *rapid.T) *sdk.Flow {
	types := rapid.SliceOfN(rapid.SampledFrom(sdk.ChannelTypes()), 1, 12).Draw(t, "types")
	flow := &sdk.Flow{Name: rapid.StringN(1, 20, -1).Draw(t, "flow")}
	for i, typ := range types {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: fmt.Sprintf("%s_%d", typ, i), Type: typ})
	}
	return flow
}

func drawBinding(t *rapid.T) sdk.Binding {
	return sdk.Binding{
		ConfigID: rapid.StringN(0, 40, 60).Draw(t, "config"),
		RunID:    rapid.StringN(0, 40, 60).Draw(t, "run"),
	}
}

// draw makes a batch and, independently of the encoder, its messages.
func draw(t *rapid.T) drawn {
	flow := drawFlow(t)
	d := drawn{binding: drawBinding(t)}
	widths := make([]int, len(flow.Channels))
	nulls := make([]int, len(flow.Channels))
	for i := range flow.Channels {
		widths[i] = rapid.IntRange(1, 9).Draw(t, "width")
		nulls[i] = rapid.SampledFrom([]int{0, 0, 5, 10}).Draw(t, "nulls") // in 10 rows
	}
	b := sdk.NewBuilder(flow)
	for range rapid.IntRange(1, 12).Draw(t, "rows") {
		stamp := rapid.Int64().Draw(t, "stamp")
		b.Row(stamp)
		m := &message{
			IngestionConfigId: d.binding.ConfigID, Flow: flow.Name, RunId: d.binding.RunID,
			Timestamp: timestamppb.New(time.Unix(0, stamp)),
		}
		for i, c := range flow.Channels {
			v := &value{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}}
			if rapid.IntRange(0, 9).Draw(t, "null") >= nulls[i] {
				drawValue(t, b, i, c.Type, widths[i], v)
			}
			m.ChannelValues = append(m.ChannelValues, v)
		}
		d.messages = append(d.messages, m)
	}
	var err error
	d.batch, err = sdk.ParseBatch(flow, b.Append(nil))
	require.NoError(t, err)
	return d
}

func drawValue(t *rapid.T, b *sdk.Builder, channel int, typ sdk.ChannelType, width int, v *value) {
	switch typ {
	case sdk.Double:
		x := math.Float64frombits(rapid.Uint64().Draw(t, "double"))
		b.Double(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Double{Double: x}
	case sdk.Float:
		x := math.Float32frombits(rapid.Uint32().Draw(t, "float"))
		b.Float(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Float{Float: x}
	case sdk.String:
		x := rapid.String().Draw(t, "string")
		b.String(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_String_{String_: x}
	case sdk.Enum:
		x := rapid.Uint32().Draw(t, "enum")
		b.Uint32(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Enum{Enum: x}
	case sdk.BitField:
		x := rapid.SliceOfN(rapid.Byte(), width, width).Draw(t, "bit field")
		require.NoError(t, b.BitField(channel, x))
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_BitField{BitField: x}
	case sdk.Bool:
		x := rapid.Bool().Draw(t, "bool")
		b.Bool(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Bool{Bool: x}
	case sdk.Int32:
		x := rapid.Int32().Draw(t, "int32")
		b.Int32(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Int32{Int32: x}
	case sdk.Uint32:
		x := rapid.Uint32().Draw(t, "uint32")
		b.Uint32(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Uint32{Uint32: x}
	case sdk.Int64:
		x := rapid.Int64().Draw(t, "int64")
		b.Int64(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Int64{Int64: x}
	case sdk.Uint64:
		x := rapid.Uint64().Draw(t, "uint64")
		b.Uint64(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: x}
	case sdk.Bytes:
		x := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		b.SetBytes(channel, x)
		v.Type = &ingestv1.IngestWithConfigDataChannelValue_Bytes{Bytes: x}
	}
}

// marshal is what another implementation makes of the messages.
func marshal(t require.TestingT, messages []*message) []byte {
	var body []byte
	for _, m := range messages {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		require.NoError(t, err)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(raw)))
		body = append(body, raw...)
	}
	return body
}

// split returns the messages of a body.
func split(t require.TestingT, body []byte) [][]byte {
	var out [][]byte
	for len(body) > 0 {
		m, rest, err := cutMessage(body)
		require.NoError(t, err)
		out, body = append(out, m), rest
	}
	return out
}

// TestEncodeEqualsProtobuf: every batch becomes the bytes that the generated
// code writes, and those read back as the same messages.
func TestEncodeEqualsProtobuf(t *testing.T) {
	e := new(encoder)
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		dst := []byte("kept")
		out, err := e.Encode(dst, d.batch, d.binding)
		require.NoError(t, err)
		require.Equal(t, "kept", string(out.Body[:4]))
		require.Equal(t, marshal(t, d.messages), out.Body[4:])

		require.Empty(t, out.Refused)
		require.Equal(t, d.batch.Rows(), out.Count)
		least, greatest := d.batch.TimeSpan()
		require.Equal(t, []int64{least, greatest}, []int64{out.MinTime, out.MaxTime})
		for i, raw := range split(t, out.Body[4:]) {
			back := new(message)
			require.NoError(t, proto.Unmarshal(raw, back))
			require.True(t, proto.Equal(d.messages[i], back), "message %d: %v", i, back)
		}
	})
}

// TestBoundsAreUpperBounds: hosts and sources cut batches by them.
func TestBoundsAreUpperBounds(t *testing.T) {
	e := new(encoder)
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		out, err := e.Encode(nil, d.batch, d.binding)
		require.NoError(t, err)
		require.LessOrEqual(t, len(out.Body), d.batch.WireBound())

		b := sdk.NewBuilder(d.batch.Flow())
		for row := range d.batch.Rows() {
			require.NoError(t, b.CopyRow(d.batch, row))
		}
		require.LessOrEqual(t, len(out.Body), b.Bytes())
		require.LessOrEqual(t, b.Len(), b.Bytes())
	})
}

// TestBoundOfWorstRow has the longest form of every part at once.
func TestBoundOfWorstRow(t *testing.T) {
	flow := &sdk.Flow{Name: strings.Repeat("f", sdk.MaxNameBytes)}
	for _, typ := range sdk.ChannelTypes() {
		flow.Channels = append(flow.Channels, channel(typ.String(), typ)...)
	}
	long := make([]byte, 1<<17)
	b := sdk.NewBuilder(flow)
	b.Row(-1)
	b.Double(0, 1)
	b.SetBytes(1, long)
	b.Uint32(2, math.MaxUint32)
	require.NoError(t, b.BitField(3, long))
	b.Bool(4, true)
	b.Float(5, 1)
	b.Int32(6, -1)
	b.Uint32(7, math.MaxUint32)
	b.Int64(8, -1)
	b.Uint64(9, math.MaxUint64)
	b.SetBytes(10, long)
	batch, err := sdk.ParseBatch(flow, b.Append(nil))
	require.NoError(t, err)

	id := strings.Repeat("i", 60)
	out := encode(t, batch, sdk.Binding{ConfigID: id, RunID: id})
	assert.LessOrEqual(t, len(out.Body), batch.WireBound())
	assert.LessOrEqual(t, len(out.Body), b.Bytes())
}

// TestDecodeIsTheInverse: decoded rows give the batch they came from, bit for
// bit, NaN, -0 and nulls included.
func TestDecodeIsTheInverse(t *testing.T) {
	e := new(encoder)
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		out, err := e.Encode(nil, d.batch, d.binding)
		require.NoError(t, err)
		rows := sdk.NewBuilder(d.batch.Flow())
		require.NoError(t, e.Decode(rows, out.Body))

		again := sdk.NewBuilder(d.batch.Flow())
		for row := range d.batch.Rows() {
			require.NoError(t, again.CopyRow(d.batch, row))
		}
		require.Equal(t, again.Append(nil), rows.Append(nil))
		back, err := sdk.ParseBatch(d.batch.Flow(), rows.Append(nil))
		require.NoError(t, err)
		twice, err := e.Encode(nil, back, d.binding)
		require.NoError(t, err)
		require.Equal(t, out.Body, twice.Body)
	})
}

// TestDecodeDamaged cuts and changes bodies at random. What is still accepted
// must be what the encoder itself would write.
func TestDecodeDamaged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		body := marshal(t, d.messages)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			at := rapid.IntRange(0, len(body)-1).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				body = body[:max(at, 1)]
			case 1:
				body[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			case 2:
				body[at] = rapid.Byte().Draw(t, "byte")
			case 3: // a shorter message with a right length before it
				if len(body) > 4 {
					body = body[:max(at, 4)]
					binary.LittleEndian.PutUint32(body, uint32(len(body)-4))
				}
			}
		}
		assertCanonical(t, d.batch.Flow(), body)
	})
}

// assertCanonical decodes foreign bytes. If they are accepted, each message is
// one that Encode writes from the decoded row, and that protobuf reads alike.
func assertCanonical(t require.TestingT, flow *sdk.Flow, body []byte) {
	e := new(encoder)
	rows := sdk.NewBuilder(flow)
	if err := e.Decode(rows, body); err != nil {
		require.Less(t, len(err.Error()), 2_000+len(flow.Name))
		if rows.Rows() == 0 {
			return
		}
	} else if len(body) == 0 {
		require.Zero(t, rows.Rows())
		return
	}
	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	require.NoError(t, err)
	for row := range batch.Rows() {
		raw, rest, err := cutMessage(body)
		require.NoError(t, err)
		m := new(message)
		require.NoError(t, proto.Unmarshal(raw, m))
		own := sdk.NewBuilder(flow)
		require.NoError(t, own.CopyRow(batch, row))
		single, err := sdk.ParseBatch(flow, own.Append(nil))
		require.NoError(t, err)
		out, err := e.Encode(nil, single, sdk.Binding{ConfigID: m.GetIngestionConfigId(), RunID: m.GetRunId()})
		require.NoError(t, err)
		require.Equal(t, raw, out.Body[4:])
		body = rest
	}
}
