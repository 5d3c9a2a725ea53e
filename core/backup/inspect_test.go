package backup

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// What Open and Append leave on disk can be read beside them.
func TestInspect(t *testing.T) {
	fsys := vfs.NewMemory(1 << 30)
	b, _, err := Open(fsys, "/data", Options{StateDir: "/state", Name: "stand", Tracks: []string{"a", "b"}})
	require.NoError(t, err)
	binding := sdk.Binding{ConfigID: "c", RunID: "r"}
	require.NoError(t, b.DefineFlow(7, []byte("definition")))
	require.NoError(t, b.DefineBinding(3, binding))
	var first uint64
	for n := range 5 {
		ids, err := b.Reserve(2)
		require.NoError(t, err)
		if n == 0 {
			first = ids.First
		}
		body := pbfs.AppendMessage(pbfs.AppendMessage(nil, []byte("x")), []byte("y"))
		_, err = b.Append(Meta{Ids: ids, Flow: 7, Binding: 3, MinTime: int64(n), MaxTime: int64(n + 1)}, body)
		require.NoError(t, err)
	}
	require.NoError(t, b.Confirm("a", checkpoint.SetOf(checkpoint.Range{First: first, Last: first + 3})))

	names, err := fsys.ReadDir("/data")
	require.NoError(t, err)
	require.Len(t, names, 1)
	path, ok := IndexPath("/state", "/data/"+names[0].Name)
	require.True(t, ok)
	var entries []Entry
	index, err := ReadIndex(fsys, path, func(e Entry) error { entries = append(entries, e); return nil })
	require.NoError(t, err)
	assert.Equal(t, Index{
		Segment: 1, Flows: map[uint32][]byte{7: []byte("definition")}, Bindings: map[uint32]sdk.Binding{3: binding},
	}, index)
	require.Len(t, entries, 5)
	for n, e := range entries {
		assert.Equal(t, first+2*uint64(n), e.Ids.First)
		assert.Equal(t, uint64(2), e.Ids.Count())
		assert.Equal(t, int64(n)*(12+10), e.From)
		assert.Equal(t, e.From+22, e.To)
	}
	journal := ReadJournal(fsys, "/state")
	assert.Empty(t, journal.Damage)
	assert.Equal(t, uint64(4), new(journal.Confirmed["a"]).Count())
	require.Contains(t, journal.Confirmed, "b")
	assert.Zero(t, new(journal.Confirmed["b"]).Count())
	require.NoError(t, b.Close())

	for _, name := range []string{"stand-1.pbfs", "0000000000000001.pbfs", "stand-0000000000000001", "stand-000000000000000x.pbfs"} {
		_, ok := IndexPath("/state", name)
		assert.False(t, ok, name)
	}
	path, ok = IndexPath("/state", "/x/my-stand-0000000000000012.unbound")
	assert.True(t, ok)
	assert.Equal(t, "/state/segment-0000000000000012.index", path)
}
