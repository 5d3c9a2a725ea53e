package channel

import (
	"context"
	"sync"
)

// Budget bounds the bytes that several users hold together. Half of it is divided
// among them, so that none can keep another one from going on; the other half is
// for whoever needs it first.
type Budget struct {
	common int // bytes for whoever needs them first
	own    int // bytes that each user has for itself

	mu struct {
		sync.Mutex
		common int           // bytes in use of the common part
		freed  chan struct{} // closed when bytes were given back
	}
}

// NewBudget returns a budget of some bytes for a number of users.
func NewBudget(bytes, users int) *Budget {
	b := &Budget{common: bytes / 2, own: bytes / 2 / max(1, users)}
	b.mu.freed = make(chan struct{})
	return b
}

// Share returns the share of one user.
func (b *Budget) Share() *Share { return &Share{budget: b} }

// Share is one user's part of a budget. It may be used from many goroutines.
type Share struct {
	budget *Budget
	used   int // guarded by the budget's lock
}

// Take takes bytes; it waits until they are to be had. A user that holds nothing
// gets any number, so that it can go on.
func (s *Share) Take(ctx context.Context, bytes int) error {
	for {
		freed := s.try(bytes)
		if freed == nil {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// try returns a channel to wait on if the bytes are not to be had.
func (s *Share) try(bytes int) <-chan struct{} {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	more := s.beyond(s.used+bytes) - s.beyond(s.used)
	if s.used > 0 && more > 0 && b.mu.common+more > b.common {
		return b.mu.freed
	}
	s.used += bytes
	b.mu.common += more
	return nil
}

// Give gives bytes back that were taken.
func (s *Share) Give(bytes int) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.common -= s.beyond(s.used) - s.beyond(s.used-bytes)
	s.used -= bytes
	close(b.mu.freed)
	b.mu.freed = make(chan struct{})
}

// beyond returns what of a user's bytes counts for the common part.
func (s *Share) beyond(used int) int { return max(0, used-s.budget.own) }

// Used returns the bytes that the user holds.
func (s *Share) Used() int {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.used
}

// Own returns the bytes that the user has for itself.
func (s *Share) Own() int { return s.budget.own }

// Limit returns the bytes that the user could hold if nobody else held any of the
// common part.
func (s *Share) Limit() int { return s.budget.own + s.budget.common }
