package vfs

import (
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everywhere runs a test on every implementation, in an empty directory.
func everywhere(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS{}, t.TempDir()) })
	t.Run("memory", func(t *testing.T) { test(t, NewMemory(0), "/") })
	t.Run("after a crash", func(t *testing.T) {
		test(t, NewMemory(0).Crash(Keep()), "/")
	})
	t.Run("fault", func(t *testing.T) {
		test(t, NewFault(NewMemory(0), func(Op) *Failure { return nil }), "/")
	})
}

func create(t *testing.T, fsys FS, path, content string) File {
	t.Helper()
	f, err := fsys.Create(path)
	require.NoError(t, err)
	n, err := f.Write([]byte(content))
	require.NoError(t, err)
	require.Equal(t, len(content), n)
	return f
}

// content returns what is in a file, "?" if there is none.
func content(t *testing.T, fsys FS, path string) string {
	t.Helper()
	f, err := fsys.Open(path)
	if err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
		return "?"
	}
	defer f.Close()
	size, err := f.Size()
	require.NoError(t, err)
	p := make([]byte, size)
	_, err = io.ReadFull(io.NewSectionReader(f, 0, size), p)
	require.NoError(t, err)
	return string(p)
}

func TestFiles(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		path := filepath.Join(dir, "a")
		f := create(t, fsys, path, "one")
		_, err := f.Write([]byte(" two"))
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		assert.Equal(t, "one two", content(t, fsys, path))

		p := make([]byte, 3)
		n, err := f.ReadAt(p, 4)
		require.NoError(t, err)
		assert.Equal(t, "two", string(p[:n]))
		n, err = f.ReadAt(p, 6)
		assert.Equal(t, 1, n)
		require.ErrorIs(t, err, io.EOF)
		_, err = f.ReadAt(p, 7)
		require.ErrorIs(t, err, io.EOF)

		_, err = fsys.Create(path)
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = fsys.Open(filepath.Join(dir, "b"))
		require.ErrorIs(t, err, fs.ErrNotExist)

		reader, err := fsys.Open(path)
		require.NoError(t, err)
		_, err = reader.Write([]byte("x"))
		require.Error(t, err, "opened for reading")
		require.NoError(t, fsys.Remove(path))
		n, err = reader.ReadAt(p, 0)
		require.NoError(t, err, "an open file outlives its name")
		assert.Equal(t, "one", string(p[:n]))
		require.NoError(t, reader.Close())
		require.NoError(t, f.Close())
		_, err = f.Write([]byte("x"))
		require.Error(t, err, "closed")
		require.ErrorIs(t, fsys.Remove(path), fs.ErrNotExist)
	})
}

func TestNames(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		deep := filepath.Join(dir, "x", "y")
		require.NoError(t, MkdirAll(fsys, deep))
		require.NoError(t, MkdirAll(fsys, deep))
		require.ErrorIs(t, fsys.Mkdir(deep), fs.ErrExist)
		require.NoError(t, create(t, fsys, filepath.Join(deep, "b"), "old").Close())
		require.NoError(t, create(t, fsys, filepath.Join(deep, "a"), "new").Close())
		require.NoError(t, fsys.Mkdir(filepath.Join(deep, "c")))
		list, err := fsys.ReadDir(deep)
		require.NoError(t, err)
		require.Len(t, list, 3)
		assert.Equal(t, Entry{Name: "a", Size: 3}, list[0])
		assert.Equal(t, Entry{Name: "b", Size: 3}, list[1])
		assert.Equal(t, "c", list[2].Name)
		assert.True(t, list[2].Dir)

		require.NoError(t, fsys.Rename(filepath.Join(deep, "a"), filepath.Join(deep, "b")))
		require.NoError(t, fsys.SyncDir(deep))
		assert.Equal(t, "?", content(t, fsys, filepath.Join(deep, "a")))
		assert.Equal(t, "new", content(t, fsys, filepath.Join(deep, "b")))
		require.ErrorIs(t, fsys.Rename(filepath.Join(deep, "a"), filepath.Join(deep, "z")), fs.ErrNotExist)

		entry, err := fsys.Stat(deep)
		require.NoError(t, err)
		assert.True(t, entry.Dir)
		_, err = fsys.Stat(filepath.Join(dir, "none", "deeper"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = fsys.ReadDir(filepath.Join(dir, "none"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorIs(t, fsys.SyncDir(filepath.Join(dir, "none")), fs.ErrNotExist)
		require.Error(t, MkdirAll(fsys, filepath.Join(deep, "b")), "a file is in the way")
		free, err := fsys.Free(deep)
		require.NoError(t, err)
		assert.Positive(t, free)
	})
}

func TestLock(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		lock, err := fsys.Lock(dir)
		require.NoError(t, err)
		_, err = fsys.Lock(dir)
		require.ErrorIs(t, err, ErrLocked)
		list, err := fsys.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, list, "the lock leaves no file")
		require.NoError(t, lock.Close())
		lock, err = fsys.Lock(dir)
		require.NoError(t, err)
		require.NoError(t, lock.Close())
		_, err = fsys.Lock(filepath.Join(dir, "none"))
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}
