package wire

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// Control is the host's end of a plugin's control stream. Its methods may be
// called from many goroutines, Recv from one.
type Control struct {
	*hostStream[pb.ControlRequest, pb.ControlResponse]
}

// ControlEvent is a Pong, Drained or HealthChanged.
type ControlEvent interface{ controlEvent() }

// Pong answers a Ping.
type Pong struct{ Nonce uint64 }

// Drained says that nothing is left to do; the process may be ended.
type Drained struct{}

// HealthChanged reports the plugin's health.
type HealthChanged struct{ sdk.Health }

func (Pong) controlEvent()          {}
func (Drained) controlEvent()       {}
func (HealthChanged) controlEvent() {}

// OpenControl opens the control stream. It stays open for the life of the process.
func OpenControl(ctx context.Context, conn grpc.ClientConnInterface) (*Control, error) {
	h, err := openStream(ctx, pb.NewPluginServiceClient(conn).Control)
	if err != nil {
		return nil, err
	}
	return &Control{h}, nil
}

// Ping asks for a Pong with the same nonce.
func (c *Control) Ping(nonce uint64) error {
	return c.out.send(&pb.ControlRequest{Request: &pb.ControlRequest_Ping{Ping: &pb.Ping{Nonce: nonce}}})
}

// Drain asks the plugin to finish within the time left. It is answered by Drained.
func (c *Control) Drain(left time.Duration) error {
	drain := &pb.Drain{DeadlineNs: int64(left)}
	return c.out.send(&pb.ControlRequest{Request: &pb.ControlRequest_Drain{Drain: drain}})
}

// SetLogLevel sets the least level of the plugin's log lines.
func (c *Control) SetLogLevel(level slog.Level) error {
	l := &pb.LogLevel{Level: levelToPB(level)}
	return c.out.send(&pb.ControlRequest{Request: &pb.ControlRequest_LogLevel{LogLevel: l}})
}

// Recv waits for the next event. After CloseSend it returns io.EOF in the end.
func (c *Control) Recv() (ControlEvent, error) {
	m, err := c.recv()
	if err != nil {
		return nil, err
	}
	switch r := m.GetResponse().(type) {
	case *pb.ControlResponse_Pong:
		return Pong{r.Pong.GetNonce()}, nil
	case *pb.ControlResponse_Drained:
		return Drained{}, nil
	case *pb.ControlResponse_Health:
		h, err := healthFromPB(r.Health)
		if err != nil {
			return nil, c.fail(broken("%w", err))
		}
		return HealthChanged{h}, nil
	}
	return nil, c.fail(broken("message of a kind that does not belong to a control stream"))
}

// CloseSend tells the plugin that the host is done with it: a plugin that has
// drained ends its process.
func (c *Control) CloseSend() error { return c.out.closeSend(c.stream) }

func levelToPB(level slog.Level) pb.Level {
	switch {
	case level < slog.LevelInfo:
		return pb.Level_LEVEL_DEBUG
	case level < slog.LevelWarn:
		return pb.Level_LEVEL_INFO
	case level < slog.LevelError:
		return pb.Level_LEVEL_WARN
	}
	return pb.Level_LEVEL_ERROR
}

func levelFromPB(level pb.Level) (l slog.Level, ok bool) {
	switch level {
	case pb.Level_LEVEL_DEBUG:
		return slog.LevelDebug, true
	case pb.Level_LEVEL_INFO:
		return slog.LevelInfo, true
	case pb.Level_LEVEL_WARN:
		return slog.LevelWarn, true
	case pb.Level_LEVEL_ERROR:
		return slog.LevelError, true
	}
	return 0, false
}
