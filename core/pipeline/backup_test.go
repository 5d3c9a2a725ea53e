package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// TestBackupFirstStartWithoutDestination: rows are accepted and stored, and delivered
// with the destination's ids once it is there, in the same run.
func TestBackupFirstStartWithoutDestination(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 1000, perEach: 7, wantAck: true, acked: make(chan struct{})}
	to := newPlace("there")
	to.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	src.onAck = func() {
		assert.Empty(t, to.got())
		assert.Equal(t, uint64(1000), only(h).Tracks[0].Pending)
		to.setAway(false)
	}
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(1000, nil), to.got())
	to.requireOwn(t)
	requireBalanced(t, h)
	assert.Zero(t, h.Pipelines()[0].Kept())
}

// TestBackupSecondRunDeliversWhatTheFirstLeft: the drain timeout bounds the end of the
// first one, and the count of what is kept is right. The source goes on where it was.
func TestBackupSecondRunDeliversWhatTheFirstLeft(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 1000, perEach: 7, wantAck: true, acked: make(chan struct{}), endless: true}
	to := newPlace("there")
	to.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	src.onAck = h.Stop
	began := time.Now()
	require.NoError(t, run(t, h))
	assert.Less(t, time.Since(began), 5*time.Second)
	assert.Equal(t, uint64(1000), h.Pipelines()[0].Kept())
	requireBalanced(t, h)
	assert.Empty(t, to.got())

	to.setAway(false)
	src.rows, src.endless, src.acked, src.onAck = 1500, false, nil, nil
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	assert.Equal(t, []int64{0, 1000}, src.resumed)
	assert.Equal(t, upTo(1500, nil), to.got(), "each once")
	to.requireOwn(t)
	requireBalanced(t, h)
	delivered, pending, lost := total(only(h), 0)
	assert.Equal(t, []uint64{1500, 0, 0}, []uint64{delivered, pending, lost})

	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	assert.Equal(t, []int64{0, 1000, 1500}, src.resumed)
	assert.Len(t, to.got(), 1500, "nothing is left")
}

// TestBackupAcksWhatIsDurable: within the time of the sync policy by itself, and at
// once for a source that waits.
func TestBackupAcksWhatIsDurable(t *testing.T) {
	for name, want := range map[string]bool{"by itself": false, "at once": true} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			src := &reader{rows: 100, perEach: 10, wantAck: want, acked: make(chan struct{})}
			to := newPlace("there")
			to.away = true
			h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
			var took time.Duration
			src.onAck = func() {
				took = time.Since(only(h).Started)
				assert.GreaterOrEqual(t, only(h).Backup.DurableID, uint64(100))
				accepted := uint64(0)
				for _, f := range only(h).Flows {
					accepted += f.Accepted
				}
				assert.Equal(t, uint64(100), accepted)
				h.Stop()
			}
			require.NoError(t, run(t, h))
			if want {
				assert.Less(t, took, 800*time.Millisecond)
			} else {
				assert.Greater(t, took, 500*time.Millisecond)
				assert.Less(t, took, 3*time.Second)
			}
		})
	}
}

// TestBackupSeveralTracksOfWhichOneIsDown: the others get everything at once, in their
// own form, and the last one gets it in the next run.
func TestBackupSeveralTracksOfWhichOneIsDown(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 2000, perEach: 10, wantAck: true, acked: make(chan struct{}), endless: true}
	one, down, rows := newPlace("one"), newPlace("down"), &place{input: sdk.InputRows}
	down.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"), down.plugin("down"), rows.plugin("rows"))
	src.onAck = h.Stop
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(2000, nil), one.got())
	assert.Equal(t, upTo(2000, nil), rows.got())
	assert.Empty(t, down.got())
	assert.Equal(t, uint64(2000), h.Pipelines()[0].Kept())
	requireBalanced(t, h)

	down.setAway(false)
	src.endless, src.acked, src.onAck = false, nil, nil
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"), down.plugin("down"), rows.plugin("rows"))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(2000, nil), down.got())
	assert.Len(t, one.got(), 2000, "what it has is not sent again")
	assert.Len(t, rows.got(), 2000)
	one.requireOwn(t)
	down.requireOwn(t)
	requireBalanced(t, h)
}

