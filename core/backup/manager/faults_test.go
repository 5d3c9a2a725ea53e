package manager

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// sickFS fails calls for segments while told to.
type sickFS struct {
	*vfs.Fault
	full  atomic.Bool  // writes and creations: ENOSPC, the first write is short
	syncs atomic.Int32 // so many syncs fail with EIO
	reads atomic.Bool  // EIO
	slow  atomic.Bool  // others get their turn during each call
}

// yield lets other goroutines run. A pause would not do: those that wait for a mutex
// keep the time of a bubble from passing.
func (s *sickFS) yield() {
	for range 50 {
		if s.slow.Load() {
			runtime.Gosched()
		}
	}
}

func (s *sickFS) Create(path string) (vfs.File, error) {
	f, err := s.Fault.Create(path)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, s}, nil
}

type sickFile struct {
	vfs.File
	fs *sickFS
}

func (f *sickFile) Write(p []byte) (int, error) {
	f.fs.yield()
	return f.File.Write(p)
}

func (f *sickFile) Sync() error {
	err := f.File.Sync()
	f.fs.yield() // what is written now is not synced
	return err
}

func newSickFS(fsys vfs.FS) *sickFS {
	s := &sickFS{}
	s.Fault = vfs.NewFault(fsys, func(op vfs.Op) *vfs.Failure {
		if !strings.HasPrefix(op.Path, testDir) {
			return nil
		}
		switch op.Kind {
		case vfs.OpWrite, vfs.OpCreate:
			if s.full.Load() {
				return &vfs.Failure{Err: syscall.ENOSPC, Written: op.Size / 2}
			}
		case vfs.OpSync:
			if s.syncs.Add(-1) >= 0 {
				return &vfs.Failure{Err: syscall.EIO}
			}
		case vfs.OpRead:
			if s.reads.Load() {
				return &vfs.Failure{Err: syscall.EIO}
			}
		}
		return nil
	})
	return s
}

func TestAFullDiskIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newSickFS(vfs.NewMemory(0))
		var logged bytes.Buffer
		s := always()
		s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		x := openBench(t, fs, testOptions(), s).run()
		before := x.push(2)
		eventually(0)
		fs.full.Store(true)
		a, b, c := x.push(3), x.push(4), x.push(5)
		eventually(10 * time.Second)
		assertSafe(t, 1, before)
		assertSafe(t, 0, a, b, c)
		state := x.m.State()
		assert.True(t, state.Full && state.Lagging)
		require.ErrorIs(t, state.Trouble, backup.ErrFull)
		assert.Equal(t, 12, state.Waiting.Messages)
		assert.Equal(t, 10*time.Second, state.OldestWaiting)

		x.confirm(b)
		eventually(100 * time.Millisecond)
		assertSafe(t, 1, b)
		assertSafe(t, 0, a, c)
		assert.Empty(t, x.m.Tail(checkpoint.SetOf(b.meta.Ids)))

		fs.full.Store(false)
		eventually(time.Second)
		assertSafe(t, 1, a, b, c)
		assert.False(t, x.m.Lagging())
		assert.NoError(t, x.m.State().Trouble)
		x.close()
		assert.Equal(t, 2, strings.Count(logged.String(), "\n"), logged.String())
		assert.Contains(t, logged.String(), "messages_confirmed_meanwhile=4")
	})
}

func TestWhatAFailedSyncLeavesInDoubtIsWrittenAgain(t *testing.T) {
	for name, failures := range map[string]int32{"once": 1, "for a while": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := vfs.NewMemory(0)
				fs := newSickFS(memory)
				x := openBench(t, fs, testOptions(), within(100*time.Millisecond)).run()
				first := x.push(3)
				eventually(time.Second)
				fs.syncs.Store(failures)
				var batches []*testBatch
				for range 20 {
					batches = append(batches, x.push(3))
				}
				eventually(10 * time.Second)
				assertSafe(t, 1, append(batches, first)...)
				state := x.m.State()
				assert.EqualValues(t, failures, state.FailedSyncs)
				assert.NoError(t, state.Trouble)
				assert.Less(t, state.Again, uint64(60+3*failures), "one batch at a time while it fails")
				require.NoError(t, x.stop())
				again, _, err := backup.Open(memory.Crash(vfs.Lose()), testDir, testOptions())
				require.NoError(t, err)
				assert.Equal(t, "1-63", readAll(t, again).String())
				last := batches[19].meta.Ids.Last
				assert.Equal(t, last, binary.BigEndian.Uint64(again.Cursors()["s"]))
			})
		})
	}
}

