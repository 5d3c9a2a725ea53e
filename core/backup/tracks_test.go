package backup

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

func TestUnconfirmedKnowsWhatConfirmWasTold(t *testing.T) {
	opts := testOptions()
	b, _ := open(t, vfs.NewMemory(0), opts)
	_, err := b.Reserve(100)
	require.NoError(t, err)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(span(10, 20), span(30, 40))), "ids that were never stored")
	assert.Equal(t, "5-9 21-29 41-45", b.Unconfirmed("a", span(5, 45)).String())
	assert.Equal(t, "15", b.Unconfirmed("b", span(15, 15)).String())
	assert.Equal(t, "15", b.Unconfirmed("nobody", span(15, 15)).String())

	// Also when all that was stored is confirmed and gone.
	ids := add(t, b, 10)
	for _, track := range opts.Tracks {
		require.NoError(t, b.Confirm(track, checkpoint.SetOf(ids)))
	}
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
	assert.Empty(t, b.Unconfirmed("a", ids).String())
}

// TestATrackThatLeft: what it was owed stays until it is forgotten, what comes later
// is not kept for it.
func TestATrackThatLeft(t *testing.T) {
	fsys := vfs.NewMemory(0)
	opts := testOptions()
	b, r := open(t, fsys, opts)
	assert.Empty(t, r.Strangers)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(add(t, b, 10))))
	require.NoError(t, b.Confirm("b", checkpoint.SetOf(span(1, 4))))
	require.NoError(t, b.Close())

	opts.Tracks = []string{"a"}
	b, r = open(t, fsys, opts)
	require.Len(t, r.Strangers, 1)
	assert.Equal(t, "5-10", r.Strangers["b"].String())
	assert.Equal(t, 1, b.Stats().Segments)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(add(t, b, 10))))
	require.NoError(t, b.Close())
	require.Error(t, b.ForgetTrack("b"), "closed")

	b, r = open(t, fsys, opts)
	assert.Equal(t, "5-10", r.Strangers["b"].String(), "as long as it is not forgotten")
	assert.Equal(t, 1, b.Stats().Segments, "rows that came later are not owed")
	require.Error(t, b.ForgetTrack("a"), "in use")
	require.NoError(t, b.ForgetTrack("b"))
	assert.Zero(t, b.Stats().Segments)

	// Without a single confirmation it is known by its name.
	add(t, b, 5)
	require.NoError(t, b.Close())
	opts.Tracks = []string{"c"}
	b, r = open(t, fsys, opts)
	assert.Len(t, r.Strangers, 1)
	assert.EqualValues(t, 5, r.Strangers["a"].Count())
	require.NoError(t, b.ForgetTrack("a"))
	require.NoError(t, b.Confirm("c", b.Missing("c")))
	require.NoError(t, b.Close())
	_, r = open(t, fsys, opts)
	assert.Empty(t, r.Strangers)
	assert.Zero(t, r.Segments)
}

// TestATrackThatComesBack is owed what it was owed.
func TestATrackThatComesBack(t *testing.T) {
	fsys := vfs.NewMemory(0)
	opts, without := testOptions(), testOptions()
	without.Tracks = []string{"a"}
	b, _ := open(t, fsys, opts)
	all := checkpoint.SetOf(add(t, b, 10))
	require.NoError(t, b.Confirm("a", all))
	require.NoError(t, b.Close())
	b, _ = open(t, fsys, without)
	require.NoError(t, b.Close())
	b, r := open(t, fsys, opts)
	assert.Empty(t, r.Strangers)
	assert.Equal(t, "1-10", b.Missing("b").String())
	require.NoError(t, b.Confirm("b", all))
	assert.Zero(t, b.Stats().Segments)
}

