package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// transportService drives an sdk.Transport.
type transportService struct {
	pb.UnimplementedTransportServiceServer
	*Server
}

func (s transportService) Register(ctx context.Context, req *pb.RegisterRequest) (*pb.RegisterResponse, error) {
	transport, err := opened[sdk.Transport](s.Server)
	if err != nil {
		return nil, err
	}
	r, err := registrationFromPB(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var got sdk.Registered
	err = guard(s.log.Logger, "Register", func() (err error) {
		got, err = transport.Register(ctx, r)
		return err
	})
	if err != nil {
		return &pb.RegisterResponse{Failure: failureToPB(err)}, nil
	}
	out := &pb.RegisterResponse{Destination: got.Destination, Binding: bindingToPB(got.Binding)}
	for _, c := range got.Conflicts {
		out.Conflicts = append(out.Conflicts, &pb.FlowConflict{Flow: c.Flow, Difference: cutText(c.Difference, maxFailureText)})
	}
	return out, nil
}

// deliverCall is one Deliver call. Its own goroutine reads; each delivery stream
// has one that works.
type deliverCall struct {
	server    *Server
	transport sdk.Transport
	number    uint64 // of the call, for the transport
	life      lifetime
	send      sender[pb.DeliverResponse]
	in        *inlet
	flows     flowTable
	last      uint64 // greatest number of a delivery stream
	streams   sync.WaitGroup

	mu struct {
		sync.Mutex
		open  map[uint64]*deliveryStream // those without answer
		fresh bool                       // a stream wanted a new connection and was never opened
	}
}

func (s transportService) Deliver(stream grpc.BidiStreamingServer[pb.DeliverRequest, pb.DeliverResponse]) error {
	transport, err := opened[sdk.Transport](s.Server)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetStart() == nil {
		return status.Error(codes.InvalidArgument, "the first message of a stream must be its start")
	}
	region, err := s.region(first.GetStart().GetRegion(), shm.ToPlugin)
	if err != nil {
		return err
	}
	claims, err := claim(region)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer claims.free()
	c := &deliverCall{
		server: s.Server, transport: transport, number: s.calls.Add(1), life: newLifetime(stream.Context()),
	}
	defer c.life.end(ErrStreamEnded)
	c.send.stream = stream
	c.mu.open = map[uint64]*deliveryStream{}
	c.in = &inlet{
		region: region,
		sendRelease: func(r *pb.Release) error {
			return c.send.send(&pb.DeliverResponse{Response: &pb.DeliverResponse_Release{Release: r}})
		},
		sendCredit: func(credit *pb.Credit) error {
			return c.send.send(&pb.DeliverResponse{Response: &pb.DeliverResponse_Credit{Credit: credit}})
		},
	}
	return c.serve(stream)
}

func (c *deliverCall) serve(stream grpc.BidiStreamingServer[pb.DeliverRequest, pb.DeliverResponse]) error {
	err := c.in.open()
	for err == nil {
		var req *pb.DeliverRequest
		if req, err = stream.Recv(); err == nil {
			err = c.hear(req)
		}
	}
	for _, d := range c.all() {
		d.abort()
	}
	c.streams.Wait()
	if ender, ok := c.transport.(sdk.CallEnder); ok {
		_ = guard(c.server.log.Logger, "CallEnded", func() error { ender.CallEnded(c.number); return nil })
	}
	if err == io.EOF {
		return nil
	}
	if host, ok := errors.AsType[hostError](err); ok {
		return status.Error(codes.InvalidArgument, host.Error())
	}
	return err
}

// hear never waits: the work is done by the goroutines of the delivery streams.
func (c *deliverCall) hear(req *pb.DeliverRequest) error {
	switch r := req.GetRequest().(type) {
	case *pb.DeliverRequest_Batch:
		return c.batch(r.Batch)
	case *pb.DeliverRequest_Open:
		return c.open(r.Open)
	case *pb.DeliverRequest_Finish:
		return c.pass(r.Finish.GetStream(), task{finish: true})
	case *pb.DeliverRequest_Abort:
		d, err := c.get(r.Abort.GetStream())
		if d != nil {
			d.abort()
		}
		return err
	case *pb.DeliverRequest_Flow:
		if _, _, err := c.flows.add(r.Flow); err != nil {
			return hostError{err}
		}
		return nil
	case *pb.DeliverRequest_Credit:
		return nil // this side sends no payloads
	}
	return hostError{errors.New("message of a kind that does not belong to Deliver")}
}

func (c *deliverCall) open(o *pb.OpenStream) error {
	if o.GetStream() <= c.last {
		return hostError{fmt.Errorf("delivery stream %d opened after %d", o.GetStream(), c.last)}
	}
	if err := c.server.work.begin(); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	c.last = o.GetStream()
	d := newDeliveryStream(c, c.last, sdk.StreamOptions{Call: c.number, NewConnection: o.GetNewConnection()})
	c.mu.Lock()
	c.mu.open[c.last] = d
	c.mu.Unlock()
	c.streams.Go(d.run)
	return nil
}

func (c *deliverCall) batch(b *pb.StreamBatch) error {
	head := b.GetBatch()
	flow, err := c.flows.get(head.GetFlow())
	if err != nil {
		return hostError{fmt.Errorf("batch %d: %w", head.GetSequence(), err)}
	}
	a, err := c.in.arrive(head.GetPayload())
	if err != nil {
		return hostError{fmt.Errorf("batch %d: %w", head.GetSequence(), err)}
	}
	return c.pass(b.GetStream(), task{flow: flow, batch: b, payload: a})
}

// unopened notes that a stream needed no conversation. Its wish for a new connection
// is the next one's.
func (c *deliverCall) unopened(o sdk.StreamOptions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.fresh = c.mu.fresh || o.NewConnection
}

// optionsFor returns the options of a stream that is about to be opened.
func (c *deliverCall) optionsFor(o sdk.StreamOptions) sdk.StreamOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.NewConnection = o.NewConnection || c.mu.fresh
	c.mu.fresh = false
	return o
}

// pass hands work to a delivery stream. One that has its answer takes nothing
// more; the host could not know yet.
func (c *deliverCall) pass(stream uint64, t task) error {
	d, err := c.get(stream)
	if err != nil {
		return err
	}
	if d != nil && d.tasks.push(t) || t.batch == nil {
		return nil
	}
	return c.in.done(t.payload)
}

// get returns a delivery stream, nil if it has been answered.
func (c *deliverCall) get(stream uint64) (*deliveryStream, error) {
	if stream == 0 || stream > c.last {
		return nil, hostError{fmt.Errorf("delivery stream %d was not opened", stream)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.open[stream], nil
}

func (c *deliverCall) all() []*deliveryStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*deliveryStream
	for _, d := range c.mu.open {
		out = append(out, d)
	}
	return out
}

// answer sends a delivery stream's answer and forgets the stream.
func (c *deliverCall) answer(a *pb.StreamAnswer) {
	c.mu.Lock()
	delete(c.mu.open, a.GetStream())
	c.mu.Unlock()
	if err := c.send.send(&pb.DeliverResponse{Response: &pb.DeliverResponse_Answer{Answer: a}}); err != nil {
		c.server.log.Logger.Debug("answer cannot be sent", "stream", a.GetStream(), "error", err)
	}
}
