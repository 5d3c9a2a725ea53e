package manager

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// bubble runs a step of rapid in a bubble of synctest.
func bubble(t *testing.T, f func(t *testing.T)) {
	var failure any
	synctest.Test(t, func(t *testing.T) {
		defer func() { failure = recover() }()
		f(t)
	})
	if failure != nil {
		panic(failure) // rapid's own, which must not cross the bubble
	}
}

// world is a manager on a sick disk, and what must hold for it.
type world struct {
	*bench
	r      *rapid.T
	memory *vfs.Memory
	sick   *sickFS
	opts   backup.Options
	mode   Mode

	batches   []*testBatch
	confirmed map[string]*checkpoint.Set
	fresh     map[string]uint64 // as Confirm said

	crashAt  int32 // the crash comes with this call of Safe
	safes    atomic.Int32
	crashed  atomic.Pointer[vfs.Memory]
	safeThen []*testBatch // those that were safe when it came
}

func newWorld(t *testing.T, r *rapid.T) *world {
	w := &world{r: r, memory: vfs.NewMemory(0), opts: testOptions()}
	w.sick = newSickFS(w.memory)
	w.sick.slow.Store(rapid.Bool().Draw(r, "slow"))
	w.opts.MaxFileSize = rapid.Int64Range(300, 4000).Draw(r, "file size")
	w.opts.OnFull = rapid.SampledFrom([]backup.OnFull{backup.Block, backup.DropOldest, backup.DropNewest}).Draw(r, "on full")
	if w.opts.OnFull != backup.Block {
		w.opts.MaxDisk = rapid.Int64Range(2000, 9000).Draw(r, "most on disk")
	}
	w.mode = rapid.SampledFrom([]Mode{Within, Always, Rotate}).Draw(r, "mode")
	longest := time.Duration(rapid.IntRange(1, 3000).Draw(r, "longest")) * time.Millisecond
	w.bench = openBench(r, w.sick, w.opts, Settings{Sync: Sync{w.mode, longest}})
	w.confirmed = map[string]*checkpoint.Set{"a": {}, "b": {}}
	w.fresh = make(map[string]uint64)
	w.crashAt = rapid.Int32Range(-20, 40).Draw(r, "crash at")
	w.run()
	t.Cleanup(func() { w.cancel(nil) })
	return w
}

func (w *world) add() {
	b := w.batch(rapid.IntRange(1, 8).Draw(w.r, "messages"))
	b.onSafe = func(b *testBatch) {
		if w.safes.Add(1) == w.crashAt {
			w.crash()
		}
	}
	w.mu.Lock()
	w.batches = append(w.batches, b)
	w.mu.Unlock()
	require.NoError(w.r, w.m.Push(context.Background(), b))
}

// crash ends the file system while a batch becomes safe.
func (w *world) crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.batches {
		if b.safe.Load() > 0 {
			w.safeThen = append(w.safeThen, b)
		}
	}
	survival := vfs.Keep() // what is written is there as long as the machine runs
	if w.mode != Rotate {
		survival = vfs.Random(uint64(w.crashAt))
	}
	w.crashed.Store(w.memory.Crash(survival))
}

// confirmSome confirms a batch for one track or for all.
func (w *world) confirmSome() {
	if len(w.batches) == 0 {
		return
	}
	b := w.batches[rapid.IntRange(0, len(w.batches)-1).Draw(w.r, "batch")]
	tracks := rapid.SampledFrom([][]string{{"a"}, {"b"}, {"a", "b"}}).Draw(w.r, "tracks")
	for _, track := range tracks {
		w.confirmed[track].Add(b.meta.Ids)
	}
	b.confirmed.Store(w.confirmed["a"].Contains(b.meta.Ids) && w.confirmed["b"].Contains(b.meta.Ids))
	for _, track := range tracks {
		w.fresh[track] += w.m.Confirm(track, checkpoint.SetOf(b.meta.Ids)).Count()
	}
}

func (w *world) step() {
	switch rapid.IntRange(0, 13).Draw(w.r, "step") {
	case 0, 1, 2, 3, 4:
		w.add()
	case 5, 6, 7:
		w.confirmSome()
	case 8:
		w.m.WantSync()
	case 9:
		w.sick.full.Store(rapid.Bool().Draw(w.r, "full"))
	case 10:
		w.sick.syncs.Store(rapid.Int32Range(1, 3).Draw(w.r, "failed syncs"))
	case 11, 12:
		eventually(time.Duration(rapid.IntRange(0, 3000).Draw(w.r, "ms")) * time.Millisecond)
	case 13:
		synctest.Wait()
		w.readable()
	}
}