func TestAdvance(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	at := func(id uint64) string { return string(binary.BigEndian.AppendUint64(nil, id)) }
	now := func() string { return string(b.Cursors()["s"]) }

	require.Error(t, b.Advance("s", 1, nil), "not given out")
	require.Error(t, b.Advance("s", 0, make([]byte, maxPayload)), "too long")
	require.NoError(t, b.Advance("s", 0, []byte("header")), "refused before any was stored")
	assert.Equal(t, "header", now())

	ids := add(t, b, 5)
	require.NoError(t, b.Advance("s", ids.Last, []byte("behind five")))
	assert.Equal(t, "header", now(), "not before what was appended is durable")
	_, err := b.Sync()
	require.NoError(t, err)
	assert.Equal(t, "behind five", now())

	require.NoError(t, b.Advance("s", ids.Last, []byte("refused too")), "the same id, further")
	assert.Equal(t, "refused too", now())
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
	b, r := open(t, fsys.Crash(vfs.Lose()), testOptions())
	assert.Equal(t, "refused too", string(r.Cursors["s"]), "with the next thing that is noted")

	ids = add(t, b, 3)
	_, err = b.Sync()
	require.NoError(t, err)
	assert.Equal(t, at(ids.Last), now())
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Advance("s", 1, nil), ErrClosed)
}

// TestAdvanceWaitsForWhatIsWrittenAgain: a failed sync takes back what was said to be
// behind the source.
func TestAdvanceWaitsForWhatIsWrittenAgain(t *testing.T) {
	disk, broken := vfs.NewMemory(0), false
	b, _ := open(t, vfs.NewFault(disk, func(op vfs.Op) *vfs.Failure {
		if broken && op.Kind == vfs.OpSync {
			broken = false
			return &vfs.Failure{Err: errBroken}
		}
		return nil
	}), testOptions())
	first, second := add(t, b, 3), add(t, b, 3)
	require.NoError(t, b.Advance("s", second.Last, []byte("all")))
	broken = true
	_, err := b.Sync()
	require.ErrorIs(t, err, errBroken)
	assert.EqualValues(t, 6, b.Stats().Again)
	require.NoError(t, b.Advance("s", second.Last, []byte("all")))
	assert.Empty(t, b.Cursors())

	again(t, b, first)
	_, err = b.Sync()
	require.NoError(t, err)
	assert.Equal(t, metaOf(first).Cursors[0].Position, b.Cursors()["s"])
	again(t, b, second)
	require.NoError(t, b.Advance("s", second.Last, []byte("all")))
	_, err = b.Sync()
	require.NoError(t, err)
	assert.Equal(t, "all", string(b.Cursors()["s"]))
	assert.Zero(t, b.Stats().Again)
}

// TestAStalledDiskStallsNobodyWhoAsks: while a write does not return, numbers and
// sets are to be had, and confirmations are taken.
func TestAStalledDiskStallsNobodyWhoAsks(t *testing.T) {
	for name, stalled := range map[string]func(vfs.Op) bool{
		"a write of a segment": func(op vfs.Op) bool { return op.Kind == vfs.OpWrite && inSegments(op.Path) },
		"a sync of a segment":  func(op vfs.Op) bool { return op.Kind == vfs.OpSync && inSegments(op.Path) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stall := newStall(stalled)
				b, _ := open(t, stall.over(vfs.NewMemory(0)), testOptions())
				ids := add(t, b, 5)
				_, err := b.Sync()
				require.NoError(t, err)

				stall.begin()
				done := make(chan struct{})
				go func() {
					defer close(done)
					add(t, b, 5)
					_, err := b.Sync()
					assert.NoError(t, err)
				}()
				synctest.Wait() // it hangs
				assert.Equal(t, 1, b.Stats().Segments)
				assert.False(t, b.Missing("a").Empty())
				assert.Equal(t, uint64(5), b.Unconfirmed("a", ids).Count())
				require.NoError(t, b.Advance("s", ids.Last, []byte("here")))
				require.NoError(t, b.DefineFlow(2, []byte("another")))
				_, err = b.Reserve(1)
				require.NoError(t, err)
				require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
				assert.True(t, b.Unconfirmed("a", ids).Empty())
				select {
				case <-done:
					t.Error("nothing was stalled")
				default:
				}
				stall.end()
				<-done
				require.NoError(t, b.Close())
			})
		})
	}
}
