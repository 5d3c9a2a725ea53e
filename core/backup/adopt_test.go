package backup

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// messagesOf returns the text of the messages that a track lacks, by how often they
// are there.
func messagesOf(t require.TestingT, b *Backup, track string) map[string]int {
	found := make(map[string]int)
	for r := b.Read(b.Missing(track)); ; {
		c, err := r.Next()
		if err != nil {
			require.ErrorContains(t, err, "EOF")
			return found
		}
		for m, err := range pbfs.Messages(c.Body) {
			require.NoError(t, err)
			found[string(m)]++
		}
	}
}

func placeIn(flow uint32) func(OrphanChunk) (Meta, error) {
	return func(OrphanChunk) (Meta, error) { return Meta{Flow: flow}, nil }
}

// killedBeforeTheIndex returns a disk as a kill leaves it between the write of a
// chunk, of ids 11 to 20, and that of its record.
func killedBeforeTheIndex(t require.TestingT, opts Options) *vfs.Memory {
	disk, on := vfs.NewMemory(0), false
	b, _ := open(t, vfs.NewFault(disk, func(op vfs.Op) *vfs.Failure {
		if on && op.Kind == vfs.OpWrite && !inSegments(op.Path) {
			return &vfs.Failure{Err: errBroken}
		}
		return nil
	}), opts)
	add(t, b, 10)
	on = true
	ids, err := b.Reserve(10)
	require.NoError(t, err)
	_, err = b.Append(metaOf(ids), bodyOf(ids))
	require.ErrorIs(t, err, errBroken)
	return disk.Crash(vfs.Keep())
}

// TestAKillBetweenChunkAndRecord: the chunk without a record is delivered, and its
// segment goes like any other.
func TestAKillBetweenChunkAndRecord(t *testing.T) {
	disk := killedBeforeTheIndex(t, testOptions())
	b, r := open(t, disk, testOptions())
	require.Len(t, r.Orphans, 1)
	o := r.Orphans[0]
	assert.Equal(t, 10, o.Messages)
	done, err := b.Adopt(o, func(c OrphanChunk) (Meta, error) {
		assert.Equal(t, string(bodyOf(span(11, 20))), string(c.Body))
		assert.Equal(t, 10, c.Messages)
		assert.Equal(t, [][]byte{[]byte("flow one")}, c.Definitions)
		assert.False(t, c.Unbound)
		return Meta{Flow: 1, MinTime: 5, MaxTime: 6}, nil
	})
	require.NoError(t, err)
	assert.EqualValues(t, 10, done.Ids.Count())
	assert.Greater(t, done.Ids.First(), uint64(20))
	there := messagesOf(t, b, "a")
	for id := range uint64(20) {
		assert.Equal(t, 1, there[message(id+1)], "message %d", id+1)
	}
	assert.Zero(t, b.Stats().Kept)

	// It is done once, whatever comes.
	b, r = open(t, disk.Crash(vfs.Lose()), testOptions())
	assert.Empty(t, r.Orphans)
	assert.Len(t, messagesOf(t, b, "b"), 20)
	for _, track := range testOptions().Tracks {
		require.NoError(t, b.Confirm(track, b.Missing(track)))
	}
	assert.Zero(t, b.Stats().Segments)
	assert.Empty(t, b.mu.facts.adopted)
}

func TestOrphansThatNobodyKnows(t *testing.T) {
	disk := killedBeforeTheIndex(t, testOptions())
	b, r := open(t, disk, testOptions())
	done, err := b.Adopt(r.Orphans[0], func(OrphanChunk) (Meta, error) { return Meta{}, ErrLeave })
	require.NoError(t, err)
	assert.Equal(t, 1, done.Left)
	assert.Equal(t, 1, b.Stats().Kept)
	_, err = b.Adopt(r.Orphans[0], func(OrphanChunk) (Meta, error) { return Meta{}, errBroken })
	require.ErrorIs(t, err, errBroken)
	_, err = b.Adopt(r.Orphans[0], placeIn(77))
	require.ErrorContains(t, err, "flow 77 is not defined")
	_, err = b.Adopt(r.Orphans[0], placeIn(1))
	require.NoError(t, err, "another try")
	assert.Zero(t, b.Stats().Kept)
	assert.Len(t, messagesOf(t, b, "a"), 20)
}

// TestALostIndexIsAdopted: a segment without an index is all orphans, of many chunks.
func TestALostIndexIsAdopted(t *testing.T) {
	disk := vfs.NewMemory(0)
	b, _ := open(t, disk, testOptions())
	for range 4 {
		add(t, b, 10)
	}
	require.NoError(t, b.Close())
	require.NoError(t, disk.Remove(b.indexPath(1)))
	b, r := open(t, disk, testOptions())
	before := b.Stats().Segments
	require.NotEmpty(t, r.Orphans)
	for _, o := range r.Orphans {
		_, err := b.Adopt(o, placeIn(1))
		require.NoError(t, err)
	}
	assert.Len(t, messagesOf(t, b, "a"), 40)
	assert.LessOrEqual(t, b.Stats().Segments, before, "the old one is gone")
	assert.Zero(t, b.Stats().Kept)
}

