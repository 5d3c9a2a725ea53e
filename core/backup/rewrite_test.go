package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
)

var destination = sdk.Binding{ConfigID: strings.Repeat("c", 36), RunID: strings.Repeat("r", 36)}

func retained() Options {
	opts := testOptions()
	opts.Retain, opts.Tracks, opts.MaxFileSize = true, []string{"a"}, 1000
	return opts
}

// firstBoot returns a disk with confirmed batches of ids 1 to 60 whose messages
// carry placeholders, in several segments.
func firstBoot(t require.TestingT) *vfs.Memory {
	disk := vfs.NewMemory(0)
	b, _ := open(t, disk, retained())
	require.NoError(t, b.DefineBinding(1, sdk.Unbound()))
	for range 6 {
		ids, err := b.Reserve(10)
		require.NoError(t, err)
		meta := metaOf(ids)
		meta.Binding = 1
		_, err = b.Append(meta, bodyOf(ids))
		require.NoError(t, err)
	}
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(span(1, 60))))
	require.NoError(t, b.Close())
	return disk
}

// bind returns the same messages in upper case, so to say with other ids in them.
func bind(c Chunk) ([]byte, uint32, error) {
	return bytes.ReplaceAll(c.Body, []byte("x"), []byte("X")), 7, nil
}

// rewriteAll rewrites as much as it can.
func rewriteAll(fsys vfs.FS) error {
	b, _, err := Open(fsys, testDir, retained())
	if err != nil {
		return err
	}
	if err := b.DefineBinding(7, destination); err != nil {
		return err
	}
	var all error
	for _, n := range b.Rewritable() {
		all = errors.Join(all, b.Rewrite(n, bind))
	}
	return errors.Join(all, b.Close())
}

// requireWhole checks that all ids are there, and returns in how many segments.
func requireWhole(t require.TestingT, b *Backup, r Recovered) (unbound, bound int) {
	require.Empty(t, r.Holes)
	require.Empty(t, r.Orphans)
	require.Empty(t, r.Lost.String())
	var got checkpoint.Set
	for reader := b.Read(everything()); ; {
		c, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Equal(t, "flow one", string(c.Definition))
		if c.Unbound {
			require.Equal(t, sdk.Unbound(), c.Target)
			require.Equal(t, string(bodyOf(c.Ids)), string(c.Body))
		} else {
			require.Equal(t, destination, c.Target)
			require.Equal(t, strings.ReplaceAll(string(bodyOf(c.Ids)), "x", "X"), string(c.Body))
		}
		got.AddSet(c.Wanted)
	}
	require.Equal(t, "1-60", got.String())
	for _, s := range b.mu.segments {
		if s.unbound {
			unbound++
		} else {
			bound++
		}
	}
	return unbound, bound
}

func TestRewrite(t *testing.T) {
	disk := firstBoot(t)
	require.NoError(t, rewriteAll(disk))
	b, r := open(t, disk, retained())
	unbound, bound := requireWhole(t, b, r)
	assert.Zero(t, unbound)
	assert.Greater(t, bound, 1)
	assert.Empty(t, b.Rewritable())
	assert.Empty(t, b.Missing("a").String())
	list, err := disk.ReadDir(testDir)
	require.NoError(t, err)
	assert.Len(t, list, bound)
	size := int64(0)
	for _, dir := range []string{testDir, retained().StateDir} {
		list, err := disk.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range list {
			if dir == testDir || strings.HasPrefix(e.Name, indexPrefix) {
				size += e.Size
			}
		}
	}
	assert.Equal(t, size, b.Stats().Bytes)
}

func TestWhatIsNotRewritten(t *testing.T) {
	disk := vfs.NewMemory(0)
	b, _ := open(t, disk, retained())
	require.NoError(t, b.DefineBinding(1, sdk.Unbound()))
	require.NoError(t, b.DefineBinding(7, destination))
	put := func() {
		ids, err := b.Reserve(10)
		require.NoError(t, err)
		meta := metaOf(ids)
		meta.Binding = 1
		_, err = b.Append(meta, bodyOf(ids))
		require.NoError(t, err)
	}
	for b.Stats().Finished == 0 {
		put()
	}
	assert.Empty(t, b.Rewritable(), "not confirmed")
	require.ErrorContains(t, b.Rewrite(1, bind), "not one to be rewritten")
	require.NoError(t, b.Confirm("a", b.Missing("a")))
	assert.Equal(t, []uint64{1}, b.Rewritable(), "not the active one")

	used := b.Stats().Bytes
	for name, rebind := range map[string]func(Chunk) ([]byte, uint32, error){
		"failure":         func(Chunk) ([]byte, uint32, error) { return nil, 7, errBroken },
		"still unbound":   func(c Chunk) ([]byte, uint32, error) { return c.Body, 1, nil },
		"no such binding": func(c Chunk) ([]byte, uint32, error) { return c.Body, 9, nil },
		"other count":     func(Chunk) ([]byte, uint32, error) { return bodyOf(span(1, 2)), 7, nil },
		"no messages":     func(Chunk) ([]byte, uint32, error) { return []byte{1, 2, 3}, 7, nil },
	} {
		require.Error(t, b.Rewrite(1, rebind), name)
		assert.Equal(t, used, b.Stats().Bytes, name)
		assert.Equal(t, []uint64{1}, b.Rewritable(), name)
	}
	put()
	require.NoError(t, b.Rewrite(1, bind))
	put()
	assert.Equal(t, uint64(b.Stats().NextID-1), readCount(t, b), "it goes on")
}

func readCount(t require.TestingT, b *Backup) uint64 {
	n := uint64(0)
	for r := b.Read(everything()); ; {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n
		}
		require.NoError(t, err)
		n += c.Wanted.Count()
	}
}

// TestRewriteFailsAtEveryOperation: everything is there after any failure or crash,
// and a later start ends it.
func TestRewriteFailsAtEveryOperation(t *testing.T) {
	for kind, fail := range map[string]func(vfs.FS, int) *vfs.Fault{"once": vfs.FailOnce, "stop": vfs.StopAt, "full": vfs.FailFrom} {
		t.Run(kind, func(t *testing.T) {
			where := logWhere(t)
			for n, fired := 0, true; fired && n < 150; n++ {
				*where = fmt.Sprintf("operation %d", n)
				disk := firstBoot(t)
				fault := fail(disk, n)
				_ = rewriteAll(fault)
				fired = fault.Fired()
				disk = disk.Crash(vfs.Random(uint64(n)))
				b, r := open(t, disk, retained())
				requireWhole(t, b, r)
				require.NoError(t, b.Close())
				require.NoError(t, rewriteAll(disk))
				b, r = open(t, disk, retained())
				unbound, _ := requireWhole(t, b, r)
				require.Zero(t, unbound)
				list, err := disk.ReadDir(testDir)
				require.NoError(t, err)
				require.Len(t, list, b.Stats().Segments, "nothing is left over")
			}
		})
	}
}
