package backoff

import (
	"math/rand/v2"
	"time"
)

// Policy says how waits grow: from Initial on, by Multiplier, to Max.
type Policy struct {
	Initial    time.Duration
	Max        time.Duration
	Multiplier float64
}

// Backoff is the wait of a row of failures; it is for one goroutine.
type Backoff struct {
	policy  Policy
	current time.Duration // 0: no failure yet
}

// New returns a backoff before the first failure.
func New(policy Policy) Backoff { return Backoff{policy: policy} }

// Reset ends the row of failures.
func (b *Backoff) Reset() { b.current = 0 }

// Next returns how long to wait after a failure: between half of the step and the
// whole, and at least as long as was asked for.
func (b *Backoff) Next(asked time.Duration) time.Duration {
	if b.current == 0 {
		b.current = b.policy.Initial
	} else {
		b.current = min(b.policy.Max, time.Duration(float64(b.current)*b.policy.Multiplier))
	}
	return b.wait(asked)
}

// Longest is Next for a failure that time does not heal: the step is Max at once.
func (b *Backoff) Longest(asked time.Duration) time.Duration {
	b.current = b.policy.Max
	return b.wait(asked)
}

func (b *Backoff) wait(asked time.Duration) time.Duration {
	return max(b.current/2+rand.N(b.current/2+1), asked)
}
