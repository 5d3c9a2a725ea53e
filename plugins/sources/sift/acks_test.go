package siftserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// clientWaits is how long clients wait for the answer to their half-close.
const clientWaits = 10 * time.Second

// contract is a source behind the plugin contract, as a host has it.
type contract struct {
	rig
	stream *wire.SourceStream
	wanted chan wire.AckWanted
	done   chan struct{} // closed when the run has ended

	events struct {
		sync.Mutex
		rows     int
		finished bool
	}
}

// behindContract runs a source in a wire.Server. Nothing is acknowledged unless the
// test does.
func behindContract(t *testing.T, settings ...setting) (*contract, *session) {
	t.Helper()
	c := &contract{wanted: make(chan wire.AckWanted, 16), done: make(chan struct{})}
	c.t = t
	config, timing := defaultConfig(), defaultTiming()
	config.Listen = "127.0.0.1:0"
	listening := make(chan net.Addr, 1)
	plugin := sdk.NewSource(sdk.Info{Name: "sift", Version: "1"}, sdk.SourceCapabilities{}, struct{}{},
		func(s sdk.Settings, _ struct{}) (sdk.Source, error) {
			for _, set := range settings {
				set(&s, &config, &timing)
			}
			source, err := newSource(s, config, timing)
			if err == nil {
				source.listening = func(a net.Addr) { listening <- a }
			}
			return source, err
		})
	conn := serveContract(t, plugin)
	ctx, cancel := context.WithCancel(context.Background())
	diagnostics, err := wire.Configure(ctx, conn, wire.ConfigureArgs{Pipeline: "p", Name: "n", StateDir: t.TempDir()})
	require.NoError(t, err)
	require.Empty(t, diagnostics)
	c.stream, err = wire.OpenSource(ctx, conn, wire.SourceStart{})
	require.NoError(t, err)
	go c.hear()
	t.Cleanup(func() {
		cancel()
		<-c.done
	})
	c.address = (<-listening).String()
	s, err := c.dial(anyKey).startUp(t.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{doubles("f", "x", "y")}})
	require.NoError(t, err)
	return c, s
}

// serveContract serves a plugin on a connection inside this process.
func serveContract(t *testing.T, plugin sdk.Plugin) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(append(wire.ServerOptions(), grpc.WaitForHandlers(true))...)
	served := wire.NewServer(plugin, wire.Logging{Logger: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar)})
	served.Register(server)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///plugin", append(wire.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, conn.Close())
		server.Stop()
		tasks.Wait()
		assert.NoError(t, served.Shutdown(context.Background()))
	})
	return conn
}

// hear takes what the source says until the run has ended.
func (c *contract) hear() {
	defer close(c.done)
	for {
		event, err := c.stream.Recv()
		if err != nil {
			return
		}
		c.events.Lock()
		switch e := event.(type) {
		case *wire.SourceBatch:
			c.events.rows += e.Count
			e.Payload.Release()
		case *wire.AckWanted:
			c.wanted <- *e
		case *wire.Finished:
			c.events.finished = true
		}
		c.events.Unlock()
	}
}

// finished waits until nothing follows and returns how many rows came.
func (c *contract) finished() (rows int) {
	c.t.Helper()
	c.eventually("finish", func() bool {
		c.events.Lock()
		defer c.events.Unlock()
		rows = c.events.rows
		return c.events.finished
	})
	return rows
}

// half sends a row, half-closes and returns where the answer comes.
func half(t *testing.T, s *session) <-chan error {
	t.Helper()
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	return answered(stream)
}

// TestHostThatAcksOnRequest: a host that acknowledges only when it is asked to, and
// then takes its time, is asked early enough for the client.
func TestHostThatAcksOnRequest(t *testing.T) {
	c, s := behindContract(t)
	for _, takes := range []time.Duration{0, time.Second} {
		answer := half(t, s)
		closed := time.Now()
		wanted := <-c.wanted
		asked := time.Since(closed)
		assert.Less(t, asked+wanted.Within, clientWaits-time.Second, "a second is left for the way")
		select {
		case err := <-answer:
			t.Fatal("answered without an ack: ", err)
		case <-time.After(takes):
		}
		require.NoError(t, c.stream.Ack(wanted.Sequence))
		require.NoError(t, <-answer)
	}
}

// TestAckMustCoverTheRows: an ack of what other streams have sent before is none.
func TestAckMustCoverTheRows(t *testing.T) {
	c, s := behindContract(t)
	first := half(t, s)
	one := <-c.wanted
	second := half(t, s)
	two := <-c.wanted
	require.Less(t, one.Sequence, two.Sequence)
	require.NoError(t, c.stream.Ack(one.Sequence))
	require.NoError(t, <-first)
	select {
	case err := <-second:
		t.Fatal("answered without an ack: ", err)
	default:
	}
	require.NoError(t, c.stream.Ack(two.Sequence))
	require.NoError(t, <-second)
}

// TestHostStopsWithoutAck: however a host goes, a client whose rows it has not
// acknowledged is told to send them again, and is not left waiting.
func TestHostStopsWithoutAck(t *testing.T) {
	for name, stop := range map[string]func(*contract) error{
		"stops and never acks": func(c *contract) error { return c.stream.Stop() },
		"closes the run":       func(c *contract) error { return c.stream.CloseSend() },
		"acks too little": func(c *contract) error {
			if err := c.stream.Ack(1); err != nil {
				return err
			}
			return c.stream.CloseSend()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := behindContract(t, withTiming(func(t *timing) { t.drain = 200 * time.Millisecond }))
			first := half(t, s)
			<-c.wanted
			second := half(t, s)
			<-c.wanted
			open, _ := s.client.stream()
			require.NoError(t, open.Send(s.row("f", 2, double(1), double(2))))
			c.eventually("the row of the open stream", func() bool {
				c.events.Lock()
				defer c.events.Unlock()
				return c.events.rows == 3
			})
			require.NoError(t, stop(c))
			err := <-second
			assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			if err := <-first; name != "acks too little" || err != nil {
				assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			}
			err = open.RecvMsg(new(ingestAnswer))
			assert.NotErrorIs(t, err, io.EOF)
			assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			<-c.done
			if name == "stops and never acks" {
				assert.Equal(t, 3, c.finished(), "what came is emitted")
			}
		})
	}
}

// TestNoAckInTime: the client is told to send the rows again before it gives up by
// itself; when it does, they come a second time and can be acknowledged.
func TestNoAckInTime(t *testing.T) {
	assert.Less(t, defaultTiming().ackWithin, defaultTiming().answerWithin)
	assert.Less(t, defaultTiming().answerWithin, clientWaits)
	c, s := behindContract(t, withTiming(func(t *timing) { t.ackWithin, t.answerWithin = 50*time.Millisecond, 100*time.Millisecond }))
	answer := half(t, s)
	first := <-c.wanted
	err := <-answer
	assert.Equal(t, codes.Unavailable, status.Code(err))
	require.NoError(t, c.stream.Ack(first.Sequence), "too late for this client")
	sent := 1
	for err != nil && sent < 20 { // a busy machine may need more than one try
		again := half(t, s)
		wanted := <-c.wanted
		sent++
		require.Greater(t, wanted.Sequence, first.Sequence)
		require.NoError(t, c.stream.Ack(wanted.Sequence))
		err = <-again
	}
	require.NoError(t, err)
	c.events.Lock()
	defer c.events.Unlock()
	assert.Equal(t, sent, c.events.rows)
}
