package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/pipelined/pipelined/core/pipeline"
)

// Bounds of the server. Requests are small and rare.
const (
	maxConnections = 32
	maxHeader      = 8 << 10 // bytes
	readTimeout    = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	closeTimeout   = 2 * time.Second // for requests that are being answered
)

// Config says what a Server tells.
type Config struct {
	DataDir   string                   // locked by the caller
	Metrics   string                   // a TCP address for /metrics; empty: none
	Version   string                   // of the program
	Pipelines func() []pipeline.Status // how they are now; called by many goroutines
	Logger    *slog.Logger
}

// Server answers questions about a running host.
type Server struct {
	config   Config
	history  history
	registry *prometheus.Registry
	closing  chan struct{} // closed when the host has ended
	stop     context.CancelFunc
	servers  []*http.Server
	work     sync.WaitGroup
	once     sync.Once

	// MetricsAddress is where /metrics is served over TCP; nil: nowhere.
	MetricsAddress net.Addr
}

// Start starts a server. Without the socket a host is as good as with it, so that
// this is only logged; the address for metrics was asked for, and must work. The
// caller closes the server.
func Start(ctx context.Context, c Config) (*Server, error) {
	s := &Server{config: c, closing: make(chan struct{})}
	s.registry = newRegistry(s.report)
	if c.Metrics != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Metrics)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		s.MetricsAddress = l.Addr()
		s.serve(l, s.metricsOnly())
	}
	if l, err := listen(ctx, c.DataDir); err != nil {
		c.Logger.Warn("no control socket: `status` will not find this host", "error", err)
	} else {
		s.serve(l, s.everything())
	}
	sampling, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.work.Go(func() { s.sample(sampling) })
	return s, nil
}

func (s *Server) serve(l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	s.servers = append(s.servers, server)
	s.work.Go(func() {
		err := server.Serve(netutil.LimitListener(l, maxConnections))
		if !errors.Is(err, http.ErrServerClosed) {
			s.config.Logger.Warn("nobody is told the status any more", "address", l.Addr(), "error", err)
		}
	})
}

// sample remembers the counters of the last minute.
func (s *Server) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		now := time.Now()
		s.history.add(now, s.pipelines(now))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close answers those who wait, ends all requests and joins all goroutines. It is
// called when the pipelines have ended, or are about to without an answer to them.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.closing)
		s.stop()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		for _, server := range s.servers {
			if server.Shutdown(ctx) != nil {
				_ = server.Close() // its error is that of closed connections
			}
		}
	})
	s.work.Wait()
}

// report returns how the host is now.
func (s *Server) report() Report {
	now := time.Now()
	r := Report{
		Schema: Schema, Version: s.config.Version, PID: os.Getpid(), DataDir: s.config.DataDir,
		Time: now, Pipelines: s.pipelines(now),
	}
	for i := range r.Pipelines {
		p := &r.Pipelines[i]
		for j := range p.Tracks {
			t := &p.Tracks[j]
			t.Rates = s.history.rates(now, *p, j)
			t.Drain = drain(t.Pending, t.Rates)
		}
		p.State, p.Sentence = judge(p, now)
	}
	return r
}

func (s *Server) pipelines(now time.Time) []Pipeline {
	out := []Pipeline{}
	for _, p := range s.config.Pipelines() {
		out = append(out, convert(p, now))
	}
	return out
}
