package replay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/vfs"
)

func openStore(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := OpenStore(fsys, "/progress")
	require.NoError(t, err)
	return s
}

func recordOf(t testing.TB, file []byte, through int64, id Identity, filter string) *Record {
	t.Helper()
	r := &Record{File: "/a", Identity: id, Filter: filter}
	sum := sha256.New()
	sum.Write(file[:through])
	head := sha256.Sum256(file[:min(through, headSize)])
	r.Head = fmt.Sprintf("%x", head)
	require.NoError(t, r.note(Position{Chunk: through, Through: through}, sum))
	return r
}

// What is known of a file is found by its content, wherever it is and however it has
// grown; other files are not taken for it.
func TestStoreFind(t *testing.T) {
	fsys := memory()
	s := openStore(t, fsys)
	file := bytes.Repeat([]byte("0123456789"), 2000)
	was := Identity{Device: 1, Inode: 7, Size: 10_000, Modified: 5, Changed: 5}
	require.NoError(t, s.save(recordOf(t, file, 10_000, was, "")))
	require.NoError(t, s.save(recordOf(t, file, 5_000, was, "")))
	require.NoError(t, s.save(recordOf(t, file, 12_000, was, "flow \"f\"")))
	require.NoError(t, s.Close())
	s = openStore(t, fsys)
	defer s.Close()

	find := func(file []byte, id Identity, filter string) int64 {
		t.Helper()
		id.Size = int64(len(file))
		r, sum, err := s.find(bytes.NewReader(file), id, filter)
		require.NoError(t, err)
		if r == nil {
			return 0
		}
		want := sha256.Sum256(file[:r.Position.Through])
		assert.Equal(t, want[:], sum.Sum(nil))
		return r.Position.Through
	}
	elsewhere := Identity{Device: 2, Inode: 9}
	assert.Equal(t, int64(10_000), find(file[:10_000], was, ""))
	assert.Equal(t, int64(10_000), find(file[:10_000], elsewhere, ""), "a copy")
	assert.Equal(t, int64(10_000), find(file, elsewhere, ""), "it has grown")
	assert.Equal(t, int64(12_000), find(file, elsewhere, "flow \"f\""))
	assert.Equal(t, int64(10_000), find(file, elsewhere, "flow \"g\""), "all includes what a filter chooses")
	assert.Equal(t, int64(5_000), find(file[:9_000], elsewhere, ""), "the beginning of it")
	assert.Zero(t, find(file[:4_000], elsewhere, ""))
	changed := bytes.Clone(file)
	changed[7_000]++
	assert.Equal(t, int64(5_000), find(changed, elsewhere, ""))
	changed[10]++
	assert.Zero(t, find(changed, elsewhere, ""))
	changed = bytes.Clone(file[:10_000])
	changed[9_999]++
	assert.Equal(t, int64(5_000), find(changed, Identity{Device: 1, Inode: 7, Modified: 6, Changed: 6}, ""), "the same file, with other content")
}

// Whatever is wrong with a record, the store opens, and says so.
func TestStoreUnreadable(t *testing.T) {
	fsys := memory()
	s := openStore(t, fsys)
	require.NoError(t, s.save(recordOf(t, []byte("abc"), 3, Identity{}, "")))
	for i, text := range []string{"", "{", "[]", `{"version":2}`, `{"version":1,"position":{"chunk":-1,"through":5},"sha256":""}`, `{"version":1}`} {
		require.NoError(t, s.write(fmt.Sprintf("/progress/%08d.json", 100+i), []byte(text)))
	}
	require.NoError(t, s.write("/progress/00000200.json.tmp", []byte("{")))
	require.NoError(t, s.write("/progress/notes", []byte("mine")))
	require.NoError(t, s.Close())
	s = openStore(t, fsys)
	defer s.Close()
	assert.Len(t, s.Unreadable, 6)
	assert.Len(t, s.records, 1)
	assert.Equal(t, uint64(201), s.next)
	_, err := fsys.Stat("/progress/notes")
	assert.NoError(t, err)
	_, err = OpenStore(fsys, "/progress")
	assert.ErrorIs(t, err, vfs.ErrLocked)
}

// After a crash at any operation, a record says what was noted last, or what was to be
// noted then.
func TestStoreCrash(t *testing.T) {
	file := bytes.Repeat([]byte("x"), 100)
	for n := 0; ; n++ {
		for seed := range uint64(20) {
			fsys := memory()
			s := openStore(t, fsys)
			r := recordOf(t, file, 10, Identity{Inode: 1}, "")
			require.NoError(t, s.save(r))
			s.fs = vfs.NewFault(fsys, func(op vfs.Op) *vfs.Failure {
				if op.N < n {
					return nil
				}
				return &vfs.Failure{Err: vfs.ErrCrashed, Written: op.Size / 2}
			})
			noted := int64(10)
			next := recordOf(t, file, 20, Identity{Inode: 1}, "")
			next.number = r.number
			err := s.save(next)
			if err == nil {
				noted = 20
			}
			after := fsys.Crash(vfs.Random(seed))
			s = openStore(t, after)
			require.Empty(t, s.Unreadable)
			found, _, err2 := s.find(bytes.NewReader(file), Identity{Size: 100}, "")
			require.NoError(t, err2)
			require.NotNil(t, found)
			require.GreaterOrEqual(t, found.Position.Through, noted)
			require.NoError(t, s.Close())
			if err == nil {
				return
			}
			require.True(t, errors.Is(err, vfs.ErrCrashed), "%v", err)
		}
	}
}
