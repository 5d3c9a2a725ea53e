package serve

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/plugintest"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// benchFlow has ten channels of type double.
func benchFlow() sdk.Flow {
	f := sdk.Flow{Name: "bench"}
	for i := range 10 {
		f.Channels = append(f.Channels, sdk.Channel{Name: fmt.Sprint("c", i), Type: sdk.Double})
	}
	return f
}

func fillBench(rows *sdk.Builder, n int) {
	for row := range n {
		rows.Row(int64(row))
		for c := range 10 {
			rows.Double(c, float64(row+c))
		}
	}
}

// benchSource emits batches of so many rows until it is stopped.
type benchSource struct {
	subjectSource
	rows int
}

func (s *benchSource) Run(ctx context.Context, out sdk.Output) error {
	flow := benchFlow()
	number, err := out.Announce(flow)
	if err != nil {
		return err
	}
	rows := sdk.NewBuilder(&flow)
	for {
		select {
		case <-out.Stopping():
			return nil
		default:
		}
		fillBench(rows, s.rows)
		if _, err := out.Emit(ctx, number, rows, nil); err != nil {
			return err
		}
	}
}

// benchSink takes everything and looks at nothing.
type benchSink struct{}

func (benchSink) Shutdown(context.Context) error { return nil }

func (benchSink) Register(context.Context, sdk.Registration) (sdk.Registered, error) {
	return sdk.Registered{}, nil
}

func (benchSink) OpenStream(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
	return benchStream{}, nil
}

type benchStream struct{}

func (benchStream) Send(context.Context, *sdk.Delivery) error    { return nil }
func (benchStream) Finish(context.Context) (sdk.Finished, error) { return sdk.Finished{}, nil }
func (benchStream) Abort()                                       {}

// benchEncoder copies the batch's values into as many messages of 160 bytes: about
// the work of a real one.
type benchEncoder struct{}

func (benchEncoder) Shutdown(context.Context) error { return nil }

func (benchEncoder) Encode(dst []byte, batch *sdk.Batch, _ sdk.Binding) (sdk.Encoded, error) {
	out := sdk.Encoded{Body: dst, Count: batch.Rows()}
	out.MinTime, out.MaxTime = batch.TimeSpan()
	var message [160]byte
	for range batch.Rows() {
		out.Body = pbfs.AppendMessage(out.Body, message[:])
	}
	return out, nil
}

func (benchEncoder) Decode(*sdk.Builder, []byte) error             { return nil }
func (benchEncoder) Rebind([]byte, sdk.Binding, sdk.Binding) error { return nil }

// benchPlugin returns the plugin that a benchmark needs, by name.
func benchPlugin(kind string, rows int) sdk.Plugin {
	info := sdk.Info{Name: "bench", Version: "1"}
	switch kind {
	case "encoder":
		return sdk.NewEncoder(info, sdk.EncoderCapabilities{Format: "bench"}, struct{}{},
			func(sdk.Settings, struct{}) (sdk.Encoder, error) { return benchEncoder{}, nil })
	case "transport":
		return sdk.NewTransport(info, sdk.TransportCapabilities{Input: sdk.InputEncoded}, struct{}{},
			func(sdk.Settings, struct{}) (sdk.Transport, error) { return benchSink{}, nil })
	}
	return sdk.NewSource(info, sdk.SourceCapabilities{}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return &benchSource{rows: rows}, nil })
}

// BenchmarkHop measures one hop between two processes: batches of 10 doubles and a
// stamp for each row, in both forms. The source's numbers include filling the
// batches; the transport's are the hop alone; the encoder's are there and back.
// cpu-ns/row is the processor time of both processes.
func BenchmarkHop(b *testing.B) {
	for _, kind := range []string{"source", "transport", "encoder"} {
		for _, rows := range []int{1, 100, 4096} {
			for _, form := range []string{"inline", "shm"} {
				b.Run(fmt.Sprintf("%s/rows=%d/%s", kind, rows, form), func(b *testing.B) { benchHop(b, kind, rows, form == "shm") })
			}
		}
	}
}

