package h2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// aliveReader reads from the connection and asks a silent peer whether it is
// still there.
type aliveReader struct{ conn *Conn }

func newAliveReader(c *Conn) io.Reader {
	return bufio.NewReaderSize(aliveReader{c}, 8<<10)
}

func (r aliveReader) Read(p []byte) (int, error) {
	c := r.conn
	if c.config.Keepalive <= 0 {
		return c.net.Read(p)
	}
	wait := c.config.Keepalive
	for asked := false; ; asked = true {
		if err := c.net.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return 0, err
		}
		n, err := c.net.Read(p)
		var timeout net.Error
		if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
			return n, err
		}
		if asked {
			return 0, ErrNoAnswer
		}
		c.mu.Lock()
		c.ping()
		c.mu.Unlock()
		wait = c.config.KeepaliveTimeout
	}
}

// read is the reader: it handles frames in the order in which they come.
func (c *Conn) read() {
	for {
		frame, err := c.framer.ReadFrame()
		if err == nil {
			err = c.handle(frame)
		}
		if err = c.streamError(err); err != nil {
			c.fail(connError(err))
			return
		}
	}
}

// streamError resets the one stream that an error is about.
func (c *Conn) streamError(err error) error {
	var se http2.StreamError
	if !errors.As(err, &se) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.mu.streams[se.StreamID]; s != nil {
		s.reset(se.Code, &ProtocolError{fmt.Sprintf("bad frame from the peer: %v", se)})
	}
	return nil
}

