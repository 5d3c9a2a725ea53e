package file

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/internal/outfile/outfiletest"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

const (
	configID = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
	runID    = "1a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
)

// bench is a transport with its file system and clock.
type bench struct {
	*transport
	dir   string
	files *outfiletest.FS
	clock struct {
		sync.Mutex
		now time.Time
	}
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

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), files: new(outfiletest.FS)}
	b.clock.now = time.UnixMicro(1_760_000_000_000_000)
	c := defaultConfig()
	c.Dir = b.dir
	if change != nil {
		change(&c)
	}
	tr, err := open(sdk.Settings{
		Pipeline: "pipe", Name: "files", Asset: "stand", Logger: slog.New(slog.DiscardHandler),
	}, c, b.files, b.now)
	require.NoError(t, err)
	b.transport = tr.(*transport)
	t.Cleanup(func() {
		assert.NoError(t, b.Shutdown(context.Background()))
		assert.NoError(t, b.Shutdown(context.Background()), "a second time")
		assert.Zero(t, b.files.Open(), "open files are left")
	})
	return b
}

var ownFlow = &sdk.Flow{Name: "engine", Channels: []sdk.Channel{{Name: "a", Type: sdk.Double}}}

func flowOf(origin sdk.Origin) *sdk.Flow {
	f := *ownFlow
	f.Origin = origin
	return &f
}

func (b *bench) register(t testing.TB, r sdk.Registration) sdk.Registered {
	t.Helper()
	if r.Flows == nil {
		r.Flows = []sdk.Flow{*ownFlow}
	}
	out, err := b.Register(context.Background(), r)
	require.NoError(t, err)
	return out
}

func (b *bench) stream(t testing.TB) sdk.Stream {
	t.Helper()
	s, err := b.OpenStream(context.Background(), sdk.StreamOptions{})
	require.NoError(t, err)
	return s
}

func delivery(flow *sdk.Flow, messages ...string) *sdk.Delivery {
	var body []byte
	for _, m := range messages {
		body = pbfs.AppendMessage(body, []byte(m))
	}
	return &sdk.Delivery{Flow: flow, Count: len(messages), Format: "any", Body: body}
}

func send(t testing.TB, s sdk.Stream, d *sdk.Delivery) {
	t.Helper()
	require.NoError(t, s.Send(context.Background(), d))
}

func finish(t testing.TB, s sdk.Stream) []string {
	t.Helper()
	done, err := s.Finish(context.Background())
	require.NoError(t, err)
	return done.Paths
}

// chunks reads a file to its end: the messages of each chunk.
func chunks(t testing.TB, path string) [][]string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	r := pbfs.NewReader(bytes.NewReader(raw), pbfs.Limits{})
	var out [][]string
	for {
		c, err := r.Next()
		if err != nil {
			require.EqualError(t, err, "EOF")
			return out
		}
		var messages []string
		for m, err := range pbfs.Messages(c.Body) {
			require.NoError(t, err)
			messages = append(messages, string(m))
		}
		out = append(out, messages)
	}
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

func TestBatchesBecomeChunks(t *testing.T) {
	b := newBench(t, nil)
	b.register(t, sdk.Registration{Asset: "stand-3", ClientKey: "stand-v1", Run: sdk.Run{Name: "hot.fire"}})
	s := b.stream(t)
	send(t, s, delivery(ownFlow, "one", "two", ""))
	send(t, s, delivery(ownFlow, "three"))
	send(t, s, delivery(ownFlow)) // nothing
	assert.NoFileExists(t, filepath.Join(b.dir, "stand-3"))
	paths := finish(t, s)
	want := filepath.Join(b.dir, "stand-3", "hot_fire", "stand-v1-1760000000000000")
	assert.Equal(t, []string{want}, paths)
	assert.Equal(t, [][]string{{"one", "two", ""}, {"three"}}, chunks(t, want))
	assert.Equal(t, []string{"stand-3/hot_fire/stand-v1-1760000000000000"}, b.list(t))
}

