package parquet

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/outfile/outfiletest"
	"github.com/pipelined/pipelined/sdk"
)

// bench is a transport with its file system, clock and log.
type bench struct {
	*transport
	dir   string
	files *outfiletest.FS
	log   *logged
	clock struct {
		sync.Mutex
		now time.Time
	}
}

// logged keeps the messages of a log.
type logged struct {
	slog.Handler
	mu       sync.Mutex
	messages []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, r.Message)
	return nil
}

func (b *bench) now() time.Time {
	b.clock.Lock()
	defer b.clock.Unlock()
	return b.clock.now
}

func (b *bench) advance(d time.Duration) {
	b.clock.Lock()
	defer b.clock.Unlock()
	b.clock.now = b.clock.now.Add(d)
}

const second = 1_760_000_000 // of the bench's clock at its start

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), files: new(outfiletest.FS), log: new(logged)}
	b.clock.now = time.Unix(second, 0)
	c := defaultConfig()
	c.Dir = b.dir
	if change != nil {
		change(&c)
	}
	tr, err := open(sdk.Settings{Pipeline: "pipe", Name: "lake", Asset: "stand", Logger: slog.New(b.log)}, c, b.files, b.now)
	require.NoError(t, err)
	b.transport = tr.(*transport)
	t.Cleanup(func() {
		assert.NoError(t, b.Shutdown(context.Background()))
		assert.NoError(t, b.Shutdown(context.Background()), "a second time")
		assert.Zero(t, b.files.Open(), "open files are left")
	})
	return b
}

func (b *bench) stream(t testing.TB) *stream {
	t.Helper()
	s, err := b.OpenStream(context.Background(), sdk.StreamOptions{})
	require.NoError(t, err)
	return s.(*stream)
}

// list returns all files below the directory, unfinished ones too.
func (b *bench) list(t testing.TB) []string {
	t.Helper()
	var names []string
	require.NoError(t, filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" {
			return err
		}
		rel, err := filepath.Rel(b.dir, path)
		names = append(names, rel)
		return err
	}))
	return names
}

// delivery makes a batch of what build puts into a builder.
func delivery(t require.TestingT, flow *sdk.Flow, build func(*sdk.Builder)) *sdk.Delivery {
	b := sdk.NewBuilder(flow)
	build(b)
	batch, err := sdk.ParseBatch(flow, b.Append(nil))
	require.NoError(t, err)
	least, greatest := batch.TimeSpan()
	return &sdk.Delivery{Flow: flow, Count: batch.Rows(), Rows: batch, MinTime: least, MaxTime: greatest}
}

func send(t require.TestingT, s sdk.Stream, d *sdk.Delivery) {
	require.NoError(t, s.Send(context.Background(), d))
}

func finish(t require.TestingT, s sdk.Stream) []string {
	done, err := s.Finish(context.Background())
	require.NoError(t, err)
	return done.Paths
}

func doubles(name string, channels int) *sdk.Flow {
	f := &sdk.Flow{Name: name}
	for i := range channels {
		f.Channels = append(f.Channels, sdk.Channel{Name: "c" + strconv.Itoa(i), Type: sdk.Double})
	}
	return f
}

// rows makes a batch of n rows of doubles, whose stamps and values begin at first.
func rows(t require.TestingT, flow *sdk.Flow, first, n int) *sdk.Delivery {
	return delivery(t, flow, func(b *sdk.Builder) {
		for i := range n {
			b.Row(int64(first + i))
			for c := range flow.Channels {
				b.Double(c, float64(first+i)+float64(c)/1000)
			}
		}
	})
}

// contents is what a file holds.
type contents struct {
	columns []string
	rows    [][]any // by row and column; nil = null
	meta    map[string]string
	groups  []int64 // rows of each row group
}

// read reads a file with the library that wrote it. Doubles and floats are their
// bits, so that NaN and -0 can be compared.
func read(t require.TestingT, path string) contents {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	file, err := parquet.OpenFile(f, info.Size())
	require.NoError(t, err)
	out := contents{meta: map[string]string{}}
	for _, column := range file.Root().Columns() {
		out.columns = append(out.columns, column.Name())
	}
	for _, kv := range file.Metadata().KeyValueMetadata {
		out.meta[kv.Key] = kv.Value
	}
	for _, group := range file.RowGroups() {
		out.groups = append(out.groups, group.NumRows())
		out.rows = append(out.rows, readGroup(t, group)...)
	}
	return out
}

func readGroup(t require.TestingT, group parquet.RowGroup) [][]any {
	reader := group.Rows()
	defer reader.Close()
	var out [][]any
	buffer := make([]parquet.Row, 100)
	for {
		n, err := reader.ReadRows(buffer)
		for _, row := range buffer[:n] {
			values := make([]any, len(row))
			for i, v := range row {
				values[i] = plain(v)
			}
			out = append(out, values)
		}
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
	}
}

func plain(v parquet.Value) any {
	switch {
	case v.IsNull():
		return nil
	case v.Kind() == parquet.Boolean:
		return v.Boolean()
	case v.Kind() == parquet.Int32:
		return v.Int32()
	case v.Kind() == parquet.Int64:
		return v.Int64()
	case v.Kind() == parquet.Float:
		return math.Float32bits(v.Float())
	case v.Kind() == parquet.Double:
		return math.Float64bits(v.Double())
	}
	return string(v.ByteArray())
}
