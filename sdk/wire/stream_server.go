package wire

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// batchStream is the plugin's end of a stream with payloads in both directions.
type batchStream[Req, Res any] struct {
	server *Server
	stream grpc.BidiStreamingServer[Req, Res]
	life   lifetime
	send   sender[Res]
	in     *inlet
	to     outlet
	flows  flowTable
	work   *queue[*Req]
	memory []byte // for payloads without slot, used again

	// release and credit are the messages that are not work.
	release func(*Req) *pb.Release
	credit  func(*Req) *pb.Credit
}

// shape tells how a stream's messages say what all streams say.
type shape[Req, Res any] struct {
	start       func(*Req) *pb.StreamStart
	release     func(*Req) *pb.Release
	credit      func(*Req) *pb.Credit
	sendRelease func(*pb.Release) *Res
	sendCredit  func(*pb.Credit) *Res
}

// serveBatches serves one call: begin gets the stream and returns what to do with
// each message of work.
func serveBatches[Req, Res any](
	s *Server,
	stream grpc.BidiStreamingServer[Req, Res],
	sh shape[Req, Res],
	begin func(*batchStream[Req, Res]) func(*Req) error,
) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := sh.start(first)
	if start == nil {
		return status.Error(codes.InvalidArgument, "the first message of a stream must be its start")
	}
	in, err := s.region(start.GetRegionIn(), shm.ToPlugin)
	if err != nil {
		return err
	}
	out, err := s.region(start.GetRegionOut(), shm.ToHost)
	if err != nil {
		return err
	}
	claims, err := claim(in, out)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer claims.free()
	b := &batchStream[Req, Res]{
		server: s, stream: stream, life: newLifetime(stream.Context()), to: outlet{region: out},
		work: newQueue[*Req](), release: sh.release, credit: sh.credit,
	}
	b.send.stream = stream
	b.in = &inlet{
		region:      in,
		sendRelease: func(r *pb.Release) error { return b.send.send(sh.sendRelease(r)) },
		sendCredit:  func(c *pb.Credit) error { return b.send.send(sh.sendCredit(c)) },
	}
	defer b.life.end(ErrStreamEnded)
	defer b.to.close()
	return b.serve(begin(b))
}

func (b *batchStream[Req, Res]) serve(handle func(*Req) error) error {
	if err := b.in.open(); err != nil {
		return err
	}
	// Recv returns when this call has: the goroutine is joined by Shutdown.
	b.server.tasks.Go(b.listen)
	defer b.abandon()
	for {
		req, ok := b.work.next()
		if !ok {
			_, err := b.work.end()
			return err
		}
		err := handle(req)
		b.server.work.end(1)
		if err != nil {
			return toCallStatus(err)
		}
	}
}

// abandon closes the queue and counts off what nobody will do.
func (b *batchStream[Req, Res]) abandon() {
	b.work.close(nil)
	for {
		if _, ok := b.work.take(); !ok {
			return
		}
		b.server.work.end(1)
	}
}

// listen reads the stream to its end. It never waits for the work.
func (b *batchStream[Req, Res]) listen() {
	for {
		req, err := b.stream.Recv()
		if err == nil {
			err = b.sort(req)
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			b.work.close(nil)
			return
		}
		b.work.close(err)
		b.life.end(err)
		return
	}
}

func (b *batchStream[Req, Res]) sort(req *Req) error {
	if r := b.release(req); r != nil {
		if err := b.to.released(r); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		return nil
	}
	if c := b.credit(req); c != nil {
		b.to.gate.grant(c)
		return nil
	}
	if err := b.server.work.begin(); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if !b.work.push(req) {
		b.server.work.end(1)
	}
	return nil
}

// hostError is what the host did against the contract.
type hostError struct{ error }

func (e hostError) Unwrap() error { return e.error }

// toCallStatus tells errors of the host from those of plugin code.
func toCallStatus(err error) error {
	if host, ok := errors.AsType[hostError](err); ok {
		return status.Error(codes.InvalidArgument, host.Error())
	}
	return toStatus(err)
}

// announce keeps a flow.
func (b *batchStream[Req, Res]) announce(a *pb.FlowAnnouncement) error {
	if _, _, err := b.flows.add(a); err != nil {
		return hostError{err}
	}
	return nil
}

// payload returns a batch's payload in place, until done.
func (b *batchStream[Req, Res]) payload(batch *pb.Batch) (data []byte, done func() error, err error) {
	a, err := b.in.arrive(batch.GetPayload())
	if err == nil {
		data, err = b.in.view(a)
	}
	if err != nil {
		return nil, nil, hostError{fmt.Errorf("batch %d: %w", batch.GetSequence(), err)}
	}
	return data, func() error { return b.in.done(a) }, nil
}

// room returns memory for a payload of about n bytes: a slot if one is suitable,
// else memory of the stream's own.
func (b *batchStream[Req, Res]) room(n int) (place, []byte, error) {
	if !b.to.fits(n) {
		return place{}, b.memory[:0], nil
	}
	at, err := b.to.reserve(b.life.ctx, b.life, n)
	return at, at.memory[:0], err
}

// finish returns the reference to a payload that was appended to what room gave.
func (b *batchStream[Req, Res]) finish(at place, data []byte) (*pb.Payload, error) {
	if at.memory != nil {
		if len(data) <= len(at.memory) && &data[0] == &at.memory[0] {
			return at.ref(len(data)), nil
		}
		b.to.cancel(at) // it did not fit and lies somewhere else
	} else {
		b.memory = data[:0]
	}
	at, err := b.to.reserve(b.life.ctx, b.life, len(data))
	if err != nil {
		return nil, err
	}
	return at.payload(data), nil
}

// failure is the answer to a batch that plugin code could not work on.
func failure(err error) *pb.Failure {
	if err == nil {
		return nil
	}
	return failureToPB(err)
}

func permanent(format string, args ...any) error {
	return sdk.Permanent(fmt.Errorf(format, args...))
}
