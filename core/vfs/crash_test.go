package vfs

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMemory(0)
	f := create(t, m, "/a", "synced")
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	_, err := f.Write([]byte(" and not"))
	require.NoError(t, err)
	create(t, m, "/b", "new")
	lock, err := m.Lock("/")
	require.NoError(t, err)

	after := m.Crash(Lose())
	assert.Equal(t, "synced", content(t, after, "/a"))
	assert.Equal(t, "?", content(t, after, "/b"))
	_, err = after.Lock("/")
	require.NoError(t, err, "a lock ends with its process")

	require.ErrorIs(t, f.Sync(), ErrCrashed)
	_, err = f.Write([]byte("x"))
	require.ErrorIs(t, err, ErrCrashed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, ErrCrashed)
	_, err = m.Create("/c")
	require.ErrorIs(t, err, ErrCrashed)
	_, err = m.ReadDir("/")
	require.ErrorIs(t, err, ErrCrashed)
	require.NoError(t, lock.Close())
}

func TestCrashOfTheProcessAloneLosesNothing(t *testing.T) {
	m := NewMemory(0)
	create(t, m, "/a", "written")
	require.NoError(t, m.Rename("/a", "/b"))
	after := m.Crash(Keep())
	assert.Equal(t, "written", content(t, after, "/b"))
	assert.Equal(t, "?", content(t, after, "/a"))
}

// TestCrashReachesEveryOutcome counts what is left over many seeds.
func TestCrashReachesEveryOutcome(t *testing.T) {
	body := strings.Repeat("x", 3*sector)
	seen := make(map[string]int)
	for seed := range uint64(2000) {
		m := NewMemory(0)
		f := create(t, m, "/a", "")
		require.NoError(t, m.SyncDir("/"))
		_, err := f.Write([]byte(body))
		require.NoError(t, err)
		got := content(t, m.Crash(Random(seed)), "/a")
		var sectors []string
		for part := range slices.Chunk([]byte(got), sector) {
			sectors = append(sectors, strings.Trim(string(part[:1]), "\x00")+"|")
		}
		if len(got)%sector == 0 {
			seen[strings.Join(sectors, "")]++
		}
	}
	// Any length, and for each length any subset.
	for _, want := range []string{"", "x|x|x|", "||x|", "x||x|", "|x||", "|||"} {
		assert.Positive(t, seen[want], "%q is never left; left are %v", want, slices.Sorted(maps.Keys(seen)))
	}
}

func TestCrashOfNames(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(500) {
		m := NewMemory(0)
		require.NoError(t, create(t, m, "/new", "1").Sync())
		require.NoError(t, create(t, m, "/old", "0").Sync())
		require.NoError(t, m.SyncDir("/"))
		require.NoError(t, m.Rename("/new", "/old"))
		require.NoError(t, create(t, m, "/other", "2").Sync())
		require.NoError(t, m.Remove("/old"))
		after := m.Crash(Random(seed))
		seen[content(t, after, "/new")+content(t, after, "/old")+content(t, after, "/other")] = true
	}
	// A rename is atomic: never both names gone but by the removal.
	want := []string{"10?", "102", "?1?", "?12", "1??", "1?2", "???", "??2"}
	assert.ElementsMatch(t, want, slices.Collect(maps.Keys(seen)))
}

func TestCrashIsAFunctionOfTheSeed(t *testing.T) {
	leave := func(seed uint64) string {
		m := NewMemory(0)
		for i := range 20 {
			create(t, m, fmt.Sprintf("/%d", i), strings.Repeat("x", 700))
		}
		after := m.Crash(Random(seed))
		var b strings.Builder
		list, err := after.ReadDir("/")
		require.NoError(t, err)
		for _, e := range list {
			fmt.Fprintf(&b, "%s %d %q\n", e.Name, e.Size, content(t, after, "/"+e.Name))
		}
		return b.String()
	}
	assert.Equal(t, leave(7), leave(7))
	assert.NotEqual(t, leave(7), leave(8))
}

