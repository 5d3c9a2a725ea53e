package pbfsview

import (
	"bytes"
	"io"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

type (
	request = ingestv1.IngestWithConfigDataStreamRequest
	channel = ingestv1.IngestWithConfigDataChannelValue
)

func double(v float64) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: v}}
}

func single(v float32) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Float{Float: v}}
}

func text(v string) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: v}}
}

func flag(v bool) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Bool{Bool: v}}
}

func int32Of(v int32) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Int32{Int32: v}}
}

func uint32Of(v uint32) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint32{Uint32: v}}
}

func int64Of(v int64) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Int64{Int64: v}}
}

func uint64Of(v uint64) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: v}}
}

func enumOf(v uint32) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Enum{Enum: v}}
}

func bytesOf(v []byte) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Bytes{Bytes: v}}
}

func bitsOf(v []byte) *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_BitField{BitField: v}}
}

func none() *channel {
	return &channel{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}}
}

func genChannel() *rapid.Generator[*channel] {
	return rapid.OneOf(
		rapid.Map(rapid.Float64(), double),
		rapid.Map(rapid.Float32(), single),
		rapid.Map(rapid.String(), text),
		rapid.Map(rapid.Bool(), flag),
		rapid.Map(rapid.Int32(), int32Of),
		rapid.Map(rapid.Uint32(), uint32Of),
		rapid.Map(rapid.Int64(), int64Of),
		rapid.Map(rapid.Uint64(), uint64Of),
		rapid.Map(rapid.Uint32(), enumOf),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), bytesOf),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 9), bitsOf),
		rapid.Just(none()),
		rapid.Just(&channel{}),
	)
}

func genRequest() *rapid.Generator[*request] {
	return rapid.Custom(func(t *rapid.T) *request {
		m := &request{
			IngestionConfigId:          rapid.String().Draw(t, "config"),
			Flow:                       rapid.String().Draw(t, "flow"),
			ChannelValues:              rapid.SliceOfN(genChannel(), 0, 6).Draw(t, "values"),
			RunId:                      rapid.String().Draw(t, "run"),
			EndStreamOnValidationError: rapid.Bool().Draw(t, "end"),
			OrganizationId:             rapid.SampledFrom([]string{"", "o"}).Draw(t, "organization"),
		}
		switch rapid.IntRange(0, 4).Draw(t, "kind of time") {
		case 0: // none
		case 1:
			m.Timestamp = &timestamppb.Timestamp{Seconds: rapid.Int64().Draw(t, "seconds"), Nanos: rapid.Int32().Draw(t, "nanos")}
		default:
			m.Timestamp = timestamppb.New(time.Unix(0, rapid.Int64().Draw(t, "ns")))
		}
		return m
	})
}

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

// fileOf makes a file of chunks with these messages, and the offsets at which the
// chunks end.
func fileOf(t tester, chunks ...[]*request) (file []byte, ends []int64) {
	t.Helper()
	for _, messages := range chunks {
		var body []byte
		for _, m := range messages {
			raw, err := proto.Marshal(m)
			require.NoError(t, err)
			body = pbfs.AppendMessage(body, raw)
		}
		file = pbfs.AppendChunk(file, body)
		ends = append(ends, int64(len(file)))
	}
	return file, ends
}

// flightOf makes n chunks of two messages each, told apart by their first value.
func flightOf(n int) (chunks [][]*request) {
	for i := range n {
		at := func(value float64) *request {
			return &request{Flow: "engine", Timestamp: &timestamppb.Timestamp{Seconds: int64(value)}, ChannelValues: []*channel{double(value), none()}}
		}
		chunks = append(chunks, []*request{at(float64(2 * i)), at(float64(2*i + 1))})
	}
	return chunks
}

// readAll reads a file, and checks what holds for every file.
func readAll(t tester, file []byte) (messages []*request, damage []*Damage, s Summary) {
	t.Helper()
	r := NewReader(bytes.NewReader(file), int64(len(file)))
	lost := int64(0)
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			messages = append(messages, proto.CloneOf(&m.pb))
			continue
		}
		var d *Damage
		require.ErrorAs(t, err, &d)
		require.Greater(t, d.Size(), int64(-1))
		require.NotEmpty(t, d.Error())
		if n := len(damage); n > 0 {
			require.GreaterOrEqual(t, d.From, damage[n-1].To, "damage comes in order")
		}
		lost += d.Size()
		damage = append(damage, d)
	}
	s = r.Summary()
	require.Equal(t, int64(len(file)), s.Bytes)
	require.Equal(t, int64(len(messages)), s.Messages)
	require.Equal(t, lost, s.LostBytes)
	require.LessOrEqual(t, s.LostBytes, s.Bytes)
	require.Equal(t, len(damage) == 0, s.Intact())
	return messages, damage, s
}

func requireSame(t tester, want, got []*request) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.True(t, proto.Equal(want[i], got[i]), "message %d: want %v, got %v", i, want[i], got[i])
	}
}

func kindsOf(damage []*Damage) (kinds []Kind) {
	for _, d := range damage {
		kinds = append(kinds, d.Kind)
	}
	return kinds
}
