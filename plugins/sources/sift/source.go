package siftserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	"github.com/pipelined/pipelined/sdk"
)

func defaultTiming() timing {
	return timing{
		gather:       sdk.DefaultGather,
		ackWithin:    8 * time.Second,
		answerWithin: 9500 * time.Millisecond,
		drain:        10 * time.Second,
		blockedAfter: time.Second,
	}
}

// source is an opened plugin.
type source struct {
	settings sdk.Settings
	config   Config
	timing   timing
	counts   counts
	// listening is told the address; for tests.
	listening func(net.Addr)

	mu struct {
		sync.Mutex
		shut   bool
		cancel context.CancelFunc // of the Run at hand
		ended  chan struct{}
	}
}

func newSource(settings sdk.Settings, c Config, t timing) (*source, error) {
	for i, key := range c.Keys {
		if !key.IsSet() {
			return nil, fmt.Errorf("keys: key %d is empty", i+1)
		}
	}
	return &source{settings: settings, config: c, timing: t, listening: func(net.Addr) {}}, nil
}

// Discover says that flows come with the clients.
func (s *source) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Dynamic: true}, nil
}

// Metrics returns the source's numbers.
func (s *source) Metrics() []sdk.Metric { return s.counts.metrics() }

// Run serves clients until the host wants no more.
func (s *source) Run(ctx context.Context, out sdk.Output) error {
	ctx, ended, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer ended()
	certificate, err := s.config.TLS.load()
	if err != nil {
		return err
	}
	store, err := registry.Open(s.settings.StateDir, int64(s.config.MaxState))
	if err != nil {
		return err
	}
	listener, err := listen(ctx, s.config)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	err = s.serve(ctx, out, store, newServer(s.config, certificate), listener)
	return errors.Join(err, store.Close())
}

// enter makes Run end when Shutdown is called.
func (s *source) enter(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.shut {
		return nil, nil, errors.New("the source is shut down")
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.mu.cancel, s.mu.ended = cancel, ended
	return ctx, func() {
		cancel()
		close(ended)
	}, nil
}

// Shutdown ends Run and waits for it.
func (s *source) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.mu.shut = true
	cancel, ended := s.mu.cancel, s.mu.ended
	s.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the server has not ended: %w", ctx.Err())
	}
}

// serve runs the server over an open store until the host wants no more.
func (s *source) serve(ctx context.Context, out sdk.Output, store *registry.Store, server *grpc.Server, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	pace := newPacer(s.timing.gather)
	v := &receiver{
		pipe:       newHost(ctx, store, out, s.settings.Logger, &s.counts, &health{report: s.settings.Health, after: s.timing.blockedAfter}),
		acks:       out,
		pace:       pace,
		timing:     s.timing,
		maxStreams: s.config.MaxStreams,
		counts:     &s.counts,
		stopping:   make(chan struct{}),
	}
	store.Register(server)
	pingv1.RegisterPingServiceServer(server, pinger{})
	ingestv1.RegisterIngestServiceServer(server, v)

	var tasks sync.WaitGroup
	tasks.Go(func() { pace.run(ctx) })
	served := make(chan error, 1)
	tasks.Go(func() {
		served <- server.Serve(&countedListener{Listener: listener, limit: 2 * int64(s.config.MaxStreams), counts: &s.counts})
	})
	s.settings.Logger.Info("listening for Sift clients", "address", listener.Addr().String(), "tls", s.config.TLS != nil, "keys", len(s.config.Keys))
	s.settings.Health(sdk.Health{State: sdk.HealthOK})
	s.listening(listener.Addr())

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-out.Stopping():
		err = s.drain(ctx, v, out, server)
	case <-ctx.Done():
	}
	cancel() // what still waits for credit gives up
	v.stop()
	server.Stop()
	tasks.Wait()
	v.readers.Wait()
	return err
}

// drain ends the streams: their rows are emitted, and those whose client has
// half-closed wait for their acknowledgement.
func (s *source) drain(ctx context.Context, v *receiver, out sdk.Output, server *grpc.Server) error {
	v.stop()
	emitted := make(chan struct{})
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		v.mu.emits.Wait()
		close(emitted)
	})
	select {
	case <-emitted:
	case <-ctx.Done():
		return nil
	}
	if err := out.Finish(); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	// Stop, when called, ends GracefulStop.
	timer := time.AfterFunc(s.timing.drain, server.Stop)
	defer timer.Stop()
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	server.GracefulStop()
	return nil
}

// load reads the certificate; nil if there is none.
func (t *TLS) load() (*tls.Certificate, error) {
	if t == nil {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	return &certificate, nil
}
