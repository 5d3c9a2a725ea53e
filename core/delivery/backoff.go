package delivery

import (
	"time"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/sdk"
)

// waitAfter returns how long to wait after err. A wait that the destination asked for
// is honoured; a permanent error waits for the longest time at once.
func waitAfter(b *backoff.Backoff, err *sdk.Error) time.Duration {
	if err.Class == sdk.ClassPermanent {
		return b.Longest(err.Delay)
	}
	return b.Next(err.Delay)
}
