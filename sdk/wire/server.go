package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// Logging is where a plugin's log goes. Its level follows the host's wishes.
type Logging struct {
	Logger *slog.Logger
	Level  *slog.LevelVar
}

// Server is the plugin side: it answers the contract's calls with an sdk.Plugin.
type Server struct {
	plugin  sdk.Plugin
	log     Logging
	work    work           // what must be finished before a drain is answered
	tasks   sync.WaitGroup // goroutines that outlive their call by a little
	notices notices
	calls   atomic.Uint64 // Deliver calls so far
	done    chan struct{}
	stopped sync.Once

	drain     sync.Once
	draining  chan struct{}   // closed when the host has asked to finish
	hurry     context.Context // ends when the time for that is over
	hurryUp   context.CancelFunc
	shutdowns sync.Once

	mu struct {
		sync.Mutex
		configured bool
		component  sdk.Component // nil: not open
		regions    map[uint32]*shm.Region
		running    bool // a source's Run
	}
}

// NewServer returns a server for the plugin.
func NewServer(p sdk.Plugin, log Logging) *Server {
	s := &Server{plugin: p, log: log, done: make(chan struct{}), draining: make(chan struct{})}
	s.hurry, s.hurryUp = context.WithCancel(context.Background()) // ended by Shutdown
	s.mu.regions = map[uint32]*shm.Region{}
	s.notices.changed = make(chan struct{})
	return s
}

// Register adds the services of the plugin's kind.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pb.RegisterPluginServiceServer(r, pluginService{Server: s})
	switch s.plugin.Kind {
	case sdk.KindSource:
		pb.RegisterSourceServiceServer(r, sourceService{Server: s})
	case sdk.KindEncoder:
		pb.RegisterEncoderServiceServer(r, encoderService{Server: s})
	case sdk.KindTransport:
		pb.RegisterTransportServiceServer(r, transportService{Server: s})
	}
}

// Done is closed when the plugin has drained and the host has closed the control
// stream after that.
func (s *Server) Done() <-chan struct{} { return s.done }

// Shutdown shuts the plugin's component down and joins all goroutines. It comes
// after the gRPC server has stopped.
func (s *Server) Shutdown(ctx context.Context) error {
	s.hurryUp()
	err := s.shutdownComponent(ctx)
	s.tasks.Wait()
	return err
}

// shutdownComponent shuts the component down at the first call.
func (s *Server) shutdownComponent(ctx context.Context) (err error) {
	s.shutdowns.Do(func() {
		s.mu.Lock()
		component := s.mu.component
		s.mu.Unlock()
		if component != nil {
			err = guard(s.log.Logger, "Shutdown", func() error { return component.Shutdown(ctx) })
		}
	})
	return err
}

// startDrain begins to finish, at the host's first request. Left is the time for
// it; 0 = no limit.
func (s *Server) startDrain(left time.Duration) {
	s.drain.Do(func() {
		close(s.draining)
		s.tasks.Go(func() { s.finish(left) })
	})
}

func (s *Server) finish(left time.Duration) {
	ctx := s.hurry
	if left > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(s.hurry, left)
		defer cancel()
	}
	if err := s.work.seal(ctx); err != nil {
		s.log.Logger.Warn("the time to drain is over", "left", left)
		s.hurryUp() // a source that does not listen to anything else listens to this
		return
	}
	if err := s.shutdownComponent(ctx); err != nil {
		s.log.Logger.Error("plugin does not shut down", "error", err)
	}
	s.notices.drained()
}

// openRegions maps the regions that the process inherited.
func (s *Server) openRegions(regions []*pb.Region) error {
	for _, r := range regions {
		region, err := shm.Open(int(r.GetFd()), shm.Direction(r.GetDirection()), int(r.GetSlotBytes()), int(r.GetSlots()))
		if err != nil {
			return fmt.Errorf("region %d: %w", r.GetNumber(), err)
		}
		s.mu.Lock()
		_, twice := s.mu.regions[r.GetNumber()]
		if !twice && r.GetNumber() != 0 {
			s.mu.regions[r.GetNumber()] = region
		}
		s.mu.Unlock()
		if twice || r.GetNumber() == 0 {
			return errors.Join(fmt.Errorf("region %d is there twice or has no number", r.GetNumber()), region.Close())
		}
	}
	return nil
}

// region returns the region with a number that a stream names; 0 is none.
func (s *Server) region(number uint32, want shm.Direction) (*shm.Region, error) {
	if number == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.mu.regions[number]
	switch {
	case r == nil:
		return nil, status.Errorf(codes.InvalidArgument, "there is no region %d", number)
	case r.Direction() != want:
		return nil, status.Errorf(codes.InvalidArgument, "region %d goes %s", number, r.Direction())
	}
	return r, nil
}

// opened returns the component, which must have been configured, as a T.
func opened[T sdk.Component](s *Server) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	if s.mu.component == nil {
		return none, status.Error(codes.FailedPrecondition, "the plugin has not been configured")
	}
	component, ok := s.mu.component.(T)
	if !ok {
		return none, status.Errorf(codes.Internal, "the plugin's Open returned a %T, which is no %s", s.mu.component, s.plugin.Kind)
	}
	return component, nil
}