// TestGoldenFile compares with bytes whose checksums were computed by another
// implementation.
func TestGoldenFile(t *testing.T) {
	const m = "0a01631201661a0408011002220911000000000000f83f22025a002a0172"
	message, err := hex.DecodeString(m)
	require.NoError(t, err)
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, delivery(ownFlow, string(message)))
	send(t, s, delivery(ownFlow, string(message), string(message)))
	send(t, s, delivery(ownFlow, ""))
	raw, err := os.ReadFile(finish(t, s)[0])
	require.NoError(t, err)
	assert.Equal(t, "b9a71f1722000000000000001e000000"+m+
		"1e8ea84d44000000000000001e000000"+m+"1e000000"+m+
		"10fdd378040000000000000000000000", hex.EncodeToString(raw))
}

func TestNames(t *testing.T) {
	client := sdk.Origin{Asset: "rover", ClientKey: "rover-v2", Run: "run 7"}
	for _, tc := range []struct {
		name         string
		registration *sdk.Registration
		flow         *sdk.Flow
		want         string
	}{
		{"own, not registered", nil, ownFlow, "stand/pipe-"},
		{"own", &sdk.Registration{Asset: "a", ClientKey: "k"}, ownFlow, "a/k-"},
		{"run by its name", &sdk.Registration{Asset: "a", ClientKey: "k", Run: sdk.Run{Name: "n", ClientKey: "c", ID: "i"}}, ownFlow, "a/n/k-"},
		{"run by its key", &sdk.Registration{Asset: "a", ClientKey: "k", Run: sdk.Run{ClientKey: "c", ID: "i"}}, ownFlow, "a/c/k-"},
		{"run by its id", &sdk.Registration{Asset: "a", ClientKey: "k", Run: sdk.Run{ID: "i"}}, ownFlow, "a/i/k-"},
		{"client, not registered", nil, flowOf(client), "rover/run_7/rover-v2-"},
		{"client", &sdk.Registration{
			Asset: "rover", ClientKey: "rover-v2", Run: sdk.Run{Name: "seven"}, Flows: []sdk.Flow{*flowOf(client)},
		}, flowOf(client), "rover/seven/rover-v2-"},
		{"the pipeline's names are not a client's", &sdk.Registration{Asset: "a", ClientKey: "k"}, flowOf(client), "rover/run_7/rover-v2-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, nil)
			if tc.registration != nil {
				b.register(t, *tc.registration)
			}
			s := b.stream(t)
			send(t, s, delivery(tc.flow, "x"))
			finish(t, s)
			assert.Equal(t, []string{tc.want + "1760000000000000"}, b.list(t))
		})
	}
}

func TestHostileNamesStayInside(t *testing.T) {
	hostile := []string{
		"..", "../../../../tmp/x", "/etc/passwd", "a\x00b", "\xff\xfe", strings.Repeat("ä", 10<<10), `'"; rm -rf $HOME`,
		".pipelined-0123456789abcdef.tmp", "", " ", "\n", "CON", "-rf",
	}
	b := newBench(t, nil)
	s := b.stream(t)
	want := 0
	for _, asset := range hostile {
		for _, run := range hostile[:6] {
			send(t, s, delivery(flowOf(sdk.Origin{Asset: asset, Run: run, ClientKey: "k" + asset}), asset+run))
			want++
		}
	}
	paths := finish(t, s)
	assert.Len(t, paths, want)
	content := map[string]bool{}
	for _, path := range paths {
		rel, err := filepath.Rel(b.dir, path)
		require.NoError(t, err)
		assert.True(t, filepath.IsLocal(rel), "%q", rel)
		content[chunks(t, path)[0][0]] = true
	}
	assert.Len(t, content, want, "each origin has a file of its own")
	assert.Len(t, b.list(t), want)
}

func TestSameMicrosecond(t *testing.T) {
	b := newBench(t, nil)
	var all []string
	for range 3 {
		s := b.stream(t)
		send(t, s, delivery(ownFlow, "x"))
		all = append(all, finish(t, s)...)
	}
	assert.Equal(t, []string{
		b.dir + "/stand/pipe-1760000000000000", b.dir + "/stand/pipe-1760000000000001", b.dir + "/stand/pipe-1760000000000002",
	}, all)
}

