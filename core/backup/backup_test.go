package backup

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

func TestAppendSyncReadConfirm(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, r := open(t, fsys, testOptions())
	assert.Zero(t, r.Segments)
	assert.Empty(t, r.Damage)
	for range 20 {
		add(t, b, 10)
	}
	through, err := b.Sync()
	require.NoError(t, err)
	assert.EqualValues(t, 20, through)
	assert.Equal(t, "1-200", b.Missing("a").String())
	assert.Equal(t, "1-200", readIDs(t, b, everything()).String())
	assert.Equal(t, "15-16 150", readIDs(t, b, checkpoint.SetOf(span(15, 16), span(150, 150))).String())
	segments := b.Stats().Segments
	assert.Greater(t, segments, 2)

	require.NoError(t, b.Confirm("a", checkpoint.SetOf(span(1, 200))))
	assert.Equal(t, segments, b.Stats().Segments, "track b has confirmed nothing")
	assert.Empty(t, b.Missing("a").String())
	require.NoError(t, b.Confirm("b", checkpoint.SetOf(span(1, 150))))
	assert.Less(t, b.Stats().Segments, segments)
	assert.Equal(t, "151-200", b.Missing("b").String())
	left := readIDs(t, b, everything())
	assert.True(t, left.Contains(span(151, 200)))
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())

	b, r = open(t, fsys, testOptions())
	assert.True(t, r.Clean)
	assert.Empty(t, r.Damage)
	assert.Empty(t, r.Holes)
	assert.Equal(t, "151-200", b.Missing("b").String())
	assert.Equal(t, metaOf(span(1, 200)).Cursors[0].Position, r.Cursors["s"])
	next, err := b.Reserve(1)
	require.NoError(t, err)
	assert.EqualValues(t, 201, next.First, "a clean end voids no ids")
	require.NoError(t, b.Confirm("b", checkpoint.SetOf(span(151, 200))))
	assert.Zero(t, b.Stats().Segments)
	list, err := fsys.ReadDir(testDir)
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, b.Close())
}

// TestOnDisk uses real files: what is in the directory is PBFS and nothing else.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	opts := testOptions()
	opts.StateDir = filepath.Join(dir, "state")
	b, _, err := Open(vfs.OS{}, filepath.Join(dir, "backups"), opts)
	require.NoError(t, err)
	_, _, err = Open(vfs.OS{}, filepath.Join(dir, "backups"), opts)
	require.ErrorIs(t, err, vfs.ErrLocked)
	require.NoError(t, b.DefineFlow(1, []byte("flow one")))
	for range 10 {
		add(t, b, 10)
	}
	assert.Equal(t, "1-100", readIDs(t, b, everything()).String())
	require.NoError(t, b.Close())

	paths, err := filepath.Glob(filepath.Join(dir, "backups", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	id := uint64(0)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		for r := pbfs.NewReader(bytes.NewReader(raw), pbfs.Limits{}); ; {
			c, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			for m, err := range pbfs.Messages(c.Body) {
				require.NoError(t, err)
				id++
				require.Equal(t, message(id), string(m))
			}
		}
	}
	assert.EqualValues(t, 100, id)
}

func TestUncleanEndBeginsBehindTheLease(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	add(t, b, 3)
	fsys = fsys.Crash(vfs.Keep())
	b, r := open(t, fsys, testOptions())
	assert.False(t, r.Clean)
	assert.Equal(t, "1-3", b.Missing("a").String(), "written is enough when the machine lives on")
	ids, err := b.Reserve(1)
	require.NoError(t, err)
	assert.EqualValues(t, 3+1+64, ids.First)
}

