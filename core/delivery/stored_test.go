package delivery

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/sdk"
)

func TestStoredHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startStored(t, storedSettings(), 1)
		for range 10 {
			h.push(0, 5)
		}
		synctest.Wait()
		assert.Equal(t, uint64(50), h.track.Pending())
		assert.Zero(t, h.track.OnDisk(), "the live lane has all of it")
		assert.Equal(t, 1, h.buffers[0].released, "what is sent is not kept")
		h.finish()
		assert.Len(t, h.live.got(), 10)
		assert.Empty(t, h.again.got())
		assert.Equal(t, uint64(50), h.delivered())
	})
}

func TestStoredEvictionDropsAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Queue.Messages = 10
		h := newStored(t, s, 1)
		h.live.sendOK = make(chan struct{})
		h.again.sendOK = h.live.sendOK
		h.begin()
		for range 20 {
			h.push(0, 5) // never waits
		}
		synctest.Wait()
		assert.Equal(t, uint64(100), h.track.Pending())
		assert.Positive(t, h.track.State().Evicted)
		h.requireBalanced()
		close(h.live.sendOK)
		h.finish()
		assert.Equal(t, uint64(100), h.delivered())
		assert.NotEmpty(t, h.again.got())
		assert.Len(t, append(h.live.got(), h.again.got()...), 20, "nothing is sent twice")
	})
}

func TestStoredOutageAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.live.answer, h.again.answer = failing, failing
		h.live.onSend = func(stream uint64, _ *Batch) (Event, bool) { return failing(stream, false) }
		h.begin()
		h.push(0, 5)
		<-time.After(10 * time.Second)
		for range 10 {
			h.push(0, 5)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		assert.Zero(t, h.delivered())
		assert.NotNil(t, h.track.State().LastError)
		h.requireBalanced()
		for _, d := range []*destination{h.live, h.again} {
			d.set(func() {
				d.answer = working
				d.onSend = func(uint64, *Batch) (Event, bool) { return Event{}, false }
			})
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		assert.NotEmpty(t, h.again.got())
		h.finish()
		assert.Equal(t, uint64(55), h.delivered())
		assert.Nil(t, h.track.State().LastError)
	})
}

func TestStoredTimeoutAndALateOK(t *testing.T) {
	for name, lateAfter := range map[string]time.Duration{
		"before it is confirmed again": 0,
		"after it":                     20 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newStored(t, storedSettings(), 1)
				h.live.answer, h.again.answer = silent, silent
				h.begin()
				h.push(0, 5)
				<-time.After(65 * time.Second)
				assert.Empty(t, h.again.got(), "its timeout is not over")
				if lateAfter > 0 {
					h.again.set(func() { h.again.answer = working })
				}
				<-time.After(6*time.Second + lateAfter)
				synctest.Wait()
				assert.Equal(t, []uint64{1}, h.again.got(), "it is sent again")
				h.live.events <- ok(1)
				synctest.Wait()
				assert.Equal(t, uint64(5), h.delivered())
				assert.Equal(t, uint64(1), h.track.State().Live.Late)
				assert.Zero(t, h.track.Pending())
				h.requireBalanced()
				h.live.set(func() { h.live.answer = working })
				h.again.set(func() { h.again.answer = working })
				if lateAfter == 0 {
					h.again.events <- ok(1)
				}
				h.finish()
				assert.Equal(t, uint64(5), h.delivered(), "once")
			})
		})
	}
}

// What was confirmed late while it waited to be sent again is not sent again.
func TestStoredLateOKComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.live.answer = silent
		h.again.sendOK = make(chan struct{})
		h.begin()
		for range 3 {
			h.push(0, 5)
		}
		<-time.After(75 * time.Second) // timed out, and read again: one is being sent, two wait
		synctest.Wait()
		h.live.events <- ok(1)
		synctest.Wait()
		assert.Equal(t, uint64(15), h.delivered())
		close(h.again.sendOK)
		h.live.set(func() { h.live.answer = working })
		h.finish()
		assert.Equal(t, []uint64{1, 6}, h.again.got(), "the last one was settled before its turn")
	})
}

func TestStoredEarlyOKConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.live.onSend = func(stream uint64, _ *Batch) (Event, bool) { return ok(stream), stream == 1 }
		h.begin()
		h.push(0, 5)
		synctest.Wait()
		assert.Zero(t, h.delivered())
		<-time.After(10 * time.Second)
		assert.Equal(t, []uint64{1}, h.again.got())
		h.finish()
		assert.Equal(t, uint64(5), h.delivered())
	})
}