func benchHop(b *testing.B, kind string, rows int, shared bool) {
	var regions []*shm.Region
	var r wire.StreamRegions
	if shared {
		r = wire.StreamRegions{In: benchRegion(b, shm.ToPlugin), Out: benchRegion(b, shm.ToHost)}
		regions = []*shm.Region{r.In, r.Out}
	}
	l, err := plugintest.Launch(b.Context(), process("bench "+kind+" "+strconv.Itoa(rows)), regions...)
	require.NoError(b, err)
	_, err = wire.Configure(b.Context(), l.Conn(), wire.ConfigureArgs{Regions: regions})
	require.NoError(b, err)
	before := ownCPU()
	b.ReportAllocs()
	b.ResetTimer()
	switch kind {
	case "source":
		hopSource(b, l, r)
	case "transport":
		hopTransport(b, l, r, rows)
	case "encoder":
		hopEncoder(b, l, r, rows)
	}
	b.StopTimer()
	own := ownCPU() - before
	require.NoError(b, l.Close())
	total := float64(b.N) * float64(rows)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/row")
	b.ReportMetric(float64((own+l.CPU()).Nanoseconds())/total, "cpu-ns/row")
}

func benchRegion(b *testing.B, direction shm.Direction) *shm.Region {
	b.Helper()
	r, err := shm.Create(direction, shm.DefaultSlotBytes, shm.DefaultSlots)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, r.Close()) })
	return r
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func hopSource(b *testing.B, l *plugintest.Launched, r wire.StreamRegions) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	s, err := wire.OpenSource(ctx, l.Conn(), wire.SourceStart{Region: r.Out})
	require.NoError(b, err)
	for n := 0; n < b.N; {
		event, err := s.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if batch, ok := event.(*wire.SourceBatch); ok {
			batch.Payload.Release()
			n++
		}
	}
}

func benchBatch(rows int) wire.Batch {
	flow := benchFlow()
	builder := sdk.NewBuilder(&flow)
	fillBench(builder, rows)
	return wire.Batch{Flow: 1, Count: rows, MinTime: 0, MaxTime: int64(rows - 1), Payload: builder.Append(nil)}
}

func hopTransport(b *testing.B, l *plugintest.Launched, r wire.StreamRegions, rows int) {
	d, err := wire.OpenDeliver(b.Context(), l.Conn(), r.In)
	require.NoError(b, err)
	flow := benchFlow()
	require.NoError(b, d.Announce(1, &flow))
	require.NoError(b, d.Open(1, false))
	batch := benchBatch(rows)
	batch.Format = "bench"
	sent := make(chan error, 1)
	go func() {
		for range b.N {
			if err := d.Send(b.Context(), 1, batch, sdk.Binding{}); err != nil {
				sent <- err
				return
			}
		}
		sent <- d.Finish(1)
	}()
	for {
		event, err := d.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if a, ok := event.(*wire.Answer); ok {
			require.Equal(b, wire.OutcomeConfirmed, a.Outcome)
			break
		}
	}
	require.NoError(b, <-sent)
}

func hopEncoder(b *testing.B, l *plugintest.Launched, r wire.StreamRegions, rows int) {
	s, err := wire.OpenEncoder(b.Context(), l.Conn(), r)
	require.NoError(b, err)
	flow := benchFlow()
	require.NoError(b, s.Announce(1, &flow))
	batch := benchBatch(rows)
	sent := make(chan error, 1)
	go func() {
		for i := range b.N {
			batch.Sequence = uint64(i + 1)
			if err := s.Send(b.Context(), batch); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	for range b.N {
		e, err := s.Recv()
		if err != nil {
			b.Fatal(err)
		}
		e.Payload.Release()
	}
	require.NoError(b, <-sent)
}
