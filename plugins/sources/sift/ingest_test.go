package siftserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// streaming is a started client with one flow of two channels.
func streaming(t testing.TB, settings ...setting) (*rig, *session) {
	t.Helper()
	r := start(t, settings...)
	s, err := r.dial(anyKey).startUp(t.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{doubles("f", "x", "y")}})
	require.NoError(t, err)
	return r, s
}

const flowF = "a/k//f"

func TestOKMeansAcknowledged(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.ackAll = false })
	stream, _ := s.client.stream()
	for i := range 5 {
		require.NoError(t, stream.Send(s.row("f", int64(i), double(1), double(2))))
	}
	answer := answered(stream)
	r.out.await(t, "an ack is wanted", func() bool { return len(r.out.mu.wanted) == 1 })
	assert.Len(t, r.out.rows()[flowF], 5, "all rows are emitted before")
	wanted, last := r.out.mu.wanted[0], r.out.mu.sequence
	assert.Equal(t, last, wanted.sequence)
	assert.Greater(t, wanted.within, 6*time.Second)
	assert.LessOrEqual(t, wanted.within, 8*time.Second)

	r.out.change(func() { r.out.mu.acked = last - 1 })
	select {
	case err := <-answer:
		t.Fatalf("answered without an ack: %v", err)
	default:
	}
	r.out.change(func() { r.out.mu.acked = last })
	require.NoError(t, <-answer)
}

func TestLateAckIsNotOK(t *testing.T) {
	r, s := streaming(t, withTiming(func(t *timing) { t.answerWithin = 30 * time.Millisecond }))
	r.out.change(func() { r.out.mu.ackAll = false })
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	_, err := stream.CloseAndRecv()
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.ErrorContains(t, err, "has not made the rows safe within 30ms")
	assert.Len(t, r.out.rows()[flowF], 1)
}

// Also when the rows cannot even be handed over in time.
func TestNoCreditIsNotOK(t *testing.T) {
	r, s := streaming(t, withTiming(func(t *timing) { t.answerWithin, t.gather = 30*time.Millisecond, time.Hour }))
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	r.out.awaitRows(t, 1)
	r.out.change(func() { r.out.mu.held = true })
	require.NoError(t, stream.Send(s.row("f", 2, double(1), double(2))))
	_, err := stream.CloseAndRecv()
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.Empty(t, r.out.mu.wanted)
	r.out.change(func() { r.out.mu.held = false })
	r.out.awaitRows(t, 2)
}

// A stream that is not read, for want of credit, ends with its client.
func TestCancelWithoutCredit(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.held = true })
	stream, cancel := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	answer := answered(stream)
	r.out.await(t, "the emission", func() bool { return r.out.mu.blocked > 0 })
	cancel()
	assert.Equal(t, codes.Canceled, status.Code(<-answer))
	r.eventually("the end of the stream", func() bool { return r.source.counts.failed.Load() == 1 })
	r.out.change(func() { r.out.mu.held = false })
	r.out.awaitRows(t, 1)
	assert.Empty(t, r.out.mu.wanted)
}

func TestFailedAckIsNotOK(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.ackAll, r.out.mu.ackError = false, errors.New("the host is gone") })
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	_, err := stream.CloseAndRecv()
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.ErrorContains(t, err, "the host is gone")
}

func TestEmptyStreamIsOK(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.ackAll = false })
	for range 3 {
		stream, _ := s.client.stream()
		_, err := stream.CloseAndRecv()
		require.NoError(t, err)
	}
	assert.Empty(t, r.out.mu.wanted)
}

// A message at a time is seen at once; nothing waits for more.
func TestRowsComeWithoutHalfClose(t *testing.T) {
	r, s := streaming(t)
	stream, cancel := s.client.stream()
	for i := range 20 {
		require.NoError(t, stream.Send(s.row("f", int64(i), double(float64(i)), empty())))
		r.out.awaitRows(t, i+1)
	}
	cancel()
}