func TestStoredStreamsOverlap(t *testing.T) {
	for _, overlap := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := storedSettings()
			s.Overlap = overlap
			s.Interval = 4 * time.Second
			h := newStored(t, s, 1)
			var asked []uint64
			h.live.answer = func(stream uint64, aborted bool) (Event, bool) {
				asked = append(asked, stream)
				return silent(stream, aborted)
			}
			h.begin()
			h.push(0, 5)
			<-time.After(5 * time.Second) // stream 1 waits for its answer
			h.push(0, 5)
			synctest.Wait()
			h.live.set(func() {
				assert.Equal(t, []uint64{1}, asked)
				if overlap {
					assert.Equal(t, []uint64{1, 6}, h.live.received, "sending goes on")
				} else {
					assert.Equal(t, []uint64{1}, h.live.received)
				}
				h.live.answer = working
			})
			h.live.events <- ok(1)
			h.finish()
			assert.Equal(t, uint64(10), h.delivered())
			assert.Empty(t, h.again.got())
		})
	}
}

func TestStoredPoisonIsBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Interval = time.Second
		h := newStored(t, s, 2)
		poison := checkpoint.SetOf(checkpoint.Range{First: 33, Last: 33}, checkpoint.Range{First: 120, Last: 120})
		h.live.answer, h.again.answer = h.live.refusing(poison), h.again.refusing(poison)
		h.begin()
		for i := range 20 {
			h.push(i%2, 10)
		}
		for range 300 { // others succeed
			<-time.After(time.Second)
			h.push(0, 1)
		}
		h.finish()
		var ids []uint64
		for _, l := range h.buried {
			ids = append(ids, l.ID)
			assert.Equal(t, "INVALID_ARGUMENT: bad value", l.Text)
		}
		slices.Sort(ids)
		assert.Equal(t, []uint64{33, 120}, ids)
		assert.Equal(t, uint64(2), h.lost())
		assert.Equal(t, h.next-2, h.delivered())
		assert.Equal(t, map[string]uint64{"refused by the destination: InvalidArgument": 2}, h.flows[1].Account.Tracks[0].Lost.Counts())
	})
}

func TestStoredALetterThatCannotBeWrittenStaysPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Interval = time.Second
		broken := true
		s.Bury = func(*Batch, checkpoint.Letter) error {
			if broken {
				return errors.New("disk full")
			}
			return nil
		}
		h := newStored(t, s, 1)
		poison := checkpoint.SetOf(checkpoint.Range{First: 5, Last: 5})
		h.live.answer, h.again.answer = h.live.refusing(poison), h.again.refusing(poison)
		h.begin()
		h.push(0, 10)
		for range 100 {
			<-time.After(time.Second)
			h.push(0, 1)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		assert.Zero(t, h.lost())
		assert.Equal(t, uint64(1), h.track.Pending())
		broken = false
		h.finish()
		assert.Equal(t, uint64(1), h.lost())
	})
}

func TestStoredFilteredFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Queue.Messages = 20
		s.Wants = func(f *Flow) bool { return f.Flow.Name == "f0" }
		h := newStored(t, s, 2)
		h.live.sendOK = make(chan struct{})
		h.before(1, 7)
		h.before(0, 7)
		h.begin()
		for range 10 {
			h.push(0, 3)
			h.push(1, 4)
		}
		synctest.Wait()
		close(h.live.sendOK)
		h.finish()
		assert.Equal(t, uint64(37), h.delivered())
		assert.Equal(t, uint64(47), h.filtered())
		for _, d := range []*destination{h.live, h.again} {
			for _, ids := range d.streams {
				for r := range ids.Ranges() {
					assert.False(t, checkpoint.SetOf(checkpoint.Range{First: 1, Last: 7}).Overlaps(r), "a filtered batch was sent")
				}
			}
		}
	})
}

// A stream that was given nothing but what is filtered has nothing to be asked for,
// and its end needs no answer.
func TestStoredOnlyFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Wants = func(*Flow) bool { return false }
		h := newStored(t, s, 1)
		h.live.answer = silent
		h.begin()
		h.push(0, 4)
		synctest.Wait()
		h.end()
		assert.Equal(t, uint64(4), h.filtered())
		h.requireBalanced()
	})
}

