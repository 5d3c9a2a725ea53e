package sdk

import (
	"errors"
	"fmt"
	"time"
)

// Class decides what the host does with a failure.
type Class uint8

// The classes. An error without one counts as ClassRetry.
const (
	// ClassRetry: worth trying again later.
	ClassRetry Class = iota + 1
	// ClassPermanent: the same call fails again until somebody changes something.
	ClassPermanent
	// ClassDisconnected: the connection is gone, a new one may work.
	ClassDisconnected
)

// Error is a failure that keeps its class, the destination's gRPC status code and
// the wait it asked for when it crosses the process border.
type Error struct {
	Class   Class
	Code    uint32        // gRPC status code; 2 (unknown) where there is none
	Message string        // what happened, without the code
	Delay   time.Duration // how long the destination asked to wait; 0 = it did not say
	cause   error
}

// CodeUnknown is the status code of failures that have none.
const CodeUnknown = 2

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Text returns the message behind the name of its status code, for a person, as in
// "UNAUTHENTICATED: the key is not known". Codes that say nothing, 0 (OK) and 2
// (unknown), are left out.
func (e *Error) Text() string {
	if e.Code == 0 || e.Code == CodeUnknown {
		return e.Message
	}
	return StatusName(e.Code) + ": " + e.Message
}

// StatusName returns the name of a gRPC status code as its specification writes it,
// such as "UNAUTHENTICATED".
func StatusName(code uint32) string {
	names := [...]string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
		"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	}
	if code >= uint32(len(names)) {
		return names[CodeUnknown]
	}
	return names[code]
}

// Unwrap returns the error that was classified, if it is in this process.
func (e *Error) Unwrap() error { return e.cause }

// ErrEndedEarly is returned by Stream.Finish when the destination ended the
// stream with OK before it was asked to: nothing of the stream is confirmed.
var ErrEndedEarly = errors.New("the destination ended the stream before it was asked to")

// Retry classifies err as worth trying again, not before delay. As with the others,
// nil stays nil.
func Retry(err error, delay time.Duration) error { return classify(err, ClassRetry, delay) }

// Permanent classifies err as failing until somebody changes something.
func Permanent(err error) error { return classify(err, ClassPermanent, 0) }

// Disconnected classifies err as a lost connection.
func Disconnected(err error) error { return classify(err, ClassDisconnected, 0) }

func classify(err error, class Class, delay time.Duration) error {
	if err == nil {
		return nil
	}
	code := uint32(CodeUnknown)
	if e, ok := errors.AsType[*Error](err); ok {
		code = e.Code
	}
	return &Error{Class: class, Code: code, Message: err.Error(), Delay: delay, cause: err}
}

// AsError returns err with its class; one that has none becomes ClassRetry.
func AsError(err error) *Error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{Class: ClassRetry, Code: CodeUnknown, Message: err.Error(), cause: err}
	}
	if text := err.Error(); text != e.Message {
		wrapped := *e
		wrapped.Message, wrapped.cause = text, err
		return &wrapped
	}
	return e
}

// Refused is a row that cannot be encoded, by its position in the batch.
type Refused struct {
	Row     int
	Channel string
	Reason  string
}

// String returns the refusal for a person.
func (r Refused) String() string {
	return fmt.Sprintf("row %d, channel %.100q: %s", r.Row, r.Channel, r.Reason)
}
