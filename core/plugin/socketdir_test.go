package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shortDir is a temporary directory with a short path, for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pl")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestSocketDirFallsBack(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("l", maxBase))
	require.NoError(t, os.Mkdir(long, 0o700))
	missing := filepath.Join(shortDir(t), "x")
	base := shortDir(t)

	d, err := newSocketDir([]string{long, missing, base, "/"})
	require.NoError(t, err)
	assert.Equal(t, base, filepath.Dir(d.path))
	info, err := os.Stat(d.path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	assert.LessOrEqual(t, len(filepath.Join(d.path, "plugin-dir4294967295", strings.Repeat("s", 31))), 103)

	require.NoError(t, d.close())
	assert.Empty(t, names(t, base))

	_, err = newSocketDir([]string{long, missing})
	assert.ErrorContains(t, err, "no place for the sockets of plugins: "+long+": longer than")
}

func TestSweep(t *testing.T) {
	base := shortDir(t)
	alive, err := newSocketDir([]string{base})
	require.NoError(t, err)
	dead, err := newSocketDir([]string{base})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dead.path, "plugin-dir1", "deep"), 0o700))
	require.NoError(t, dead.lock.Close()) // as the kernel does for a dead host

	foreign := filepath.Join(base, socketDirPrefix+"123")
	require.NoError(t, os.Mkdir(foreign, 0o755)) // another mode: not made by us
	other := filepath.Join(base, socketDirPrefix+"notes")
	require.NoError(t, os.Mkdir(other, 0o700))
	file := filepath.Join(base, socketDirPrefix+"456")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	target := shortDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(target, "keep"), nil, 0o600))
	link := filepath.Join(base, socketDirPrefix+"789")
	require.NoError(t, os.Symlink(target, link))

	require.NoError(t, SweepSocketDirs(base))
	assert.NoDirExists(t, dead.path)
	for _, path := range []string{alive.path, foreign, other} {
		assert.DirExists(t, path)
	}
	assert.FileExists(t, file)
	assert.FileExists(t, filepath.Join(link, "keep"))
	require.NoError(t, alive.close())
	require.NoError(t, SweepSocketDirs(filepath.Join(base, "missing")))
}

// Hosts that start at the same time do not take each other's directories.
func TestSweepWhileOthersStart(t *testing.T) {
	base := shortDir(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				assert.NoError(t, SweepSocketDirs(base))
				d, err := newSocketDir([]string{base})
				if assert.NoError(t, err) {
					assert.DirExists(t, d.path)
					assert.NoError(t, d.close())
				}
			}
		})
	}
	wg.Wait()
	assert.Empty(t, names(t, base))
}

func TestSocketBases(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}
	t.Setenv("TMPDIR", "/var/tmp")
	assert.Equal(t, []string{"/run/user/1000", "/var/tmp", "/tmp"}, SocketBases(func(k string) string { return env[k] }))
}