// TestWhatIsWrittenWhileASyncFailsComesAgain checks that the cursor of a later batch
// cannot become durable before what is in doubt.
func TestWhatIsWrittenWhileASyncFailsComesAgain(t *testing.T) {
	x := openBench(t, vfs.NewMemory(0), testOptions(), within(time.Hour))
	a, b, c := x.push(2), x.push(3), x.push(4)
	tail := &x.m.mu.tail
	entries := tail.entries
	for i := range 2 {
		x.m.wrote(entries[i], uint64(i+1), 1, &effects{})
	}
	doubt := &backup.SuspectError{Ids: checkpoint.SetOf(a.meta.Ids), Err: syscall.EIO}
	x.m.suspect(doubt, &effects{})
	assert.Equal(t, 9, tail.waiting.Messages, "also what came after it: %v", b.meta.Ids)
	assert.Same(t, entries[0], tail.first())
	x.m.wrote(entries[2], 3, 1, &effects{}) // it was on its way
	assert.Equal(t, 9, tail.waiting.Messages, "%v", c.meta.Ids)
	assert.Empty(t, tail.synced(3))
	x.m.wrote(entries[0], 4, 1, &effects{})
	assert.Equal(t, []*entry{entries[0]}, tail.synced(4))
	require.NoError(t, x.b.Close())
}

// TestRotateReadsASuspectBack fails the sync that ends a segment.
func TestRotateReadsASuspectBack(t *testing.T) {
	for name, readable := range map[string]bool{"readable": true, "not readable": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := vfs.NewMemory(0)
				fs := newSickFS(memory)
				opts := testOptions()
				opts.MaxFileSize = 2000
				x := openBench(t, fs, opts, rotate()).run()
				fs.syncs.Store(1)
				fs.reads.Store(!readable)
				var batches []*testBatch
				for x.m.State().FailedSyncs+x.m.State().Again == 0 {
					batches = append(batches, x.push(3))
					eventually(0)
				}
				eventually(time.Minute)
				assertSafe(t, 1, batches...)
				fs.reads.Store(false)
				x.m.CloseQueue()
				require.NoError(t, <-x.ran)
				last := batches[len(batches)-1].meta.Ids
				all := checkpoint.SetOf(checkpoint.Range{First: 1, Last: last.Last})
				kept := x.m.Missing("a")
				assert.EqualValues(t, 0, x.b.Stats().Again, "nothing is awaited")
				if readable {
					assert.Empty(t, x.losses)
					assert.Equal(t, all.String(), kept.String())
				} else {
					assert.NotEmpty(t, x.losses)
					for _, l := range x.losses {
						assert.EqualValues(t, 1, l.Flow)
					}
					all.RemoveSet(x.lost)
					assert.Equal(t, all.String(), kept.String())
					assert.True(t, kept.Contains(last))
				}
				again, _, err := backup.Open(memory.Crash(vfs.Lose()), testDir, opts)
				require.NoError(t, err)
				assert.Equal(t, kept.String(), again.Missing("a").String())
				assert.True(t, readAll(t, again).ContainsSet(kept))
			})
		})
	}
}

func TestDropping(t *testing.T) {
	for _, newest := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			opts := testOptions()
			opts.MaxFileSize, opts.MaxDisk, opts.OnFull = 2000, 6000, backup.DropOldest
			if newest {
				opts.OnFull = backup.DropNewest
			}
			x := openBench(t, vfs.NewMemory(0), opts, within(time.Hour)).run()
			var batches []*testBatch
			for range 40 {
				batches = append(batches, x.push(5))
				eventually(time.Minute)
			}
			eventually(2 * time.Hour)
			assertSafe(t, 1, batches...)
			assert.NotEmpty(t, x.losses)
			assert.Equal(t, newest, x.lost.Contains(batches[39].meta.Ids))
			assert.Equal(t, !newest, x.lost.Contains(batches[0].meta.Ids))
			assert.Equal(t, x.lost.Count(), x.m.State().Dropped)
			missing := x.m.Missing("a")
			for r := range x.lost.Ranges() {
				assert.False(t, missing.Overlaps(r))
			}
			missing.AddSet(x.lost)
			assert.EqualValues(t, 200, missing.Count())
			assert.True(t, x.m.Confirm("a", x.lost).Empty(), "what is lost stays so")
			assert.Equal(t, uint64(200), binary.BigEndian.Uint64(x.b.Cursors()["s"])+200-batches[39].meta.Ids.Last)
			x.close()
		})
	}
}