func TestStoredDropWhileALaneHasIt(t *testing.T) {
	for name, confirmed := range map[string]bool{"then confirmed": true, "then failed": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newStored(t, storedSettings(), 1)
				h.live.answer = silent
				h.begin()
				h.push(0, 10)
				synctest.Wait()
				h.drop(3, 6)
				assert.Equal(t, uint64(10), h.track.Pending(), "it may still be delivered")
				assert.Zero(t, h.lost())
				h.live.set(func() {
					if h.live.answer = working; !confirmed {
						h.live.answer = failing
					}
				})
				h.finish()
				if confirmed {
					assert.Equal(t, uint64(10), h.delivered())
					return
				}
				assert.Equal(t, uint64(6), h.delivered())
				assert.Equal(t, uint64(4), h.lost())
			})
		})
	}
}

func TestStoredDropOfWhatNoLaneHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.live.onSend = func(stream uint64, _ *Batch) (Event, bool) { return failing(stream, false) }
		h.again.answer = failing
		h.begin()
		h.push(0, 10)
		synctest.Wait()
		h.drop(3, 6)
		assert.Equal(t, uint64(4), h.lost())
		assert.Equal(t, uint64(6), h.track.Pending())
		h.again.set(func() { h.again.answer = working })
		h.finish()
		assert.Equal(t, uint64(6), h.delivered())
	})
}

// A batch in the live queue is dropped from the full disk, and then loses its place
// in the queue: nobody has it any more.
func TestStoredDropAndThenEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Queue.Messages = 10
		h := newStored(t, s, 1)
		h.live.sendOK = make(chan struct{})
		h.begin()
		for range 3 {
			h.push(0, 5) // one is being sent, one is next, one waits in the queue
			synctest.Wait()
		}
		h.drop(1, 15)
		h.push(0, 10)
		synctest.Wait()
		close(h.live.sendOK)
		h.finish()
		assert.Equal(t, uint64(5), h.lost())
		assert.Equal(t, uint64(20), h.delivered())
	})
}

// A full disk drops a batch at once, before its track has it.
func TestStoredDropOfAClaim(t *testing.T) {
	for name, sendable := range map[string]bool{"that can be sent": true, "of an unknown flow": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storedSettings()
				s.Sendable = func(*Batch) bool { return sendable }
				h := startStored(t, s, 1)
				b := h.batch(0, 5)
				h.track.Claim(b)
				h.store.put(b)
				h.drop(1, 5)
				require.NoError(t, h.track.Push(t.Context(), b))
				b.Release()
				h.finish()
				if sendable {
					assert.Equal(t, uint64(5), h.delivered())
				} else {
					assert.Equal(t, uint64(5), h.lost())
				}
			})
		})
	}
}

func TestStoredFlowsThatBecomeKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Sendable = func(b *Batch) bool {
			_, known := b.Flow.Binding(0)
			return known
		}
		h := newStored(t, s, 2)
		h.flows[0].Bind(0, sdk.Binding{})
		h.before(1, 10)
		h.begin()
		for range 5 {
			h.push(0, 5)
			h.push(1, 5)
		}
		<-time.After(70 * time.Second)
		synctest.Wait()
		assert.Equal(t, uint64(25), h.delivered(), "those of the known flow")
		assert.Equal(t, uint64(35), h.track.Pending())
		h.requireBalanced()
		h.flows[1].Bind(0, sdk.Binding{})
		h.track.LookAgain()
		synctest.Wait()
		assert.Len(t, h.again.got(), 6)
		h.finish()
		assert.Equal(t, uint64(60), h.delivered())
	})
}

// A flow becomes known at the very moment in which its batch is left to the store.
func TestStoredAFlowBecomesKnownMeanwhile(t *testing.T) {
	for name, inPush := range map[string]bool{"while it is pushed": true, "while it is read": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h *storedHarness
				s := storedSettings()
				known := false
				s.Sendable = func(*Batch) bool {
					if known {
						return true
					}
					known = true
					h.track.LookAgain()
					return false
				}
				h = newStored(t, s, 1)
				if !inPush {
					h.before(0, 5)
				}
				h.begin()
				if inPush {
					h.push(0, 5)
				}
				<-time.After(time.Minute)
				h.end()
				assert.Equal(t, uint64(5), h.delivered())
				h.requireBalanced()
			})
		})
	}
}

