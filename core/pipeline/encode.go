package pipeline

import (
	"context"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// maxInFlight bounds the batches that the encoder owes an answer for.
const maxInFlight = 64

// encoderStream is an encoder plugin as the pipeline sees it; *wire.EncoderStream
// outside tests. Recv is called from one goroutine, the others from another one.
type encoderStream interface {
	Announce(number uint32, flow *sdk.Flow) error
	Bind(flow uint32, binding sdk.Binding) error
	Send(ctx context.Context, b wire.Batch) error
	Recv() (wire.Encoded, error)
	CloseSend() error
}

// encodeStage hands jobs to the encoder and its answers to the admitter.
type encodeStage struct {
	format   string
	stream   encoderStream
	jobs     chan job
	inFlight chan job // in the order in which they were sent
	admit    *admitter
	primary  int // track whose binding is encoded; -1 = none
}

func newEncodeStage(format string, stream encoderStream, admit *admitter, primary int) *encodeStage {
	return &encodeStage{
		format: format, stream: stream, admit: admit, primary: primary,
		jobs:     make(chan job),
		inFlight: make(chan job, maxInFlight),
	}
}

// submit hands a job to the stage; it waits while the encoder is behind.
func (s *encodeStage) submit(ctx context.Context, j job) error {
	select {
	case s.jobs <- j:
		return nil
	case <-ctx.Done():
		j.rows.Release()
		return context.Cause(ctx)
	}
}

// close says that no job follows.
func (s *encodeStage) close() { close(s.jobs) }

// feed sends jobs until close or ctx is done.
func (s *encodeStage) feed(ctx context.Context) error {
	defer close(s.inFlight)
	numbers := map[*knownFlow]uint32{}
	for sequence := uint64(1); ; sequence++ {
		var j job
		var ok bool
		select {
		case j, ok = <-s.jobs:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !ok {
			return s.stream.CloseSend()
		}
		number, err := s.announce(numbers, j.flow)
		if err != nil {
			return err
		}
		select {
		case s.inFlight <- j:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err = s.stream.Send(ctx, wire.Batch{
			Sequence: sequence, Flow: number, Count: j.count,
			MinTime: j.minTime, MaxTime: j.maxTime, Payload: j.rows.Bytes(),
		})
		if err != nil {
			return err
		}
	}
}

// announce returns the flow's number on this stream, and gives it one before its
// first batch.
func (s *encodeStage) announce(numbers map[*knownFlow]uint32, f *knownFlow) (uint32, error) {
	if number := numbers[f]; number != 0 {
		return number, nil
	}
	number := uint32(len(numbers) + 1)
	numbers[f] = number
	if err := s.stream.Announce(number, &f.flow.Flow); err != nil {
		return 0, err
	}
	return number, s.stream.Bind(number, s.binding(f))
}

// binding returns the ids that the messages of a flow are encoded with: those of
// the primary track, or placeholders where no destination gives any.
func (s *encodeStage) binding(f *knownFlow) sdk.Binding {
	if s.primary >= 0 {
		if b := f.flow.Bindings[s.primary]; b.ConfigID != "" {
			return b
		}
	}
	return sdk.Unbound()
}

// collect brings the answers to the admitter until every job has its answer.
func (s *encodeStage) collect(ctx context.Context) error {
	for j := range s.inFlight {
		encoded, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if err := s.admit.encoded(ctx, j, encoded, s.format, s.binding(j.flow)); err != nil {
			return err
		}
	}
	return nil
}
