package sifttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
)

// waitTime is how long a test waits for what must come.
const waitTime = 10 * time.Second

// Stream is an ingest stream as the server saw it.
type Stream struct {
	raw        grpc.ServerStream
	discard    bool
	ledger     *Ledger // nil: none
	leaves     []*leaf // for the ledger; the behaviour's goroutine has them
	halfClosed chan struct{}
	ended      chan struct{}

	mu struct {
		sync.Mutex
		messages [][]byte
		count    int
		arrived  chan struct{} // closed when a message arrives, then replaced
		eof      bool
		err      error // how the stream ended
		acked    bool
	}
}

func newStream(raw grpc.ServerStream, o *Options) *Stream {
	st := &Stream{raw: raw, discard: o.Discard, ledger: o.Ledger, halfClosed: make(chan struct{}), ended: make(chan struct{})}
	st.mu.arrived = make(chan struct{})
	return st
}

// Next reads one message. It returns io.EOF when the client has half-closed and
// another error when the stream is gone. It is for behaviours.
func (st *Stream) Next() error {
	var m rawMessage
	return st.next(&m)
}

// NextMessage is Next that returns the message.
func (st *Stream) NextMessage() ([]byte, error) {
	var m rawMessage
	err := st.next(&m)
	return m.bytes, err
}

func (st *Stream) next(m *rawMessage) error {
	err := st.raw.RecvMsg(m)
	if err == nil && st.ledger != nil {
		st.leaves = st.ledger.note(st.leaves, m.bytes)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
		st.endLocked()
	case err == nil:
		st.mu.count++
		if !st.discard {
			st.mu.messages = append(st.mu.messages, bytes.Clone(m.bytes))
		}
		close(st.mu.arrived)
		st.mu.arrived = make(chan struct{})
	}
	return err
}

func (st *Stream) noteEnd() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.endLocked()
}

// endLocked notes that the client has half-closed the stream.
func (st *Stream) endLocked() {
	if !st.mu.eof {
		st.mu.eof = true
		close(st.halfClosed)
	}
}

// Context ends with the stream. It is for behaviours.
func (st *Stream) Context() context.Context { return st.raw.Context() }

// SendHeaders sends the response's headers before there is an answer.
func (st *Stream) SendHeaders() error { return st.raw.SendHeader(nil) }

// Metadata returns what came with the request.
func (st *Stream) Metadata() metadata.MD {
	md, _ := metadata.FromIncomingContext(st.raw.Context())
	return md
}

// Count returns how many messages came.
func (st *Stream) Count() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.mu.count
}

// Messages returns the messages that came, each as its bytes.
func (st *Stream) Messages() [][]byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.mu.messages)
}

// Requests returns the messages that came, decoded.
func (st *Stream) Requests(t testing.TB) []*ingestv1.IngestWithConfigDataStreamRequest {
	t.Helper()
	var out []*ingestv1.IngestWithConfigDataStreamRequest
	for _, m := range st.Messages() {
		request := new(ingestv1.IngestWithConfigDataStreamRequest)
		require.NoError(t, proto.Unmarshal(m, request))
		out = append(out, request)
	}
	return out
}

// Acknowledged reports whether the stream was answered with OK after the client
// had half-closed it: what the service would have.
func (st *Stream) Acknowledged() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.mu.acked
}

// Err returns the status that the stream ended with, or how it was lost.
func (st *Stream) Err() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.mu.err
}

// HalfClosed is closed when the client has sent everything and the server has
// read it.
func (st *Stream) HalfClosed() <-chan struct{} { return st.halfClosed }

// Ended is closed when the server is done with the stream.
func (st *Stream) Ended() <-chan struct{} { return st.ended }

// WaitEnded waits for Ended.
func (st *Stream) WaitEnded(t testing.TB) {
	t.Helper()
	wait(t, st.ended, "the stream did not end")
}

// WaitCount waits until n messages have come.
func (st *Stream) WaitCount(t testing.TB, n int) {
	t.Helper()
	deadline := time.After(waitTime)
	for {
		st.mu.Lock()
		count, arrived := st.mu.count, st.mu.arrived
		st.mu.Unlock()
		if count >= n {
			return
		}
		select {
		case <-arrived:
		case <-deadline:
			require.FailNow(t, "too few messages", "%d of %d came", count, n)
		}
	}
}

// Streams returns the ingest streams so far, oldest first.
func (s *Server) Streams() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.streams)
}

// Stream waits until stream number i (from 0) has been opened.
func (s *Server) Stream(t testing.TB, i int) *Stream {
	t.Helper()
	deadline := time.After(waitTime)
	for {
		s.mu.Lock()
		streams, opened := s.mu.streams, s.mu.opened
		s.mu.Unlock()
		if len(streams) > i {
			return streams[i]
		}
		select {
		case <-opened:
		case <-deadline:
			require.FailNow(t, "too few streams", "%d opened, waited for number %d", len(streams), i)
		}
	}
}

// Acknowledged returns the messages of all acknowledged streams, in the order of
// the streams.
func (s *Server) Acknowledged() [][]byte {
	var out [][]byte
	for _, st := range s.Streams() {
		if st.Acknowledged() {
			out = append(out, st.Messages()...)
		}
	}
	return out
}

// Queue says how the next streams are treated, one Behaviour each.
func (s *Server) Queue(behaviours ...Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.queued = append(s.mu.queued, behaviours...)
}

func (s *Server) open(st *Stream) Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.streams = append(s.mu.streams, st)
	close(s.mu.opened)
	s.mu.opened = make(chan struct{})
	if len(s.mu.queued) == 0 {
		return s.options.Default
	}
	b := s.mu.queued[0]
	s.mu.queued = s.mu.queued[1:]
	return b
}

type ingestService struct {
	ingestv1.UnimplementedIngestServiceServer
	server *Server
}

func (g ingestService) IngestWithConfigDataStream(raw grpc.ClientStreamingServer[ingestv1.IngestWithConfigDataStreamRequest, ingestv1.IngestWithConfigDataStreamResponse]) error {
	st := newStream(raw, &g.server.options)
	err := g.server.open(st)(st)
	if err == nil {
		err = raw.SendAndClose(new(ingestv1.IngestWithConfigDataStreamResponse))
	}
	if errors.Is(err, ErrTrailersOnly) {
		st.finish(err, false)
		return nil
	}
	st.finish(err, err == nil)
	return err
}

func (st *Stream) finish(err error, answered bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.err = err
	st.mu.acked = answered && st.mu.eof
	if st.mu.acked && st.ledger != nil {
		st.ledger.confirm(st.leaves)
	}
	st.leaves = nil
	close(st.ended)
}

func wait(t testing.TB, done <-chan struct{}, message string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(waitTime):
		require.FailNow(t, message)
	}
}
