package outfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/internal/outfile/outfiletest"
)

// holdVerb makes the test binary a process that opens a directory, begins a file,
// says so, and waits to be killed.
const holdVerb = "hold-directory"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == holdVerb {
		hold(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

func hold(path string) {
	d := outfile.New(path, outfile.OS{}, slog.New(slog.DiscardHandler))
	err := d.Open()
	var s *outfile.Set
	if err == nil {
		s, err = d.NewSet()
	}
	if err == nil {
		err = s.Run(func() error {
			f, err := s.Create(func(int) string { return filepath.Join(path, "never") })
			if err == nil {
				_, err = f.Write([]byte("unfinished"))
			}
			return err
		})
	}
	fmt.Println("holding", err)
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(1)
}

func newDir(t *testing.T, files outfile.FS) (*outfile.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a", "b")
	d := outfile.New(path, files, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	return d, path
}

func openDir(t *testing.T) (*outfile.Dir, *outfiletest.FS, string) {
	t.Helper()
	files := new(outfiletest.FS)
	d, path := newDir(t, files)
	require.NoError(t, d.Open())
	return d, files, path
}

func newSet(t *testing.T, d *outfile.Dir) *outfile.Set {
	t.Helper()
	s, err := d.NewSet()
	require.NoError(t, err)
	return s
}

func named(path string) func(int) string {
	return func(attempt int) string {
		if attempt == 0 {
			return path
		}
		return fmt.Sprintf("%s+%d", path, attempt)
	}
}

// add begins a file with content in the set.
func add(s *outfile.Set, path, content string) error {
	return s.Run(func() error {
		f, err := s.Create(named(path))
		if err != nil {
			return err
		}
		_, err = f.Write([]byte(content))
		return err
	})
}

func publish(s *outfile.Set) (paths []string, err error) {
	err = s.Run(func() (err error) {
		paths, err = s.Publish()
		return err
	})
	return paths, err
}

// tree returns the files below a directory with their content, and the number of
// unfinished ones.
func tree(t *testing.T, root string) (files map[string]string, unfinished int) {
	t.Helper()
	files = map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" {
			return err
		}
		if strings.Contains(path, ".pipelined-") {
			unfinished++
			return nil
		}
		content, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, root+"/")] = string(content)
		return err
	}))
	return files, unfinished
}

func TestPublish(t *testing.T) {
	d, files, path := openDir(t)
	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x", "one"), "1"))
	require.NoError(t, add(s, filepath.Join(path, "two"), "2"))
	before, unfinished := tree(t, path)
	assert.Empty(t, before, "nothing has its name before Publish")
	assert.Equal(t, 2, unfinished)

	paths, err := publish(s)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(path, "x", "one"), filepath.Join(path, "two")}, paths)
	after, unfinished := tree(t, path)
	assert.Equal(t, map[string]string{"x/one": "1", "two": "2"}, after)
	assert.Zero(t, unfinished)
	assert.Zero(t, files.Open())
	assert.Equal(t, 2, files.Calls(outfiletest.Sync))
	assert.GreaterOrEqual(t, files.Calls(outfiletest.SyncDir), 3, "of the new directory's parent, and of both directories")

	s.Abort()
	after, _ = tree(t, path)
	assert.Len(t, after, 2, "an abort after the end changes nothing")
	_, err = publish(s)
	assert.ErrorContains(t, err, "final names already")
}

func TestEmptySetPublishesNothing(t *testing.T) {
	d, _, path := openDir(t)
	paths, err := publish(newSet(t, d))
	require.NoError(t, err)
	assert.Empty(t, paths)
	files, _ := tree(t, path)
	assert.Empty(t, files)
}

func TestExistingFilesAreNeverReplaced(t *testing.T) {
	d, _, path := openDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(path, "x"), []byte("old"), 0o600))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(path, "x+1")))
	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "new"))
	paths, err := publish(s)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(path, "x+2")}, paths)
	old, err := os.ReadFile(filepath.Join(path, "x"))
	require.NoError(t, err)
	assert.Equal(t, "old", string(old))
}

func TestNamesMustStayInside(t *testing.T) {
	d, _, path := openDir(t)
	for _, name := range []string{filepath.Join(path, "..", "out"), "/etc/out", filepath.Join(path, "x", "..", "..", "out")} {
		s := newSet(t, d)
		require.NoError(t, add(s, name, ""))
		_, err := publish(s)
		assert.ErrorContains(t, err, "leads out of")
	}
}

