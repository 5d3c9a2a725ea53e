package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
)

// A destination that is away keeps nothing in the store that it would not take: neither
// while it is away, nor at the end.
func TestStoredFilteredFlowsDoNotWaitForTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Queue = channel.Size{Messages: 5, Bytes: 1 << 20}
		s.Wants = func(f *Flow) bool { return f.Flow.Name == "f1" }
		s.Retry = backoff.Policy{Initial: time.Hour, Max: time.Hour, Multiplier: 1}
		h := newStored(t, s, 2)
		h.live.answer, h.again.answer = failing, failing
		h.begin()
		h.push(1, 3) // 1 to 3, sent, and refused
		<-time.After(2 * s.Interval)
		synctest.Wait()
		for range 10 {
			h.push(0, 1) // 4 to 13, of which nobody wants any
		}
		<-time.After(2 * s.Interval) // a stream may be open that was not refused yet
		synctest.Wait()
		missing := h.store.Missing()
		assert.LessOrEqual(t, missing.Count(), uint64(3+5), "what left the queue is settled")
		h.requireBalanced()
		h.cancel(nil)
		require.Error(t, <-h.done)
		assert.Equal(t, checkpoint.SetOf(checkpoint.Range{First: 1, Last: 3}), h.store.Missing())
		assert.EqualValues(t, 10, h.filtered())
		h.requireBalanced()
		h.requireGivenBack()
	})
}
