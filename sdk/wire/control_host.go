package wire

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
)

// Control is the host's end of a plugin's control stream. Its methods may be
// called from many goroutines, Recv from one.
type Control struct{}

// ControlEvent is a Pong, Drained or HealthChanged.
type ControlEvent interface{ controlEvent() }

// Pong answers a Ping.
type Pong struct{ Nonce uint64 }

// Drained: nothing is left to do; the process may be ended.
type Drained struct{}

// HealthChanged reports the plugin's health.
type HealthChanged struct{ sdk.Health }

func (Pong) controlEvent()          {}
func (Drained) controlEvent()       {}
func (HealthChanged) controlEvent() {}

// OpenControl opens the control stream. It stays open for the life of the process.
func OpenControl(ctx context.Context, conn grpc.ClientConnInterface) (*Control, error) {
	return nil, errors.ErrUnsupported
}

// Ping asks for a Pong with the same nonce.
func (c *Control) Ping(nonce uint64) error { return errors.ErrUnsupported }

// Drain asks the plugin to finish within the time left. It is answered by Drained.
func (c *Control) Drain(left time.Duration) error { return errors.ErrUnsupported }

// SetLogLevel sets the least level of the plugin's log lines.
func (c *Control) SetLogLevel(level slog.Level) error { return errors.ErrUnsupported }

// Recv waits for the next event. After CloseSend it returns io.EOF in the end.
func (c *Control) Recv() (ControlEvent, error) { return nil, errors.ErrUnsupported }

// CloseSend tells the plugin that the host is done with it: a plugin that has
// drained ends its process.
func (c *Control) CloseSend() error { return errors.ErrUnsupported }
