package siftserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress messages
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	"github.com/pipelined/pipelined/sdk"
)

const (
	streamWindow     = 1 << 20 // bytes that a client may send ahead on a stream
	connectionWindow = 4 << 20 // … and on a connection
	// callsPerConnection bounds the calls that a client has open at one time. One
	// that has more waits with them.
	callsPerConnection = 256
	readBuffer         = 64 << 10
	headerBytes        = 64 << 10
	handshakeWithin    = 20 * time.Second
	// Clients ping every 20 s, also without a call. A client that answers no ping
	// of ours is gone.
	leastPingInterval = 5 * time.Second
	pingAfter         = time.Minute
	pingWithin        = 20 * time.Second
)

// newServer returns a server without services.
func newServer(c Config, certificate *tls.Certificate) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(newGate(c.Keys).admit),
		grpc.MaxRecvMsgSize(int(c.MaxMessageBytes)),
		grpc.MaxConcurrentStreams(callsPerConnection),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.ReadBufferSize(readBuffer),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPingInterval, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
	if certificate != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{*certificate},
			MinVersion:   tls.VersionTLS12,
		})))
	}
	return grpc.NewServer(options...)
}

// gate lets calls with a good key in, before anything else of them is read. Without
// keys it lets all calls in: then only this machine can connect.
type gate struct{ keys [][sha256.Size]byte }

func newGate(keys []sdk.Secret) *gate {
	g := new(gate)
	for _, key := range keys {
		g.keys = append(g.keys, sha256.Sum256([]byte(key.Reveal())))
	}
	return g
}

func (g *gate) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	if len(g.keys) == 0 {
		return ctx, nil
	}
	values := info.Header.Get("authorization")
	if len(values) != 1 {
		return ctx, status.Error(codes.Unauthenticated, "the call carries no authorization; it needs a bearer key")
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") || key == "" {
		return ctx, status.Error(codes.Unauthenticated, "the authorization is not a bearer key")
	}
	if !g.knows(key) {
		return ctx, status.Error(codes.Unauthenticated, "the bearer key is not known")
	}
	return ctx, nil
}

// knows compares with all keys, in the same time whatever they are.
func (g *gate) knows(key string) bool {
	hash, known := sha256.Sum256([]byte(key)), 0
	for i := range g.keys {
		known |= subtle.ConstantTimeCompare(hash[:], g.keys[i][:])
	}
	return known == 1
}

// pinger answers pings.
type pinger struct {
	pingv1.UnimplementedPingServiceServer
}

func (pinger) Ping(context.Context, *pingv1.PingRequest) (*pingv1.PingResponse, error) {
	return &pingv1.PingResponse{Response: "pong"}, nil
}

// listen binds the address of the configuration.
func listen(ctx context.Context, c Config) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program uses this port; stop it, or set another port in listen", c.Listen)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: not permitted; ports below 1024 need a privilege, use another one: %w", c.Listen, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: this machine does not have that address", c.Listen)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	if host, _, err := net.SplitHostPort(l.Addr().String()); len(c.Keys) == 0 && (err != nil || !loopback(host)) {
		return nil, errors.Join(fmt.Errorf("listen on %s: %s is not of the loopback interface, which sources without keys need", c.Listen, l.Addr()), l.Close())
	}
	return l, nil
}

// countedListener counts connections and closes those beyond a limit at once.
type countedListener struct {
	net.Listener
	limit  int64
	counts *counts
}

func (l *countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.counts.connections.Load() >= l.limit {
			l.counts.turnedAway.Add(1)
			_ = conn.Close()
			continue
		}
		l.counts.connections.Add(1)
		return &countedConn{Conn: conn, counts: l.counts}, nil
	}
}

type countedConn struct {
	net.Conn
	counts *counts
	once   sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.counts.connections.Add(-1) })
	return c.Conn.Close()
}