// TestFaults lets every call of every operation fail once, in a small story, and
// demands that it ends with everything or nothing.
func TestFaults(t *testing.T) {
	story := func(s *outfile.Set, path string) error {
		return errors.Join(
			add(s, filepath.Join(path, "x", "one"), "11"),
			add(s, filepath.Join(path, "y", "two"), "22"),
			func() error { _, err := publish(s); return err }(),
		)
	}
	for _, op := range []outfiletest.Op{
		outfiletest.Create, outfiletest.Mkdir, outfiletest.Write, outfiletest.Sync, outfiletest.Close,
		outfiletest.Rename, outfiletest.SyncDir,
	} {
		t.Run(string(op), func(t *testing.T) {
			for n := 1; ; n++ {
				d, files, path := openDir(t)
				s := newSet(t, d)
				before := files.Calls(op)
				files.FailNth(op, n, syscall.ENOSPC)
				err := story(s, path)
				calls := files.Calls(op) - before
				files.Fail(nil)
				found, unfinished := tree(t, path)
				assert.Zero(t, files.Open(), "call %d", n)
				if calls < n {
					require.NoError(t, err)
					assert.Len(t, found, 2)
					require.Greater(t, n, 1, "the operation is never called")
					return
				}
				require.ErrorIs(t, err, syscall.ENOSPC, "call %d", n)
				assert.Empty(t, found, "call %d", n)
				assert.Zero(t, unfinished, "call %d", n)
				assert.ErrorIs(t, add(s, filepath.Join(path, "three"), ""), syscall.ENOSPC, "the error stays")
			}
		})
	}
}

func TestShortWriteWithoutError(t *testing.T) {
	d, path := newDir(t, shortFS{})
	require.NoError(t, d.Open())
	s := newSet(t, d)
	assert.ErrorContains(t, add(s, filepath.Join(path, "x"), "12"), "short write")
}

// shortFS takes less than it was given, and says so only in the count.
type shortFS struct{ outfile.OS }

func (s shortFS) Create(path string) (outfile.Handle, error) {
	h, err := s.OS.Create(path)
	return shortHandle{h}, err
}

type shortHandle struct{ outfile.Handle }

func (h shortHandle) Write(p []byte) (int, error) { return h.Handle.Write(p[:1]) }

func TestLargeFilesAreSyncedOnTheWay(t *testing.T) {
	d, files, path := openDir(t)
	s := newSet(t, d)
	block := make([]byte, 1<<20)
	require.NoError(t, s.Run(func() error {
		f, err := s.Create(named(filepath.Join(path, "x")))
		for range 65 {
			if err == nil {
				_, err = f.Write(block)
			}
		}
		return err
	}))
	assert.Equal(t, 2, files.Calls(outfiletest.Sync))
	s.Abort()
}

func TestAbort(t *testing.T) {
	d, files, path := openDir(t)
	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "1"))
	s.Abort()
	assert.Zero(t, files.Open())
	_, unfinished := tree(t, path)
	assert.Zero(t, unfinished)
	assert.ErrorIs(t, add(s, filepath.Join(path, "x"), "1"), outfile.ErrAborted)
	_, err := publish(s)
	assert.ErrorIs(t, err, outfile.ErrAborted)
}

func TestAbortDuringPublish(t *testing.T) {
	for _, op := range []outfiletest.Op{outfiletest.Sync, outfiletest.Rename} {
		t.Run(string(op), func(t *testing.T) {
			d, files, path := openDir(t)
			s := newSet(t, d)
			for i := range 20 {
				require.NoError(t, add(s, filepath.Join(path, fmt.Sprint(i)), "1"))
			}
			var once sync.Once
			files.Fail(func(called outfiletest.Op, _ string) error {
				if called == op {
					once.Do(s.Abort) // returns although the step runs
				}
				return nil
			})
			_, err := publish(s)
			assert.ErrorIs(t, err, outfile.ErrAborted)
			found, unfinished := tree(t, path)
			assert.Empty(t, found)
			assert.Zero(t, unfinished)
			assert.Zero(t, files.Open())
		})
	}
}

func TestConcurrentAborts(t *testing.T) {
	d, files, path := openDir(t)
	for i := range 200 {
		s := newSet(t, d)
		var group sync.WaitGroup
		group.Go(s.Abort)
		group.Go(s.Abort)
		errs := []error{add(s, filepath.Join(path, fmt.Sprint(i)), "1")}
		_, err := publish(s)
		errs = append(errs, err)
		group.Wait()
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, outfile.ErrAborted)
			}
		}
		found, unfinished := tree(t, path)
		_, exists := found[fmt.Sprint(i)]
		require.Equal(t, err == nil, exists)
		require.Zero(t, unfinished)
	}
	assert.Zero(t, files.Open())
}

