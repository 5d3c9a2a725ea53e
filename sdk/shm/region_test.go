//go:build linux

package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const page = 4096

// pair makes both sides of a region in this process.
func pair(t testing.TB, direction Direction, slotBytes, slots int) (host, plugin *Region) {
	t.Helper()
	host, err := Create(direction, slotBytes, slots)
	require.NoError(t, err)
	plugin, err = Open(dup(t, host), direction, slotBytes, slots)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(host.Close(), plugin.Close())) })
	return host, plugin
}

// dup returns a descriptor as a plugin would inherit it.
func dup(t testing.TB, r *Region) int {
	t.Helper()
	fd, err := unix.FcntlInt(r.Inherit(3).Fd(), unix.F_DUPFD_CLOEXEC, 3)
	require.NoError(t, err)
	return fd
}

func sides(direction Direction, host, plugin *Region) (writer, reader *Region) {
	if direction == ToPlugin {
		return host, plugin
	}
	return plugin, host
}

func TestPayloadsCross(t *testing.T) {
	for _, direction := range []Direction{ToPlugin, ToHost} {
		t.Run(direction.String(), func(t *testing.T) {
			host, plugin := pair(t, direction, 2*page, 3)
			writer, reader := sides(direction, host, plugin)
			for i := range 10 {
				slot, buf, err := writer.Acquire(t.Context())
				require.NoError(t, err)
				assert.Len(t, buf, 2*page)
				assert.Equal(t, 2*page, cap(buf), "a slot must not reach into the next one")
				n := copy(buf, fmt.Sprintf("payload %d", i))
				view, err := reader.Read(slot, uint32(n))
				require.NoError(t, err)
				assert.Equal(t, fmt.Sprintf("payload %d", i), string(view))
				dst := make([]byte, n)
				require.NoError(t, reader.CopyOut(dst, slot, uint32(n)))
				assert.Equal(t, view, dst)
				require.NoError(t, writer.Release(slot))
				assert.Equal(t, uint32(0), slot, "the slot used last comes first")
			}
			_, _, err := reader.Acquire(t.Context())
			require.Error(t, err)
			require.Error(t, reader.Release(0))
			_, _, ok := reader.TryAcquire()
			assert.False(t, ok)
			_, err = writer.Read(0, 1)
			require.Error(t, err)
		})
	}
}

func TestReadChecks(t *testing.T) {
	host, _ := pair(t, ToHost, page, 2)
	for name, tc := range map[string]struct {
		slot, length uint32
		want         string
	}{
		"slot":        {2, 1, "slot 2 does not exist"},
		"last slot":   {1<<32 - 1, 1, "does not exist"},
		"length":      {1, page + 1, "said to hold 4097 bytes"},
		"most length": {1, 1<<32 - 1, "said to hold"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := host.Read(tc.slot, tc.length)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, host.CopyOut(make([]byte, page), tc.slot, tc.length), tc.want)
		})
	}
	require.ErrorContains(t, host.CopyOut(make([]byte, 3), 0, 4), "room for 3")
	require.NoError(t, host.CopyOut(make([]byte, page), 1, page))
}

func TestReleaseChecks(t *testing.T) {
	host, _ := pair(t, ToPlugin, page, 2)
	slot, _, err := host.Acquire(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, host.Release(1-slot), "free already")
	require.ErrorContains(t, host.Release(2), "there are 2")
	require.ErrorContains(t, host.Release(1<<32-1), "there are 2")
	require.ErrorContains(t, host.Release(slot, slot), "free already")
	require.ErrorContains(t, host.Release(slot), "free already")
	for range 2 { // none was lost or doubled
		_, _, ok := host.TryAcquire()
		assert.True(t, ok)
	}
	_, _, ok := host.TryAcquire()
	assert.False(t, ok)
}

// TestReleaseModel holds the free slots against a set, whatever the peer says.
func TestReleaseModel(t *testing.T) {
	host, _ := pair(t, ToPlugin, page, 5)
	held := map[uint32]bool{}
	rapid.Check(t, func(t *rapid.T) {
		if rapid.Bool().Draw(t, "acquire") {
			slot, _, ok := host.TryAcquire()
			if ok != (len(held) < 5) || held[slot] && ok {
				t.Fatalf("slot %d given out: %t; held: %v", slot, ok, held)
			}
			if ok {
				held[slot] = true
			}
			return
		}
		slot := rapid.Uint32Range(0, 6).Draw(t, "slot")
		if err := host.Release(slot); (err == nil) != held[slot] {
			t.Fatalf("release of %d: %v; held: %v", slot, err, held)
		}
		delete(held, slot)
	})
}

func TestAcquireWaits(t *testing.T) {
	host, _ := pair(t, ToPlugin, page, 1)
	slot, _, err := host.Acquire(t.Context())
	require.NoError(t, err)
	cause := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, _, err := host.Acquire(ctx)
		failed <- err
	}()
	cancel(cause)
	assert.Equal(t, cause, <-failed)
	acquired := make(chan uint32, 1)
	go func() {
		slot, _, err := host.Acquire(t.Context())
		assert.NoError(t, err)
		acquired <- slot
	}()
	require.NoError(t, host.Release(slot))
	assert.Equal(t, slot, <-acquired)
}

