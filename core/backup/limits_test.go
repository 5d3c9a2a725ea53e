package backup

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// fill appends batches until one is not simply stored.
func fill(t *testing.T, b *Backup) (checkpoint.Range, Appended, error) {
	t.Helper()
	for range 1000 {
		ids, err := b.Reserve(10)
		require.NoError(t, err)
		done, err := b.Append(metaOf(ids), bodyOf(ids))
		if err != nil || len(done.Lost) > 0 {
			return ids, done, err
		}
	}
	t.Fatal("it is never full")
	return checkpoint.Range{}, Appended{}, nil
}

func TestFullBlocks(t *testing.T) {
	for name, limit := range map[string]func(*Options){
		"max_disk": func(o *Options) { o.MaxDisk = 20000 },
		"min_free": func(o *Options) { o.MinFree = 30000 },
		"disk":     func(*Options) {},
	} {
		t.Run(name, func(t *testing.T) {
			opts := testOptions()
			limit(&opts)
			fsys := vfs.NewMemory(50000)
			b, _ := open(t, fsys, opts)
			ids, _, err := fill(t, b)
			require.ErrorIs(t, err, ErrFull)
			_, err = b.Append(metaOf(ids), bodyOf(ids))
			require.ErrorIs(t, err, ErrFull)
			_, err = b.Sync()
			require.NoError(t, err)

			// Confirmations are written on a full disk, and make room.
			all := checkpoint.SetOf(span(1, ids.First-1))
			assert.Equal(t, all.String(), readIDs(t, b, everything()).String())
			require.NoError(t, b.Confirm("a", all))
			require.NoError(t, b.Confirm("b", all))
			_, err = b.Append(metaOf(ids), bodyOf(ids))
			require.NoError(t, err, "it goes on by itself")
			require.NoError(t, b.Close())
			b, r := open(t, fsys, opts)
			assert.Empty(t, r.Holes)
			assert.Empty(t, r.Orphans)
			assert.True(t, b.Missing("a").Overlaps(ids))
		})
	}
}

func TestFullDropsTheNewest(t *testing.T) {
	opts := testOptions()
	opts.MaxDisk, opts.OnFull = 20000, DropNewest
	b, _ := open(t, vfs.NewMemory(0), opts)
	ids, done, err := fill(t, b)
	require.NoError(t, err)
	assert.Equal(t, []Loss{{1, checkpoint.SetOf(ids)}}, done.Lost)
	assert.Zero(t, done.Sequence)
}

func TestFullDropsTheOldest(t *testing.T) {
	opts := testOptions()
	opts.MaxDisk, opts.OnFull = 20000, DropOldest
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, opts)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(add(t, b, 5))))
	require.NoError(t, b.Confirm("b", checkpoint.SetOf(span(1, 3))))
	ids, done, err := fill(t, b)
	require.NoError(t, err)
	assert.NotZero(t, done.Sequence)
	lost := idsOf(done.Lost)
	assert.EqualValues(t, 4, lost.First(), "what all have confirmed is not lost")
	there := readIDs(t, b, everything())
	assert.Equal(t, checkpoint.SetOf(span(lost.Last()+1, ids.Last)).String(), there.String())
	_, err = b.Sync()
	require.NoError(t, err)
	b, r := open(t, fsys.Crash(vfs.Lose()), opts)
	assert.Empty(t, r.Lost.String())
	assert.Equal(t, there.String(), readIDs(t, b, everything()).String())
}

func TestCountIsReported(t *testing.T) {
	opts := testOptions()
	opts.MaxFileCount = 3
	b, _ := open(t, vfs.NewMemory(0), opts)
	for {
		ids, err := b.Reserve(10)
		require.NoError(t, err)
		done, err := b.Append(metaOf(ids), bodyOf(ids))
		require.NoError(t, err)
		require.Equal(t, b.Stats().Segments >= 3, done.CountFull)
		if done.CountFull {
			return
		}
	}
}

func TestRetainKeepsWhatIsConfirmed(t *testing.T) {
	opts := testOptions()
	opts.Retain = true
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, opts)
	ids := checkpoint.SetOf(add(t, b, 10))
	require.NoError(t, b.Confirm("a", ids))
	require.NoError(t, b.Confirm("b", ids))
	require.NoError(t, b.Close())
	b, r := open(t, fsys, opts)
	assert.Equal(t, 1, r.Segments)
	assert.Empty(t, b.Missing("a").String())
	assert.Equal(t, 1, b.Stats().Confirmed)
	assert.Zero(t, b.Stats().Waiting)
}

