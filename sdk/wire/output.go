package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// maxRewinds is how many requests to rewind may wait for the source.
const maxRewinds = 64

var errFinished = errors.New("the source has finished")

// output is the host as a running source sees it.
type output struct {
	life      lifetime
	send      sender[pb.RunResponse]
	to        outlet
	resume    []byte // nil: from the beginning
	rewinds   chan sdk.Rewind
	stopping  chan struct{}
	stopOnce  sync.Once
	turn      chan struct{} // holds a token while nobody emits; keeps the order
	scratch   []byte        // for inline payloads; owned with the turn
	announces sync.Mutex    // keeps the order of announcements; taken before mu

	mu struct {
		sync.Mutex
		flows    []announced // number 1 first
		numbers  map[identity]sdk.FlowNumber
		sequence uint64 // of the last batch
		through  uint64 // acknowledged
		acks     chan struct{}
		finished bool
		host     error // what the host did against the contract
	}
}

// identity tells flows apart.
type identity struct {
	origin sdk.Origin
	name   string
}

type announced struct {
	fingerprint sdk.Fingerprint
	channels    int
	builder     *sdk.Flow // definition that was last seen with this number
}

func newOutput(life lifetime, stream runStream, region *shm.Region, start *pb.RunStart) *output {
	o := &output{
		life: life, to: outlet{region: region}, resume: start.Resume,
		rewinds:  make(chan sdk.Rewind, maxRewinds),
		stopping: make(chan struct{}),
		turn:     make(chan struct{}, 1),
	}
	o.send.stream = stream
	o.turn <- struct{}{}
	o.mu.numbers = map[identity]sdk.FlowNumber{}
	o.mu.acks = make(chan struct{})
	return o
}

func (o *output) Resume() (position []byte, ok bool) { return o.resume, o.resume != nil }

func (o *output) Announce(flow sdk.Flow) (sdk.FlowNumber, error) {
	if err := flow.Check(); err != nil {
		return 0, sdk.Permanent(err)
	}
	fingerprint, id := flow.Fingerprint(), identity{flow.Origin, flow.Name}
	o.announces.Lock()
	defer o.announces.Unlock()
	o.mu.Lock()
	number, known := o.mu.numbers[id]
	if known {
		same := o.mu.flows[number-1].fingerprint == fingerprint
		o.mu.Unlock()
		if !same {
			return 0, sdk.Permanent(fmt.Errorf("flow %s was announced with other channels before", shorten(flow.Name)))
		}
		return number, nil
	}
	number = sdk.FlowNumber(len(o.mu.flows) + 1)
	o.mu.Unlock()
	message, err := announcement(uint32(number), &flow)
	if err != nil {
		return 0, sdk.Permanent(err)
	}
	if err := o.send.send(&pb.RunResponse{Response: &pb.RunResponse_Flow{Flow: message}}); err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.flows = append(o.mu.flows, announced{fingerprint: fingerprint, channels: len(flow.Channels)})
	o.mu.numbers[id] = number
	return number, nil
}

// check makes sure that a batch can be sent.
func (o *output) check(number sdk.FlowNumber, rows *sdk.Builder, position []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mu.finished:
		return errFinished
	case number == 0 || int64(number) > int64(len(o.mu.flows)):
		return fmt.Errorf("flow %d was not announced", number)
	case rows.Rows() < 1 || rows.Rows() > sdk.MaxRowsInBatch:
		return fmt.Errorf("batch of %d rows, want 1 to %d", rows.Rows(), sdk.MaxRowsInBatch)
	case len(position) > sdk.MaxPositionBytes:
		return fmt.Errorf("position of %d bytes, the limit is %d", len(position), sdk.MaxPositionBytes)
	}
	flow := &o.mu.flows[number-1]
	if rows.Flow() == flow.builder {
		return nil
	}
	if rows.Flow().Fingerprint() != flow.fingerprint {
		return fmt.Errorf("batch of flow %s emitted as flow %d, which is another one", shorten(rows.Flow().Name), number)
	}
	flow.builder = rows.Flow()
	return nil
}