func TestIDs(t *testing.T) {
	b := newBench(t, func(c *Config) {
		id, run := configID, runID
		c.IngestionConfigID, c.RunID = &id, &run
	})
	own := b.register(t, sdk.Registration{Asset: "a", ClientKey: "k"})
	assert.Equal(t, sdk.Binding{ConfigID: configID, RunID: runID}, own.Binding)
	assert.NotEmpty(t, own.Destination)
	client := b.register(t, sdk.Registration{
		Asset: "b", ClientKey: "k", Flows: []sdk.Flow{*flowOf(sdk.Origin{Asset: "b", ClientKey: "k"})},
	})
	assert.Zero(t, client.Binding, "the ids are those of the pipeline's own messages")
	assert.Zero(t, newBench(t, nil).register(t, sdk.Registration{}).Binding)
}

// TestRunOfConfiguredIDs: with ids of the configuration, a pipeline with a run needs
// that of the run too, and one without does not.
func TestRunOfConfiguredIDs(t *testing.T) {
	id, run := configID, runID
	for _, tc := range []struct {
		name    string
		run     *string
		own     sdk.Run
		want    sdk.Binding
		refused bool
	}{
		{"neither", nil, sdk.Run{}, sdk.Binding{ConfigID: id}, false},
		{"pipeline only", nil, sdk.Run{Name: "n", ClientKey: "k"}, sdk.Binding{}, true},
		{"existing run", nil, sdk.Run{ID: run}, sdk.Binding{}, true},
		{"both", &run, sdk.Run{ID: run}, sdk.Binding{ConfigID: id, RunID: run}, false},
		{"file only", &run, sdk.Run{}, sdk.Binding{ConfigID: id, RunID: run}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := defaultConfig()
			c.Dir, c.IngestionConfigID, c.RunID = t.TempDir(), &id, tc.run
			tr, err := open(sdk.Settings{Logger: slog.New(slog.DiscardHandler)}, c, outfile.OS{}, time.Now)
			require.NoError(t, err)
			defer tr.Shutdown(t.Context())
			got, err := tr.Register(t.Context(), sdk.Registration{Flows: []sdk.Flow{*ownFlow}, Run: tc.own})
			if tc.refused {
				require.ErrorContains(t, err, "run_id")
				assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got.Binding)
		})
	}
}

func TestUnboundMessagesHaveFilesOfTheirOwn(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	for i, binding := range []sdk.Binding{
		{ConfigID: configID, RunID: runID}, sdk.Unbound(), {ConfigID: configID, RunID: sdk.Unbound().RunID}, {}, {ConfigID: "other"},
	} {
		d := delivery(ownFlow, fmt.Sprint(i))
		d.Binding = binding
		send(t, s, d)
	}
	finish(t, s)
	require.Equal(t, []string{"stand/pipe-1760000000000000", "stand/pipe-1760000000000000.unbound"}, b.list(t))
	assert.Equal(t, [][]string{{"0"}, {"3"}, {"4"}}, chunks(t, filepath.Join(b.dir, "stand/pipe-1760000000000000")))
	assert.Equal(t, [][]string{{"1"}, {"2"}}, chunks(t, filepath.Join(b.dir, "stand/pipe-1760000000000000.unbound")))
}

func TestRotationBySize(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxFileSize = 64 })
	s := b.stream(t)
	m := strings.Repeat("x", 16) // a chunk of 32 bytes
	for range 5 {
		send(t, s, delivery(ownFlow, m))
		b.advance(time.Millisecond)
	}
	send(t, s, delivery(ownFlow, strings.Repeat("y", 100))) // alone over the limit
	send(t, s, delivery(ownFlow, m))
	var sizes []int
	for _, path := range finish(t, s) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		sizes = append(sizes, int(info.Size()))
	}
	assert.Equal(t, []int{64, 64, 32, 116, 32}, sizes)
}

func TestRotationByAge(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxFileAge = time.Minute })
	s := b.stream(t)
	for range 5 { // at 0, 30, 60, 90, 120 s
		send(t, s, delivery(ownFlow, "x"))
		b.advance(30 * time.Second)
	}
	var counts []int
	for _, path := range finish(t, s) {
		counts = append(counts, len(chunks(t, path)))
	}
	assert.Equal(t, []int{2, 2, 1}, counts)
}

func TestEmptyStreamMakesNoFile(t *testing.T) {
	b := newBench(t, nil)
	b.register(t, sdk.Registration{Asset: "a", ClientKey: "k"})
	assert.Empty(t, finish(t, b.stream(t)))
	assert.Empty(t, b.list(t))
}

