package h2

import (
	"context"
	"encoding/binary"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxBody bounds what a peer may answer; more is an error, its beginning is kept.
const maxBody = 4 << 10

// Response is what the peer answered on a stream.
type Response struct {
	Headers  []hpack.HeaderField // with :status; nil if none came
	Trailers []hpack.HeaderField // nil if the headers were all
	Body     []byte
	// Err is nil if the peer ended the stream in the regular way; otherwise
	// *ResetError, *GoAwayError, *ProtocolError, ErrReset or how the connection
	// ended.
	Err error
}

// Stream is one request and its response.
type Stream struct {
	conn *Conn
	id   uint32
	wake chan struct{} // capacity 1: room, a wider window or the end
	done chan struct{}

	// The rest is guarded by conn.mu.

	window   int64 // what the peer still takes on this stream
	sentEnd  bool
	fence    uint64 // number of the PING that is the fence; 0 = none, or SETTINGS
	fenced   bool   // the fence was answered while the stream was open
	ended    bool
	response Response
}

// Write hands p over for sending; it does not keep p. It blocks while the peer
// does not read, until ctx ends: then part of p has gone out. ErrEnded means that
// the stream is over.
func (s *Stream) Write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n, err := s.push(p)
		if err != nil {
			return err
		}
		p = p[n:]
		if n > 0 {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// push appends as much of p as there is room and window for.
func (s *Stream) push(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return 0, ErrEnded
	}
	if len(c.mu.out) >= maxPending {
		return 0, nil
	}
	n := int(min(int64(min(len(p), maxChunk)), s.window, c.mu.window))
	if n <= 0 {
		return 0, nil
	}
	for rest := p[:n]; len(rest) > 0; {
		part := rest[:min(len(rest), c.mu.maxFrame)]
		rest = rest[len(part):]
		c.mu.out = appendDataHeader(c.mu.out, s.id, len(part), false)
		c.mu.out = append(c.mu.out, part...)
	}
	s.window -= int64(n)
	c.mu.window -= int64(n)
	c.wake()
	return n, nil
}

func appendDataHeader(dst []byte, id uint32, length int, end bool) []byte {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), byte(http2.FrameData), byte(flags))
	return binary.BigEndian.AppendUint32(dst, id)
}

// Fence sends a frame that must be answered, a PING, behind everything that was
// written and waits for the answer. It returns nil if the stream was still open
// when the peer answered, so that whatever it says from then on, it says having
// been sent all of it. It is called once.
func (s *Stream) Fence(ctx context.Context) error {
	c := s.conn
	c.mu.Lock()
	if s.ended {
		c.mu.Unlock()
		return ErrEnded
	}
	c.fence(s)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		fenced, ended := s.fenced, s.ended
		c.mu.Unlock()
		switch {
		case fenced:
			return nil
		case ended:
			return ErrEnded
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CloseSend says that nothing more comes. ErrEnded means that the peer had ended
// the stream without waiting for that.
func (s *Stream) CloseSend() error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return ErrEnded
	}
	if !s.sentEnd {
		s.sentEnd = true
		c.mu.out = appendDataHeader(c.mu.out, s.id, 0, true)
		c.wake()
	}
	return nil
}

// Done is closed when the stream has ended, by whatever means.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Response returns what the peer answered. It is complete after Done.
func (s *Stream) Response() Response {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.response
}

// Reset gives the stream up. A blocked Write or Fence returns ErrEnded.
func (s *Stream) Reset() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.reset(http2.ErrCodeCancel, ErrReset)
}

// reset ends an open stream on both sides. The caller holds conn.mu.
func (s *Stream) reset(code http2.ErrCode, err error) {
	if s.ended {
		return
	}
	_ = s.conn.framer.WriteRSTStream(s.id, code)
	s.conn.wake()
	s.end(err)
	s.conn.closeIfDone()
}

// end marks the end of the stream. The caller holds conn.mu.
func (s *Stream) end(err error) {
	if s.ended {
		return
	}
	s.ended = true
	s.response.Err = err
	delete(s.conn.mu.streams, s.id)
	delete(s.conn.mu.fences, s.fence)
	close(s.done)
	s.notify()
}

func (s *Stream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
