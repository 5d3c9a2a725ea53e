package wire

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestControl(t *testing.T) {
	var settings sdk.Settings
	running := make(chan struct{})
	plugin := sourcePlugin(false, func(ctx context.Context, out sdk.Output) error {
		close(running)
		<-out.Stopping()
		return nil
	})
	open := plugin.Open
	plugin.Open = func(s sdk.Settings, b sdk.Body) (sdk.Component, error) {
		settings = s
		return open(s, b)
	}
	conn, server := serveInProcess(t, plugin)
	run, err := OpenSource(deadline(t), conn, SourceStart{})
	require.NoError(t, err)
	await(t, running)
	c, err := OpenControl(deadline(t), conn)
	require.NoError(t, err)
	for nonce := range uint64(100) { // while Run blocks
		require.NoError(t, c.Ping(nonce))
		assert.Equal(t, nonce, until[Pong](t, c.Recv).Nonce)
	}
	blocked := sdk.Health{State: sdk.HealthBlocked, Reason: "no route", Code: 14}
	settings.Health(blocked)
	assert.Equal(t, blocked, until[HealthChanged](t, c.Recv).Health)
	settings.Health(blocked) // no change, no message
	settings.Health(sdk.Health{State: sdk.HealthOK})
	assert.Equal(t, sdk.HealthOK, until[HealthChanged](t, c.Recv).State)

	require.NoError(t, c.SetLogLevel(slog.LevelError))
	require.NoError(t, c.Ping(1))
	until[Pong](t, c.Recv)
	assert.Equal(t, slog.LevelError, server.log.Level.Level())

	require.NoError(t, c.Drain(patience))
	assert.Empty(t, drainSource(t, run))
	until[Drained](t, c.Recv)
	run, err = OpenSource(deadline(t), conn, SourceStart{})
	require.NoError(t, err)
	_, err = run.Recv()
	require.ErrorContains(t, err, "has been drained")
	require.NoError(t, c.CloseSend())
	_, err = c.Recv()
	assert.Equal(t, io.EOF, err)
	await(t, server.Done())
}

func drainSource(t testing.TB, s *SourceStream) []SourceEvent {
	t.Helper()
	until[*Finished](t, s.Recv)
	return drainToEOF(t, s.Recv)
}

// TestNewControlStreamHearsTheState: health is told again to who connects later.
func TestNewControlStreamHearsTheState(t *testing.T) {
	conn, server := serveInProcess(t, toyPlugin())
	server.notices.health(sdk.Health{State: sdk.HealthFailing, Reason: "key"})
	for range 2 {
		ctx, cancel := context.WithCancel(deadline(t))
		c, err := OpenControl(ctx, conn)
		require.NoError(t, err)
		assert.Equal(t, "key", until[HealthChanged](t, c.Recv).Reason)
		cancel()
		_, err = c.Recv()
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.False(t, isClosed(server.Done()), "it has not drained")
}

// TestDrainFinishes holds what an encoder has been given.
func TestDrainFinishes(t *testing.T) {
	down := make(chan struct{})
	entered, goOn := make(chan struct{}), make(chan struct{})
	plugin := toyPlugin()
	plugin.Open = func(sdk.Settings, sdk.Body) (sdk.Component, error) {
		return &slowEncoder{entered: entered, goOn: goOn, down: down}, nil
	}
	conn, _ := serveInProcess(t, plugin)
	stream, err := OpenEncoder(deadline(t), conn, StreamRegions{})
	require.NoError(t, err)
	require.NoError(t, stream.Announce(1, &rpmFlow))
	meanwhile(t, func() error { return stream.Send(t.Context(), rpmBatch(1, 1)) })
	answers := make(chan error, 2)
	go func() {
		for range 2 {
			_, err := stream.Recv()
			answers <- err
		}
	}()
	await(t, entered)
	c, err := OpenControl(deadline(t), conn)
	require.NoError(t, err)
	require.NoError(t, c.Drain(0))
	require.NoError(t, c.Ping(1))
	event, err := c.Recv()
	require.NoError(t, err)
	assert.Equal(t, Pong{1}, event, "drained before its batches were answered")
	assert.False(t, isClosed(down))
	close(goOn)
	until[Drained](t, c.Recv)
	assert.True(t, isClosed(down), "drained before it was shut down")
	require.NoError(t, await(t, answers))
	require.NoError(t, stream.Send(deadline(t), rpmBatch(2, 2)))
	require.ErrorContains(t, await(t, answers), "has been drained")
}

type slowEncoder struct {
	toy
	entered, goOn, down chan struct{}
	once                bool
}

func (e *slowEncoder) Encode(dst []byte, batch *sdk.Batch, b sdk.Binding) (sdk.Encoded, error) {
	if !e.once {
		e.once = true
		close(e.entered)
		<-e.goOn
	}
	return e.toy.Encode(dst, batch, b)
}

func (e *slowEncoder) Shutdown(context.Context) error {
	close(e.down)
	return nil
}

// TestDrainTimeIsUp ends a source that does not listen.
func TestDrainTimeIsUp(t *testing.T) {
	running := make(chan struct{})
	conn, _ := serveInProcess(t, sourcePlugin(false, func(ctx context.Context, _ sdk.Output) error {
		close(running)
		<-ctx.Done()
		return errors.New("had to go")
	}))
	run, err := OpenSource(deadline(t), conn, SourceStart{})
	require.NoError(t, err)
	c, err := OpenControl(deadline(t), conn)
	require.NoError(t, err)
	await(t, running)
	require.NoError(t, c.Drain(time.Millisecond))
	assert.Equal(t, "had to go", until[*Finished](t, run.Recv).Failure.Message)
}