func TestDirectoryIsLostWithAllThatIsInIt(t *testing.T) {
	m := NewMemory(0)
	require.NoError(t, m.Mkdir("/d"))
	require.NoError(t, create(t, m, "/d/a", "1").Sync())
	require.NoError(t, m.SyncDir("/d"))
	_, err := m.Crash(Lose()).Stat("/d")
	require.Error(t, err)

	m = NewMemory(0)
	require.NoError(t, MkdirAll(m, "/d/e"))
	_, err = m.Crash(Lose()).Stat("/d/e")
	require.NoError(t, err, "MkdirAll is durable")
}

// TestFailedSyncIsNeverMadeGood is what disks do: the second Sync succeeds, and
// what the first one was for is gone.
func TestFailedSyncIsNeverMadeGood(t *testing.T) {
	m := NewMemory(0)
	syncs := 0
	fault := NewFault(m, func(op Op) *Failure {
		if op.Kind != OpSync {
			return nil
		}
		syncs++
		if syncs == 2 {
			return &Failure{Err: syscall.EIO}
		}
		return nil
	})
	f := create(t, fault, "/a", strings.Repeat("a", sector))
	require.NoError(t, fault.SyncDir("/"))
	require.NoError(t, f.Sync())
	_, err := f.Write(bytes.Repeat([]byte("b"), sector))
	require.NoError(t, err)
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	_, err = f.Write(bytes.Repeat([]byte("c"), sector))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	assert.True(t, fault.Fired())

	assert.Equal(t, strings.Repeat("b", sector), content(t, fault, "/a")[sector:2*sector], "still in the cache")
	got := content(t, m.Crash(Lose()), "/a")
	assert.Equal(t, strings.Repeat("a", sector)+strings.Repeat("\x00", sector)+strings.Repeat("c", sector), got)
}

func TestFullMemory(t *testing.T) {
	m := NewMemory(10)
	f := create(t, m, "/a", "1234567")
	n, err := f.Write([]byte("89abc"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.Equal(t, 3, n)
	assert.Equal(t, "123456789a", content(t, m, "/a"))
	require.NoError(t, m.Remove("/a"))
	free, err := m.Free("/")
	require.NoError(t, err)
	assert.EqualValues(t, 10, free)
	m.SetLimit(20)
	free, err = m.Free("/")
	require.NoError(t, err)
	assert.EqualValues(t, 20, free)
}

func TestDamageIsDurable(t *testing.T) {
	m := NewMemory(0)
	f := create(t, m, "/a", "abcdef")
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	m.Damage("/a", 2, []byte("XY"))
	assert.Equal(t, "abXYef", content(t, m.Crash(Lose()), "/a"))
}

// TestCrashProperties: after any operations and any crash, what was synced and not
// touched since is there as it was, and nothing is there that was never written.
func TestCrashProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMemory(0)
		files := make(map[string]File)
		synced := make(map[string]string)  // content by name at the last Sync
		written := make(map[string]string) // content by name
		named := make(map[string]bool)     // whose name is durable
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			name := "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name")
			f := files[name]
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				if f != nil {
					continue
				}
				f, err := m.Create(name)
				require.NoError(rt, err)
				files[name], written[name], synced[name] = f, "", ""
			case 1:
				if f == nil {
					continue
				}
				p := strings.Repeat("x", rapid.IntRange(1, 3*sector).Draw(rt, "size"))
				_, err := f.Write([]byte(p))
				require.NoError(rt, err)
				written[name] += p
			case 2:
				if f == nil {
					continue
				}
				require.NoError(rt, f.Sync())
				synced[name] = written[name]
			case 3:
				require.NoError(rt, m.SyncDir("/"))
				for n := range files {
					named[n] = true
				}
			}
		}
		after := m.Crash(Random(rapid.Uint64().Draw(rt, "seed")))
		for name := range files {
			got := content(t, after, name)
			if got == "?" {
				require.False(rt, named[name], "%s has a durable name and is gone", name)
				continue
			}
			require.True(rt, strings.HasPrefix(got, synced[name]), "%s: synced content is gone", name)
			require.LessOrEqual(rt, len(got), len(written[name]))
			require.Empty(rt, strings.Trim(got, "x\x00"))
		}
	})
}
