package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

var (
	// ErrEnded is returned for a stream that has ended; Stream.Response says how.
	ErrEnded = errors.New("the stream has ended")
	// ErrReset is how a stream ended that was given up with Stream.Reset.
	ErrReset = errors.New("the stream was given up")
	// ErrUnusable is returned by Conn.Open for a connection that takes no new
	// streams.
	ErrUnusable = errors.New("the connection takes no new streams")
	// ErrClosed is how a connection ended that was closed with Conn.Close.
	ErrClosed = errors.New("the connection was closed")
	// ErrNoAnswer is how a connection ended whose peer is silent.
	ErrNoAnswer = errors.New("the peer does not answer a keepalive PING")
)

// ResetError is how a stream ended that the peer reset.
type ResetError struct{ Code http2.ErrCode }

// Error names the code.
func (e *ResetError) Error() string { return fmt.Sprintf("the peer reset the stream: %v", e.Code) }

// GoAwayError is how streams end that the peer will not process because it is
// closing the connection.
type GoAwayError struct {
	Code  http2.ErrCode
	Debug string // the peer's own words, at most 256 bytes
}

// Error names the code and quotes the peer.
func (e *GoAwayError) Error() string {
	if e.Debug == "" {
		return fmt.Sprintf("the peer is closing the connection: %v", e.Code)
	}
	return fmt.Sprintf("the peer is closing the connection: %v, %q", e.Code, e.Debug)
}

// ProtocolError is how a stream or a connection ended whose peer broke the rules
// or exceeded a limit.
type ProtocolError struct{ Reason string }

// Error returns the reason.
func (e *ProtocolError) Error() string { return "HTTP/2: " + e.Reason }
