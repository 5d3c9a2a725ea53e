package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk"
)

func TestNothingIsConfirmedBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, settings(), newDestination())
		h.push(10)
		synctest.Wait()
		assert.Zero(t, h.delivered())
		assert.Equal(t, uint64(10), h.track.Pending())
		assert.Empty(t, h.safe())
		<-time.After(61 * time.Second) // the interval's checkpoint
		synctest.Wait()
		assert.Equal(t, uint64(10), h.delivered())
		h.finish()
	})
}

func TestTheEndAsksForTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, settings(), newDestination())
		began := time.Now()
		for range 100 {
			h.push(7)
		}
		h.finish()
		assert.Zero(t, time.Since(began), "nothing waits for a timer")
	})
}

func TestAFailedStreamIsSentAgainInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.onSend = func(stream uint64, b *Batch) (Event, bool) {
			failed := Event{Stream: stream, Outcome: checkpoint.Failed, Err: &sdk.Error{Class: sdk.ClassRetry, Message: "gone"}}
			return failed, stream == 1 && b.Ids.First == 3
		}
		h := start(t, settings(), d)
		for range 3 {
			h.push(1)
			synctest.Wait()
		}
		h.finish()
		assert.Equal(t, []uint64{1, 2, 3, 1, 2, 3}, d.received)
		assert.Equal(t, uint64(3), h.track.State().Resent)
	})
}

func TestAnEarlyOKConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.onSend = func(stream uint64, _ *Batch) (Event, bool) { return ok(stream), stream == 1 }
		h := start(t, settings(), d)
		h.push(5)
		synctest.Wait()
		assert.Zero(t, h.delivered())
		h.finish()
		assert.Equal(t, []uint64{1, 1}, d.received)
	})
}

func TestNoAnswerInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.answer = func(stream uint64, aborted bool) (Event, bool) {
			if aborted {
				return Event{Stream: stream, Outcome: checkpoint.Aborted}, true
			}
			return ok(stream), stream != 1
		}
		h := start(t, settings(), d)
		h.push(5)
		<-time.After(65 * time.Second) // the checkpoint was asked for, its timeout is not over
		assert.Zero(t, h.delivered())
		<-time.After(10 * time.Second) // sent again on the stream that opened meanwhile
		synctest.Wait()
		assert.Equal(t, []uint64{1, 1}, d.received)

		// The late answer counts, and what is sent again is not counted twice.
		d.events <- ok(1)
		synctest.Wait()
		assert.Equal(t, uint64(5), h.delivered())
		assert.Equal(t, uint64(1), h.track.State().Live.Late)
		h.finish()
	})
}

func TestAfterATimeoutTheNextStreamUsesANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.answer = func(stream uint64, aborted bool) (Event, bool) {
			return Event{Stream: stream, Outcome: checkpoint.Aborted}, aborted
		}
		h := start(t, settings(), d)
		h.push(1)
		<-time.After(150 * time.Second) // the second checkpoint opens a stream after the first timeout
		d.mu.Lock()
		d.answer = func(stream uint64, _ bool) (Event, bool) { return ok(stream), true }
		d.mu.Unlock()
		h.finish()
		assert.Positive(t, d.renewed)
	})
}

func TestAFullTrackBlocksItsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.sendOK = make(chan struct{})
		s := settings()
		s.Queue.Messages = 3
		h := start(t, s, d)
		for range 4 { // one is being sent
			h.push(1)
			synctest.Wait()
		}
		h.push(1)
		pushed := make(chan struct{})
		go func() {
			defer close(pushed)
			h.push(1)
		}()
		synctest.Wait()
		select {
		case <-pushed:
			t.Fatal("a full track took a batch")
		default:
		}
		close(d.sendOK)
		<-pushed
		h.finish()
	})
}

func TestUnconfirmedMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		var held []uint64
		d.answer = func(stream uint64, _ bool) (Event, bool) {
			held = append(held, stream)
			return Event{}, false
		}
		s := settings()
		s.Memory = 1000 // 100 messages
		s.Queue.Messages, s.Queue.Bytes = 10, 100
		h := start(t, s, d)
		blocked := make(chan struct{})
		go func() {
			defer close(blocked)
			for range 40 {
				h.push(5)
			}
		}()
		synctest.Wait()
		assert.LessOrEqual(t, len(d.received), 21, "what is unconfirmed is bounded")
		assert.NotEmpty(t, held, "a quarter of the memory makes a checkpoint due")
		d.mu.Lock()
		d.answer = func(stream uint64, _ bool) (Event, bool) { return ok(stream), true }
		for _, stream := range held {
			d.events <- ok(stream)
		}
		d.mu.Unlock()
		<-blocked
		h.finish()
	})
}

func TestASourceThatWantsItsAckGetsACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, settings(), newDestination())
		<-time.After(time.Second)
		h.push(5)
		h.track.WantAck(5)
		synctest.Wait()
		assert.Equal(t, uint64(5), h.delivered(), "at once")
		for range 10 { // then at most one in 200 ms
			h.push(1)
			h.track.WantAck(h.next)
			<-time.After(20 * time.Millisecond)
		}
		assert.LessOrEqual(t, h.track.State().Live.Checkpoints, uint64(2))
		<-time.After(200 * time.Millisecond)
		assert.Equal(t, uint64(15), h.delivered())
		h.finish()
	})
}

