package delivery

import (
	"math/rand/v2"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Retry says how long to wait after failures.
type Retry struct {
	Initial    time.Duration
	Max        time.Duration
	Multiplier float64
}

// backoff grows exponentially with jitter until a stream was confirmed.
type backoff struct {
	policy  Retry
	current time.Duration
}

func (b *backoff) reset() { b.current = 0 }

// next returns how long to wait after err. A wait that the destination asked for
// is honoured; a permanent error waits for the longest time at once.
func (b *backoff) next(err *sdk.Error) time.Duration {
	switch {
	case err.Class == sdk.ClassPermanent:
		b.current = b.policy.Max
	case b.current == 0:
		b.current = b.policy.Initial
	default:
		b.current = min(b.policy.Max, time.Duration(float64(b.current)*b.policy.Multiplier))
	}
	// Between half and the whole of it, so that many hosts do not come at once.
	delay := b.current/2 + rand.N(b.current/2+1)
	return max(delay, err.Delay)
}