func TestStreamsOverlap(t *testing.T) {
	b := newBench(t, nil)
	first, second := b.stream(t), b.stream(t)
	send(t, first, delivery(ownFlow, "1"))
	send(t, second, delivery(ownFlow, "2"))
	assert.Equal(t, [][]string{{"2"}}, chunks(t, finish(t, second)[0]))
	assert.Equal(t, [][]string{{"1"}}, chunks(t, finish(t, first)[0]))
}

func TestManyOrigins(t *testing.T) {
	const origins = 3 * maxOpen
	b := newBench(t, nil)
	s := b.stream(t)
	most := 0
	for range 2 {
		for i := range origins {
			send(t, s, delivery(flowOf(sdk.Origin{Asset: fmt.Sprint(i), ClientKey: "k"}), fmt.Sprint(i)))
			most = max(most, b.files.Open())
			b.advance(time.Microsecond)
		}
	}
	assert.Equal(t, maxOpen, most)
	messages := map[string]int{}
	for _, path := range finish(t, s) {
		for _, c := range chunks(t, path) {
			messages[c[0]]++
		}
	}
	assert.Len(t, messages, origins)
	for origin, n := range messages {
		assert.Equal(t, 2, n, origin)
	}
}

func TestLeastRecentlyUsedIsFinishedFirst(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t).(*stream)
	busy := flowOf(sdk.Origin{Asset: "busy"})
	for i := range 2 * maxOpen {
		send(t, s, delivery(busy, "x"))
		send(t, s, delivery(flowOf(sdk.Origin{Asset: fmt.Sprint(i)}), "x"))
	}
	finish(t, s)
	entries, err := os.ReadDir(filepath.Join(b.dir, "busy"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestAbort(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, delivery(ownFlow, "x"))
	require.Len(t, b.list(t), 1)
	s.Abort()
	assert.Empty(t, b.list(t))
	assert.Zero(t, b.files.Open())
	require.Error(t, s.Send(context.Background(), delivery(ownFlow, "x")))
	_, err := s.Finish(context.Background())
	require.Error(t, err)
	s.Abort()
}

func TestShutdownAbortsStreams(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, delivery(ownFlow, "x"))
	require.NoError(t, b.Shutdown(context.Background()))
	assert.Empty(t, b.list(t))
	_, err := s.Finish(context.Background())
	require.Error(t, err)
	_, err = b.OpenStream(context.Background(), sdk.StreamOptions{})
	require.Error(t, err)
}

// TestFaults lets each call of each operation fail once. Whatever fails, the
// stream is not confirmed, nothing of it is left, and the next one works.
func TestFaults(t *testing.T) {
	story := func(b *bench) error {
		s, err := b.OpenStream(context.Background(), sdk.StreamOptions{})
		if err != nil {
			return err
		}
		for _, asset := range []string{"a", "b"} {
			if err := s.Send(context.Background(), delivery(flowOf(sdk.Origin{Asset: asset}), "one", "two")); err != nil {
				_, again := s.Finish(context.Background())
				return errors.Join(err, again)
			}
		}
		_, err = s.Finish(context.Background())
		return err
	}
	for op, cause := range map[outfiletest.Op]error{
		outfiletest.Create: syscall.ENOSPC, outfiletest.Write: syscall.ENOSPC, outfiletest.Sync: syscall.EIO,
		outfiletest.Rename: syscall.EIO, outfiletest.SyncDir: syscall.EIO, outfiletest.Mkdir: syscall.EDQUOT,
		outfiletest.Close: syscall.EIO,
	} {
		t.Run(string(op), func(t *testing.T) {
			first := 1
			if op == outfiletest.Mkdir {
				first = 2 // the first one is of a directory that exists
			}
			for n := first; ; n++ {
				b := newBench(t, nil)
				b.files.FailNth(op, n, cause)
				err := story(b)
				calls := b.files.Calls(op)
				b.files.Fail(nil)
				if calls < n {
					require.NoError(t, err)
					require.Greater(t, n, first)
					return
				}
				require.ErrorIs(t, err, cause)
				failure, ok := errors.AsType[*sdk.Error](err)
				require.True(t, ok)
				assert.Equal(t, sdk.ClassRetry, failure.Class)
				assert.Contains(t, err.Error(), b.dir, "the error says where")
				assert.Empty(t, b.list(t), "call %d", n)
				assert.Zero(t, b.files.Open())
				require.NoError(t, story(b), "the next stream")
				assert.Len(t, b.list(t), 2)
			}
		})
	}
}

