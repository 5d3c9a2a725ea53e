package siftserver

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
)

// timing holds the waits, so that tests need not.
type timing struct {
	gather time.Duration
	// A client waits 10 s for the answer to its half-close.
	ackWithin    time.Duration // after the half-close, when the host is asked to have acknowledged
	answerWithin time.Duration // after the half-close, when the client is told to try again
	drain        time.Duration // for streams to end when the source stops
	blockedAfter time.Duration // of waiting for credit, when health says so
}

type (
	ingestStream = grpc.ClientStreamingServer[ingestv1.IngestWithConfigDataStreamRequest, ingestv1.IngestWithConfigDataStreamResponse]
	ingestAnswer = ingestv1.IngestWithConfigDataStreamResponse
)

// acker asks the host for acknowledgements.
type acker interface {
	AckWanted(sequence uint64, within time.Duration) error
	WaitAck(ctx context.Context, sequence uint64) error
}

// receiver serves ingestion streams.
type receiver struct {
	ingestv1.UnimplementedIngestServiceServer
	pipe       pipe
	acks       acker
	pace       *pacer
	timing     timing
	maxStreams int
	counts     *counts

	stopping chan struct{}  // closed by stop
	readers  sync.WaitGroup // no reader begins after the server has ended

	mu struct {
		sync.Mutex
		stopped bool
		open    int            // streams whose reader runs
		emits   sync.WaitGroup // streams that may still emit; none is added once stopped
	}
}

// IngestWithConfigDataStream takes rows and answers for all of them at once.
func (v *receiver) IngestWithConfigDataStream(in ingestStream) error {
	if err := v.begin(); err != nil {
		return err
	}
	s := &stream{receiver: v, rows: newRows(v.pipe, v.pace), in: in, closed: make(chan struct{}), done: make(chan struct{})}
	v.readers.Go(func() {
		defer v.end()
		s.read()
	})
	err := s.answer()
	if err == nil {
		v.counts.confirmed.Add(1)
	} else {
		v.counts.failed.Add(1)
	}
	return err
}

// begin admits a stream.
func (v *receiver) begin() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.mu.stopped:
		return errStopping
	case v.mu.open >= v.maxStreams:
		return status.Errorf(codes.ResourceExhausted, "there are %d streams, which is the limit (max_streams)", v.mu.open)
	}
	v.mu.open++
	v.mu.emits.Add(1)
	v.counts.streams.Add(1)
	v.counts.open.Add(1)
	return nil
}

func (v *receiver) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.open--
	v.counts.open.Add(-1)
}

var errStopping = status.Error(codes.Unavailable, "this server is stopping; send again later")

// stop lets no stream begin and ends those whose client has not half-closed.
func (v *receiver) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.mu.stopped {
		v.mu.stopped = true
		close(v.stopping)
	}
}

// stream is one call. Its reader takes messages until the client half-closes or
// the stream fails; its handler answers.
type stream struct {
	receiver *receiver
	rows     *rows
	in       ingestStream

	closed chan struct{} // closed when the client half-closes, after:
	since  time.Time     // when that was
	done   chan struct{} // closed when the reader has emitted everything, after:
	result result
}

// read takes messages.
func (s *stream) read() {
	defer close(s.done)
	var f frame
	for {
		err := s.in.RecvMsg(&f)
		if err == nil {
			err = s.rows.add(f.bytes)
			f.free()
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
			s.since = time.Now()
			close(s.closed)
		}
		s.result, _ = s.finish()
		if err != nil {
			s.result.err = err
		}
		return
	}
}

// finish emits what is left. It reports whether this call ended the stream.
func (s *stream) finish() (result, bool) {
	r, first := s.rows.end()
	if first {
		s.receiver.mu.emits.Done()
		s.receiver.pipe.ingested(r.runs)
	}
	return r, first
}

// answer waits for the end of the stream and returns its status.
func (s *stream) answer() error {
	stopping := s.receiver.stopping
	for {
		select {
		case <-s.closed:
			return s.confirm()
		case <-s.done:
			if s.result.err != nil {
				return toStatus(s.result.err)
			}
			return s.confirm()
		case <-stopping:
			if _, first := s.finish(); first {
				return errStopping
			}
			stopping = nil // the reader ended it a moment before
		case <-s.in.Context().Done():
			return status.FromContextError(s.in.Context().Err()).Err()
		}
	}
}

// confirm answers OK as soon as all rows of a half-closed stream are safe.
func (s *stream) confirm() error {
	ctx, cancel := context.WithDeadline(s.in.Context(), s.since.Add(s.receiver.timing.answerWithin))
	defer cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
		return s.unconfirmed(ctx, ctx.Err())
	}
	if s.result.err != nil {
		return toStatus(s.result.err)
	}
	if s.result.sequence > 0 {
		within := max(time.Until(s.since.Add(s.receiver.timing.ackWithin)), time.Millisecond)
		if err := s.receiver.acks.AckWanted(s.result.sequence, within); err != nil {
			return s.unconfirmed(ctx, err)
		}
		if err := s.receiver.acks.WaitAck(ctx, s.result.sequence); err != nil {
			return s.unconfirmed(ctx, err)
		}
	}
	return s.in.SendAndClose(new(ingestAnswer))
}

// unconfirmed is the answer when the rows are not known to be safe.
func (s *stream) unconfirmed(ctx context.Context, err error) error {
	if gone := s.in.Context().Err(); gone != nil {
		return status.FromContextError(gone).Err()
	}
	if ctx.Err() != nil {
		return status.Errorf(codes.Unavailable, "the pipeline has not made the rows safe within %v; send them again", s.receiver.timing.answerWithin)
	}
	return toStatus(err)
}

// toStatus gives errors of the pipeline a status.
func toStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Errorf(codes.Unavailable, "the pipeline takes no rows: %v", err)
}
