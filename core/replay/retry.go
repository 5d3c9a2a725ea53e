package replay

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Retry says how long to wait after failures: from Initial on, growing by
// Multiplier to Max.
type Retry struct {
	Initial    time.Duration
	Max        time.Duration
	Multiplier float64
}

// backoff is the wait of a row of failures.
type backoff struct {
	policy  Retry
	current time.Duration
}

func (b *backoff) reset() { b.current = 0 }

// next returns how long to wait after a failure: between half of the step and the
// whole, and at least as long as the destination asked for.
func (b *backoff) next(failure *sdk.Error) time.Duration {
	if b.current == 0 {
		b.current = b.policy.Initial
	} else {
		b.current = min(b.policy.Max, time.Duration(float64(b.current)*b.policy.Multiplier))
	}
	return max(b.current/2+rand.N(b.current/2+1), failure.Delay)
}

// pause waits. It is false if there is a reason to stop.
func pause(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
