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
	primary  int  // track whose binding is encoded; -1 = none
	hasRun   bool // messages of the pipeline's own flows belong to a run
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
	numbers := map[*knownFlow]announcedFlow{}
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
		number, err := s.announce(numbers, &j)
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

// announcedFlow is what the encoder was told of a flow.
type announcedFlow struct {
	number  uint32
	binding sdk.Binding
}

// announce returns the number of the job's flow on this stream, and gives it one
// before its first batch. The destination's ids may come later, or change.
func (s *encodeStage) announce(known map[*knownFlow]announcedFlow, j *job) (uint32, error) {
	j.binding = s.binding(j.flow)
	a := known[j.flow]
	if a.number != 0 && a.binding == j.binding {
		return a.number, nil
	}
	if a.number == 0 {
		a.number = uint32(len(known) + 1)
		if err := s.stream.Announce(a.number, &j.flow.flow.Flow); err != nil {
			return 0, err
		}
	}
	a.binding = j.binding
	known[j.flow] = a
	return a.number, s.stream.Bind(a.number, a.binding)
}

// binding returns the ids that the messages of a flow are encoded with: those of
// the primary track, or placeholders as long as no destination gives any.
func (s *encodeStage) binding(f *knownFlow) sdk.Binding {
	if s.primary >= 0 {
		if b, _ := f.flow.Binding(s.primary); b.ConfigID != "" {
			return b
		}
	}
	origin := f.flow.Flow.Origin
	return sdk.Placeholder(origin.Run != "" || s.hasRun && origin == (sdk.Origin{})) // as Registration has it
}

// collect brings the answers to the admitter until every job has its answer.
func (s *encodeStage) collect(ctx context.Context) error {
	for j := range s.inFlight {
		encoded, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if err := s.admit.encoded(ctx, j, encoded, s.format); err != nil {
			return err
		}
	}
	return nil
}
