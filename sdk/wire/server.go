package wire

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
)

// Logging is where a plugin's log goes. Its level follows the host's wishes.
type Logging struct {
	Logger *slog.Logger
	Level  *slog.LevelVar
}

// Server is the plugin side: it answers the contract's calls with an sdk.Plugin.
type Server struct{}

// NewServer returns a server for the plugin.
func NewServer(p sdk.Plugin, log Logging) *Server { return &Server{} }

// Register adds the services of the plugin's kind.
func (s *Server) Register(r grpc.ServiceRegistrar) {}

// Done is closed when the plugin has drained and the host has closed the control
// stream after that.
func (s *Server) Done() <-chan struct{} { return nil }

// Shutdown shuts the plugin's component down, once. It comes after the gRPC server
// has stopped.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
