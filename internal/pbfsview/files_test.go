package pbfsview

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// walked returns what Walk yields, with paths relative to dir and "!" behind those
// that have an error.
func walked(t *testing.T, dir, root string) (paths []string) {
	t.Helper()
	for path, err := range Walk(root) {
		relative, relErr := filepath.Rel(dir, path)
		require.NoError(t, relErr)
		if err != nil {
			relative += "!"
		}
		paths = append(paths, relative)
	}
	return paths
}

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	write := func(path string) {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	write("data/stand 3/run/key-1")
	write("data/stand 3/run/.key-2") // client keys may begin with anything
	write("data/a")
	write("data/.pipelined-0123456789abcdef.tmp/1.part")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data/empty"), 0o700))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "data/pipe"), 0o600))
	for link, target := range map[string]string{
		"link": "data", "data/loop": ".", "data/file": "a", "data/broken": "nowhere",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	const run = "stand 3/run"
	want := []string{"a", "broken", "file", run + "/.key-2", run + "/key-1"}
	below := func(root string) (paths []string) {
		for _, p := range want {
			paths = append(paths, filepath.Join(root, p))
		}
		return paths
	}

	assert.Equal(t, below("data"), walked(t, dir, filepath.Join(dir, "data")))
	assert.Equal(t, below("data"), walked(t, dir, filepath.Join(dir, "data")+"/"))
	assert.Equal(t, below("link"), walked(t, dir, filepath.Join(dir, "link")))
	assert.Equal(t, []string{"data/a"}, walked(t, dir, filepath.Join(dir, "data/a")))
	assert.Equal(t, []string{"data/pipe"}, walked(t, dir, filepath.Join(dir, "data/pipe"))) // opening it tells
	assert.Equal(t, []string{"data/none!"}, walked(t, dir, filepath.Join(dir, "data/none")))
	assert.Empty(t, walked(t, dir, filepath.Join(dir, "data/empty")))
	assert.Equal(t, []string{"data/.pipelined-0123456789abcdef.tmp/1.part"},
		walked(t, dir, filepath.Join(dir, "data/.pipelined-0123456789abcdef.tmp")), "named, it is looked into")

	t.Chdir(filepath.Join(dir, "data"))
	assert.Equal(t, want, walked(t, ".", "."))

	for range Walk(dir) {
		break // and no more is yielded
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("12345"), 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	assert.Equal(t, int64(5), f.Size)
	require.NoError(t, f.Close())

	_, err = Open(dir)
	require.ErrorContains(t, err, "is a directory")
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = Open(pipe) // without anybody who writes
	require.ErrorContains(t, err, "is not a regular file")
	_, err = Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
