package sifttest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress their messages
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// Options says what the server is like. The zero value is a well-behaved one
// without TLS that takes any key.
type Options struct {
	// Keys that are accepted; none: any key will do, also none.
	Keys []string
	TLS  bool
	// PageSize is the greatest page of a list; 0 = 1000.
	PageSize int
	// MaxMessageBytes is the greatest message it receives; 0 = 4 MiB.
	MaxMessageBytes int
	// KeepaliveMinTime is how often a client may send PINGs; 0 = every 10 s.
	KeepaliveMinTime time.Duration
	// Discard: ingest messages are counted, not kept.
	Discard bool
	// Ledger records the rows of ingest streams; nil: nothing does.
	Ledger *Ledger
	// Piecemeal: creating several flows keeps those before the one that fails.
	Piecemeal bool
	// NewID returns ids; nil: 36 bytes each, like the service's. Kind is asset,
	// config or run, n counts from 1.
	NewID func(kind string, n int) string
	// Intercept sees every unary call before the server does. An error is the
	// answer.
	Intercept func(ctx context.Context, method string, request proto.Message) error
	// Default is how streams are answered that no Behaviour was queued for; nil:
	// TakeAll.
	Default Behaviour
}

// Server is the stand-in. Its methods may be called from any goroutine.
type Server struct {
	store store

	options  Options
	identity *identity // nil without TLS
	address  string
	serving  sync.WaitGroup

	mu struct {
		sync.Mutex
		keys     []string
		grpc     *grpc.Server // nil while it does not listen
		listener net.Listener
		draining []*grpc.Server
		queued   []Behaviour
		streams  []*Stream
		opened   chan struct{} // closed when a stream opens, then replaced
		conns    map[*conn]struct{}
		accepted int
		frozen   bool
		readRate int // bytes per second on each connection; 0 = no limit
	}
}

// New starts a server that ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if o.PageSize == 0 {
		o.PageSize = 1000
	}
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = 4 << 20
	}
	if o.KeepaliveMinTime == 0 {
		o.KeepaliveMinTime = 10 * time.Second
	}
	if o.NewID == nil {
		o.NewID = serviceID
	}
	if o.Default == nil {
		o.Default = TakeAll
	}
	s := &Server{options: o, address: "127.0.0.1:0"}
	s.store.options = &s.options
	s.mu.keys = o.Keys
	s.mu.opened = make(chan struct{})
	s.mu.conns = make(map[*conn]struct{})
	if o.TLS {
		identity, err := newIdentity()
		require.NoError(t, err)
		s.identity = identity
	}
	require.NoError(t, s.Start())
	t.Cleanup(s.Stop)
	return s
}

// Start listens again, on the same address, after Drain or Stop.
func (s *Server) Start() error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(s.options.MaxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: s.options.KeepaliveMinTime, PermitWithoutStream: true,
		}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.streaming),
	}
	if s.identity != nil {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&s.identity.certificate)))
	}
	server := grpc.NewServer(options...)
	pingv1.RegisterPingServiceServer(server, pingService{})
	assetsv1.RegisterAssetServiceServer(server, assetService{store: &s.store})
	runsv2.RegisterRunServiceServer(server, runService{store: &s.store})
	ingestionconfigsv2.RegisterIngestionConfigServiceServer(server, configService{store: &s.store})
	ingestv1.RegisterIngestServiceServer(server, ingestService{server: s})

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.grpc != nil {
		listener.Close()
		return errors.New("sifttest: the server is running")
	}
	s.mu.grpc, s.mu.listener = server, listener
	s.address = listener.Addr().String()
	s.serving.Go(func() { _ = server.Serve(&gatedListener{listener, s}) })
	return nil
}

// Stop ends everything at once: streams, connections, the listener and Freeze.
func (s *Server) Stop() {
	s.mu.Lock()
	servers := s.mu.draining
	if s.mu.grpc != nil {
		servers = append(servers, s.mu.grpc)
		s.mu.listener.Close()
	}
	s.mu.draining, s.mu.grpc = nil, nil
	s.mu.frozen = false // also for what is being accepted
	s.mu.Unlock()

	s.closeAll() // those whose handshake is not over would be waited for
	for _, server := range servers {
		server.Stop()
	}
	s.serving.Wait()
}

// Drain stops listening and sends GOAWAY on every connection; streams that are
// open may still end. It does not wait for them.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	server := s.mu.grpc
	if server == nil {
		return
	}
	s.mu.grpc = nil
	s.mu.listener.Close() // GracefulStop does it too, but later
	s.mu.draining = append(s.mu.draining, server)
	s.serving.Go(server.GracefulStop)
}

// Address returns host and port.
func (s *Server) Address() string { return s.address }

// URI returns the address with the scheme that decides about TLS.
func (s *Server) URI() string {
	if s.identity != nil {
		return "https://" + s.address
	}
	return "http://" + s.address
}

// SetKeys replaces the accepted keys.
func (s *Server) SetKeys(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.keys = slices.Clone(keys)
}

func (s *Server) authenticate(ctx context.Context) error {
	s.mu.Lock()
	keys := s.mu.keys
	s.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	for _, value := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		if slices.ContainsFunc(keys, func(key string) bool { return value == "Bearer "+key }) {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "missing or unknown API key")
}

func (s *Server) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.authenticate(ctx); err != nil {
		return nil, err
	}
	if s.options.Intercept != nil {
		if err := s.options.Intercept(ctx, info.FullMethod, request.(proto.Message)); err != nil {
			return nil, err
		}
	}
	return next(ctx, request)
}

func (s *Server) streaming(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.authenticate(stream.Context()); err != nil {
		return err
	}
	return next(server, stream)
}

type pingService struct {
	pingv1.UnimplementedPingServiceServer
}

func (pingService) Ping(context.Context, *pingv1.PingRequest) (*pingv1.PingResponse, error) {
	return &pingv1.PingResponse{Response: "pong"}, nil
}
