package sifttest

import (
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Behaviour reads an ingest stream and decides how it ends: nil answers with one
// empty message and OK, ErrTrailersOnly with OK alone, another error with its
// status.
type Behaviour func(*Stream) error

// ErrTrailersOnly ends a stream with OK, but without the message that belongs to
// it.
var ErrTrailersOnly = errors.New("sifttest: OK without a message")

// TakeAll reads to the end and answers OK.
func TakeAll(st *Stream) error {
	var m rawMessage
	for {
		err := st.next(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// EndAfter reads n messages and ends the stream with err, nil being an early OK.
func EndAfter(n int, err error) Behaviour {
	return func(st *Stream) error {
		for range n {
			if nextErr := st.Next(); nextErr != nil {
				return nextErr
			}
		}
		return err
	}
}

// Refuse reads to the end and then answers with err.
func Refuse(err error) Behaviour {
	return func(st *Stream) error {
		if takeErr := TakeAll(st); takeErr != nil {
			return takeErr
		}
		return err
	}
}

// AnswerAfter reads to the end and answers OK when release is closed.
func AnswerAfter(release <-chan struct{}) Behaviour {
	return func(st *Stream) error {
		if err := TakeAll(st); err != nil {
			return err
		}
		select {
		case <-release:
			return nil
		case <-st.Context().Done():
			return st.Context().Err()
		}
	}
}

// AnswerLate reads to the end and answers OK after a while, for example after the
// client's timeout.
func AnswerLate(d time.Duration) Behaviour {
	return func(st *Stream) error {
		if err := TakeAll(st); err != nil {
			return err
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-st.Context().Done():
			return st.Context().Err()
		}
	}
}

// Poisoned ends a stream with INVALID_ARGUMENT when it reads a message that bad
// selects, and else answers OK. Nothing of the stream is confirmed then, as with the
// service.
func Poisoned(bad func(message []byte) bool) Behaviour {
	return func(st *Stream) error {
		for {
			m, err := st.NextMessage()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case bad(m):
				return status.Error(codes.InvalidArgument, "a message of the stream is not acceptable")
			}
		}
	}
}

// NeverAnswer reads to the end and does not answer.
func NeverAnswer(st *Stream) error { return AnswerAfter(nil)(st) }

// ReadAfter reads nothing until release is closed, then is TakeAll: the client's
// flow control window closes.
func ReadAfter(release <-chan struct{}) Behaviour {
	return func(st *Stream) error {
		select {
		case <-release:
			return TakeAll(st)
		case <-st.Context().Done():
			return st.Context().Err()
		}
	}
}

// HeadersFirst sends the response's headers at once and then behaves like b.
func HeadersFirst(b Behaviour) Behaviour {
	return func(st *Stream) error {
		if err := st.SendHeaders(); err != nil {
			return err
		}
		return b(st)
	}
}

// RateLimited is the status of a rate limit: RESOURCE_EXHAUSTED with a RetryInfo
// that asks for delay.
func RateLimited(delay time.Duration) error {
	st, err := status.New(codes.ResourceExhausted, "rate limit").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil {
		return err
	}
	return st.Err()
}

// TakeEach reads to the end, gives each message to take, which must not keep it, and
// answers OK. The stream does not count or keep the messages, nor does a ledger: it
// is for measurements.
func TakeEach(take func(message []byte)) Behaviour {
	return func(st *Stream) error {
		var m rawMessage
		for {
			err := st.raw.RecvMsg(&m)
			if errors.Is(err, io.EOF) {
				st.noteEnd()
				return nil
			}
			if err != nil {
				return err
			}
			take(m.bytes)
		}
	}
}