func TestCancelKeepsWhatCame(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.held = true })
	stream, cancel := s.client.stream()
	for i := range 10 {
		require.NoError(t, stream.Send(s.row("f", int64(i), double(1), empty())))
	}
	r.out.await(t, "the first emission", func() bool { return r.out.mu.blocked > 0 })
	cancel()
	r.eventually("the end of the stream", func() bool { return r.source.counts.failed.Load() == 1 })
	r.out.change(func() { r.out.mu.held = false })
	rows := r.out.awaitRows(t, 1)[flowF]
	assert.Equal(t, "0 1 -", rows[0])
	assert.Empty(t, r.out.mu.wanted, "nothing is acknowledged to this client")
}

func TestStreamsSideBySide(t *testing.T) {
	const streams, rows = 8, 2000
	r, s := streaming(t)
	other, err := r.dial(anyKey).startUp(t.Context(), form{asset: "b", key: "k2", flows: []*configsv2.FlowConfig{doubles("f", "x", "y"), doubles("g", "z")}})
	require.NoError(t, err)
	var senders sync.WaitGroup
	results := make([]error, streams)
	for i := range streams {
		stream, _ := s.client.stream()
		senders.Go(func() {
			for n := range rows {
				at := int64(n)
				// One stream carries rows of several configs and flows.
				results[i] = errors.Join(results[i],
					stream.Send(s.row("f", at, double(float64(i)), double(float64(n)))),
					stream.Send(other.row("g", at, double(float64(n)))))
			}
			_, err := stream.CloseAndRecv()
			results[i] = errors.Join(results[i], err)
		})
	}
	senders.Wait()
	require.NoError(t, errors.Join(results...))
	got := r.out.rows()
	require.Len(t, got[flowF], streams*rows)
	require.Len(t, got["b/k2//g"], streams*rows)
	next := make([]int, streams)
	for _, line := range got[flowF] {
		var at, i, n int
		_, err := fmt.Sscan(line, &at, &i, &n)
		require.NoError(t, err)
		require.Equal(t, next[i], n, "rows of stream %d are in order", i)
		next[i]++
	}
	assert.Less(t, len(r.out.mu.batches), streams*rows, "rows are gathered")
}