func TestDiskFullInMidStream(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxFileSize = 64 << 10 })
	s := b.stream(t)
	big := strings.Repeat("x", 60<<10)
	for range 3 {
		send(t, s, delivery(ownFlow, big))
	}
	b.files.FailNth(outfiletest.Write, 2, syscall.ENOSPC) // the header is written, half of the body too
	err := s.Send(context.Background(), delivery(ownFlow, big))
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.Empty(t, b.list(t), "room is made at once")
	_, err = s.Finish(context.Background())
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func TestUnusableDirectory(t *testing.T) {
	for name, cause := range map[string]error{
		"permission denied": syscall.EACCES, "read-only file system": syscall.EROFS, "not a directory": syscall.ENOTDIR,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Dir = filepath.Join(c.Dir, "sub") })
			b.files.FailNth(outfiletest.Mkdir, 1, cause)
			_, err := b.Register(context.Background(), sdk.Registration{Flows: []sdk.Flow{*ownFlow}})
			require.Error(t, err)
			assert.Contains(t, err.Error(), "destination directory "+b.dir+"/sub")
			assert.Contains(t, err.Error(), name)
			assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
			b.files.FailNth(outfiletest.Mkdir, 1, cause)
			_, err = b.OpenStream(context.Background(), sdk.StreamOptions{})
			assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
		})
	}
}

func TestWrongBatches(t *testing.T) {
	for name, d := range map[string]*sdk.Delivery{
		"length beyond the end": {Flow: ownFlow, Count: 1, Body: []byte{9, 0, 0, 0, 1}},
		"part of a length":      {Flow: ownFlow, Count: 1, Body: []byte{0, 0, 0, 0, 1}},
		"wrong count":           {Flow: ownFlow, Count: 2, Body: []byte{0, 0, 0, 0}},
		"count without body":    {Flow: ownFlow, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			s := b.stream(t)
			send(t, s, delivery(ownFlow, "good"))
			err := s.Send(context.Background(), d)
			require.ErrorContains(t, err, `batch of flow "engine"`)
			assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
			_, err = s.Finish(context.Background())
			require.Error(t, err)
			assert.Empty(t, b.list(t))
		})
	}
}

