package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// A payload that is being sent must not go back to its pool: the destination would
// get somebody else's data.
func TestALateAnswerLeavesABatchThatIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.sendOK = make(chan struct{}, 1)
		d.sendOK <- struct{}{} // the first Send; the second one waits
		d.answer = func(stream uint64, aborted bool) (Event, bool) { return ok(stream), stream != 1 }
		h := start(t, settings(), d)
		h.push(5)
		<-time.After(75 * time.Second) // the checkpoint has timed out
		synctest.Wait()
		d.events <- ok(1)
		synctest.Wait()
		assert.Equal(t, uint64(5), h.delivered())
		assert.Zero(t, h.buffers[0].released, "it is being sent")
		close(d.sendOK)
		h.finish()
	})
}

func TestTracksThatEndUncleanlyShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := telemetry.NewAccount([]string{"a", "b"})
		flow := NewFlow(sdk.Flow{Name: "f"}, account.Flow(sdk.Origin{}, "f"), 2)
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 2)
		var tracks []*Track
		destinations := []*destination{newDestination(), newDestination()}
		for i, d := range destinations {
			s := settings()
			s.Index = i
			track := NewTrack(s, d)
			tracks = append(tracks, track)
			go func() { ends <- track.Run(ctx) }()
		}
		var buffers []*memory
		push := func(id uint64) {
			m := &memory{bytes: make([]byte, 10)}
			buffers = append(buffers, m)
			b := &Batch{Ids: checkpoint.Range{First: id, Last: id}, Flow: flow, Encoded: m}
			b.Open(2, func(*Batch) {})
			for _, track := range tracks {
				track.Claim(b)
				_ = track.Push(ctx, b) // one of them may be over
			}
			b.Release()
		}
		push(1)
		synctest.Wait()
		destinations[0].Close() // the plugin is gone
		require.Error(t, <-ends)
		assert.Zero(t, buffers[0].released, "the other track still has it")
		push(2)
		synctest.Wait()
		assert.Equal(t, uint64(1), tracks[0].Pending())
		cancel()
		<-ends
		for _, b := range buffers {
			assert.Equal(t, 1, b.released)
		}
		assert.Equal(t, uint64(2), tracks[1].Pending())
	})
}

func TestWhatWaitedInTheQueueAtTheEndIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.sendOK = make(chan struct{})
		h := start(t, settings(), d)
		for range 5 {
			h.push(3)
		}
		synctest.Wait()
		d.Close()
		require.Error(t, <-h.done)
		assert.Equal(t, uint64(15), h.track.Pending())
	})
}
