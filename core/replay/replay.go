package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/sdk"
)

// Settings belong to a Replayer.
type Settings struct {
	// Connect starts a session. An *sdk.Error of ClassPermanent ends the replay;
	// after other errors it is called again.
	Connect func(ctx context.Context) (Session, error)
	Store   *Store
	Filter  Filter
	// Again sends what was confirmed before, too.
	Again bool
	// Resync sends what was found behind damage by searching, too.
	Resync bool
	// Binder gives ids to messages that carry placeholders. Nil, or ErrUnbound from it:
	// the file ends where the first such message is.
	Binder Binder

	CheckpointBytes int64         // of a file, after which a stream is finished
	Interval        time.Duration // after which it is, too
	Patience        time.Duration // without any sign of life, then a stream is given up
	MaxMessage      int           // bytes that the destination takes; 0: sdk.MaxPayloadBytes
	Retry           backoff.Policy
	Logger          *slog.Logger
	// Progress is told what is confirmed; it may be nil.
	Progress func(*Source, Outcome)
}

// Source is a file.
type Source struct {
	Path     string
	File     io.ReaderAt
	Identity Identity // its size is how much of the file is read
	Borders  Borders  // nil: there is no index
}

// Outcome is what became of a file.
type Outcome struct {
	Before   int64      // messages that earlier runs have delivered
	Sent     int64      // messages that this one has
	Left     int64      // messages that the filter left out
	Damage   DamageList // also what earlier runs found
	Position Position   // up to here everything is confirmed, left out, or damaged
	End      bool       // it was read to its end
}

var (
	// ErrStopped is returned when the replay was told to stop.
	ErrStopped = errors.New("stopped")
	// ErrUnbound says that messages carry placeholders instead of ids.
	ErrUnbound = errors.New("messages carry placeholders instead of the ids of a destination")
	// ErrRefusing says that the destination takes nothing of a file.
	ErrRefusing = errors.New("the destination refuses one message after the other")
)

// UnavailableError says that the destination, or the way to it, cannot be used.
type UnavailableError struct{ Failure *sdk.Error }

// Error says why.
func (e *UnavailableError) Error() string { return e.Failure.Text() }

// Unwrap returns the failure.
func (e *UnavailableError) Unwrap() error { return e.Failure }

// SourceError says that a file cannot be read.
type SourceError struct{ Err error }

// Error says why.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// Replayer delivers files one after the other. It belongs to one goroutine.
type Replayer struct {
	settings Settings
	session  Session // nil: none is open
	broken   int     // sessions that ended by themselves since the last confirmation
}

// maxBroken is how many sessions may end by themselves in a row.
const maxBroken = 5

// New returns a Replayer; it starts nothing.
func New(s Settings) *Replayer {
	if s.MaxMessage <= 0 || s.MaxMessage > maxMessage {
		s.MaxMessage = maxMessage
	}
	return &Replayer{settings: s}
}

// maxMessage is the greatest message that fits into a payload.
const maxMessage = sdk.MaxPayloadBytes - 4

// Close ends the session, if there is one.
func (r *Replayer) Close() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
}

// Deliver delivers what of a file is not confirmed yet. When stop is closed, it
// finishes the stream that is open and returns ErrStopped; when ctx ends, at once.
// The outcome is right whatever the error is. An error of type *SourceError, and
// ErrUnbound and ErrRefusing, are about this file; others end the replay.
func (r *Replayer) Deliver(ctx context.Context, stop <-chan struct{}, src *Source) (Outcome, error) {
	f, err := r.open(src)
	if err != nil {
		return Outcome{}, err
	}
	for {
		if stopped(ctx, stop) {
			return f.outcome, ErrStopped
		}
		end, err := f.advance(ctx, stop)
		if err != nil || end {
			f.outcome.End = end && err == nil
			return f.outcome, err
		}
	}
}

// connect returns the session, or begins one, however long that takes.
func (r *Replayer) connect(ctx context.Context, stop <-chan struct{}) (Session, error) {
	if r.session != nil && r.session.Full() {
		r.Close()
	}
	wait := backoff.New(r.settings.Retry)
	for r.session == nil {
		s, err := r.settings.Connect(ctx)
		if err == nil {
			r.session = s
			break
		}
		failure := sdk.AsError(err)
		if ctx.Err() != nil {
			return nil, ErrStopped
		}
		if r.broken++; failure.Class == sdk.ClassPermanent || r.broken >= maxBroken {
			return nil, &UnavailableError{failure}
		}
		r.settings.Logger.Warn("the transport cannot be started; trying on", "error", failure.Text())
		if !pause(ctx, stop, wait.Next(failure.Delay)) {
			return nil, ErrStopped
		}
	}
	return r.session, nil
}

// lost ends a session that is broken. The error is not nil if that happens again
// and again.
func (r *Replayer) lost(err error) error {
	r.Close()
	if r.broken++; r.broken >= maxBroken {
		return &UnavailableError{sdk.AsError(fmt.Errorf("%w (%d times in a row)", err, r.broken))}
	}
	return nil
}