// TestFilesAreCountedByWhatBecomesOfThem: a file waits until the last track has
// confirmed it, and then it is gone.
func TestFilesAreCountedByWhatBecomesOfThem(t *testing.T) {
	opts := testOptions()
	opts.MaxFileSize = 1 // the next message begins another file
	b, _ := open(t, vfs.NewMemory(0), opts)
	type files struct {
		all, waiting, confirmed int
		done                    uint64
	}
	count := func() files {
		s := b.Stats()
		return files{s.Segments, s.Waiting, s.Confirmed, s.Done}
	}
	ids := checkpoint.SetOf(add(t, b, 10))
	add(t, b, 10)
	assert.Equal(t, files{all: 2, waiting: 2}, count())
	require.NoError(t, b.Confirm("a", ids))
	assert.Equal(t, files{all: 2, waiting: 2}, count())
	require.NoError(t, b.Confirm("b", ids))
	assert.Equal(t, files{all: 1, waiting: 1, done: 1}, count())
}

// TestDamageInTheMiddle: what lies behind is used, what is gone is named once, and
// the file is kept aside.
func TestDamageInTheMiddle(t *testing.T) {
	fsys := vfs.NewMemory(0)
	opts := testOptions()
	opts.MaxFileSize = 1 << 20
	b, _ := open(t, fsys, opts)
	for range 5 {
		add(t, b, 10)
	}
	_, err := b.Sync()
	require.NoError(t, err)
	path, length := b.dataPath(b.mu.segments[0]), len(bodyOf(span(1, 10)))
	fsys = fsys.Crash(vfs.Keep())
	fsys.Damage(path, length+12+100, []byte{1, 2, 3})

	b, r := open(t, fsys, opts)
	require.Len(t, r.Holes, 1)
	assert.Equal(t, "11-20", r.Holes[0].Ids.String())
	assert.EqualValues(t, 11000, r.Holes[0].MinTime)
	assert.EqualValues(t, 20000, r.Holes[0].MaxTime)
	assert.Equal(t, "11-20", r.Lost.String())
	assert.Equal(t, "1-10 21-50", readIDs(t, b, everything()).String())
	for _, track := range opts.Tracks {
		require.NoError(t, b.Confirm(track, b.Missing(track)))
	}
	assert.Equal(t, 1, b.Stats().Kept)
	require.NoError(t, b.Close())

	b, r = open(t, fsys, opts)
	assert.Empty(t, r.Lost.String(), "reported once")
	assert.Empty(t, b.Missing("a").String())
	require.NoError(t, b.Forget(1))
	assert.Zero(t, b.Stats().Segments)
}

// TestAFileThatIsGone: what it held is lost, and said once.
func TestAFileThatIsGone(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	ids := add(t, b, 10)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
	require.NoError(t, b.Close())
	require.NoError(t, fsys.Remove(b.dataPath(&segment{number: 1})))
	b, r := open(t, fsys, testOptions())
	assert.Equal(t, "1-10", r.Lost.String())
	require.Len(t, r.Holes, 1)
	assert.Equal(t, "the file is gone", r.Holes[0].Reason)
	assert.Empty(t, b.Missing("b").String())
	require.NoError(t, b.Close())
	_, r = open(t, fsys, testOptions())
	assert.Empty(t, r.Lost.String())
	assert.Empty(t, r.Holes)
}

// TestLostIndex: chunks without a record are kept, and can be read.
func TestLostIndex(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	ids := add(t, b, 10)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
	require.NoError(t, b.Close())
	require.NoError(t, fsys.Remove(b.indexPath(1)))
	b, r := open(t, fsys, testOptions())
	require.Len(t, r.Orphans, 1)
	assert.Equal(t, 10, r.Orphans[0].Messages)
	var got []byte
	require.NoError(t, b.ReadOrphan(r.Orphans[0], func(body []byte, _ int) error {
		got = bytes.Clone(body)
		return nil
	}))
	assert.Equal(t, bodyOf(ids), got)
	assert.Equal(t, 1, b.Stats().Kept)
	require.NoError(t, b.Forget(1))
	assert.Zero(t, b.Stats().Segments)
}

// TestNothingReadableOfTheJournal: duplicates, never loss, never a refused start.
func TestNothingReadableOfTheJournal(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	ids := add(t, b, 10)
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(ids)))
	require.NoError(t, b.Close())
	numbers, err := b.note.journal.files()
	require.NoError(t, err)
	for _, n := range numbers {
		fsys.Damage(b.note.journal.path(n), 0, bytes.Repeat([]byte{0xff}, 5000))
	}
	b, r := open(t, fsys, testOptions())
	assert.NotEmpty(t, r.Damage)
	assert.Equal(t, "1-10", b.Missing("a").String())
	assert.Equal(t, "1-10", readIDs(t, b, everything()).String())
	next, err := b.Reserve(1)
	require.NoError(t, err)
	assert.Greater(t, next.First, ids.Last+63)
}
