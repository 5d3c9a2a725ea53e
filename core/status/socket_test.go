package status

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSocketIsForTheUserAlone(t *testing.T) {
	dir := shortDir(t)
	l, err := listen(t.Context(), dir)
	require.NoError(t, err)
	defer l.Close()
	info, err := os.Lstat(filepath.Join(dir, SocketName))
	require.NoError(t, err)
	assert.Equal(t, fs.ModeSocket|0o600, info.Mode())
}

func TestStaleSocket(t *testing.T) {
	dir := shortDir(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	client := NewClient(dir)
	defer client.Close()
	_, err = client.Report(limited(t))
	require.ErrorIs(t, err, ErrNotRunning)

	l, err := listen(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	assert.NoFileExists(t, filepath.Join(dir, SocketName))
}

func TestSomethingElseIsInTheWay(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a file":    func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a symlink": func(path string) error { return os.Symlink("/tmp", path) },
		"a pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, SocketName)
			require.NoError(t, make(path))
			_, err := listen(t.Context(), dir)
			require.ErrorContains(t, err, "is in the way: it is not a socket")
			_, err = os.Lstat(path)
			require.NoError(t, err)
		})
	}
}

func TestLongPath(t *testing.T) {
	for _, length := range []int{100, 103, 104, 107, 108, 109, 300, 2000} {
		dir := shortDir(t)
		for length-len(filepath.Join(dir, SocketName)) > 1 {
			rest := length - len(filepath.Join(dir, SocketName)) - 1
			dir = filepath.Join(dir, strings.Repeat("d", min(rest, 100)))
		}
		require.NoError(t, os.MkdirAll(dir, 0o700))
		l, err := listen(t.Context(), dir)
		require.NoError(t, err, "%d bytes", length)
		assert.FileExists(t, filepath.Join(dir, SocketName))
		conn, err := dial(limited(t), dir)
		require.NoError(t, err, "%d bytes", length)
		require.NoError(t, conn.Close())
		require.NoError(t, l.Close())
		assert.NoFileExists(t, filepath.Join(dir, SocketName))
	}
}
