package sift

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/plugins/transports/sift/h2"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

var (
	_ sdk.Transport = (*transport)(nil)
	_ sdk.CallEnder = (*transport)(nil)
	_ sdk.Meter     = (*transport)(nil)
	_ sdk.Watcher   = (*stream)(nil)
)

var errShutdown = errors.New("the transport is shut down")

type transport struct {
	config   Config
	target   target
	key      string
	logger   *slog.Logger
	request  []hpack.HeaderField // headers of a stream
	packers  sync.Pool           // of *packer
	counters counters
	health   health

	mu struct {
		sync.Mutex
		closed bool
		lanes  map[uint64]*lane // by Deliver call
		conns  []*h2.Conn       // all that were not closed yet
	}
}

// lane is what the streams of one Deliver call share: connections that are theirs
// alone, since streams that are not read hold up all others of their connection.
type lane struct {
	dialing chan struct{} // capacity 1: held while a connection is made
	current *h2.Conn      // for new streams; may be nil or dead. Guarded by the transport's mu
}

func open(settings sdk.Settings, config Config) (sdk.Transport, error) {
	target, err := parseURI(config.URI)
	if err != nil {
		return nil, err
	}
	key, err := headerKey(config.APIKey)
	if err != nil {
		return nil, err
	}
	t := &transport{
		config: config,
		target: target,
		key:    key,
		logger: settings.Logger,
	}
	t.mu.lanes = make(map[uint64]*lane)
	if t.logger == nil {
		t.logger = slog.New(slog.DiscardHandler)
	}
	t.health.report = settings.Health
	t.packers.New = func() any { return newPacker(config.Gzip) }
	t.request = t.requestHeaders()
	if key == "" && !target.loopback() {
		t.logger.Warn("no api_key is set; most destinations refuse that", "destination", target.address())
	}
	return t, nil
}

func (t *transport) requestHeaders() []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: t.target.scheme()},
		{Name: ":authority", Value: t.target.address()},
		{Name: ":path", Value: ingestv1.IngestService_IngestWithConfigDataStream_FullMethodName},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "user-agent", Value: userAgent},
	}
	if t.config.Gzip {
		fields = append(fields, hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})
	}
	if t.key != "" {
		// Sensitive: never put into a table that could be probed.
		fields = append(fields, hpack.HeaderField{Name: "authorization", Value: "Bearer " + t.key, Sensitive: true})
	}
	return fields
}

// OpenStream starts a call of the ingest method.
func (t *transport) OpenStream(ctx context.Context, o sdk.StreamOptions) (sdk.Stream, error) {
	call, err := t.openCall(ctx, o)
	if err != nil {
		t.health.failed(err)
		return nil, err
	}
	t.health.connected()
	t.counters.streams.Add(1)
	t.counters.open.Add(1)
	return &stream{transport: t, call: call, packer: t.packers.Get().(*packer)}, nil
}

func (t *transport) openCall(ctx context.Context, o sdk.StreamOptions) (*h2.Stream, error) {
	l, err := t.lane(o.Call)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		conn, err := t.connection(ctx, l, o.NewConnection)
		if err != nil {
			return nil, err
		}
		call, err := conn.Open(t.request)
		switch {
		case err == nil:
			return call, nil
		case attempt > 0 || !errors.Is(err, h2.ErrUnusable):
			return nil, failure(codes.Unavailable, "open a stream: "+err.Error(), nil)
		}
		// It went away just now: once more, with another one.
	}
}

// lane returns the lane of a Deliver call.
func (t *transport) lane(call uint64) (*lane, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, sdk.Permanent(errShutdown)
	}
	l := t.mu.lanes[call]
	if l == nil {
		l = &lane{dialing: make(chan struct{}, 1)}
		t.mu.lanes[call] = l
	}
	return l, nil
}

// CallEnded closes the connection of a Deliver call.
func (t *transport) CallEnded(call uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.mu.lanes[call]; l != nil && l.current != nil {
		l.current.Retire()
	}
	delete(t.mu.lanes, call)
	t.joinDead()
}

