package sift

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

// sink is a server that takes everything as cheaply as possible: it looks at
// frames, never at messages, so that a benchmark measures the client.
func sink(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveSink(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

func serveSink(c net.Conn) {
	defer c.Close()
	if _, err := io.CopyN(io.Discard, c, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	var block bytes.Buffer
	table := hpack.NewEncoder(&block)
	f := http2.NewFramer(c, c)
	f.SetReuseFrames()
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4 << 20})
	_ = f.WriteWindowUpdate(0, 4<<20)
	headers := func(id uint32, end bool, pairs ...string) {
		block.Reset()
		for i := 0; i < len(pairs); i += 2 {
			_ = table.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	var unreported uint32
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			if unreported += frame.Length; unreported > 1<<20 {
				_ = f.WriteWindowUpdate(0, unreported)
				_ = f.WriteWindowUpdate(frame.StreamID, unreported)
				unreported = 0
			}
			if frame.StreamEnded() {
				headers(frame.StreamID, false, ":status", "200", "content-type", "application/grpc")
				_ = f.WriteData(frame.StreamID, false, make([]byte, 5))
				headers(frame.StreamID, true, "grpc-status", "0")
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		}
	}
}

// tenDoubles is an encoded row of ten channels, about 160 bytes.
func tenDoubles(t testing.TB) []byte {
	m := &ingestv1.IngestWithConfigDataStreamRequest{
		IngestionConfigId: "0f8fad5b-d9cb-469f-a165-70867728950e", Flow: "flow", Timestamp: timestamppb.New(time.Unix(1700000000, 123456789)),
	}
	for i := range 10 {
		m.ChannelValues = append(m.ChannelValues, &ingestv1.IngestWithConfigDataChannelValue{
			Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: math.Sqrt(float64(i + 2))},
		})
	}
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// perMessage reports what one message costs, client and sink together.
func perMessage(b *testing.B, messages int, loop func()) {
	b.ReportAllocs()
	start, cpu := time.Now(), processorTime()
	loop()
	n := float64(b.N) * float64(messages)
	b.ReportMetric(float64(time.Since(start).Nanoseconds())/n, "ns/message")
	b.ReportMetric(float64((processorTime()-cpu).Nanoseconds())/n, "cpu-ns/message")
}

func BenchmarkSend(b *testing.B) {
	row := tenDoubles(b)
	for _, rows := range []int{1, 100, 4096} {
		batch := delivery()
		batch.Body, batch.Count = bytes.Repeat(encoded(row), rows), rows
		for _, compress := range []bool{false, true} {
			b.Run(fmt.Sprintf("packed/rows=%d/gzip=%t", rows, compress), func(b *testing.B) {
				config := testConfig("http://" + sink(b))
				config.Gzip = compress
				tr, err := open(sdk.Settings{}, config)
				require.NoError(b, err)
				defer tr.Shutdown(context.Background())
				s := openStream(b, tr)
				perMessage(b, rows, func() {
					for b.Loop() {
						if err := s.Send(b.Context(), batch); err != nil {
							b.Fatal(err)
						}
					}
					_, err = s.Finish(b.Context())
				})
				require.NoError(b, err)
			})
		}
		b.Run(fmt.Sprintf("grpc-go/rows=%d", rows), func(b *testing.B) {
			cc, err := grpc.NewClient("passthrough:///"+sink(b), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.ForceCodecV2(preEncoded{})), grpc.WithWriteBufferSize(128<<10))
			require.NoError(b, err)
			defer cc.Close()
			s, err := ingestv1.NewIngestServiceClient(cc).IngestWithConfigDataStream(b.Context())
			require.NoError(b, err)
			perMessage(b, rows, func() {
				for b.Loop() {
					for range rows {
						if err := s.SendMsg(&row); err != nil {
							b.Fatal(err)
						}
					}
				}
				_, err = s.CloseAndRecv()
			})
			require.NoError(b, err)
		})
	}
}

// preEncoded sends messages that are encoded already.
type preEncoded struct{}

var _ encoding.CodecV2 = preEncoded{}

func (preEncoded) Name() string { return "proto" }

func (preEncoded) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (preEncoded) Unmarshal(mem.BufferSlice, any) error { return nil }

// TestSendAllocatesNothing: in steady state a message costs no allocation.
func TestSendAllocatesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates")
	}
	tr, err := open(sdk.Settings{}, testConfig("http://"+sink(t)))
	require.NoError(t, err)
	defer tr.Shutdown(context.Background())
	s := openStream(t, tr)
	batch := delivery()
	batch.Body, batch.Count = bytes.Repeat(encoded(tenDoubles(t)), 1000), 1000
	ctx := context.Background()
	var failed error
	// The sink and the reader allocate for frames, some per 100 messages.
	perBatch := testing.AllocsPerRun(200, func() { failed = errors.Join(failed, s.Send(ctx, batch)) })
	require.NoError(t, failed)
	assert.Less(t, perBatch, 50.0)
	_, err = s.Finish(ctx)
	require.NoError(t, err)
}