func TestRowsThatDoNotFit(t *testing.T) {
	r := start(t)
	flows := []*configsv2.FlowConfig{doubles("f", "x", "y"), engine()}
	s, err := r.dial(anyKey).startUp(t.Context(), form{asset: "a", key: "k", flows: flows})
	require.NoError(t, err)
	good := s.row("f", 5, double(1), double(2))
	change := func(change func(*wireRow)) *wireRow {
		row := s.row("f", 7, double(1), double(2))
		change(row)
		return row
	}
	for _, tc := range []struct {
		name, want string
		row        *wireRow
		unknown    bool // no flow to count it for
	}{
		{name: "config", row: change(func(m *wireRow) { m.IngestionConfigId = "none" }), want: `there is no ingestion config "none"`, unknown: true},
		{name: "no config", row: change(func(m *wireRow) { m.IngestionConfigId = "" }), want: `there is no ingestion config ""`, unknown: true},
		{name: "flow", row: change(func(m *wireRow) { m.Flow = "F" }), want: `ingestion config "k" has no flow "F"`, unknown: true},
		{name: "no flow", row: change(func(m *wireRow) { m.Flow = "" }), want: `ingestion config "k" has no flow ""`, unknown: true},
		{name: "long flow", row: change(func(m *wireRow) { m.Flow = strings.Repeat("é", 50_000) }), want: `é…`, unknown: true},
		{name: "run", row: change(func(m *wireRow) { m.RunId = "none" }), want: `there is no run "none"`, unknown: true},
		{name: "few values", row: s.row("f", 7, double(1)), want: `1 values, flow "f" has 2 channels`},
		{name: "many values", row: s.row("f", 7, double(1), empty(), empty()), want: `3 values, flow "f" has 2 channels`},
		{name: "type", row: s.row("f", 7, double(1), int32Value(2)), want: `channel "y" is of type double, the value is of type int32`},
		{name: "no type", row: s.row("f", 7, &wireValue{}, double(2)), want: `channel "x" is of type double, the value is of type nothing`},
		{name: "no time", row: change(func(m *wireRow) { m.Timestamp = nil }), want: "no timestamp"},
		{name: "bad time", row: change(func(m *wireRow) { m.Timestamp.Nanos = -1 }), want: "is not a time"},
		{name: "far time", row: change(func(m *wireRow) { m.Timestamp.Seconds = 1e12 }), want: "is not a time"},
		{name: "bit field", row: s.row("engine", 7, empty(), empty(), empty(), bits()), want: `bit field "flags" has no bytes`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.out.change(func() { r.out.mu.dropped, r.out.mu.batches, r.out.mu.acked = nil, nil, 0 })
			stream, _ := s.client.stream()
			require.NoError(t, stream.Send(good))
			require.NoError(t, stream.Send(tc.row))
			require.NoError(t, stream.Send(good))
			require.NoError(t, stream.Send(tc.row))
			_, err := stream.CloseAndRecv()
			require.NoError(t, err, "the stream goes on")
			assert.Len(t, r.out.rows()[flowF], 2)
			rows := uint64(0)
			for _, d := range r.out.mu.dropped {
				rows += d.Rows
				assert.Contains(t, d.Reason, tc.want)
				assert.Less(t, len(d.Reason), 300)
				assert.True(t, d.Refused)
				assert.Equal(t, tc.unknown, d.Flow == 0)
				if strings.HasSuffix(tc.name, "time") {
					assert.Zero(t, d.From)
				} else {
					assert.EqualValues(t, 7, d.From)
					assert.EqualValues(t, 7, d.To)
				}
			}
			assert.EqualValues(t, 2, rows)

			// A row may ask to end the stream then.
			tc.row.EndStreamOnValidationError = true
			stream, _ = s.client.stream()
			require.NoError(t, stream.Send(good))
			require.NoError(t, stream.Send(tc.row))
			err = stream.RecvMsg(new(ingestAnswer))
			assert.Equal(t, codes.InvalidArgument, status.Code(err))
			assert.ErrorContains(t, err, tc.want)
			r.out.awaitRows(t, 3)
		})
	}
}

func TestFlowThatTheHostRefuses(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() {
		r.out.mu.refuse = func(f sdk.Flow) error { return sdk.Permanent(errors.New("its channels have changed")) }
	})
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	_, err := stream.CloseAndRecv()
	require.NoError(t, err)
	require.Len(t, r.out.mu.dropped, 1)
	assert.Equal(t, `flow "f" is not taken: its channels have changed`, r.out.mu.dropped[0].Reason)
}

func TestFlowThatCannotBeAnnouncedNow(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.refuse = func(sdk.Flow) error { return errors.New("the host is gone") } })
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	_, err := stream.CloseAndRecv()
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.Empty(t, r.out.mu.dropped, "the row is not to blame")
}

// rawMessage goes out as it is.
type rawMessage []byte

type rawCodec struct{ codec }

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.(rawMessage), nil }
func (rawCodec) Unmarshal(_ []byte, _ any) error { return nil }
func (rawCodec) Name() string                    { return "proto" }

func TestJunkEndsTheStream(t *testing.T) {
	r, s := streaming(t)
	stream, _ := s.client.stream(grpc.ForceCodec(rawCodec{}))
	require.NoError(t, stream.SendMsg(rawMessage(marshal(t, s.row("f", 1, double(1), double(2))))))
	require.NoError(t, stream.SendMsg(rawMessage("\x0a\xff")))
	err := stream.RecvMsg(new(ingestAnswer))
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
	r.out.awaitRows(t, 1)
	r.out.await(t, "the refusal", func() bool { return len(r.out.mu.dropped) == 1 })
}