// TestBackupRowsAreReadBack: a transport of rows gets from the backup what it would
// have got live.
func TestBackupRowsAreReadBack(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 1000, perEach: 9, wantAck: true, acked: make(chan struct{}), endless: true}
	rows := &place{input: sdk.InputRows, away: true}
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), rows.plugin("rows"))
	src.onAck = h.Stop
	require.NoError(t, run(t, h))
	assert.Equal(t, uint64(1000), h.Pipelines()[0].Kept())

	rows.setAway(false)
	src.endless, src.acked, src.onAck = false, nil, nil
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), rows.plugin("rows"))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(1000, nil), rows.got())
	requireBalanced(t, h)
}

func TestBackupARemovedTransportIsMissed(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 100, perEach: 9, wantAck: true, acked: make(chan struct{}), endless: true}
	one, gone := newPlace("one"), newPlace("gone")
	gone.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"), gone.plugin("gone"))
	src.onAck = h.Stop
	require.NoError(t, run(t, h))

	src.endless, src.acked, src.onAck = false, nil, nil
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"))
	err := run(t, h)
	require.ErrorContains(t, err, "has 100 messages for transport gone.x")
	require.ErrorContains(t, err, "backup forget")

	gone.setAway(false) // put back
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"), gone.plugin("gone"))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(100, nil), gone.got())
	h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), one.plugin("one"))
	require.NoError(t, run(t, h), "nothing is owed to it any more")
}

// TestBackupACrashOfATransport ends the run with an error; the next one delivers.
func TestBackupACrashOfATransport(t *testing.T) {
	for _, victim := range []string{"to.x", "addressed.x", "read.x"} {
		t.Run(victim, func(t *testing.T) {
			d := newDisk(t)
			src := &reader{rows: 40_000, perEach: 50}
			to := newPlace("there")
			h, m := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
			first := make(chan struct{})
			to.onTake = func() {
				to.onTake = nil
				close(first)
			}
			go func() {
				<-first
				m.process(victim).crash()
			}()
			require.ErrorContains(t, run(t, h), "killed")
			requireBalanced(t, h)

			h, _ = d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
			require.NoError(t, run(t, h))
			got := to.got()
			requireAll(t, got, 40_000)
			requireBalanced(t, h)
		})
	}
}

// requireAll holds that all numbers up to n are there; some may be there twice.
func requireAll(t *testing.T, sorted []int64, n int64) {
	t.Helper()
	next := int64(1)
	for _, i := range sorted {
		if i == next {
			next++
		}
		require.Less(t, i, next, "number %d is missing", next)
	}
	require.Equal(t, n+1, next)
}

// TestBackupRefusedBatchesMoveTheSource: what is refused entirely needs no storing, and
// is not read again.
func TestBackupRefusedBatchesMoveTheSource(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 100, perEach: 10}
	to := newPlace("there")
	enc := &addressed{refuse: 1 << 40}
	h, _ := d.host(src.plugin("read"), enc.plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	h, _ = d.host(src.plugin("read"), enc.plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	assert.Equal(t, []int64{0, 100}, src.resumed)

	enc.refuse, src.rows = 145, 200 // some are refused at the beginning
	h, _ = d.host(src.plugin("read"), enc.plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	h, _ = d.host(src.plugin("read"), enc.plugin(), to.plugin("to"))
	require.NoError(t, run(t, h))
	assert.Equal(t, []int64{0, 100, 100, 200}, src.resumed)
	assert.Equal(t, upTo(200, func(n int64) bool { return n > 145 }), to.got())
}
