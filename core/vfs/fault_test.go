package vfs

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// script uses every operation that changes something, and says how each ended.
func script(fsys FS) (results []error) {
	note := func(err error) { results = append(results, err) }
	note(fsys.Mkdir("/d"))
	f, err := fsys.Create("/d/a")
	note(err)
	if err == nil {
		_, err = f.Write([]byte("12345678"))
		note(err)
		note(f.Sync())
		f.Close()
	}
	note(fsys.Rename("/d/a", "/d/b"))
	note(fsys.SyncDir("/d"))
	note(fsys.Remove("/d/b"))
	return results
}

func TestFailOnceFailsEachOperation(t *testing.T) {
	for n := range 7 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			fsys := FailOnce(NewMemory(0), n)
			results := script(fsys)
			assert.True(t, fsys.Fired())
			for i, err := range results[:n] {
				require.NoError(t, err, "operation %d", i)
			}
			if n == 2 {
				require.ErrorIs(t, results[n], syscall.ENOSPC)
			} else {
				require.ErrorIs(t, results[n], syscall.EIO)
			}
		})
	}
	fsys := FailOnce(NewMemory(0), 7)
	for _, err := range script(fsys) {
		require.NoError(t, err)
	}
	assert.False(t, fsys.Fired())
}

func TestFullDisk(t *testing.T) {
	m := NewMemory(0)
	fsys := FailFrom(m, 2)
	results := script(fsys)
	require.ErrorIs(t, results[2], syscall.ENOSPC)
	for _, err := range append(results[:2:2], results[3:]...) {
		require.NoError(t, err, "only what needs space fails")
	}
	_, err := fsys.Create("/d/c")
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, fsys.Mkdir("/e"), syscall.ENOSPC)
}

func TestShortWrite(t *testing.T) {
	m := NewMemory(0)
	fsys := FailOnce(m, 1)
	f, err := fsys.Create("/a")
	require.NoError(t, err)
	n, err := f.Write([]byte("12345678"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.Equal(t, 4, n)
	assert.Equal(t, "1234", content(t, m, "/a"))
}

func TestStopEndsReadingToo(t *testing.T) {
	m := NewMemory(0)
	create(t, m, "/a", "1")
	fsys := StopAt(m, 1)
	f, err := fsys.Open("/a")
	require.NoError(t, err)
	require.NoError(t, fsys.Mkdir("/d"))
	require.ErrorIs(t, fsys.SyncDir("/"), ErrCrashed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, ErrCrashed)
	_, err = fsys.ReadDir("/")
	require.ErrorIs(t, err, ErrCrashed)
	assert.Equal(t, "1", content(t, m, "/a"), "the disk itself is well")
}

func TestDoneAndFailed(t *testing.T) {
	m := NewMemory(0)
	fsys := NewFault(m, func(op Op) *Failure {
		return &Failure{Err: syscall.EIO, Done: true, Written: op.Size}
	})
	_, err := fsys.Create("/a")
	require.ErrorIs(t, err, syscall.EIO)
	assert.Empty(t, content(t, m, "/a"))
	require.ErrorIs(t, fsys.Rename("/a", "/b"), syscall.EIO)
	assert.Empty(t, content(t, m, "/b"))
}
