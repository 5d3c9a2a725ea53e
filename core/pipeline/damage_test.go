package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// stocked returns a disk with 1000 numbers that wait for the destination.
func stocked(t *testing.T) (*disk, *place) {
	d := newDisk(t)
	src := &reader{rows: 1000, perEach: 7, wantAck: true, acked: make(chan struct{}), endless: true}
	to := newPlace("there")
	to.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	src.onAck = h.Stop
	require.NoError(t, run(t, h))
	require.Equal(t, uint64(1000), h.Pipelines()[0].Kept())
	to.setAway(false)
	return d, to
}

// deliverRest has a run whose source has nothing.
func deliverRest(t *testing.T, d *disk, to sdk.Plugin) *Host {
	h, _ := d.host((&reader{}).plugin("read"), (&addressed{}).plugin(), to)
	require.NoError(t, run(t, h))
	requireBalanced(t, h)
	requireNoneBelowZero(t, h)
	return h
}

// requireNoneBelowZero holds that no flow has lost or delivered more than it had.
func requireNoneBelowZero(t *testing.T, h *Host) {
	t.Helper()
	for _, f := range only(h).Flows {
		for _, track := range f.Tracks {
			require.Less(t, track.Pending, uint64(1<<40), "flow %s, track %s", f.Name, track.Track)
		}
	}
}

// one returns the only file of a pattern.
func one(t *testing.T, pattern string) string {
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

// flip damages a file in its middle.
func flip(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, info.Size()/2)
	require.NoError(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, info.Size()/2)
	require.NoError(t, err)
}

// TestBackupOrphansAreDelivered: chunks without a record in the index were never
// acknowledged, and are delivered.
func TestBackupOrphansAreDelivered(t *testing.T) {
	for name, tear := range map[string]func(t *testing.T, index string){
		"half of the index is gone": func(t *testing.T, index string) {
			info, err := os.Stat(index)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(index, info.Size()/2+3))
		},
		"the index is damaged": flip,
	} {
		t.Run(name, func(t *testing.T) {
			d, to := stocked(t)
			tear(t, one(t, filepath.Join(d.dir, "data/p/state/backup/*.index")))
			h := deliverRest(t, d, to.plugin("to"))
			requireAll(t, to.got(), 1000)
			to.requireOwn(t)
			assert.LessOrEqual(t, len(h.Pipelines()[0].store.mu.flows), 2, "one flow, not one for each chunk")
			before := len(to.got())
			deliverRest(t, d, to.plugin("to"))
			assert.Len(t, to.got(), before, "nothing is left")
		})
	}
}

// TestBackupADamagedSegment: the rest is delivered, also behind the damage, and the
// loss is counted.
func TestBackupADamagedSegment(t *testing.T) {
	d, to := stocked(t)
	flip(t, one(t, filepath.Join(d.backupDir(), "p-*")))
	h := deliverRest(t, d, to.plugin("to"))
	assert.Len(t, to.got(), 993)
	assert.Equal(t, int64(1000), to.got()[992])
	assert.Equal(t, uint64(7), h.Pipelines()[0].Lost())
	h = deliverRest(t, d, to.plugin("to"))
	assert.Len(t, to.got(), 993, "nothing is left")
	assert.Zero(t, h.Pipelines()[0].Lost(), "it was counted")
}

// TestBackupADamageOfThisRun is counted where its rows are.
func TestBackupADamageOfThisRun(t *testing.T) {
	d := newDisk(t)
	src := &reader{rows: 1000, perEach: 7, wantAck: true, acked: make(chan struct{})}
	to := newPlace("there")
	to.away = true
	h, _ := d.host(src.plugin("read"), (&addressed{}).plugin(), to.plugin("to"))
	src.onAck = func() {
		flip(t, one(t, filepath.Join(d.backupDir(), "p-*")))
		to.setAway(false)
	}
	require.NoError(t, run(t, h))
	assert.Len(t, to.got(), 993)
	requireBalanced(t, h)
	requireNoneBelowZero(t, h)
	for _, f := range only(h).Flows {
		if f.Name == numbers.Name {
			assert.Equal(t, map[string]uint64{"not readable in the backup": 7}, f.Tracks[0].Lost)
		}
	}
	assert.Equal(t, uint64(7), h.Pipelines()[0].Lost())
}

// TestBackupLostJournal: everything is delivered, perhaps again; the start is not refused.
func TestBackupLostJournal(t *testing.T) {
	d, to := stocked(t)
	require.NoError(t, os.Remove(one(t, filepath.Join(d.dir, "data/p/state/backup/journal-*"))))
	deliverRest(t, d, to.plugin("to"))
	requireAll(t, to.got(), 1000)
	to.requireOwn(t)
}

// TestBackupLostState: nobody knows of which flow a chunk is without its index. The
// file stays, for a replay.
func TestBackupLostState(t *testing.T) {
	d, to := stocked(t)
	require.NoError(t, os.RemoveAll(filepath.Join(d.dir, "data/p/state/backup")))
	deliverRest(t, d, to.plugin("to"))
	assert.Empty(t, to.got())
	assert.Contains(t, d.logs.String(), "messages of no known flow stay in their file")
	one(t, filepath.Join(d.backupDir(), "p-*"))
}