func TestManyWriters(t *testing.T) {
	host, plugin := pair(t, ToPlugin, page, 4)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 500 {
				slot, buf, err := host.Acquire(context.Background())
				if !assert.NoError(t, err) {
					return
				}
				buf[0] = byte(w)
				view, err := plugin.Read(slot, 1)
				assert.NoError(t, err)
				assert.Equal(t, byte(w), view[0], "two writers have the same slot")
				assert.NoError(t, host.Release(slot))
			}
		})
	}
	wg.Wait()
}

func TestClaim(t *testing.T) {
	host, _ := pair(t, ToPlugin, page, 2)
	require.NoError(t, host.Claim())
	require.ErrorContains(t, host.Claim(), "in use")
	_, _, err := host.Acquire(t.Context())
	require.NoError(t, err)
	host.Unclaim()
	require.NoError(t, host.Claim())
	for range 2 {
		_, _, ok := host.TryAcquire()
		assert.True(t, ok, "slots are free again")
	}
	require.NoError(t, host.Close())
	require.Error(t, host.Claim())
	_, _, err = host.Acquire(t.Context())
	require.Error(t, err)
}

// TestSeals tries all that a plugin could do with the descriptor.
func TestSeals(t *testing.T) {
	for _, direction := range []Direction{ToPlugin, ToHost} {
		t.Run(direction.String(), func(t *testing.T) {
			host, err := Create(direction, page, 2)
			require.NoError(t, err)
			defer host.Close()
			inherited := dup(t, host)
			defer unix.Close(inherited)
			reopened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", inherited), os.O_RDWR, 0)
			require.NoError(t, err)
			defer reopened.Close()
			for _, fd := range []int{inherited, int(reopened.Fd())} {
				assert.Equal(t, unix.EPERM, unix.Ftruncate(fd, page), "shrinking")
				assert.Equal(t, unix.EPERM, unix.Ftruncate(fd, 3*page), "growing")
				assert.Equal(t, unix.EPERM, unix.Fallocate(fd, 0, 0, 3*page), "growing by allocation")
				_, err = unix.Pwrite(fd, []byte{1}, 2*page)
				assert.Error(t, err, "growing by writing")
				_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
				assert.Equal(t, unix.EPERM, err, "more seals")
				if direction == ToPlugin {
					noWriting(t, fd)
				}
			}
		})
	}
}

func noWriting(t *testing.T, fd int) {
	t.Helper()
	_, err := unix.Pwrite(fd, []byte{1}, 0)
	assert.Equal(t, unix.EPERM, err, "writing")
	_, err = unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	assert.Equal(t, unix.EPERM, err, "mapping for writing")
	assert.Equal(t, unix.EPERM, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, page), "punching a hole")
	view, err := unix.Mmap(fd, 0, page, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	assert.Equal(t, unix.EACCES, unix.Mprotect(view, unix.PROT_READ|unix.PROT_WRITE), "making a mapping writable")
	require.NoError(t, unix.Munmap(view))
}

func TestBadSizes(t *testing.T) {
	for name, tc := range map[string]struct {
		direction        Direction
		slotBytes, slots int
	}{
		"direction":  {0, page, 1},
		"none":       {ToHost, page, 0},
		"negative":   {ToHost, -page, 1},
		"no pages":   {ToHost, 1000, 1},
		"too many":   {ToHost, page, maxSlots + 1},
		"too large":  {ToHost, maxRegionBytes + page, 1},
		"both large": {ToHost, maxRegionBytes / 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Create(tc.direction, tc.slotBytes, tc.slots)
			require.Error(t, err)
			host, err := Create(ToHost, page, 1)
			require.NoError(t, err)
			defer host.Close()
			_, err = Open(dup(t, host), tc.direction, tc.slotBytes, tc.slots)
			require.Error(t, err)
		})
	}
	host, err := Create(ToHost, page, 2)
	require.NoError(t, err)
	defer host.Close()
	_, err = Open(dup(t, host), ToHost, page, 3)
	require.ErrorContains(t, err, "has 8192 bytes, want 12288")
	_, err = Open(dup(t, host), ToPlugin, page, 1)
	require.ErrorContains(t, err, "has 8192 bytes, want 4096")
	_, err = Open(1<<20, ToHost, page, 1)
	require.Error(t, err)
}

func TestDescriptorsAndMappingsAreFreed(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	mappings := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return strings.Count(string(maps), "memfd:payloads")
	}
	before := descriptors()
	require.Zero(t, mappings())
	for range 50 {
		host, err := Create(ToPlugin, page, 2)
		require.NoError(t, err)
		plugin, err := Open(dup(t, host), ToPlugin, page, 2)
		require.NoError(t, err)
		_, err = Open(dup(t, host), ToPlugin, page, 7) // does not fit
		require.Error(t, err)
		require.NoError(t, errors.Join(host.Close(), plugin.Close(), host.Close()))
	}
	assert.Equal(t, before, descriptors())
	assert.Zero(t, mappings())
}

func BenchmarkAcquireRelease(b *testing.B) {
	host, _ := pair(b, ToPlugin, page, 16)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		slot, _, err := host.Acquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := host.Release(slot); err != nil {
			b.Fatal(err)
		}
	}
}