// stalls are disks that do not answer.
var stalls = map[string]vfs.Kind{"write": vfs.OpWrite, "sync": vfs.OpSync}

func TestAStalledDiskStallsNothingElse(t *testing.T) {
	for name, kind := range stalls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := newSlowFS(vfs.NewMemory(0))
				opts := testOptions()
				opts.MaxFileSize = 1 << 40 // who waits for a mutex is not idle for synctest
				x := openBench(t, fs, opts, always()).run()
				x.push(1)
				eventually(0)
				gate, open := fs.hold(kind)
				stuck := x.push(3)
				eventually(0)
				require.EqualValues(t, 1, gate.waiting.Load())
				start := time.Now()

				var more []*testBatch
				for range 10 {
					more = append(more, x.push(5))
					_, err := x.m.NextIDs(leaseSize / 10)
					require.NoError(t, err)
				}
				confirmed := checkpoint.SetOf(more[1].meta.Ids)
				assert.Equal(t, confirmed, x.m.Confirm("a", confirmed))
				assert.True(t, x.m.Confirm("a", confirmed).Empty())
				missing := x.m.Missing("a")
				assert.True(t, missing.Contains(stuck.meta.Ids))
				assert.False(t, missing.Overlaps(more[1].meta.Ids))
				tail := x.m.Tail(missing)
				assert.Len(t, tail, 10)
				for _, b := range tail {
					b.Release()
				}
				assert.False(t, x.m.Lagging())
				require.NoError(t, x.m.Flush(t.Context()))
				assert.Zero(t, time.Since(start), "nothing of this took time")

				x.confirm(more[4])
				x.confirm(stuck)
				eventually(3 * time.Second)
				assertSafe(t, 1, more[4], stuck)
				assert.Equal(t, 3*time.Second, x.m.State().Stalled)
				assert.True(t, x.m.Lagging())
				open()
				eventually(time.Minute)
				assertSafe(t, 1, append(more, stuck)...)
				x.close()
			})
		})
	}
}

func TestCancelDoesNotWaitForAStalledDisk(t *testing.T) {
	for name, kind := range stalls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := newSlowFS(vfs.NewMemory(0))
				x := openBench(t, fs, testOptions(), always()).run()
				_, open := fs.hold(kind)
				stuck, next := x.push(3), x.push(3)
				eventually(0)
				x.m.Confirm("a", checkpoint.SetOf(stuck.meta.Ids))
				start := time.Now()
				require.ErrorContains(t, x.stop(), "6 messages were not stored")
				assert.LessOrEqual(t, time.Since(start), stuckAfter)
				require.NoError(t, x.m.Flush(t.Context()), "the journal works")
				open()
				eventually(0)
				assertSafe(t, 0, stuck, next)
				assert.EqualValues(t, 0, stuck.refs.Load()+next.refs.Load())
				assert.Zero(t, x.m.State().Unsynced.Messages)
			})
		})
	}
}

func TestCursorsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := vfs.NewMemory(0)
		fs := newSickFS(memory)
		x := openBench(t, fs, testOptions(), always()).run()
		first := x.push(1)
		eventually(0)
		fs.full.Store(true)
		a, b := x.push(1), x.push(1)
		x.confirm(b)
		eventually(time.Second)
		assertSafe(t, 1, first, b)
		assertSafe(t, 0, a)
		at := func() uint64 { return binary.BigEndian.Uint64(x.b.Cursors()["s"]) }
		assert.Equal(t, first.meta.Ids.Last, at(), "a is neither stored nor confirmed")
		x.confirm(a)
		eventually(time.Second)
		assert.Equal(t, b.meta.Ids.Last, at())
		require.NoError(t, x.stop())
		require.NoError(t, x.b.Close())
		again, _, err := backup.Open(memory, testDir, testOptions())
		require.NoError(t, err)
		assert.Equal(t, b.meta.Ids.Last, binary.BigEndian.Uint64(again.Cursors()["s"]))
	})
}

func TestFullIsToldAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := testOptions()
		opts.MaxFileSize, opts.MaxFileCount = 1000, 2
		x := openBench(t, vfs.NewMemory(0), opts, within(time.Hour)).run()
		for range 50 {
			x.push(10)
		}
		eventually(0)
		assert.Equal(t, 1, x.fulls)
		eventually(time.Second)
		x.push(10)
		eventually(0)
		assert.Equal(t, 2, x.fulls)
		x.close()
	})
}

func TestConfirmationsAreJournaledTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := vfs.NewMemory(0)
		syncs := atomic.Int32{}
		fs := vfs.NewFault(memory, func(op vfs.Op) *vfs.Failure {
			if op.Kind == vfs.OpSync && strings.HasPrefix(op.Path, stateDir+"/journal") {
				syncs.Add(1)
			}
			return nil
		})
		x := openBench(t, fs, testOptions(), within(time.Hour))
		var batches []*testBatch
		for range 100 {
			batches = append(batches, x.push(1))
		}
		x.run()
		eventually(time.Minute)
		syncs.Store(0)
		for _, b := range batches {
			x.m.Confirm("a", checkpoint.SetOf(b.meta.Ids))
			eventually(time.Millisecond)
		}
		eventually(time.Second)
		assert.LessOrEqual(t, syncs.Load(), int32(4))
		assert.Zero(t, x.m.State().Unjournaled)

		assert.EqualValues(t, 100, x.m.Confirm("b", checkpoint.SetOf(checkpoint.Range{First: 1, Last: checkpoint.MaxID})).Count(),
			"ids that were not given out are no messages")
		x.close()
	})
}

func TestFlushWaitsForTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := vfs.NewMemory(0)
		broken := atomic.Bool{}
		fs := vfs.NewFault(memory, func(op vfs.Op) *vfs.Failure {
			if broken.Load() && strings.HasPrefix(op.Path, stateDir+"/journal") && op.Changes() {
				return &vfs.Failure{Err: syscall.EIO}
			}
			return nil
		})
		x := openBench(t, fs, testOptions(), within(time.Hour))
		a := x.push(4)
		x.m.Confirm("a", checkpoint.SetOf(a.meta.Ids))
		require.NoError(t, x.m.Flush(t.Context()), "before Run")

		x.run()
		broken.Store(true)
		x.m.Confirm("b", checkpoint.SetOf(a.meta.Ids))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := x.m.Flush(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, syscall.EIO)
		assert.EqualValues(t, 4, x.m.State().Unjournaled)
		assert.True(t, x.m.Missing("b").Empty(), "it counts nevertheless")
		assert.True(t, x.m.Unconfirmed("b", a.meta.Ids).Empty())
		broken.Store(false)
		require.NoError(t, x.m.Flush(t.Context()))

		b := x.push(1)
		x.m.CloseQueue()
		require.NoError(t, <-x.ran)
		x.m.Confirm("b", checkpoint.SetOf(b.meta.Ids))
		broken.Store(true)
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.Error(t, x.m.Flush(ctx))
		broken.Store(false)
		require.NoError(t, x.m.Flush(t.Context()), "after Run")
		again, _, err := backup.Open(memory.Crash(vfs.Lose()), testDir, testOptions())
		require.NoError(t, err)
		assert.True(t, again.Missing("b").Empty())
	})
}

func TestIDsAreLeasedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		next := uint64(1)
		gate := make(chan struct{}, 100)
		gate <- struct{}{}
		var l leases
		l.init(func(n uint64) (checkpoint.Range, error) {
			<-gate
			calls++
			if calls == 3 {
				return checkpoint.Range{}, syscall.EIO
			}
			r := checkpoint.Range{First: next, Last: next + n - 1}
			next += n + 1 // somebody else takes one
			return r, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.fetchAhead(ctx)
		last := uint64(0)
		take := func(n uint64) {
			r, err := l.take(n)
			require.NoError(t, err)
			require.Equal(t, n, r.Count())
			require.Greater(t, r.First, last)
			last = r.Last
		}
		for range 10 {
			take(leaseSize / 10)
		}
		eventually(0)
		assert.Equal(t, 1, calls, "the second one is held up, and nobody waits for it")
		gate <- struct{}{}
		eventually(0)
		take(100)
		assert.Equal(t, 2, calls)
		gate <- struct{}{}
		gate <- struct{}{}
		eventually(0)
		_, err := l.take(10 * leaseSize)
		require.ErrorIs(t, err, syscall.EIO)
		take(10 * leaseSize)
	})
}