// readable checks at a moment of rest that what is missing can be read somewhere.
func (w *world) readable() {
	if w.crashed.Load() != nil || w.mode == Rotate && w.m.State().Trouble != nil {
		return // what is to be read again may turn out to be lost
	}
	stored := readAll(w.r, w.b)
	missing := w.m.Missing("a")
	for _, b := range w.m.Tail(missing) {
		stored.Add(b.Meta().Ids)
		b.Release()
	}
	if w.crashed.Load() == nil {
		missing.RemoveSet(stored)
		assert.Empty(w.r, missing.String(), "missing, and neither in memory nor on disk")
	}
}

// settled returns what needs no storing.
func (w *world) settled() checkpoint.Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.lost.Clone()
	for r := range w.confirmed["a"].Ranges() {
		all.AddSet(w.confirmed["b"].Within(r))
	}
	return all
}

// checkCrash opens what the crash left.
func (w *world) checkCrash() {
	_ = w.stop()
	_ = w.b.Close()
	b, recovered, err := backup.Open(w.crashed.Load(), testDir, w.opts)
	require.NoError(w.r, err)
	there := readAll(w.r, b)
	there.AddSet(w.settled())
	there.AddSet(recovered.Lost)
	for _, batch := range w.safeThen {
		assert.True(w.r, there.Contains(batch.meta.Ids), "%v was safe and is gone", batch.meta.Ids)
	}
	for track, confirmed := range w.confirmed {
		awaited := b.Missing(track)
		awaited.AddSet(*confirmed)
		awaited.AddSet(w.settled())
		awaited.AddSet(recovered.Lost)
		for _, batch := range w.safeThen {
			assert.True(w.r, awaited.Contains(batch.meta.Ids), "%s does not get %v", track, batch.meta.Ids)
		}
	}
	if at := recovered.Cursors["s"]; at != nil {
		for _, batch := range w.batches {
			if batch.meta.Ids.Last <= binary.BigEndian.Uint64(at) {
				assert.True(w.r, there.Contains(batch.meta.Ids), "the cursor is at %d, %v is gone", binary.BigEndian.Uint64(at), batch.meta.Ids)
			}
		}
	}
	require.NoError(w.r, b.Close())
}

// checkEnd ends everything well.
func (w *world) checkEnd() {
	w.sick.full.Store(false)
	w.sick.syncs.Store(0)
	w.m.CloseQueue()
	require.NoError(w.r, <-w.ran)
	all := uint64(0)
	for _, b := range w.batches {
		assert.EqualValues(w.r, 1, b.safe.Load(), "%v", b.meta.Ids)
		assert.EqualValues(w.r, 0, b.refs.Load(), "%v", b.meta.Ids)
		all += b.meta.Ids.Count()
	}
	state := w.m.State()
	assert.Zero(w.r, state.Waiting)
	assert.Zero(w.r, state.Unsynced)
	assert.Zero(w.r, state.Unjournaled)
	w.readable()
	for _, track := range slices.Sorted(slices.Values([]string{"a", "b"})) {
		w.account(track, all)
	}
	require.NoError(w.r, w.b.Close())
}

// account checks that each message is confirmed, lost or missing. What all confirmed
// before it was stored is confirmed.
func (w *world) account(track string, all uint64) {
	lost := checkpoint.Set{}
	for r := range w.lost.Ranges() {
		lost.AddSet(w.m.Unconfirmed(track, r))
	}
	missing := w.m.Missing(track)
	for r := range lost.Ranges() {
		assert.False(w.r, missing.Overlaps(r))
	}
	assert.Equal(w.r, all, w.fresh[track]+lost.Count()+missing.Count(),
		"%s: confirmed %d, lost %s, missing %s", track, w.fresh[track], lost, missing)
}

// TestEveryBatchIsSafeOnce does anything in any order.
func TestEveryBatchIsSafeOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, r)
			for range rapid.IntRange(1, 80).Draw(r, "steps") {
				w.step()
			}
			synctest.Wait()
			if w.crashed.Load() != nil {
				w.checkCrash()
				return
			}
			w.crashAt = -1
			w.checkEnd()
		})
	})
}
