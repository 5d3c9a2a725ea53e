package backup

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
)

// readAll returns the records of raw and the bytes of damage between them.
func readAll(t require.TestingT, raw []byte) (kinds []uint32, payloads [][]byte, damage int64) {
	at := int64(0)
	for r := newRecordReader(bytes.NewReader(raw), int64(len(raw))); ; {
		rec, err := r.read()
		if errors.Is(err, io.EOF) {
			require.EqualValues(t, len(raw), at, "not covered")
			return kinds, payloads, damage
		}
		require.NoError(t, err)
		require.Equal(t, at, rec.from, "records and damage follow each other")
		require.Greater(t, rec.to, rec.from)
		at = rec.to
		if rec.kind == kindDamage {
			damage += rec.to - rec.from
			continue
		}
		kinds = append(kinds, rec.kind)
		payloads = append(payloads, bytes.Clone(rec.payload))
	}
}

// TestRecordsBehindDamage: whatever happens to a range of bytes, exactly the records
// that it touches are gone.
func TestRecordsBehindDamage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var raw []byte
		var ends []int
		for i := range rapid.IntRange(1, 12).Draw(rt, "records") {
			payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "payload")
			raw = appendRecord(raw, uint32(i+1), payload)
			ends = append(ends, len(raw))
		}
		from := rapid.IntRange(0, len(raw)-1).Draw(rt, "from")
		to := rapid.IntRange(from+1, len(raw)).Draw(rt, "to")
		hurt := bytes.Clone(raw)
		for i := from; i < to; i++ {
			hurt[i] = ^hurt[i]
		}
		kinds, _, _ := readAll(rt, hurt)
		var want []uint32
		start := 0
		for i, end := range ends {
			if end <= from || start >= to {
				want = append(want, uint32(i+1))
			}
			start = end
		}
		// Damage to padding alone hurts nothing.
		for _, k := range want {
			require.Contains(rt, kinds, k)
		}
		cut := raw[:from]
		kinds, _, _ = readAll(rt, cut)
		for i, k := range kinds {
			require.Equal(rt, uint32(i+1), k)
		}
	})
}

func TestEntriesComeBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Uint64Range(1, checkpoint.MaxID-1000).Draw(rt, "first")
		e := entry{
			Meta: Meta{
				Ids:  span(first, first+rapid.Uint64Range(0, 999).Draw(rt, "count")),
				Flow: rapid.Uint32().Draw(rt, "flow"), Binding: rapid.Uint32().Draw(rt, "binding"),
				MinTime: rapid.Int64().Draw(rt, "min"), MaxTime: rapid.Int64().Draw(rt, "max"),
			},
			offset: rapid.Int64Range(0, 1<<61).Draw(rt, "offset"),
			length: rapid.Int64Range(0, 1<<61).Draw(rt, "length"),
			crc:    rapid.Uint32().Draw(rt, "crc"),
		}
		for range rapid.IntRange(0, 3).Draw(rt, "cursors") {
			e.Cursors = append(e.Cursors, Cursor{rapid.String().Draw(rt, "source"), []byte(rapid.String().Draw(rt, "position"))})
		}
		_, payloads, _ := readAll(rt, appendEntry(nil, e))
		got, ok := parseEntry(payloads[0])
		require.True(rt, ok)
		require.Equal(rt, appendEntry(nil, e), appendEntry(nil, got))
	})
}

func FuzzEntry(f *testing.F) {
	_, payloads, _ := readAll(f, appendEntry(nil, entry{Meta: metaOf(span(1, 2)), length: 9}))
	f.Add(payloads[0])
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, ok := parseEntry(raw)
		if !ok {
			return
		}
		_, payloads, _ := readAll(t, appendEntry(nil, e))
		require.Equal(t, raw, payloads[0], "accepted what would not be written")
		require.True(t, e.Ids.Valid())
	})
}

