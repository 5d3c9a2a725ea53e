package wire

import (
	"context"
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

var errHostClosedRun = errors.New("the host has closed the run")

// sourceService drives an sdk.Source.
type sourceService struct {
	pb.UnimplementedSourceServiceServer
	*Server
}

type runStream = grpc.BidiStreamingServer[pb.RunRequest, pb.RunResponse]

func (s sourceService) Discover(ctx context.Context, _ *pb.DiscoverRequest) (*pb.DiscoverResponse, error) {
	source, err := opened[sdk.Source](s.Server)
	if err != nil {
		return nil, err
	}
	var d sdk.Discovery
	err = guard(s.log.Logger, "Discover", func() (err error) {
		d, err = source.Discover(ctx)
		return err
	})
	if err != nil {
		return nil, toStatus(err)
	}
	out := &pb.DiscoverResponse{Dynamic: d.Dynamic, Finite: d.Finite}
	for i := range d.Flows {
		if err := d.Flows[i].Check(); err != nil {
			return nil, toStatus(sdk.Permanent(err))
		}
		out.Flows = append(out.Flows, flowToPB(&d.Flows[i]))
	}
	return out, nil
}

func (s sourceService) Run(stream runStream) error {
	source, err := opened[sdk.Source](s.Server)
	if err != nil {
		return err
	}
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	start := req.GetStart()
	if start == nil {
		return status.Error(codes.InvalidArgument, "the first message of a run must be its start")
	}
	if err := s.beginRun(); err != nil {
		return err
	}
	defer s.endRun()
	region, err := s.region(start.GetRegion(), shm.ToHost)
	if err != nil {
		return err
	}
	claims, err := claim(region)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer claims.free()
	return s.run(source, stream, start, region)
}

// beginRun makes sure that there is one run at a time and none after a drain.
func (s sourceService) beginRun() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.running {
		return status.Error(codes.FailedPrecondition, "the source runs already")
	}
	if err := s.work.begin(); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	s.mu.running = true
	return nil
}

func (s sourceService) endRun() {
	s.mu.Lock()
	s.mu.running = false
	s.mu.Unlock()
	s.work.end(1)
}

func (s sourceService) run(source sdk.Source, stream runStream, start *pb.RunStart, region *shm.Region) error {
	life := newLifetime(stream.Context())
	defer life.end(ErrStreamEnded)
	out := newOutput(life, stream, region, start)
	defer out.to.close()
	// Recv returns when this call has: the goroutine is joined by Shutdown.
	s.tasks.Go(func() { s.listen(stream, out) })
	s.tasks.Go(func() { s.watchDrain(life, out) })
	err := guard(s.log.Logger, "Run", func() error { return source.Run(life.ctx, out) })
	if broke := out.hostError(); broke != nil {
		return status.Error(codes.InvalidArgument, broke.Error())
	}
	if cause := context.Cause(life.ctx); cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		err = nil // it was told to end, and says so
	}
	return out.finish(err)
}

// watchDrain passes on that the host wants the plugin to finish, and then that the
// time for it is over.
func (s sourceService) watchDrain(life lifetime, out *output) {
	select {
	case <-s.draining:
		out.stop()
	case <-life.ctx.Done():
		return
	}
	select {
	case <-s.hurry.Done():
		life.end(errDrained)
	case <-life.ctx.Done():
	}
}

// listen reads what the host says until the stream ends.
func (s sourceService) listen(stream runStream, out *output) {
	for {
		req, err := stream.Recv()
		if err == nil {
			err = s.hear(req, out)
			if err == nil {
				continue
			}
			out.blame(err)
		}
		out.stop()
		if err == io.EOF {
			err = errHostClosedRun
		}
		out.life.end(err)
		return
	}
}

func (s sourceService) hear(req *pb.RunRequest, out *output) error {
	switch r := req.GetRequest().(type) {
	case *pb.RunRequest_Ack:
		out.acked(r.Ack.GetThrough())
	case *pb.RunRequest_Release:
		return out.to.released(r.Release)
	case *pb.RunRequest_Credit:
		out.to.gate.grant(r.Credit)
	case *pb.RunRequest_Stop:
		out.stop()
	case *pb.RunRequest_Rewind:
		if !s.plugin.Source.Replayable {
			return errors.New("the source is not replayable")
		}
		return out.rewind(r.Rewind)
	default:
		return fmt.Errorf("message of a kind that does not belong to a run")
	}
	return nil
}
