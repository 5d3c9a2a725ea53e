package siftserver

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running source with its host.
type rig struct {
	t       testing.TB
	out     *output
	source  *source
	address string
	ended   chan error
	cancel  context.CancelFunc

	stopOnce sync.Once

	mu     sync.Mutex
	health []sdk.Health
}

// setting changes how a source is started.
type setting func(*sdk.Settings, *Config, *timing)

func inDir(dir string) setting {
	return func(s *sdk.Settings, _ *Config, _ *timing) { s.StateDir = dir }
}

func withConfig(change func(*Config)) setting {
	return func(_ *sdk.Settings, c *Config, _ *timing) { change(c) }
}

func withTiming(change func(*timing)) setting {
	return func(_ *sdk.Settings, _ *Config, t *timing) { change(t) }
}

// start runs a source until the test ends.
func start(t testing.TB, settings ...setting) *rig {
	t.Helper()
	r := &rig{t: t, out: newOutput(), ended: make(chan error, 1)}
	s := sdk.Settings{Logger: slog.New(slog.DiscardHandler), Health: r.setHealth}
	c := defaultConfig()
	c.Listen = "127.0.0.1:0"
	timing := defaultTiming()
	timing.drain = 2 * time.Second
	for _, set := range settings {
		set(&s, &c, &timing)
	}
	if s.StateDir == "" {
		s.StateDir = t.TempDir()
	}
	var err error
	r.source, err = newSource(s, c, timing)
	require.NoError(t, err)
	listening := make(chan net.Addr, 1)
	r.source.listening = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.source.Run(ctx, r.out) }()
	t.Cleanup(r.stop)
	select {
	case a := <-listening:
		r.address = a.String()
	case err := <-r.ended:
		r.ended <- err
		require.NoError(t, err)
	}
	return r
}

func (r *rig) setHealth(h sdk.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = append(r.health, h)
}

// stop stops the source as the host does, once.
func (r *rig) stop() {
	r.stopOnce.Do(func() {
		close(r.out.stopping)
		assert.NoError(r.t, <-r.ended)
		r.cancel()
		assert.NoError(r.t, r.source.Shutdown(context.Background()))
	})
}

// eventually waits for something that nobody announces.
func (r *rig) eventually(what string, condition func() bool) {
	r.t.Helper()
	require.Eventually(r.t, condition, 20*time.Second, time.Millisecond, what)
}

// client is a connection with a key.
type client struct {
	t       testing.TB
	conn    *grpc.ClientConn
	ping    pingv1.PingServiceClient
	configs configsv2.IngestionConfigServiceClient
	assets  assetsv1.AssetServiceClient
	runs    runsv2.RunServiceClient
	ingest  ingestv1.IngestServiceClient
}

func (r *rig) dial(authorization string, options ...grpc.DialOption) *client {
	r.t.Helper()
	withKey := func(ctx context.Context) context.Context {
		if authorization == "" {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return call(withKey(ctx), method, in, out, conn, options...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(withKey(ctx), desc, conn, method, options...)
		}),
	}, options...)
	conn, err := grpc.NewClient(r.address, options...)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{
		t: r.t, conn: conn,
		ping:    pingv1.NewPingServiceClient(conn),
		configs: configsv2.NewIngestionConfigServiceClient(conn),
		assets:  assetsv1.NewAssetServiceClient(conn),
		runs:    runsv2.NewRunServiceClient(conn),
		ingest:  ingestv1.NewIngestServiceClient(conn),
	}
}

const anyKey = "Bearer some-key"

type clientStream = grpc.ClientStreamingClient[ingestv1.IngestWithConfigDataStreamRequest, ingestv1.IngestWithConfigDataStreamResponse]

// stream opens an ingestion stream, which ends with the test.
func (c *client) stream(options ...grpc.CallOption) (clientStream, context.CancelFunc) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	s, err := c.ingest.IngestWithConfigDataStream(ctx, options...)
	require.NoError(c.t, err)
	return s, cancel
}

// answered waits for the answer to a half-close elsewhere.
func answered(s clientStream) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := s.CloseAndRecv()
		out <- err
	}()
	return out
}