// TestAdoptFailsAtEveryOperation, once, or for ever with a crash: no message is ever
// lost, and what others appended is theirs to write again.
func TestAdoptFailsAtEveryOperation(t *testing.T) {
	for kind, fail := range map[string]func(vfs.FS, int) *vfs.Fault{"once": vfs.FailOnce, "stop": vfs.StopAt} {
		t.Run(kind, func(t *testing.T) {
			where := logWhere(t)
			for n, fired := 0, true; fired; n++ {
				*where = fmt.Sprintf("operation %d", n)
				disk := killedBeforeTheIndex(t, testOptions())
				fault := fail(disk, n)
				others := adoptAll(t, fault)
				fired = fault.Fired()

				b, r := open(t, disk.Crash(vfs.Random(uint64(n))), testOptions())
				for _, o := range r.Orphans {
					_, err := b.Adopt(o, placeIn(1))
					require.NoError(t, err)
				}
				there := messagesOf(t, b, "a")
				for id := range uint64(20) {
					require.GreaterOrEqual(t, there[message(id+1)], 1, "message %d", id+1)
				}
				require.True(t, b.Missing("a").ContainsSet(others), "what another one was told to be durable")
			}
		})
	}
}

// adoptAll opens a backup, appends a batch and adopts. It returns what of the batch
// is durable for the one who appended it.
func adoptAll(t *testing.T, fsys vfs.FS) (durable checkpoint.Set) {
	b, r, err := Open(fsys, testDir, testOptions())
	if err != nil || b.DefineFlow(1, []byte("flow one")) != nil {
		return
	}
	ids, err := b.Reserve(3)
	if err != nil {
		return
	}
	stored, err := b.Append(metaOf(ids), bodyOf(ids))
	if err != nil {
		return
	}
	for _, o := range r.Orphans {
		_, err := b.Adopt(o, placeIn(1))
		_, isSuspect := errors.AsType[*SuspectError](err)
		require.False(t, isSuspect, "that is for another one")
	}
	through, err := b.Sync()
	if suspect, ok := errors.AsType[*SuspectError](err); ok {
		require.True(t, suspect.Ids.Contains(ids))
		if _, err = b.Append(metaOf(ids), bodyOf(ids)); err == nil {
			through, err = b.Sync()
		}
	}
	if err == nil && through >= stored.Sequence {
		durable.Add(ids)
	}
	return durable
}

func TestLossesByFlow(t *testing.T) {
	opts := testOptions()
	opts.MaxDisk, opts.OnFull = 20000, DropOldest
	disk := vfs.NewMemory(0)
	b, _ := open(t, disk, opts)
	require.NoError(t, b.DefineFlow(2, []byte("flow two")))
	require.NoError(t, b.DefineFlow(3, []byte(strings.Repeat("x", 100))))
	byFlow := make(map[uint32]*checkpoint.Set)
	put := func(flow uint32) []Loss {
		ids, err := b.Reserve(5)
		require.NoError(t, err)
		meta := metaOf(ids)
		meta.Flow = flow
		done, err := b.Append(meta, bodyOf(ids))
		require.NoError(t, err)
		if byFlow[flow] == nil {
			byFlow[flow] = &checkpoint.Set{}
		}
		byFlow[flow].Add(ids)
		return done.Lost
	}
	for _, track := range opts.Tracks {
		require.NoError(t, b.Confirm(track, func() checkpoint.Set { put(1); return checkpoint.SetOf(span(2, 3)) }()))
	}
	var lost []Loss
	for i := uint32(0); len(lost) == 0; i++ {
		lost = put(1 + i%3)
	}
	require.Len(t, lost, 3)
	for _, l := range lost {
		assert.True(t, byFlow[l.Flow].ContainsSet(l.Ids), "flow %d", l.Flow)
		assert.False(t, b.Missing("a").Overlaps(span(l.Ids.First(), l.Ids.First())))
	}
	all := idsOf(lost)
	assert.False(t, all.Overlaps(span(2, 3)), "confirmed")
	assert.Equal(t, checkpoint.SetOf(span(1, 1), span(4, all.Last())).String(), all.String())

	// Of what an earlier process wrote the flows are not known by number.
	require.NoError(t, b.Close())
	b, _ = open(t, disk, opts)
	require.NoError(t, b.DefineFlow(2, []byte("something else")))
	for lost = nil; len(lost) == 0; {
		lost = put(2)
	}
	require.Len(t, lost, 1)
	assert.Zero(t, lost[0].Flow)
}