func (o *output) Emit(ctx context.Context, number sdk.FlowNumber, rows *sdk.Builder, position []byte) (uint64, error) {
	if err := o.take(ctx); err != nil {
		return 0, err
	}
	defer func() { o.turn <- struct{}{} }()
	if err := o.check(number, rows, position); err != nil {
		return 0, sdk.Permanent(err)
	}
	head := &pb.Batch{Flow: uint32(number), Count: uint32(rows.Rows())}
	head.MinTimeNs, head.MaxTimeNs = rows.TimeSpan()
	var err error
	if head.Payload, err = o.write(ctx, rows); err != nil {
		return 0, err
	}
	o.mu.Lock()
	o.mu.sequence++
	head.Sequence = o.mu.sequence
	o.mu.Unlock()
	batch := &pb.SourceBatch{Batch: head, Position: position}
	if err := o.send.send(&pb.RunResponse{Response: &pb.RunResponse_Batch{Batch: batch}}); err != nil {
		return 0, err
	}
	rows.Reset()
	return head.Sequence, nil
}

// take waits for the turn to emit.
func (o *output) take(ctx context.Context) error {
	select {
	case <-o.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.life.ctx.Done():
		return context.Cause(o.life.ctx)
	}
}

// write puts the rows where they belong.
func (o *output) write(ctx context.Context, rows *sdk.Builder) (*pb.Payload, error) {
	n := rows.Len()
	if n > sdk.MaxPayloadBytes {
		return nil, sdk.Permanent(fmt.Errorf("batch of %d rows of flow %s has %d bytes, the limit is %d",
			rows.Rows(), shorten(rows.Flow().Name), n, sdk.MaxPayloadBytes))
	}
	at, err := o.to.reserve(ctx, o.life, n)
	if err != nil {
		return nil, err
	}
	if at.memory == nil {
		o.scratch = rows.Append(o.scratch[:0])
		return inlinePayload(o.scratch), nil
	}
	return at.ref(len(rows.Append(at.memory[:0]))), nil
}

func (o *output) Progress(flow sdk.FlowNumber, upTo int64) error {
	p := &pb.Progress{Flow: uint32(flow), UpToNs: upTo}
	return o.send.send(&pb.RunResponse{Response: &pb.RunResponse_Progress{Progress: p}})
}

func (o *output) Dropped(d sdk.Dropped) error {
	out := &pb.Dropped{
		Flow: uint32(d.Flow), Rows: d.Rows, Reason: cutText(d.Reason, maxFailureText),
		FromNs: d.From, ToNs: d.To, Refused: d.Refused,
	}
	return o.send.send(&pb.RunResponse{Response: &pb.RunResponse_Dropped{Dropped: out}})
}

func (o *output) AckWanted(sequence uint64, within time.Duration) error {
	a := &pb.AckWanted{Sequence: sequence, WithinNs: int64(within)}
	return o.send.send(&pb.RunResponse{Response: &pb.RunResponse_AckWanted{AckWanted: a}})
}

func (o *output) WaitAck(ctx context.Context, sequence uint64) error {
	for {
		o.mu.Lock()
		through, acks := o.mu.through, o.mu.acks
		o.mu.Unlock()
		if through >= sequence {
			return nil
		}
		select {
		case <-acks:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.life.ctx.Done():
			return context.Cause(o.life.ctx)
		}
	}
}

func (o *output) acked(through uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if through > o.mu.through {
		o.mu.through = through
		close(o.mu.acks)
		o.mu.acks = make(chan struct{})
	}
}

func (o *output) Rewinds() <-chan sdk.Rewind { return o.rewinds }

func (o *output) rewind(r *pb.Rewind) error {
	out := sdk.Rewind{Position: r.Position, FromBeginning: r.Position == nil, Reason: r.GetReason()}
	select {
	case o.rewinds <- out:
		return nil
	default:
		return errors.New("the source does not keep up with requests to rewind")
	}
}

func (o *output) Stopping() <-chan struct{} { return o.stopping }

func (o *output) stop() { o.stopOnce.Do(func() { close(o.stopping) }) }

func (o *output) Finish() error { return o.finish(nil) }

// finish says that no batch follows, once; failure is why, nil for a good end.
func (o *output) finish(failure error) error {
	<-o.turn
	defer func() { o.turn <- struct{}{} }()
	o.mu.Lock()
	first, last := !o.mu.finished, o.mu.sequence
	o.mu.finished = true
	o.mu.Unlock()
	if !first {
		return toStatus(failure) // too late to say it in another way
	}
	out := &pb.Finished{LastSequence: last}
	if failure != nil {
		out.Failure = failureToPB(failure)
	}
	return o.send.send(&pb.RunResponse{Response: &pb.RunResponse_Finished{Finished: out}})
}

// blame notes what the host did against the contract.
func (o *output) blame(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.host = err
}

func (o *output) hostError() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.host
}
