package siftserver

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestStop(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.ackAll = false })
	open, _ := s.client.stream()
	require.NoError(t, open.Send(s.row("f", 1, double(1), double(1))))
	closed, _ := s.client.stream()
	require.NoError(t, closed.Send(s.row("f", 2, double(2), double(2))))
	r.out.awaitRows(t, 2)
	answer := answered(closed)
	r.out.await(t, "an ack is wanted", func() bool { return len(r.out.mu.wanted) == 1 })
	idle := r.dial(anyKey)
	_, err := idle.startUp(t.Context(), form{asset: "b", key: "b"})
	require.NoError(t, err)
	r.out.change(func() { r.out.mu.held = true })
	require.NoError(t, open.Send(s.row("f", 3, double(3), double(3))))
	r.out.await(t, "the emission of the third row", func() bool { return r.out.mu.blocked > 0 })

	stopped := make(chan struct{})
	go func() {
		r.stop()
		close(stopped)
	}()
	r.out.await(t, "nothing is finished before it is emitted", func() bool { return !r.out.mu.finished })
	r.out.change(func() { r.out.mu.held = false })
	err = open.RecvMsg(new(ingestAnswer))
	assert.Equal(t, codes.Unavailable, status.Code(err))
	r.out.await(t, "finish", func() bool { return r.out.mu.finished })
	assert.Len(t, r.out.rows()[flowF], 3)
	select {
	case err := <-answer:
		t.Fatalf("answered without an ack: %v", err)
	case <-stopped:
		t.Fatal("stopped with a client waiting")
	default:
	}
	r.out.change(func() { r.out.mu.acked = 100 })
	require.NoError(t, <-answer)
	<-stopped
	after, err := s.client.ingest.IngestWithConfigDataStream(t.Context())
	if err == nil {
		_, err = after.CloseAndRecv()
	}
	assert.Equal(t, codes.Unavailable, status.Code(err))
}

func TestNoStreamBeginsWhileStopping(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.ackAll = false })
	waits, _ := s.client.stream()
	require.NoError(t, waits.Send(s.row("f", 1, double(1), double(1))))
	answer := answered(waits)
	r.out.await(t, "an ack is wanted", func() bool { return len(r.out.mu.wanted) == 1 })
	go r.stop()
	r.out.await(t, "finish", func() bool { return r.out.mu.finished })
	stream, err := s.client.ingest.IngestWithConfigDataStream(t.Context())
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	assert.Equal(t, codes.Unavailable, status.Code(err))
	r.out.change(func() { r.out.mu.acked = 100 })
	require.NoError(t, <-answer)
}

// The host gives up: Run ends at once, whatever waits.
func TestShutdownDoesNotWait(t *testing.T) {
	r, s := streaming(t)
	r.out.change(func() { r.out.mu.held = true })
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(1))))
	r.out.await(t, "the emission", func() bool { return r.out.mu.blocked > 0 })
	require.NoError(t, r.source.Shutdown(context.Background()))
	assert.Equal(t, codes.Unavailable, status.Code(stream.RecvMsg(new(ingestAnswer))))
	require.NoError(t, r.source.Shutdown(context.Background()))
	require.ErrorContains(t, r.source.Run(t.Context(), r.out), "shut down")
}