func TestMessageTooLarge(t *testing.T) {
	r := start(t)
	flow := &configsv2.FlowConfig{Name: "f", Channels: []*configsv2.ChannelConfig{{Name: "s", DataType: 2}}}
	s, err := r.dial(anyKey).startUp(t.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{flow}})
	require.NoError(t, err)
	for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
		stream, _ := s.client.stream(options...)
		require.NoError(t, stream.Send(s.row("f", 1, text("small"))))
		require.NoError(t, stream.Send(s.row("f", 2, text(strings.Repeat("x", 5<<20)))))
		err = stream.RecvMsg(new(ingestAnswer))
		assert.Equal(t, codes.ResourceExhausted, status.Code(err))
	}
	r.out.awaitRows(t, 2)

	// What fits the limit but no batch is refused by name.
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 3, text(strings.Repeat("x", 4<<20-100)))))
	require.NoError(t, stream.Send(s.row("f", 4, text(strings.Repeat("x", 4<<20-1000)))))
	_, err = stream.CloseAndRecv()
	require.NoError(t, err)
	assert.Len(t, r.out.rows()["a/k//f"], 3)
	require.Len(t, r.out.mu.dropped, 1)
	assert.Contains(t, r.out.mu.dropped[0].Reason, `a row of flow "f" takes`)
}

// Large rows among small ones, bit fields of changing width: batches are cut,
// the order is kept.
func TestBatchesAreCut(t *testing.T) {
	r := start(t, withTiming(func(t *timing) { t.gather = time.Hour }))
	flow := &configsv2.FlowConfig{Name: "f", Channels: []*configsv2.ChannelConfig{{Name: "b", DataType: 11}, {Name: "w", DataType: 4}}}
	s, err := r.dial(anyKey).startUp(t.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{flow}})
	require.NoError(t, err)
	stream, _ := s.client.stream()
	blob := func(n int) *wireValue { return valueOf(sdk.Bytes, 0, bytes.Repeat([]byte{1}, n)) }
	rows := []*wireRow{
		s.row("f", 1, blob(10), bits(1)),
		s.row("f", 2, blob(10), bits(2)),
		s.row("f", 3, blob(200_000), empty()),
		s.row("f", 4, blob(3_000_000), bits(1)),
		s.row("f", 5, blob(10), bits(1, 2)),
		s.row("f", 6, blob(10), bits(1)),
		s.row("f", 7, blob(10), empty()),
		s.row("f", 8, blob(10), bits(1, 2, 3)),
	}
	for _, row := range rows {
		require.NoError(t, stream.Send(row))
	}
	_, err = stream.CloseAndRecv()
	require.NoError(t, err)
	var got []string
	for _, line := range r.out.rows()["a/k//f"] {
		words := strings.Fields(line)
		got = append(got, fmt.Sprint(words[0], " ", len(words[1])/2, " ", words[2]))
	}
	assert.Equal(t, []string{"1 10 01", "2 10 02", "3 200000 -", "4 3000000 01", "5 10 0102", "6 10 01", "7 10 -", "8 10 010203"}, got)
	assert.Empty(t, r.out.mu.dropped)
	assert.Less(t, len(r.out.mu.batches), len(rows))
}

func TestGzip(t *testing.T) {
	r, s := streaming(t)
	stream, _ := s.client.stream(grpc.UseCompressor(gzip.Name))
	for i := range 100 {
		require.NoError(t, stream.Send(s.row("f", int64(i), double(1), double(2))))
	}
	_, err := stream.CloseAndRecv()
	require.NoError(t, err)
	assert.Len(t, r.out.rows()[flowF], 100)
}

// While the host gives no credit, the client is slowed down and memory stays.
func TestBackpressure(t *testing.T) {
	r, s := streaming(t, withTiming(func(t *timing) { t.blockedAfter = 10 * time.Millisecond }))
	r.out.change(func() { r.out.mu.held = true })
	stream, _ := s.client.stream()
	const most = 200_000 // some 20 MB, more than windows and socket buffers take
	sent := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	progress := make(chan struct{}, 1)
	go func() {
		n := 0
		for ; n < most && ctx.Err() == nil; n++ {
			if stream.Send(s.row("f", int64(n), double(1), double(2))) != nil {
				break
			}
			select {
			case progress <- struct{}{}:
			default:
			}
		}
		sent <- n
	}()
	// The sender comes to rest.
	for quiet := false; !quiet; {
		select {
		case <-progress:
		case <-time.After(300 * time.Millisecond):
			quiet = true
		case n := <-sent:
			t.Fatalf("sent %d rows to a host that takes none", n)
		}
	}
	r.out.await(t, "health", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.health) > 1 && r.health[len(r.health)-1].State == sdk.HealthBlocked
	})
	cancel()
	r.out.change(func() { r.out.mu.held = false })
	n := <-sent
	_, err := stream.CloseAndRecv()
	require.NoError(t, err)
	assert.Len(t, r.out.rows()[flowF], n)
	assert.Less(t, n, most)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, sdk.HealthOK, r.health[len(r.health)-1].State)
}