// FuzzIndex opens a backup whose index is anything.
func FuzzIndex(f *testing.F) {
	fsys := vfs.NewMemory(0)
	b, _ := open(f, fsys, testOptions())
	require.NoError(f, b.DefineBinding(1, sdk.Unbound()))
	for range 3 {
		add(f, b, 3)
	}
	index, data := fileContent(f, fsys, b.indexPath(1)), fileContent(f, fsys, b.dataPath(b.mu.segments[0]))
	f.Add(index, data)
	f.Add(index[:300], data)
	f.Add([]byte{}, data)
	f.Add(index, data[:100])
	f.Add(bytes.Replace(index, []byte("pbix"), []byte("pbiy"), 1), []byte{})
	f.Fuzz(func(t *testing.T, index, data []byte) {
		fsys := vfs.NewMemory(0)
		require.NoError(t, vfs.MkdirAll(fsys, testDir))
		require.NoError(t, vfs.MkdirAll(fsys, "/data/state"))
		putFile(t, fsys, testDir+"/p-0000000000000001.pbfs", data)
		putFile(t, fsys, "/data/state/segment-0000000000000001.index", index)
		b, r, err := Open(fsys, testDir, testOptions())
		require.NoError(t, err, "damage never stops a start")
		checkReadable(t, b)
		for _, o := range r.Orphans {
			chunks := 0
			require.NoError(t, b.ReadOrphan(o, func([]byte, int) error { chunks++; return nil }))
			require.Equal(t, o.Chunks, chunks)
		}
		if next, err := b.Reserve(1); err == nil {
			for ids := range r.Lost.Ranges() {
				require.Less(t, ids.Last, next.First)
			}
		}
		before := b.Missing("a")
		require.NoError(t, b.Close())
		b, again, err := Open(fsys, testDir, testOptions())
		require.NoError(t, err)
		require.Empty(t, again.Lost.String(), "reported twice")
		require.Equal(t, before.Count(), func() uint64 { s := b.Missing("a"); return s.Count() }())
		require.NoError(t, b.Close())
	})
}

// FuzzJournal opens a backup whose newest journal is anything.
func FuzzJournal(f *testing.F) {
	fsys := vfs.NewMemory(0)
	b, _ := open(f, fsys, testOptions())
	ids := add(f, b, 3)
	require.NoError(f, b.Confirm("a", checkpoint.SetOf(ids)))
	f.Add(fileContent(f, fsys, b.note.journal.path(b.note.journal.number)))
	require.NoError(f, b.Close())
	f.Add(fileContent(f, fsys, b.note.journal.path(b.note.journal.number)))
	f.Add([]byte("junk"))
	f.Fuzz(func(t *testing.T, journal []byte) {
		fsys := vfs.NewMemory(0)
		b, _ := open(t, fsys, testOptions())
		ids := add(t, b, 3)
		require.NoError(t, b.Close())
		putFile(t, fsys, b.note.journal.path(b.note.journal.number+1), journal)
		b, r, err := Open(fsys, testDir, testOptions())
		require.NoError(t, err, "damage never stops a start")
		require.NoError(t, r.Journal)
		if next, err := b.Reserve(1); err == nil {
			require.Greater(t, next.First, ids.Last)
		}
		checkReadable(t, b)
		require.NoError(t, b.Close())
	})
}

// checkReadable reads everything; what is read has as many messages as ids.
func checkReadable(t require.TestingT, b *Backup) {
	for r := b.Read(everything()); ; {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if hole := (*HoleError)(nil); !errors.As(err, &hole) {
			require.NoError(t, err)
		}
	}
}

func fileContent(t require.TestingT, fsys vfs.FS, path string) []byte {
	f, size, err := openFile(fsys, path)
	require.NoError(t, err)
	raw := make([]byte, size)
	_, err = io.ReadFull(io.NewSectionReader(f, 0, size), raw)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return raw
}

func putFile(t require.TestingT, fsys vfs.FS, path string, content []byte) {
	f, err := fsys.Create(path)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