func TestBackoffGrowsAndHonoursTheDestination(t *testing.T) {
	b := backoff.New(settings().Retry)
	temporary := &sdk.Error{Class: sdk.ClassRetry}
	most := []time.Duration{50, 250, 1250, 5000, 5000}
	for _, limit := range most {
		d := waitAfter(&b, temporary)
		assert.LessOrEqual(t, d, limit*time.Millisecond+1)
		assert.GreaterOrEqual(t, d, limit*time.Millisecond/2)
	}
	assert.GreaterOrEqual(t, waitAfter(&b, &sdk.Error{Class: sdk.ClassRetry, Delay: time.Minute}), time.Minute)
	b.Reset()
	assert.LessOrEqual(t, waitAfter(&b, temporary), 51*time.Millisecond)
	assert.GreaterOrEqual(t, waitAfter(&b, &sdk.Error{Class: sdk.ClassPermanent}), 2500*time.Millisecond, "slow at once")
}

func TestTheEndOfTheTransportIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		h := start(t, settings(), d)
		h.push(5)
		synctest.Wait()
		d.Close()
		require.Error(t, <-h.done)
		assert.Equal(t, 1, h.buffers[0].released, "what is left is given back")
		assert.Zero(t, h.delivered())
	})
}

func TestCancelEndsATrackThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.sendOK = make(chan struct{}) // never
		ctx, cancel := context.WithCancelCause(t.Context())
		track := NewTrack(settings(), d)
		done := make(chan error, 1)
		go func() { done <- track.Run(ctx) }()
		synctest.Wait()
		cause := errors.New("enough")
		cancel(cause)
		require.ErrorIs(t, <-done, cause)
	})
}

// TestEverythingArrivesWhateverHappens delivers through a destination that fails at
// random in every way: in the end each message was confirmed, and a confirmation
// was only ever believed when the destination had really promised it.
func TestEverythingArrivesWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		overlap := rapid.Bool().Draw(rt, "overlap")
		batches := rapid.IntRange(1, 60).Draw(rt, "batches")
		synctest.Test(t, func(t *testing.T) { deliverThroughFaults(t, seed, overlap, batches) })
	})
}

func deliverThroughFaults(t *testing.T, seed uint64, overlap bool, batches int) {
	random := rand.New(rand.NewPCG(seed, 1)) // of the destination, under its lock
	load := rand.New(rand.NewPCG(seed, 2))
	d := newDestination()
	var promised checkpoint.Set // what an OK after Finish covered
	ended := map[uint64]bool{}
	end := func(stream uint64, outcome checkpoint.Outcome) Event {
		ended[stream] = true
		if outcome == checkpoint.Confirmed && d.finished[stream] {
			promised.AddSet(*d.streams[stream])
		}
		return Event{Stream: stream, Outcome: outcome}
	}
	d.onSend = func(stream uint64, _ *Batch) (Event, bool) {
		if ended[stream] || random.IntN(20) > 0 {
			return Event{}, false
		}
		return end(stream, checkpoint.EndedEarly+checkpoint.Outcome(random.IntN(2))), true
	}
	d.answer = func(stream uint64, aborted bool) (Event, bool) {
		switch {
		case ended[stream]:
			return Event{}, false
		case aborted:
			return end(stream, checkpoint.Aborted), true
		case random.IntN(4) == 0:
			return end(stream, checkpoint.Failed), true
		case random.IntN(8) == 0:
			return Event{}, false // never answers
		}
		return end(stream, checkpoint.Confirmed), true
	}
	s := settings()
	s.Overlap = overlap
	s.Interval = time.Second
	h := start(t, s, d)
	for range batches {
		h.push(1 + load.IntN(20))
		if load.IntN(3) == 0 {
			<-time.After(time.Duration(load.IntN(3000)) * time.Millisecond)
		}
		if load.IntN(5) == 0 {
			h.track.WantAck(h.next)
		}
	}
	h.finish()
	require.True(t, promised.Contains(checkpoint.Range{First: 1, Last: h.next}), "promised only %s of %d", promised.String(), h.next)
}

func TestATransportThatNeverAnswersIsHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.answer = func(uint64, bool) (Event, bool) { return Event{}, false }
		h := start(t, settings(), d)
		h.push(1)
		began := time.Now()
		require.ErrorContains(t, <-h.done, "does not answer")
		assert.Equal(t, 60+10+30+10, int(time.Since(began).Seconds()), "interval, timeout, linger, and once more the timeout")
		assert.Equal(t, uint64(1), h.track.Pending())
	})
}

func TestATransportThatTakesNothingIsNotHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDestination()
		d.sendOK = make(chan struct{})
		h := start(t, settings(), d)
		h.push(1)
		<-time.After(10 * time.Minute) // many timeouts, but it could not be told of any
		select {
		case err := <-h.done:
			t.Fatal(err)
		default:
		}
		close(d.sendOK)
		h.finish()
	})
}
