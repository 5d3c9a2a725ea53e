package manager

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testDir  = "/data/backups"
	stateDir = "/data/state"
)

func testOptions() backup.Options {
	return backup.Options{
		StateDir: stateDir, Name: "p", Tracks: []string{"a", "b"},
		MaxFileSize: 1 << 20, JournalSize: 1 << 16, Reserve: 4096,
	}
}

// testBatch is a batch whose life is watched.
type testBatch struct {
	t         require.TestingT
	meta      backup.Meta
	body      []byte
	confirmed atomic.Bool
	safe      atomic.Int32
	refs      atomic.Int32
	onSafe    func(*testBatch)
}

func (b *testBatch) Meta() backup.Meta { return b.meta }
func (b *testBatch) Confirmed() bool   { return b.confirmed.Load() }
func (b *testBatch) Retain()           { b.refs.Add(1) }

func (b *testBatch) Body() []byte {
	require.Positive(b.t, b.refs.Load(), "the payload is used after its release")
	return b.body
}

func (b *testBatch) Safe() {
	b.safe.Add(1)
	if b.onSafe != nil {
		b.onSafe(b)
	}
}

func (b *testBatch) Release() {
	if b.refs.Add(-1) == 0 {
		b.body = nil
	}
}

func bodyOf(ids checkpoint.Range) []byte {
	var body []byte
	for id := ids.First; id <= ids.Last; id++ {
		body = pbfs.AppendMessage(body, []byte(fmt.Sprintf("message %d %s", id, strings.Repeat("x", int(id%97)))))
	}
	return body
}

func metaOf(ids checkpoint.Range) backup.Meta {
	return backup.Meta{
		Ids: ids, Flow: 1, MinTime: 1, MaxTime: 2,
		Cursors: []backup.Cursor{{Source: "s", Position: binary.BigEndian.AppendUint64(nil, ids.Last)}},
	}
}

// bench is a manager with its backup and what was told about it.
type bench struct {
	t  require.TestingT
	b  *backup.Backup
	m  *Manager
	fs vfs.FS

	cancel context.CancelCauseFunc
	ran    chan error

	mu     sync.Mutex
	lost   checkpoint.Set
	losses []backup.Loss
	order  []checkpoint.Range // of Safe
	fulls  int
}

// openBench opens the backup on a file system and makes a manager, which does not run.
func openBench(t require.TestingT, fsys vfs.FS, opts backup.Options, s Settings) *bench {
	return openBenchAt(t, fsys, testDir, opts, s)
}

func openBenchAt(t require.TestingT, fsys vfs.FS, dir string, opts backup.Options, s Settings) *bench {
	b, _, err := backup.Open(fsys, dir, opts)
	require.NoError(t, err)
	require.NoError(t, b.DefineFlow(1, []byte("flow one")))
	x := &bench{t: t, b: b, fs: fsys, ran: make(chan error, 1)}
	s.Lost = func(losses []backup.Loss) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.losses = append(x.losses, losses...)
		for _, l := range losses {
			x.lost.AddSet(l.Ids)
		}
	}
	s.Full = func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.fulls++
	}
	x.m = New(b, s)
	return x
}

func (x *bench) run() *bench {
	ctx, cancel := context.WithCancelCause(context.Background())
	x.cancel = cancel
	if t, ok := x.t.(*testing.T); ok {
		t.Cleanup(func() { cancel(nil) }) // after a failure
	}
	go func() { x.ran <- x.m.Run(ctx) }()
	return x
}

// batch makes a batch of n messages with the next ids.
func (x *bench) batch(n int) *testBatch {
	ids, err := x.m.NextIDs(n)
	require.NoError(x.t, err)
	b := &testBatch{t: x.t, meta: metaOf(ids), body: bodyOf(ids)}
	b.refs.Store(1)
	b.onSafe = func(b *testBatch) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.order = append(x.order, b.meta.Ids)
	}
	return b
}

func (x *bench) push(n int) *testBatch {
	b := x.batch(n)
	require.NoError(x.t, x.m.Push(context.Background(), b))
	return b
}

// confirm confirms a batch for all tracks.
func (x *bench) confirm(b *testBatch) {
	b.confirmed.Store(true)
	for _, track := range []string{"a", "b"} {
		x.m.Confirm(track, checkpoint.SetOf(b.meta.Ids))
	}
}

// close ends everything as a pipeline does.
func (x *bench) close() {
	x.m.CloseQueue()
	require.NoError(x.t, <-x.ran)
	x.cancel(nil)
	require.NoError(x.t, x.b.Close())
}

// stop cancels the manager and returns what Run said.
func (x *bench) stop() error {
	x.cancel(errors.New("enough"))
	return <-x.ran
}

func assertSafe(t require.TestingT, want int32, batches ...*testBatch) {
	for _, b := range batches {
		assert.Equal(t, want, b.safe.Load(), "ids %v", b.meta.Ids)
	}
}

// readAll returns the ids that can be read.
func readAll(t require.TestingT, b *backup.Backup) checkpoint.Set {
	var got checkpoint.Set
	r := b.Read(checkpoint.SetOf(checkpoint.Range{First: 1, Last: checkpoint.MaxID}))
	defer r.Close()
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if _, hole := errors.AsType[*backup.HoleError](err); hole {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, bodyOf(c.Ids), c.Body)
		got.AddSet(c.Wanted)
	}
}

// slowFS is a file system whose calls for some paths can be held up.
type slowFS struct {
	vfs.FS
	mu    sync.Mutex
	gates map[vfs.Kind]*gate
	syncs int // of segments
}

// gate holds calls up while it is closed.
type gate struct {
	open    chan struct{}
	waiting atomic.Int32
}

func newSlowFS(fsys vfs.FS) *slowFS {
	return &slowFS{FS: fsys, gates: make(map[vfs.Kind]*gate)}
}

// hold holds up all calls of a kind for segments until open is called, once.
func (s *slowFS) hold(kind vfs.Kind) (g *gate, open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g = &gate{open: make(chan struct{})}
	s.gates[kind] = g
	return g, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gates[kind] == g {
			delete(s.gates, kind)
		}
		close(g.open)
	}
}

func (s *slowFS) pass(kind vfs.Kind) {
	s.mu.Lock()
	g := s.gates[kind]
	if kind == vfs.OpSync {
		s.syncs++
	}
	s.mu.Unlock()
	if g != nil {
		g.waiting.Add(1)
		<-g.open
	}
}

func (s *slowFS) syncCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncs
}

func (s *slowFS) Create(path string) (vfs.File, error) {
	f, err := s.FS.Create(path)
	if err != nil || !strings.HasPrefix(path, testDir) {
		return f, err
	}
	return &slowFile{f, s}, nil
}

type slowFile struct {
	vfs.File
	fs *slowFS
}

func (f *slowFile) Write(p []byte) (int, error) {
	f.fs.pass(vfs.OpWrite)
	return f.File.Write(p)
}

func (f *slowFile) Sync() error {
	f.fs.pass(vfs.OpSync)
	return f.File.Sync()
}

// eventually waits, in a bubble, until all tasks wait for something, and some time
// after that.
func eventually(d time.Duration) {
	synctest.Wait()
	if d > 0 {
		<-time.After(d)
		synctest.Wait()
	}
}

func within(d time.Duration) Settings { return Settings{Sync: Sync{Within, d}} }

func always() Settings { return Settings{Sync: Sync{Mode: Always}} }

func rotate() Settings { return Settings{Sync: Sync{Mode: Rotate}} }