func TestStoredBackupFullCausesACheckpoint(t *testing.T) {
	for _, kind := range []control.Kind{control.BackupFull, control.SignalNextCheckpoint} {
		synctest.Test(t, func(t *testing.T) {
			s := storedSettings()
			h := startStored(t, s, 1)
			h.push(0, 5)
			synctest.Wait()
			assert.Zero(t, h.delivered())
			s.Bus.Publish(control.Notice{Kind: kind, Track: control.AllTracks})
			synctest.Wait()
			assert.Equal(t, uint64(5), h.delivered())
			h.finish()
		})
	}
}

func TestStoredASourceThatWantsItsAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startStored(t, storedSettings(), 1)
		<-time.After(time.Second)
		h.push(0, 5)
		h.track.WantAck(5)
		synctest.Wait()
		assert.Equal(t, uint64(5), h.delivered())
		h.finish()
	})
}

func TestStoredALaggingDiskShortensTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startStored(t, storedSettings(), 1)
		h.push(0, 5)
		<-time.After(10 * time.Second)
		assert.Zero(t, h.delivered())
		h.store.setLagging(true) // nobody tells
		<-time.After(3 * time.Second)
		synctest.Wait()
		assert.Equal(t, uint64(5), h.delivered())
		h.finish()
	})
}

func TestStoredReingestionYieldsToLiveData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storedSettings()
		s.Queue.Messages = 100
		h := newStored(t, s, 1)
		h.live.sendOK = make(chan struct{})
		for range 12 {
			h.push(0, 6)
		}
		h.before(0, 10)
		h.begin()
		<-time.After(time.Minute)
		assert.Empty(t, h.again.got())
		h.live.sendOK <- struct{}{} // less than half of the queue is left
		h.live.sendOK <- struct{}{}
		<-time.After(time.Second)
		assert.Equal(t, []uint64{73}, h.again.got())
		close(h.live.sendOK)
		h.finish()
	})
}

func TestStoredTheEndWaitsForTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 3)
		h.again.answer = failing
		for i := range 30 {
			h.before(i%3, 7)
		}
		h.begin()
		h.track.LookAgain()
		h.track.CloseQueue()
		<-time.After(time.Minute)
		select {
		case err := <-h.done:
			t.Fatal("it ended with a backlog", err)
		default:
		}
		assert.Equal(t, uint64(210), h.track.Pending())
		h.again.set(func() { h.again.answer = working })
		h.finish()
		assert.Equal(t, uint64(210), h.delivered())
	})
}

func TestStoredALargeBacklogIsConfirmedInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.before(0, againStreamBytes/10+1)
		h.before(0, 5)
		asked := 0
		h.again.answer = func(stream uint64, aborted bool) (Event, bool) {
			asked++
			return working(stream, aborted)
		}
		h.begin()
		synctest.Wait()
		h.again.set(func() { assert.Equal(t, 2, asked) })
		h.finish()
	})
}

func TestStoredWhatCannotBeReadIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.before(0, 10)
		h.before(0, 10)
		h.before(0, 10)
		h.store.damaged.Add(checkpoint.Range{First: 8, Last: 13})
		h.store.failing = 2 // these will be tried again
		h.begin()
		h.finish()
		assert.Equal(t, uint64(24), h.delivered())
		assert.Equal(t, uint64(6), h.lost())
	})
}

func TestStoredCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStored(t, storedSettings(), 1)
		h.live.sendOK, h.again.sendOK = make(chan struct{}), make(chan struct{}) // never
		h.before(0, 10)
		h.begin()
		for range 5 {
			h.push(0, 10)
		}
		synctest.Wait()
		cause := errors.New("enough")
		h.cancel(cause)
		require.ErrorIs(t, <-h.done, cause)
		assert.Equal(t, uint64(60), h.track.Pending(), "it stays in the store")
		h.requireBalanced()
		h.push(0, 10) // a track that is over takes it, and leaves it to the store
		assert.Equal(t, uint64(70), h.track.Pending())
		h.requireBalanced()
	})
}

func TestStoredATransportIsGone(t *testing.T) {
	for name, which := range map[string]func(*storedHarness) *destination{
		"live":  func(h *storedHarness) *destination { return h.live },
		"again": func(h *storedHarness) *destination { return h.again },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newStored(t, storedSettings(), 1)
				h.before(0, 10)
				h.begin()
				h.push(0, 10)
				h.live.set(func() { h.live.answer = silent })
				which(h).Close()
				require.Error(t, <-h.done)
				h.requireBalanced()
			})
		})
	}
}