// connection returns the connection for a new stream. A new one takes the place
// of the old one, which lives on until its streams have ended.
func (t *transport) connection(ctx context.Context, l *lane, fresh bool) (*h2.Conn, error) {
	if conn, err := t.usable(l, fresh); conn != nil || err != nil {
		return conn, err
	}
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return nil, interrupted(ctx)
	}
	// Somebody else may have made one meanwhile.
	if conn, err := t.usable(l, fresh); conn != nil || err != nil {
		return conn, err
	}
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	t.counters.connections.Add(1)
	return conn, t.adopt(l, conn)
}

// usable returns the lane's connection unless it cannot serve.
func (t *transport) usable(l *lane, fresh bool) (*h2.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.closed:
		return nil, sdk.Permanent(errShutdown)
	case fresh || l.current == nil || !l.current.Usable():
		return nil, nil
	default:
		return l.current, nil
	}
}

// adopt makes conn the lane's connection and joins those that are dead.
func (t *transport) adopt(l *lane, conn *h2.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		conn.Close()
		return sdk.Permanent(errShutdown)
	}
	if l.current != nil {
		l.current.Retire()
	}
	l.current = conn
	t.joinDead()
	t.mu.conns = append(t.mu.conns, conn)
	return nil
}

// joinDead joins the connections that are dead. The caller holds mu.
func (t *transport) joinDead() {
	var alive []*h2.Conn
	for _, c := range t.mu.conns {
		if c.Err() != nil {
			c.Close()
		} else {
			alive = append(alive, c)
		}
	}
	t.mu.conns = alive
}

// connect makes a connection.
func (t *transport) connect(ctx context.Context) (*h2.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, t.config.ConnectTimeout)
	defer cancel()
	conn, err := t.handshake(limited)
	if _, classified := errors.AsType[*sdk.Error](err); classified {
		return nil, err
	}
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, interrupted(ctx)
	case limited.Err() != nil:
		err = errors.New("no connection in time")
	}
	return nil, failure(codes.Unavailable, fmt.Sprintf("connect to %s: %v", t.target.address(), err), nil)
}

// handshake does all that comes before the first stream.
func (t *transport) handshake(ctx context.Context) (*h2.Conn, error) {
	nc, err := t.dial(ctx, t.target.address())
	if err != nil {
		return nil, err
	}
	if t.target.tls {
		if nc, err = t.encrypt(ctx, nc); err != nil {
			return nil, err
		}
	}
	return h2.New(ctx, nc, h2.Config{Keepalive: t.config.Keepalive, KeepaliveTimeout: t.config.Keepalive})
}

func (t *transport) dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// encrypt closes nc when it fails.
func (t *transport) encrypt(ctx context.Context, nc net.Conn) (net.Conn, error) {
	config, err := t.tlsConfig()
	if err != nil {
		nc.Close()
		return nil, err
	}
	config.NextProtos = []string{http2.NextProtoTLS}
	conn := tls.Client(nc, config)
	err = conn.HandshakeContext(ctx)
	if err == nil && conn.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		err = errors.New("the server does not speak HTTP/2")
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return conn, nil
}

func (t *transport) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{ServerName: t.target.host, MinVersion: tls.VersionTLS12}
	if t.config.TLSCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.config.TLSCA)
	if err != nil {
		return nil, sdk.Permanent(fmt.Errorf("read tls_ca: %w", err))
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, sdk.Permanent(fmt.Errorf("tls_ca %s holds no certificate", t.config.TLSCA))
	}
	return config, nil
}

// interrupted is the error of a call whose context ended.
func interrupted(ctx context.Context) error {
	code := codes.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return failure(code, ctx.Err().Error(), nil)
}

// Shutdown ends all streams and connections.
func (t *transport) Shutdown(context.Context) error {
	t.mu.Lock()
	t.mu.closed = true
	conns := t.mu.conns
	t.mu.conns, t.mu.lanes = nil, nil
	t.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	return nil
}
