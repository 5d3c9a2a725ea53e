package sifttest

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
)

// numbered is a message whose second channel has the number of its row.
func numbered(flow string, row uint64) *ingestv1.IngestWithConfigDataStreamRequest {
	return &ingestv1.IngestWithConfigDataStreamRequest{
		IngestionConfigId: "c", Flow: flow, Timestamp: timestamppb.Now(), RunId: "r",
		ChannelValues: []*ingestv1.IngestWithConfigDataChannelValue{
			{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: 1}},
			{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: row}},
		},
	}
}

// ingest sends messages in a stream of its own and returns how that ended.
func ingest(t *testing.T, s *Server, messages ...*ingestv1.IngestWithConfigDataStreamRequest) error {
	t.Helper()
	stream, err := ingestv1.NewIngestServiceClient(dial(t, s)).IngestWithConfigDataStream(t.Context())
	require.NoError(t, err)
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// TestLedger: what came, what was confirmed and what came again, over streams that
// end well and others.
func TestLedger(t *testing.T) {
	ledger := NewLedger(ByChannel(1))
	s := New(t, Options{Discard: true, Ledger: ledger})
	s.Queue(TakeAll, Refuse(status.Error(codes.Unavailable, "later")), EndAfter(1, nil), TakeAll,
		Poisoned(func(m []byte) bool { _, row, _ := ByChannel(1)(m); return row == 8 }))
	require.NoError(t, ingest(t, s, numbered("a", 0), numbered("a", 1), numbered("b", 200)))
	require.Error(t, ingest(t, s, numbered("a", 1), numbered("a", 3)))
	_ = ingest(t, s, numbered("a", 4))
	require.NoError(t, ingest(t, s, numbered("a", 3), numbered("a", 1), &ingestv1.IngestWithConfigDataStreamRequest{Flow: "a"}, numbered("a", 1<<40)))
	assert.Equal(t, codes.InvalidArgument, status.Code(ingest(t, s, numbered("a", 7), numbered("a", 8))))
	for i := range 5 {
		s.Stream(t, i).WaitEnded(t)
	}
	received, confirmed := ledger.Received("a"), ledger.Confirmed("a")
	assert.Equal(t, []uint64{2, 5, 6}, slices.Collect(received.Missing(9)))
	assert.EqualValues(t, 3, received.Again())
	assert.Equal(t, []uint64{2, 4, 5}, slices.Collect(confirmed.Missing(6)))
	assert.EqualValues(t, 3, confirmed.Count())
	assert.EqualValues(t, 1, confirmed.Again())
	assert.EqualValues(t, 4, confirmed.End())
	assert.EqualValues(t, 2, ledger.Odd())
	assert.Equal(t, []string{"a", "b"}, ledger.Flows())
	b := ledger.Confirmed("b")
	assert.True(t, b.Has(200))
	none := ledger.Confirmed("c")
	assert.Zero(t, none.Count()+none.End())
	assert.Equal(t, []uint64{0, 1}, slices.Collect(none.Missing(2)))
}

// TestRows holds the bitmap against a map.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Rows
		model := map[uint64]int{}
		for _, row := range rapid.SliceOf(rapid.Uint64Range(0, 300)).Draw(t, "rows") {
			r.add(row)
			model[row]++
		}
		again, end := uint64(0), uint64(0)
		for row, n := range model {
			again += uint64(n - 1)
			end = max(end, row+1)
			require.True(t, r.Has(row))
		}
		require.Equal(t, uint64(len(model)), r.Count())
		require.Equal(t, again, r.Again())
		require.Equal(t, end, r.End())
		var missing []uint64
		for row := range uint64(400) {
			if _, ok := model[row]; !ok {
				missing = append(missing, row)
			}
		}
		require.Equal(t, missing, slices.Collect(r.Missing(400)))
	})
}