func TestUnboundBatchesHaveFilesOfTheirOwn(t *testing.T) {
	fsys := vfs.NewMemory(0)
	b, _ := open(t, fsys, testOptions())
	bound := sdk.Binding{ConfigID: "config", RunID: "run"}
	require.NoError(t, b.DefineBinding(1, sdk.Unbound()))
	require.NoError(t, b.DefineBinding(2, bound))
	require.Error(t, b.DefineBinding(2, sdk.Unbound()), "a number keeps its meaning")
	require.Error(t, b.DefineFlow(1, []byte("other")))
	for _, binding := range []uint32{1, 1, 2} {
		ids, err := b.Reserve(1)
		require.NoError(t, err)
		meta := metaOf(ids)
		meta.Binding = binding
		_, err = b.Append(meta, bodyOf(ids))
		require.NoError(t, err)
	}
	list, err := fsys.ReadDir(testDir)
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, "p-0000000000000001.unbound", list[0].Name)
	assert.Equal(t, "p-0000000000000002.pbfs", list[1].Name)
	require.NoError(t, b.Close())

	b, _, err = Open(fsys, testDir, testOptions())
	require.NoError(t, err)
	r := b.Read(everything())
	c, err := r.Next()
	require.NoError(t, err)
	assert.True(t, c.Unbound)
	assert.Equal(t, sdk.Unbound(), c.Target)
	_, err = r.Next()
	require.NoError(t, err)
	c, err = r.Next()
	require.NoError(t, err)
	assert.False(t, c.Unbound)
	assert.Equal(t, bound, c.Target, "definitions come back without having been given again")
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestRefusedBatches(t *testing.T) {
	b, _ := open(t, vfs.NewMemory(0), testOptions())
	ids, err := b.Reserve(2)
	require.NoError(t, err)
	refuse := func(why string, change func(m *Meta), body []byte) {
		meta := metaOf(ids)
		change(&meta)
		_, err := b.Append(meta, body)
		require.Error(t, err, why)
	}
	good := bodyOf(ids)
	refuse("torn body", func(*Meta) {}, good[:len(good)-1])
	refuse("other count", func(*Meta) {}, bodyOf(span(1, 3)))
	refuse("id 0", func(m *Meta) { m.Ids = span(0, 1) }, good)
	refuse("not given out", func(m *Meta) { m.Ids = span(2, 3) }, good)
	refuse("unknown flow", func(m *Meta) { m.Flow = 9 }, good)
	refuse("unknown binding", func(m *Meta) { m.Binding = 9 }, good)
	refuse("long cursor", func(m *Meta) { m.Cursors[0].Position = make([]byte, maxPayload) }, good)
	require.Error(t, b.Confirm("c", checkpoint.SetOf(ids)), "unknown track")
	require.Error(t, b.Confirm("a", checkpoint.SetOf(span(1, 99))), "ids that were not given out")
	_, err = b.Reserve(checkpoint.MaxID)
	require.Error(t, err)
	require.NoError(t, b.Close())
	_, err = b.Append(metaOf(ids), good)
	require.ErrorIs(t, err, ErrClosed)
	_, err = b.Reserve(1)
	require.ErrorIs(t, err, ErrClosed)
	_, err = b.Sync()
	require.ErrorIs(t, err, ErrClosed)
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"nested":    func(o *Options) { o.StateDir = testDir + "/state" },
		"around":    func(o *Options) { o.StateDir = "/data" },
		"equal":     func(o *Options) { o.StateDir = testDir },
		"no state":  func(o *Options) { o.StateDir = "" },
		"bad name":  func(o *Options) { o.Name = "a/b" },
		"no name":   func(o *Options) { o.Name = "" },
		"no number": func(o *Options) { o.MaxDisk = -1 },
	} {
		opts := testOptions()
		change(&opts)
		_, _, err := Open(vfs.NewMemory(0), testDir, opts)
		require.Error(t, err, name)
	}
}

// TestFailedSyncSaysWhatMustBeWrittenAgain: the segment is suspect, and nothing in
// it counts as durable by a later Sync that succeeds.
func TestFailedSyncSaysWhatMustBeWrittenAgain(t *testing.T) {
	fsys := vfs.NewMemory(0)
	fail := false
	b, _ := open(t, vfs.NewFault(fsys, func(op vfs.Op) *vfs.Failure {
		if fail && op.Kind == vfs.OpSync {
			fail = false
			return &vfs.Failure{Err: syscall.EIO}
		}
		return nil
	}), testOptions())
	first := add(t, b, 2)
	_, err := b.Sync()
	require.NoError(t, err)
	second := add(t, b, 2)
	fail = true
	through, err := b.Sync()
	suspect := (*SuspectError)(nil)
	require.ErrorAs(t, err, &suspect)
	require.ErrorIs(t, err, syscall.EIO)
	assert.EqualValues(t, 1, through)
	assert.Equal(t, checkpoint.SetOf(second), suspect.Ids)
	through, err = b.Sync()
	require.NoError(t, err)
	assert.EqualValues(t, 1, through, "nothing is durable by itself")
	_, err = b.Append(metaOf(second), bodyOf(second))
	require.NoError(t, err)
	through, err = b.Sync()
	require.NoError(t, err)
	assert.EqualValues(t, 3, through)
	assert.Equal(t, 2, b.Stats().Segments)
	assert.Equal(t, "1-4", readIDs(t, b, everything()).String(), "each id once")

	b, r := open(t, fsys.Crash(vfs.Lose()), testOptions())
	assert.Empty(t, r.Lost.String())
	assert.Equal(t, checkpoint.SetOf(span(first.First, second.Last)).String(), readIDs(t, b, everything()).String())
}

func TestReadingWhileWriting(t *testing.T) {
	b, _ := open(t, vfs.NewMemory(0), testOptions())
	add(t, b, 5)
	r := b.Read(everything())
	c, err := r.Next()
	require.NoError(t, err)
	assert.Equal(t, span(1, 5), c.Ids, "the active segment, before any sync")
	for range 20 {
		add(t, b, 5)
	}
	all := checkpoint.SetOf(span(1, 105))
	require.NoError(t, b.Confirm("a", all))
	require.NoError(t, b.Confirm("b", all))
	for { // what is deleted is left out, what is open can be read
		if _, err = r.Next(); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, io.EOF)
}

// TestConcurrentUse has every kind of user at once; the segments are so small that
// they are finished during syncs.
func TestConcurrentUse(t *testing.T) {
	opts := testOptions()
	opts.StateDir, opts.MaxFileSize = t.TempDir(), 1500
	b, _, err := Open(vfs.OS{}, t.TempDir(), opts)
	require.NoError(t, err)
	require.NoError(t, b.DefineFlow(1, []byte("flow one")))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, use := range []func() error{
		func() error { _, err := b.Sync(); return err },
		func() error { return b.Confirm("a", b.Missing("a")) },
		func() error { readIDs(t, b, b.Missing("b")); b.Stats(); b.Cursors(); return nil },
	} {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if !assert.NoError(t, use()) {
						return
					}
				}
			}
		})
	}
	for range 300 {
		add(t, b, 3)
	}
	close(done)
	wg.Wait()
	assert.Equal(t, "1-900", b.Missing("b").String())
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(span(1, 900))))
	require.NoError(t, b.Confirm("b", checkpoint.SetOf(span(1, 900))))
	require.NoError(t, b.Close())
	assert.Zero(t, b.Stats().Segments)
}
