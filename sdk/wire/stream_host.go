package wire

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk/shm"
)

// hostStream is the host's end of a stream. Only one goroutine calls recv.
type hostStream[Req, Res any] struct {
	life   lifetime
	stream grpc.BidiStreamingClient[Req, Res]
	out    sender[Req]
	claims claims
	ended  error // what recv returned last
}

// openStream begins a call that uses the regions; nil ones are left out.
func openStream[Req, Res any](
	ctx context.Context,
	call func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[Req, Res], error),
	regions ...*shm.Region,
) (*hostStream[Req, Res], error) {
	claims, err := claim(regions...)
	if err != nil {
		return nil, err
	}
	h := &hostStream[Req, Res]{life: newLifetime(ctx), claims: claims}
	if h.stream, err = call(h.life.ctx); err != nil {
		claims.free()
		h.life.end(err)
		return nil, fromStatus(err)
	}
	h.out.stream = h.stream
	return h, nil
}

// frames put what every stream says into the stream's own messages.
type frames[Req any] struct {
	release func(*pb.Release) *Req
	credit  func(*pb.Credit) *Req
}

// receiver sends the stream's first message and returns the receiving side of its
// payloads. The stream is cancelled if that fails.
func (h *hostStream[Req, Res]) receiver(first *Req, region *shm.Region, f frames[Req]) (*inlet, error) {
	in := &inlet{
		region:      region,
		sendRelease: func(r *pb.Release) error { return unlessEnded(h.out.send(f.release(r))) },
		sendCredit:  func(c *pb.Credit) error { return unlessEnded(h.out.send(f.credit(c))) },
	}
	err := h.out.send(first)
	if err == nil {
		err = in.open()
	}
	if err != nil {
		return nil, h.fail(err)
	}
	return in, nil
}

// recv returns the next message, io.EOF at a good end, or what ended the stream.
func (h *hostStream[Req, Res]) recv() (*Res, error) {
	if h.ended != nil {
		return nil, h.ended
	}
	m, err := h.stream.Recv()
	switch {
	case err == nil:
		return m, nil
	case err == io.EOF:
		// The plugin's side has returned: nobody uses the slots any more.
		h.claims.free()
		h.ended = io.EOF
		h.life.end(ErrStreamEnded)
		return nil, io.EOF
	}
	if cause := context.Cause(h.life.ctx); cause != nil {
		return nil, h.fail(cause) // says more than "cancelled"
	}
	return nil, h.fail(fromStatus(err))
}

// fail ends the stream because of err.
func (h *hostStream[Req, Res]) fail(err error) error {
	h.ended = err
	h.life.end(err)
	return err
}

// checkRegion makes sure that a region can be used for a direction on the host.
func checkRegion(r *shm.Region, want shm.Direction) error {
	switch {
	case r == nil:
		return nil
	case r.Direction() != want:
		return fmt.Errorf("shared memory region goes %s, want one that goes %s", r.Direction(), want)
	case r.FD() == 0:
		return fmt.Errorf("shared memory region was not inherited by the plugin")
	}
	return nil
}

// unlessEnded hides that a message could not be sent because the stream is over:
// what is still coming in is read nevertheless.
func unlessEnded(err error) error {
	if err == ErrStreamEnded {
		return nil
	}
	return err
}