// TestLedgerMemory: ten million rows, in streams of which half end badly, take two
// bits each.
func TestLedgerMemory(t *testing.T) {
	l := NewLedger(func(message []byte) ([]byte, uint64, bool) {
		return []byte("f"), uint64(message[0]) | uint64(message[1])<<8 | uint64(message[2])<<16, true
	})
	for first := 0; first < 10_000_000; first += 100_000 {
		var leaves []*leaf
		for row := first; row < first+100_000; row++ {
			leaves = l.note(leaves, []byte{byte(row), byte(row >> 8), byte(row >> 16)})
		}
		require.Len(t, leaves, 1)
		require.Len(t, leaves[0].rows, 1)
		if first%200_000 == 0 {
			l.confirm(leaves)
		}
	}
	assert.LessOrEqual(t, 8*cap(l.flows["f"].received.words), 3_000_000)
	confirmed := l.Confirmed("f")
	assert.EqualValues(t, 5_000_000, confirmed.Count())
}

// FuzzByChannel: any bytes are read, and messages as protobuf reads them.
func FuzzByChannel(f *testing.F) {
	f.Add([]byte{0x12, 1, 'f', 0x22, 2, 0x40, 5})
	f.Fuzz(func(t *testing.T, m []byte) {
		flow, row, ok := ByChannel(0)(m)
		r := new(ingestv1.IngestWithConfigDataStreamRequest)
		if !ok || proto.Unmarshal(m, r) != nil || string(flow) != r.GetFlow() {
			return
		}
		switch v := r.GetChannelValues()[0].GetType().(type) {
		case *ingestv1.IngestWithConfigDataChannelValue_Uint64:
			assert.Equal(t, v.Uint64, row)
		case *ingestv1.IngestWithConfigDataChannelValue_Int64:
			assert.Equal(t, v.Int64, int64(row))
		}
	})
}

func TestAnswerLate(t *testing.T) {
	s := New(t, Options{Default: AnswerLate(50 * time.Millisecond)})
	begun := time.Now()
	require.NoError(t, ingest(t, s))
	assert.GreaterOrEqual(t, time.Since(begun), 50*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	s.Queue(AnswerLate(time.Hour))
	stream, err := ingestv1.NewIngestServiceClient(dial(t, s)).IngestWithConfigDataStream(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	<-s.Stream(t, 1).HalfClosed()
	cancel()
	s.Stream(t, 1).WaitEnded(t)
	assert.False(t, s.Stream(t, 1).Acknowledged())
}

// TestFreezeIsSilent: a connection that is made meanwhile is accepted and gets no
// byte; Thaw or Stop ends that.
func TestFreezeIsSilent(t *testing.T) {
	for name, end := range map[string]func(*Server){"thaw": (*Server).Thaw, "stop": (*Server).Stop} {
		t.Run(name, func(t *testing.T) {
			s := New(t, Options{})
			s.Freeze()
			c, err := net.Dial("tcp", s.Address())
			require.NoError(t, err)
			defer c.Close()
			require.Eventually(t, func() bool { return s.Connections() == 1 }, waitTime, time.Millisecond)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
			_, err = c.Read(make([]byte, 1))
			timeout, ok := errors.AsType[net.Error](err)
			require.True(t, ok && timeout.Timeout(), "%v", err)
			end(s)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(waitTime)))
			n, err := c.Read(make([]byte, 1))
			if name == "thaw" {
				assert.Equal(t, 1, n, "%v", err)
			}
		})
	}
}

// TestReadRate: half a megabyte at two megabytes per second takes a quarter of a
// second, and no more once there is no limit.
func TestReadRate(t *testing.T) {
	s := New(t, Options{Discard: true})
	s.SetReadRate(2 << 20)
	large := &ingestv1.IngestWithConfigDataStreamRequest{Flow: string(make([]byte, 512<<10))}
	begun := time.Now()
	require.NoError(t, ingest(t, s, large))
	assert.Greater(t, time.Since(begun), 200*time.Millisecond)
	s.SetReadRate(1)
	stuck := make(chan error, 1)
	client := ingestv1.NewIngestServiceClient(dial(t, s))
	go func() {
		stream, err := client.IngestWithConfigDataStream(t.Context())
		if err == nil {
			_, err = stream.CloseAndRecv()
		}
		stuck <- err
	}()
	require.Eventually(t, func() bool { return s.Connections() == 2 }, waitTime, time.Millisecond)
	s.Reset()
	s.SetReadRate(0)
	<-stuck // ended by the reset, or on another connection: the pause did not outlive it
	require.NoError(t, ingest(t, s, large))
}
