package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// message is what a test stores under an id.
func message(id uint64) string {
	return fmt.Sprintf("message %d %s", id, strings.Repeat("x", int(id%97)))
}

func bodyOf(ids checkpoint.Range) []byte {
	var body []byte
	for id := ids.First; id <= ids.Last; id++ {
		body = pbfs.AppendMessage(body, []byte(message(id)))
	}
	return body
}

func metaOf(ids checkpoint.Range) Meta {
	return Meta{
		Ids: ids, Flow: 1, MinTime: int64(ids.First) * 1000, MaxTime: int64(ids.Last) * 1000,
		Cursors: []Cursor{{Source: "s", Position: binary.BigEndian.AppendUint64(nil, ids.Last)}},
	}
}

func testOptions() Options {
	return Options{
		StateDir: "/data/state", Name: "p", Tracks: []string{"a", "b"},
		MaxFileSize: 4000, Lease: 64, JournalSize: 2000, Reserve: 4096,
	}
}

const testDir = "/data/backups"

// open opens a backup that must open.
func open(t require.TestingT, fsys vfs.FS, opts Options) (*Backup, Recovered) {
	b, r, err := Open(fsys, testDir, opts)
	require.NoError(t, err)
	require.NoError(t, b.DefineFlow(1, []byte("flow one")))
	return b, r
}

// add reserves n ids and appends them.
func add(t require.TestingT, b *Backup, n uint64) checkpoint.Range {
	ids, err := b.Reserve(n)
	require.NoError(t, err)
	_, err = b.Append(metaOf(ids), bodyOf(ids))
	require.NoError(t, err)
	return ids
}

// readIDs returns the ids that can be read, and checks what is read.
func readIDs(t require.TestingT, b *Backup, want checkpoint.Set) checkpoint.Set {
	var got checkpoint.Set
	for r := b.Read(want); ; {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if hole := (*HoleError)(nil); errors.As(err, &hole) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "flow one", string(c.Definition))
		if c.MinTime != 0 { // not adopted
			require.Equal(t, string(bodyOf(c.Ids)), string(c.Body))
			require.Equal(t, metaOf(c.Ids), c.Meta)
		}
		for id := range c.Wanted.Ranges() {
			require.False(t, got.Overlaps(id), "read twice")
			require.True(t, want.Contains(id), "not asked for")
		}
		got.AddSet(c.Wanted)
	}
}

func span(first, last uint64) checkpoint.Range { return checkpoint.Range{First: first, Last: last} }

func everything() checkpoint.Set { return checkpoint.SetOf(span(1, checkpoint.MaxID)) }

// idsOf returns what was lost, of whatever flow.
func idsOf(losses []Loss) checkpoint.Set {
	var ids checkpoint.Set
	for _, l := range losses {
		ids.AddSet(l.Ids)
	}
	return ids
}

// again appends ids once more.
func again(t require.TestingT, b *Backup, ids checkpoint.Range) {
	_, err := b.Append(metaOf(ids), bodyOf(ids))
	require.NoError(t, err)
}

var errBroken = errors.New("broken disk")

func inSegments(path string) bool { return strings.HasPrefix(path, testDir+"/") }

// stall holds operations of a file system up.
type stall struct {
	which func(vfs.Op) bool
	on    atomic.Bool
	gate  chan struct{}
}

func newStall(which func(vfs.Op) bool) *stall { return &stall{which: which, gate: make(chan struct{})} }

func (s *stall) begin() { s.on.Store(true) }

func (s *stall) end() {
	s.on.Store(false)
	close(s.gate)
}

// over returns a file system with files that stall.
func (s *stall) over(fsys vfs.FS) vfs.FS { return stalling{fsys, s} }

type stalling struct {
	vfs.FS
	s *stall
}

func (f stalling) Create(path string) (vfs.File, error) {
	file, err := f.FS.Create(path)
	return stallingFile{file, path, f.s}, err
}

type stallingFile struct {
	vfs.File
	path string
	s    *stall
}

func (f stallingFile) wait(kind vfs.Kind) {
	if f.s.on.Load() && f.s.which(vfs.Op{Kind: kind, Path: f.path}) {
		<-f.s.gate
	}
}

func (f stallingFile) Write(p []byte) (int, error) {
	f.wait(vfs.OpWrite)
	return f.File.Write(p)
}

func (f stallingFile) Sync() error {
	f.wait(vfs.OpSync)
	return f.File.Sync()
}
