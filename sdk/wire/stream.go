package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pipelined/pipelined/sdk/shm"
)

// ErrStreamEnded is returned, or wrapped, by sends on a stream that is over. Recv
// knows why; after a good end it is no failure.
var ErrStreamEnded = errors.New("the stream to the other process has ended")

// lifetime is the context of a stream, not of a call: a call that waits for room
// ends with the call's context or with the stream.
type lifetime struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func newLifetime(ctx context.Context) lifetime {
	ctx, end := context.WithCancelCause(ctx)
	return lifetime{ctx, end}
}

// bound returns a context that ends with the first of both.
func (l lifetime) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// sender serialises the messages to one stream. gRPC has read a message when send
// returns.
type sender[M any] struct {
	stream interface{ Send(*M) error }
	mu     sync.Mutex
	closed bool
}

func (s *sender[M]) send(m *M) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(m)
}

// sendLocked is for callers that hold mu because they decide the order.
func (s *sender[M]) sendLocked(m *M) error {
	if s.closed {
		return ErrStreamEnded
	}
	if err := s.stream.Send(m); err != nil {
		if err == io.EOF {
			return ErrStreamEnded
		}
		return fmt.Errorf("send to the other process: %w", err)
	}
	return nil
}

// closeSend ends the host's half of a stream.
func (s *sender[M]) closeSend(stream interface{ CloseSend() error }) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return stream.CloseSend()
}

// claims are the regions that one stream uses.
type claims []*shm.Region

// claim reserves regions of which some may be nil.
func claim(regions ...*shm.Region) (claims, error) {
	var out claims
	for _, r := range regions {
		if r == nil {
			continue
		}
		if err := r.Claim(); err != nil {
			out.free()
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// free makes the regions ready for another stream: nobody uses their slots.
func (c claims) free() {
	for _, r := range c {
		r.Unclaim()
	}
}

// regionNumber is how a stream names a region; 0 means none.
func regionNumber(r *shm.Region) uint32 {
	if r == nil {
		return 0
	}
	return uint32(r.FD())
}
