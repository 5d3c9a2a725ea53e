package wire

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// notices is what a plugin tells its host by itself: only the latest counts.
type notices struct {
	changed chan struct{} // closed at each change and replaced; guarded by mu
	mu      sync.Mutex
	current notice
}

type notice struct {
	health  sdk.Health
	version uint64 // of health; 0: the plugin has not said anything
	drained bool
}

// health is the plugin's Settings.Health; it never blocks.
func (n *notices) health(h sdk.Health) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current.version > 0 && n.current.health == h {
		return
	}
	n.current.health = h
	n.current.version++
	n.notify()
}

func (n *notices) drained() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current.drained = true
	n.notify()
}

func (n *notices) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *notices) get() (notice, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current, n.changed
}

// Control answers pings in the goroutine that reads them, whatever else the plugin
// is busy with.
func (s pluginService) Control(stream grpc.BidiStreamingServer[pb.ControlRequest, pb.ControlResponse]) error {
	out := &sender[pb.ControlResponse]{stream: stream}
	ctx, cancel := context.WithCancel(stream.Context())
	var notifier sync.WaitGroup
	notifier.Go(func() { s.notify(ctx, out) })
	err := s.control(stream, out)
	cancel()
	notifier.Wait()
	if n, _ := s.notices.get(); n.drained {
		s.stopped.Do(func() { close(s.done) })
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (s pluginService) control(stream grpc.BidiStreamingServer[pb.ControlRequest, pb.ControlResponse], out *sender[pb.ControlResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		switch r := req.GetRequest().(type) {
		case *pb.ControlRequest_Ping:
			pong := &pb.Pong{Nonce: r.Ping.GetNonce()}
			if err := out.send(&pb.ControlResponse{Response: &pb.ControlResponse_Pong{Pong: pong}}); err != nil {
				return err
			}
		case *pb.ControlRequest_Drain:
			s.startDrain(time.Duration(r.Drain.GetDeadlineNs()))
		case *pb.ControlRequest_LogLevel:
			if level, ok := levelFromPB(r.LogLevel.GetLevel()); ok && s.log.Level != nil {
				s.log.Level.Set(level)
			}
		}
	}
}

// notify sends what has changed until the stream ends.
func (s pluginService) notify(ctx context.Context, out *sender[pb.ControlResponse]) {
	var sent notice
	for {
		now, changed := s.notices.get()
		if now.version != sent.version {
			health := healthToPB(now.health)
			if out.send(&pb.ControlResponse{Response: &pb.ControlResponse_Health{Health: health}}) != nil {
				return
			}
		}
		if now.drained && !sent.drained {
			if out.send(&pb.ControlResponse{Response: &pb.ControlResponse_Drained{Drained: &pb.Drained{}}}) != nil {
				return
			}
		}
		sent = now
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