func TestStreamLimit(t *testing.T) {
	r, s := streaming(t, withConfig(func(c *Config) { c.MaxStreams = 2 }))
	first, cancel := s.client.stream()
	require.NoError(t, first.Send(s.row("f", 1, double(1), double(2))))
	second, _ := s.client.stream()
	require.NoError(t, second.Send(s.row("f", 1, double(1), double(2))))
	r.out.awaitRows(t, 2)
	third, _ := s.client.stream()
	_, err := third.CloseAndRecv()
	assert.Equal(t, codes.ResourceExhausted, status.Code(err))
	cancel()
	_, err = second.CloseAndRecv()
	require.NoError(t, err)
	for { // the place is free when the reader of the first has ended
		next, _ := s.client.stream()
		if _, err = next.CloseAndRecv(); err == nil {
			break
		}
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
	}
}

// Runs without a key that share a name share a flow, and its order.
func TestRunsOfOneName(t *testing.T) {
	r, s := streaming(t, withTiming(func(t *timing) { t.gather = time.Hour }))
	var runs []*runsv2.Run
	for range 2 {
		created, err := s.client.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "r"})
		require.NoError(t, err)
		runs = append(runs, created.GetRun())
	}
	stream, _ := s.client.stream()
	var want []string
	for i := range 10 {
		s.run = runs[i%2]
		require.NoError(t, stream.Send(s.row("f", int64(i), double(1), double(2))))
		want = append(want, fmt.Sprint(i, " 1 2"))
	}
	_, err := stream.CloseAndRecv()
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"a/k/r/f": want}, r.out.rows())
	for i, run := range runs {
		got, err := s.client.runs.GetRun(t.Context(), &runsv2.GetRunRequest{RunId: run.GetRunId()})
		require.NoError(t, err)
		assert.EqualValues(t, i, got.GetRun().GetStartTime().AsTime().UnixNano())
		assert.EqualValues(t, i+8, got.GetRun().GetStopTime().AsTime().UnixNano())
	}
}

func TestRunTimesFollowTheData(t *testing.T) {
	_, s := streaming(t)
	created, err := s.client.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "r"})
	require.NoError(t, err)
	s.run = created.GetRun()
	send := func(stamps ...int64) {
		stream, _ := s.client.stream()
		for _, at := range stamps {
			require.NoError(t, stream.Send(s.row("f", at, double(1), double(2))))
		}
		require.NoError(t, stream.Send(s.row("f", 1, double(1)))) // refused: does not count
		_, err := stream.CloseAndRecv()
		require.NoError(t, err)
	}
	check := func(least, greatest int64) {
		got, err := s.client.runs.GetRun(t.Context(), &runsv2.GetRunRequest{RunId: s.run.GetRunId()})
		require.NoError(t, err)
		assert.Equal(t, least, got.GetRun().GetStartTime().AsTime().UnixNano())
		assert.Equal(t, greatest, got.GetRun().GetStopTime().AsTime().UnixNano())
	}
	send()
	got, err := s.client.runs.GetRun(t.Context(), &runsv2.GetRunRequest{RunId: s.run.GetRunId()})
	require.NoError(t, err)
	assert.Nil(t, got.GetRun().GetStartTime())
	send(20, 10, 30)
	check(10, 30)
	send(15)
	check(10, 30)
	send(5)
	check(5, 30)
	send(40)
	check(5, 40)
}