func TestValidate(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"defaults", func(*Config) {}, nil},
		{"ids", func(c *Config) { c.IngestionConfigID, c.RunID = text(configID), text(strings.ToUpper(runID)) }, nil},
		{"no directory", func(c *Config) { c.Dir = "" }, []string{"Empty directory"}},
		{"small files", func(c *Config) { c.MaxFileSize = 1 }, []string{"File size too small"}},
		{"negative age", func(c *Config) { c.MaxFileAge = -1 }, []string{"Negative file age"}},
		{"config id alone", func(c *Config) { c.IngestionConfigID = text(configID) }, nil},
		{"run id alone", func(c *Config) { c.RunID = text(runID) }, []string{"Missing ingestion config id"}},
		{"no UUIDs", func(c *Config) {
			c.IngestionConfigID, c.RunID = text("x"), text(strings.Repeat("x", 36))
		}, []string{"Invalid id", "Invalid id"}},
		{"placeholder", func(c *Config) {
			c.IngestionConfigID, c.RunID = text(strings.ToUpper(sdk.Unbound().ConfigID)), text(runID)
		}, []string{"Invalid id"}},
		{"all at once", func(c *Config) {
			*c = Config{Dir: "", MaxFileAge: -1, RunID: text("")}
		}, []string{"Empty directory", "File size too small", "Negative file age", "Invalid id", "Missing ingestion config id"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := defaultConfig()
			c.Dir = "/data"
			tc.change(&c)
			var got []string
			for _, p := range c.Validate() {
				got = append(got, p.Summary)
				assert.NotEmpty(t, p.Detail)
				assert.Len(t, p.Path, 1)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, sdk.KindTransport, p.Kind)
	assert.Equal(t, sdk.TransportCapabilities{Input: sdk.InputEncoded, Overlap: true}, p.Transport)
	i := slices.IndexFunc(p.Schema.Attributes, func(a sdk.Attribute) bool { return a.Name == "dir" })
	require.GreaterOrEqual(t, i, 0)
	assert.True(t, p.Schema.Attributes[i].Required)
	assert.Equal(t, sdk.GrantPathWrite, p.Schema.Attributes[i].Grant)

	dir := t.TempDir()
	c, err := p.Open(sdk.Settings{Pipeline: "p", Asset: "a", Logger: slog.New(slog.DiscardHandler)}, sdk.Body{
		Attributes: map[string]sdk.Value{"dir": {Kind: sdk.KindString, String: filepath.Join(dir, "new", "dir")}},
	})
	require.NoError(t, err)
	assert.NoDirExists(t, filepath.Join(dir, "new"), "opening reaches nothing outside the process")
	require.NoError(t, c.Shutdown(context.Background()))
	assert.NoDirExists(t, filepath.Join(dir, "new"))
}

// TestEverythingConfirmedIsThereOnce runs random histories of streams, aborts and
// faults: what was confirmed is in the files exactly once, in order within a flow,
// and nothing else is.
func TestEverythingConfirmedIsThereOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t, func(c *Config) { c.MaxFileSize = 200 })
		confirmed := map[string][]string{}
		for i := range rapid.IntRange(1, 4).Draw(r, "streams") {
			if rapid.IntRange(0, 3).Draw(r, "fault") == 0 {
				op := rapid.SampledFrom([]outfiletest.Op{
					outfiletest.Write, outfiletest.Sync, outfiletest.Rename, outfiletest.SyncDir, outfiletest.Create,
				}).Draw(r, "op")
				b.files.FailNth(op, rapid.IntRange(1, 5).Draw(r, "nth"), syscall.EIO)
			}
			s, err := b.OpenStream(context.Background(), sdk.StreamOptions{})
			if err != nil {
				continue
			}
			sent := map[string][]string{}
			for j := range rapid.IntRange(0, 10).Draw(r, "batches") {
				asset := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "asset")
				message := fmt.Sprintf("%d.%02d %s", i, j, strings.Repeat("x", rapid.IntRange(0, 100).Draw(r, "size")))
				if s.Send(context.Background(), delivery(flowOf(sdk.Origin{Asset: asset}), message)) == nil {
					sent[asset] = append(sent[asset], message)
				}
				b.advance(time.Microsecond)
			}
			if rapid.IntRange(0, 4).Draw(r, "abort") == 0 {
				s.Abort()
			}
			if _, err := s.Finish(context.Background()); err == nil {
				for asset, messages := range sent {
					confirmed[asset] = append(confirmed[asset], messages...)
				}
			}
			b.files.Fail(nil)
			b.advance(time.Second)
		}
		found := map[string][]string{}
		for _, name := range b.list(t) {
			asset, _, _ := strings.Cut(name, "/")
			for _, c := range chunks(t, filepath.Join(b.dir, name)) {
				found[asset] = append(found[asset], c...)
			}
		}
		require.Equal(r, confirmed, found)
		require.NoError(r, b.Shutdown(context.Background()))
	})
}

func BenchmarkSend(b *testing.B) {
	c := defaultConfig()
	c.Dir = b.TempDir()
	w, err := open(sdk.Settings{Logger: slog.New(slog.DiscardHandler)}, c, outfile.OS{}, time.Now)
	require.NoError(b, err)
	begin := func() sdk.Stream {
		s, err := w.OpenStream(context.Background(), sdk.StreamOptions{})
		require.NoError(b, err)
		return s
	}
	const rows = 1000
	messages := make([]string, rows)
	for i := range messages {
		messages[i] = strings.Repeat("m", 160)
	}
	d := delivery(ownFlow, messages...)
	s := begin()
	b.SetBytes(int64(len(d.Body)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		send(b, s, d)
		if n++; n%1000 == 0 { // 164 MB in a stream
			finish(b, s)
			require.NoError(b, os.RemoveAll(filepath.Join(c.Dir, "_")))
			s = begin()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*rows), "ns/message")
	s.Abort()
	require.NoError(b, w.Shutdown(context.Background()))
}
