package siftserver

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// wide returns a flow of ten doubles and a row of it.
func wide(s *session) (*configsv2.FlowConfig, *wireRow) {
	var names []string
	var values []*wireValue
	for i := range 10 {
		names, values = append(names, fmt.Sprint("c", i)), append(values, double(float64(i)))
	}
	return doubles("flow", names...), s.row("flow", 1_700_000_000_000_000_005, values...)
}

// sink is a pipe that drops everything.
type sink struct{ *memoryPipe }

func (sink) emit(_ sdk.FlowNumber, rows *sdk.Builder) (uint64, error) {
	rows.Reset()
	return 1, nil
}

// BenchmarkRows is the way of a message from its bytes into a batch.
func BenchmarkRows(b *testing.B) {
	flow := testFlow("flow", sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double, sdk.Double)
	r := newRows(sink{newMemoryPipe(flow)}, newPacer(time.Hour))
	_, row := wide(&session{config: &configsv2.IngestionConfig{IngestionConfigId: "0f8fad5b-d9cb-469f-a165-70867728950e"}})
	raw := marshal(b, row)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if err := r.add(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServer is the whole way over loopback, client included: messages
// packed into large writes, as the reference does, and a write for each.
func BenchmarkServer(b *testing.B) {
	r := start(b)
	r.out.change(func() { r.out.mu.forget = true })
	none := &session{}
	flow, _ := wide(none)
	s, err := r.dial(anyKey).startUp(b.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{flow}})
	require.NoError(b, err)
	_, row := wide(s)
	raw := marshal(b, row)
	b.Run("packed", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		sendPacked(b, r.address, raw, b.N)
	})
	b.Run("single", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		stream, cancel := s.client.stream()
		defer cancel()
		for range b.N {
			require.NoError(b, stream.Send(row))
		}
		_, err := stream.CloseAndRecv()
		require.NoError(b, err)
	})
}

// sendPacked sends a message n times in one stream, many in each write.
func sendPacked(b *testing.B, address string, message []byte, n int) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	body, writer := io.Pipe()
	go func() {
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
		var buffer []byte
		for range n {
			if buffer = append(buffer, framed...); len(buffer) > 32<<10 {
				if _, err := writer.Write(buffer); err != nil {
					return
				}
				buffer = buffer[:0]
			}
		}
		_, _ = writer.Write(buffer)
		_ = writer.Close()
	}()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+address+ingestv1.IngestService_IngestWithConfigDataStream_FullMethodName, body)
	require.NoError(b, err)
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	request.Header.Set("Authorization", anyKey)
	response, err := transport.RoundTrip(request)
	require.NoError(b, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(b, err)
	require.Equal(b, "0", response.Trailer.Get("Grpc-Status"))
}
