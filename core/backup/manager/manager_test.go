package manager

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

func TestWithinSyncsOnceAfterTheLongestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newSlowFS(vfs.NewMemory(0))
		x := openBench(t, fs, testOptions(), within(time.Second)).run()
		a, b := x.push(3), x.push(4)
		eventually(900 * time.Millisecond)
		assertSafe(t, 0, a, b)
		c := x.push(5)
		eventually(200 * time.Millisecond)
		assertSafe(t, 1, a, b, c)
		assert.Equal(t, 1, fs.syncCount(), "one sync for all")
		assert.Equal(t, []checkpoint.Range{a.meta.Ids, b.meta.Ids, c.meta.Ids}, x.order)
		assert.EqualValues(t, 0, a.refs.Load())

		eventually(time.Minute)
		d := x.push(1)
		eventually(900 * time.Millisecond)
		assertSafe(t, 0, d)
		eventually(100 * time.Millisecond)
		assertSafe(t, 1, d)
		assert.Equal(t, 2, fs.syncCount())
		x.close()
	})
}

func TestWantSyncSyncsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newSlowFS(vfs.NewMemory(0))
		x := openBench(t, fs, testOptions(), within(time.Hour)).run()
		a := x.push(1)
		x.m.WantSync() // also before it is written
		b := x.push(1)
		eventually(0)
		assertSafe(t, 1, a)
		eventually(time.Minute)
		assert.LessOrEqual(t, fs.syncCount(), 2)
		c := x.push(1)
		eventually(time.Minute)
		assertSafe(t, 0, c)
		x.m.WantSync()
		eventually(0)
		assertSafe(t, 1, a, b, c)
		x.close()
	})
}

func TestRotateNeverSyncsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newSlowFS(vfs.NewMemory(0))
		x := openBench(t, fs, testOptions(), rotate()).run()
		a := x.push(1)
		x.m.WantSync()
		eventually(time.Hour)
		assertSafe(t, 1, a)
		assert.EqualValues(t, 0, a.refs.Load())
		assert.Equal(t, 0, fs.syncCount())
		x.close()
		assert.Positive(t, fs.syncCount(), "at the end it does")
	})
}

func TestManyPushesDuringASyncCostOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newSlowFS(vfs.NewMemory(0))
		x := openBench(t, fs, testOptions(), always()).run()
		gate, open := fs.hold(vfs.OpSync)
		first := x.push(1)
		eventually(0)
		require.EqualValues(t, 1, gate.waiting.Load())
		var more []*testBatch
		for range 100 {
			more = append(more, x.push(1))
		}
		eventually(time.Second)
		assertSafe(t, 0, append(more, first)...)
		assert.EqualValues(t, 101, x.m.State().Batches, "writing goes on during a sync")
		_, openSecond := fs.hold(vfs.OpSync)
		open()
		eventually(0)
		assertSafe(t, 1, first)
		assertSafe(t, 0, more...)
		openSecond()
		eventually(0)
		assertSafe(t, 1, append(more, first)...)
		assert.Equal(t, 2, fs.syncCount())
		s := x.m.State()
		assert.EqualValues(t, 2, s.Sync.Count())
		assert.GreaterOrEqual(t, s.Sync.Max, time.Second)
		x.close()
	})
}

func TestCloseStoresAndSyncsWhatIsLeft(t *testing.T) {
	for name, s := range map[string]Settings{"within": within(time.Hour), "always": always(), "rotate": rotate()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := vfs.NewMemory(0)
				x := openBench(t, fs, testOptions(), s)
				var batches []*testBatch
				for range 10 {
					batches = append(batches, x.push(7))
				}
				x.m.Confirm("a", checkpoint.SetOf(batches[0].meta.Ids))
				x.run()
				x.m.CloseQueue()
				require.NoError(t, <-x.ran)
				assertSafe(t, 1, batches...)
				require.ErrorIs(t, x.m.Push(t.Context(), x.batch(1)), ErrClosed)

				again, _, err := backup.Open(fs.Crash(vfs.Lose()), testDir, testOptions())
				require.NoError(t, err)
				assert.EqualValues(t, 70, again.Missing("b").Count())
				assert.EqualValues(t, 63, again.Missing("a").Count())
			})
		})
	}
}

func TestCancelLeavesTheRestUnsafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, vfs.NewMemory(0), testOptions(), within(time.Hour)).run()
		a := x.push(5)
		eventually(time.Second)
		require.ErrorContains(t, x.stop(), "5 messages were not stored")
		assertSafe(t, 0, a)
		assert.EqualValues(t, 0, a.refs.Load())
		require.ErrorIs(t, x.m.Push(t.Context(), x.batch(1)), ErrClosed)
		require.NoError(t, x.b.Close())
	})
}

func TestPushWaitsOnlyIfToldToBlock(t *testing.T) {
	for _, block := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := always()
			s.Queue, s.Block = channel.Size{Messages: 10, Bytes: 1 << 20}, block
			x := openBench(t, vfs.NewMemory(0), testOptions(), s)
			x.push(8)
			assert.False(t, x.m.Lagging())
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("late"))
			defer cancel()
			b := x.batch(8)
			err := x.m.Push(ctx, b)
			if block {
				require.ErrorContains(t, err, "late")
				pushed := make(chan error, 1)
				go func() { pushed <- x.m.Push(t.Context(), b) }()
				eventually(0)
				x.run()
				require.NoError(t, <-pushed)
			} else {
				require.NoError(t, err)
				assert.True(t, x.m.Lagging())
				x.run()
			}
			x.close()
			assertSafe(t, 1, b)
		})
	}
}

func TestTailHoldsWhatIsNotDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, vfs.NewMemory(0), testOptions(), within(time.Minute)).run()
		a, b, c := x.push(3), x.push(3), x.push(3)
		eventually(0)
		got := x.m.Tail(checkpoint.SetOf(
			checkpoint.Range{First: a.meta.Ids.Last, Last: b.meta.Ids.First}, checkpoint.Range{First: c.meta.Ids.Last + 1, Last: checkpoint.MaxID}))
		require.Equal(t, []Batch{a, b}, got)
		assert.EqualValues(t, 2, a.refs.Load())
		eventually(time.Minute)
		assert.Empty(t, x.m.Tail(checkpoint.SetOf(a.meta.Ids, b.meta.Ids)))
		assert.Equal(t, bodyOf(a.meta.Ids), a.Body(), "our reference keeps it")
		for _, batch := range got {
			batch.Release()
		}
		x.close()
	})
}
