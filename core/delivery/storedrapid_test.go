package delivery

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/sdk"
)

// TestStoredWhateverHappens has random traffic of several flows, of which one is
// filtered and one becomes known late, through destinations that fail in every way and
// refuse some messages for good, over a store that lags, drops, and cannot be read here
// and there. In the end every message is settled once, the account says what the
// census says at every quiet moment, and nothing counts as delivered that the
// destination has not promised.
func TestStoredWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := storedCase{
			seed: rapid.Uint64().Draw(rt, "seed"), overlap: rapid.Bool().Draw(rt, "overlap"),
			batches: rapid.IntRange(1, 50).Draw(rt, "batches"), before: rapid.IntRange(0, 10).Draw(rt, "stored before"),
			queue: rapid.SampledFrom([]int{20, 100, 1000}).Draw(rt, "queue"),
			drops: rapid.Bool().Draw(rt, "drops"), poison: rapid.IntRange(0, 2).Draw(rt, "poison"),
		}
		synctest.Test(t, func(t *testing.T) { c.run(t) })
	})
}

type storedCase struct {
	seed    uint64
	overlap bool
	batches int
	before  int
	queue   int
	drops   bool
	poison  int

	h    *storedHarness
	load *rand.Rand
}

func (c *storedCase) run(t *testing.T) {
	c.load = rand.New(rand.NewPCG(c.seed, 2))
	s := storedSettings()
	s.Overlap, s.Interval, s.Queue.Messages = c.overlap, time.Second, c.queue
	s.Wants = func(f *Flow) bool { return f.Flow.Name != "f1" }
	s.Sendable = func(b *Batch) bool {
		_, known := b.Flow.Binding(0)
		return known
	}
	var poison checkpoint.Set
	for range c.poison {
		id := 1 + c.load.Uint64N(200)
		poison.Add(checkpoint.Range{First: id, Last: id})
	}
	c.h = newStored(t, s, 3)
	h := c.h
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, overlap %t, %d batches, %d before, queue %d, drops %t, poison %s; left %s, lanes have %s",
				c.seed, c.overlap, c.batches, c.before, c.queue, c.drops, poison.String(), h.store.Missing(), h.track.owned())
		}
	})
	h.flows[0].Bind(0, sdk.Binding{})
	live, again := faultsOf(h.live, c.seed, poison), faultsOf(h.again, c.seed+1, poison)
	for range c.before {
		h.before(c.load.IntN(3), 1+c.load.IntN(20))
	}
	h.begin()
	for i := range c.batches {
		h.push(c.load.IntN(3), 1+c.load.IntN(20))
		c.trouble(s.Bus)
		if i == c.batches/2 {
			h.flows[2].Bind(0, sdk.Binding{})
			h.track.LookAgain()
		}
	}
	h.store.setLagging(false)
	for range 1000 { // others succeed, until what is refused is found
		<-time.After(5 * time.Second)
		if h.track.Pending() == 0 {
			break
		}
		h.push(0, 1)
	}
	h.end()
	require.Zero(t, h.track.Pending())
	h.requireBalanced()
	h.requireGivenBack()
	require.Equal(t, h.next, h.delivered()+h.filtered()+h.lost())
	h.requirePromised(live, again)
	if !c.drops {
		require.LessOrEqual(t, h.lost(), poison.Count()+h.store.damaged.Count())
	}
}

// trouble is what happens between two batches.
func (c *storedCase) trouble(bus *control.Bus) {
	h := c.h
	switch c.load.IntN(11) {
	case 0, 1, 2:
		<-time.After(time.Duration(c.load.IntN(3000)) * time.Millisecond)
	case 3:
		<-time.After(time.Duration(c.load.IntN(60)) * time.Second)
	case 4:
		h.track.WantAck(h.next)
	case 5:
		bus.Publish(control.Notice{Kind: control.BackupFull, Track: control.AllTracks})
	case 6:
		h.store.setLagging(c.load.IntN(2) == 0)
	case 7:
		if c.drops {
			first := 1 + c.load.Uint64N(h.next)
			h.drop(first, min(h.next, first+c.load.Uint64N(30)))
		}
	case 8:
		h.store.damage(1+c.load.Uint64N(h.next), c.load.IntN(3))
	}
	synctest.Wait()
	h.requireBalanced()
}

// damage makes a message unreadable for good, and some reads fail.
func (s *fakeStore) damage(id uint64, failing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged.Add(checkpoint.Range{First: id, Last: id})
	s.failing += failing
}

// requirePromised holds that what counts as delivered is what destinations promised.
func (h *storedHarness) requirePromised(all ...*faults) {
	h.t.Helper()
	var promised checkpoint.Set
	for _, f := range all {
		promised.AddSet(f.promised)
	}
	require.GreaterOrEqual(h.t, promised.Count(), h.delivered())
	rest := h.store.confirmed.Clone()
	rest.RemoveSet(promised)
	for _, b := range h.store.batches {
		if b.flow.Flow.Name == "f1" { // it is filtered
			rest.Remove(b.ids)
		}
	}
	rest.RemoveSet(h.store.damaged)
	for _, l := range h.buried {
		rest.Remove(checkpoint.Range{First: l.ID, Last: l.ID})
	}
	require.Empty(h.t, rest.String(), "confirmed and not promised")
}