func TestClose(t *testing.T) {
	files := new(outfiletest.FS)
	unopened, _ := newDir(t, files)
	require.NoError(t, unopened.Close())

	d, path := newDir(t, files)
	require.NoError(t, d.Open())
	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "1"))
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	assert.Zero(t, files.Open())
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	assert.Empty(t, entries)
	assert.ErrorIs(t, d.Open(), outfile.ErrClosed)
	_, err = d.NewSet()
	assert.ErrorIs(t, err, outfile.ErrClosed)
	assert.ErrorIs(t, add(s, filepath.Join(path, "x"), "1"), outfile.ErrAborted)
}

// TestLeftovers kills a process that has an unfinished file: the next one removes
// that, and nothing else.
func TestLeftovers(t *testing.T) {
	d, path := newDir(t, outfile.OS{})
	foreign := []string{
		"data", ".pipelined-x.tmp/1.part", ".pipelined-0123456789abcdef.tmp/keep", "0123456789abcdef.tmp/1.part",
		".pipelined-0123456789abcdef/1.part",
	}
	for _, name := range foreign {
		name = filepath.Join(path, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte("foreign"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(path, ".pipelined-0123456789abcdef.tmp/lock"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(path, ".pipelined-fedcba9876543210.tmp"), 0o700)) // died before its lock
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "1.part"), nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(path, ".pipelined-aaaaaaaaaaaaaaaa.tmp")))

	other := startHolder(t, path)
	require.NoError(t, d.Open())
	assert.Len(t, works(t, path), 4, "its own, that of a living process, one with a foreign file, the symbolic link")
	other()
	second := outfile.New(path, outfile.OS{}, slog.New(slog.DiscardHandler))
	require.NoError(t, second.Open())
	defer second.Close()
	for _, name := range foreign {
		assert.FileExists(t, filepath.Join(path, name))
	}
	assert.FileExists(t, filepath.Join(outside, "1.part"))
	assert.NoDirExists(t, filepath.Join(path, ".pipelined-fedcba9876543210.tmp"))
	assert.Len(t, works(t, path), 4, "that of the killed process has gone, that of the second has come")

	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "1"), "the first is not disturbed")
	_, err := publish(s)
	require.NoError(t, err)
}

func works(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".pipelined-") && strings.HasSuffix(e.Name(), ".tmp") && len(e.Name()) == 31 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// startHolder starts a process with an unfinished file below path; kill ends it.
func startHolder(t *testing.T, path string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], holdVerb, path)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close() })
	line := make([]byte, 100)
	n, err := stdout.Read(line)
	require.NoError(t, err)
	require.Equal(t, "holding <nil>\n", string(line[:n]))
	return func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
}

func TestManyProcessesAtOnce(t *testing.T) {
	_, path := newDir(t, outfile.OS{})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 5 {
				d := outfile.New(path, outfile.OS{}, slog.New(slog.DiscardHandler))
				assert.NoError(t, d.Open())
				s, err := d.NewSet()
				if assert.NoError(t, err) {
					assert.NoError(t, add(s, filepath.Join(path, "x"), "1"))
					_, err := publish(s)
					assert.NoError(t, err)
				}
				assert.NoError(t, d.Close())
			}
		})
	}
	group.Wait()
	found, _ := tree(t, path)
	assert.Len(t, found, 100)
	assert.Empty(t, works(t, path))
}

func TestDirectoryRemovedInUse(t *testing.T) {
	d, _, path := openDir(t)
	s := newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "1"))
	require.NoError(t, os.RemoveAll(path))
	_, err := publish(s)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.False(t, outfile.Lasting(err))
	require.NoError(t, d.Open())
	s = newSet(t, d)
	require.NoError(t, add(s, filepath.Join(path, "x"), "1"))
	_, err = publish(s)
	require.NoError(t, err)
}

func TestUnusableDirectories(t *testing.T) {
	parent := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(parent, "file"), nil, 0o600))
	for _, path := range []string{filepath.Join(parent, "file"), filepath.Join(parent, "file", "sub"), "/proc/nowhere"} {
		d := outfile.New(path, outfile.OS{}, slog.New(slog.DiscardHandler))
		err := d.Open()
		require.Error(t, err)
		assert.Contains(t, err.Error(), "destination directory "+path)
		assert.Equal(t, path != "/proc/nowhere", outfile.Lasting(err), "%v", err)
		_, err = d.NewSet()
		assert.ErrorIs(t, err, outfile.ErrClosed)
		require.NoError(t, d.Close())
	}
	files := new(outfiletest.FS)
	files.FailNth(outfiletest.Mkdir, 1, syscall.EACCES)
	d := outfile.New(filepath.Join(parent, "denied"), files, slog.New(slog.DiscardHandler))
	err := d.Open()
	require.ErrorIs(t, err, fs.ErrPermission)
	assert.True(t, outfile.Lasting(err))
}