func connError(err error) error {
	var ce http2.ConnectionError
	switch {
	case errors.As(err, &ce):
		return &ProtocolError{fmt.Sprintf("bad frame from the peer: %v", http2.ErrCode(ce))}
	case errors.Is(err, http2.ErrFrameTooLarge):
		return &ProtocolError{"frame too large; is the peer an HTTP/2 server?"}
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

func (c *Conn) handle(frame http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := frame.(*http2.SettingsFrame); !ok {
		select {
		case <-c.settled:
		default:
			return &ProtocolError{"the peer did not begin with SETTINGS"}
		}
	}
	if len(c.mu.out) > maxAnswers {
		return &ProtocolError{"the peer provokes answers that it does not read"}
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		c.forgiven()
		return c.handleHeaders(f)
	case *http2.DataFrame:
		c.forgiven()
		return c.handleData(f)
	case *http2.RSTStreamFrame:
		if s := c.mu.streams[f.StreamID]; s != nil {
			s.end(&ResetError{f.ErrCode})
			c.closeIfDone()
		}
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.PingFrame:
		c.handlePing(f)
	case *http2.GoAwayFrame:
		c.handleGoAway(f)
	case *http2.WindowUpdateFrame:
		return c.handleWindowUpdate(f)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // PRIORITY and unknown frames say nothing to a client
}

// stream returns an open stream, or nil if it has ended on our side.
func (c *Conn) stream(id uint32) (*Stream, error) {
	if s := c.mu.streams[id]; s != nil {
		return s, nil
	}
	if id%2 == 0 || id >= c.mu.nextID {
		return nil, &ProtocolError{fmt.Sprintf("frame for stream %d, which was never opened", id)}
	}
	return nil, nil
}

func (c *Conn) handleHeaders(f *http2.MetaHeadersFrame) error {
	s, err := c.stream(f.StreamID)
	if s == nil {
		return err
	}
	status := f.PseudoValue("status")
	switch {
	case f.Truncated:
		s.reset(http2.ErrCodeCancel, &ProtocolError{fmt.Sprintf("the peer's headers exceed %d bytes", maxHeaderBytes)})
		return nil
	case s.response.Headers == nil && len(status) != 3:
		s.reset(http2.ErrCodeProtocol, &ProtocolError{fmt.Sprintf("headers with status %.10q", status)})
		return nil
	case s.response.Headers == nil && status[0] == '1' && !f.StreamEnded():
		return nil // informational; the response follows
	case s.response.Headers == nil:
		s.response.Headers = cloneFields(f.Fields)
	case !f.StreamEnded():
		s.reset(http2.ErrCodeProtocol, &ProtocolError{"headers in mid-stream"})
		return nil
	default:
		s.response.Trailers = cloneFields(f.Fields)
	}
	if f.StreamEnded() {
		s.peerEnded()
	}
	return nil
}

// cloneFields makes a list that does not belong to the framer and is not nil.
func cloneFields(fields []hpack.HeaderField) []hpack.HeaderField {
	return append(make([]hpack.HeaderField, 0, len(fields)), fields...)
}

func (c *Conn) handleData(f *http2.DataFrame) error {
	// Every byte, of whichever stream, counts on the connection.
	if f.Length > 0 {
		_ = c.framer.WriteWindowUpdate(0, f.Length)
		c.wake()
	}
	s, err := c.stream(f.StreamID)
	if s == nil {
		return err
	}
	if s.response.Headers == nil {
		s.reset(http2.ErrCodeProtocol, &ProtocolError{"data before headers"})
		return nil
	}
	data := f.Data()
	room := maxBody - len(s.response.Body)
	s.response.Body = slices.Concat(s.response.Body, data[:min(len(data), room)])
	switch {
	case len(data) > room:
		s.reset(http2.ErrCodeCancel, &ProtocolError{fmt.Sprintf("the peer's answer exceeds %d bytes", maxBody)})
	case f.StreamEnded():
		s.peerEnded()
	}
	return nil
}

// peerEnded ends a stream whose response is complete. Where the request is not,
// the peer is told that it will not be.
func (s *Stream) peerEnded() {
	if !s.sentEnd {
		_ = s.conn.framer.WriteRSTStream(s.id, http2.ErrCodeNo)
		s.conn.wake()
	}
	s.end(nil)
	s.conn.closeIfDone()
}

func (c *Conn) handleSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return c.handleSettingsAck()
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			return c.changeInitialWindow(int64(s.Val))
		case http2.SettingMaxFrameSize:
			c.mu.maxFrame = int(min(s.Val, largestFrame))
		case http2.SettingMaxConcurrentStreams:
			c.mu.limit = s.Val
		case http2.SettingHeaderTableSize:
			c.mu.encoder.SetMaxDynamicTableSize(s.Val)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_ = c.framer.WriteSettingsAck()
	c.wake()
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
	return nil
}

func (c *Conn) handleSettingsAck() error {
	if len(c.mu.settings) == 0 {
		return &ProtocolError{"the peer acknowledges SETTINGS that were never sent"}
	}
	s := c.mu.settings[0]
	c.mu.settings = c.mu.settings[1:]
	if s != nil {
		s.passFence()
	}
	return nil
}

func (c *Conn) changeInitialWindow(size int64) error {
	delta := size - c.mu.initial
	c.mu.initial = size
	for _, s := range c.mu.streams {
		if s.window += delta; s.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
	}
	c.wakeStreams()
	return nil
}

func (c *Conn) handlePing(f *http2.PingFrame) {
	if !f.IsAck() {
		_ = c.framer.WritePing(true, f.Data)
		c.wake()
		return
	}
	number := binary.BigEndian.Uint64(f.Data[:])
	if number <= c.mu.pings {
		c.mu.answered = max(c.mu.answered, number)
	}
	if s := c.mu.fences[number]; s != nil {
		delete(c.mu.fences, number)
		s.passFence()
	}
}

// passFence notes that the peer has read all that the stream has sent. The caller
// holds conn.mu.
func (s *Stream) passFence() {
	if !s.ended {
		s.fenced = true
		s.notify()
	}
}

func (c *Conn) handleGoAway(f *http2.GoAwayFrame) {
	debug := f.DebugData()
	c.mu.goAway = &GoAwayError{Code: f.ErrCode, Debug: string(debug[:min(len(debug), 256)])}
	for id, s := range c.mu.streams {
		if id > f.LastStreamID {
			s.end(c.mu.goAway)
		}
	}
	c.closeIfDone()
}

func (c *Conn) handleWindowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.mu.window += int64(f.Increment); c.mu.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.wakeStreams()
		return nil
	}
	s, err := c.stream(f.StreamID)
	if s == nil {
		return err
	}
	if s.window += int64(f.Increment); s.window > maxWindow {
		s.reset(http2.ErrCodeFlowControl, &ProtocolError{"window too wide"})
		return nil
	}
	s.notify()
	return nil
}
