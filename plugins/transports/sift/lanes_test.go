package sift

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
	"github.com/pipelined/pipelined/sdk"
)

// confirmOne delivers a message in a stream of a Deliver call.
func confirmOne(t *testing.T, tr sdk.Transport, o sdk.StreamOptions) {
	t.Helper()
	s := openStream(t, tr, o)
	send(t, s, "live")
	_, err := s.Finish(t.Context())
	require.NoError(t, err)
}

// TestLanes: a destination that reads nothing of one call's stream delays no stream
// of another call, and each call has its own connections.
func TestLanes(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{Discard: true})
	release := make(chan struct{})
	server.Queue(sifttest.ReadAfter(release))
	tr, _ := newTransport(t, server)
	old := openStream(t, tr, sdk.StreamOptions{Call: 2})
	const batches = 24 // more than the server's windows take
	sent := make(chan error, 1)
	go func() {
		for range batches {
			if err := old.Send(t.Context(), delivery(make([]byte, 1<<20))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	server.Stream(t, 0)
	for range 20 {
		confirmOne(t, tr, sdk.StreamOptions{Call: 1})
	}
	assert.Equal(t, 2, server.Connections())
	confirmOne(t, tr, sdk.StreamOptions{Call: 1, NewConnection: true})
	confirmOne(t, tr, sdk.StreamOptions{Call: 1})
	assert.Equal(t, 3, server.Connections(), "the new one stays")

	tr.CallEnded(1)
	select {
	case err := <-sent:
		t.Fatal("the stream was not held up: ", err)
	default:
	}
	close(release)
	require.NoError(t, <-sent)
	_, err := old.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, batches, server.Stream(t, 0).Count())
	confirmOne(t, tr, sdk.StreamOptions{Call: 2})
	assert.Equal(t, 3, server.Connections(), "the end of one call leaves the other's connection alone")
	confirmOne(t, tr, sdk.StreamOptions{Call: 3})
	assert.Equal(t, 4, server.Connections(), "a call that has ended leaves no connection behind")
}

// TestLanesDoNotWaitForEachOther: while one call's connection is being made, which
// takes for ever, another call makes its own.
func TestLanesDoNotWaitForEachOther(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	tr, err := open(sdk.Settings{}, testConfig("http://"+silent.Addr().String()))
	require.NoError(t, err)
	defer tr.Shutdown(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 2)
	for call := range uint64(2) {
		go func() {
			_, err := tr.OpenStream(ctx, sdk.StreamOptions{Call: call + 1})
			opened <- err
		}()
		c, err := silent.Accept()
		require.NoError(t, err)
		defer c.Close()
	}
	cancel()
	for range 2 {
		requireFailure(t, <-opened, sdk.ClassRetry, canceled)
	}
}
