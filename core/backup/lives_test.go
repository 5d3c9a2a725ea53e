package backup

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/vfs"
)

// TestLives lets a backup live several lives, each with faults and its own end, on
// one disk, and compares with the model after each.
func TestLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := testOptions()
		opts.Tracks = rapid.SampledFrom([][]string{{"a"}, {"a", "b"}}).Draw(rt, "tracks")
		opts.MaxFileSize = rapid.SampledFrom([]int64{500, 4000, 100000}).Draw(rt, "file size")
		opts.JournalSize = rapid.SampledFrom([]int64{100, 3000}).Draw(rt, "journal size")
		opts.OnFull = rapid.SampledFrom([]OnFull{Block, DropOldest}).Draw(rt, "on full")
		if opts.OnFull == DropOldest || rapid.Bool().Draw(rt, "limited") {
			opts.MaxDisk = 12000
		}
		m, disk := newModel(opts), vfs.NewMemory(0)
		for range rapid.IntRange(1, 5).Draw(rt, "lives") {
			n := rapid.IntRange(0, 120).Draw(rt, "operation")
			fsys := rapid.SampledFrom([]func(vfs.FS, int) *vfs.Fault{vfs.FailOnce, vfs.FailFrom, vfs.StopAt}).Draw(rt, "fault")(disk, n)
			m.tracks = opts.Tracks
			if rapid.Bool().Draw(rt, "without b") {
				m.tracks = opts.Tracks[:1]
			}
			m.run(rt, fsys, disk, rapid.Uint64().Draw(rt, "steps"), rapid.IntRange(0, 30).Draw(rt, "length"))

			survival := vfs.Random(rapid.Uint64().Draw(rt, "crash"))
			disk = disk.Crash(survival)
			again := opts
			again.Tracks = m.tracks
			b, found, err := Open(disk, testDir, again)
			require.NoError(rt, err)
			m.check(rt, b, found)
			disk = disk.Crash(vfs.Random(rapid.Uint64().Draw(rt, "second crash")))
		}
	})
}
