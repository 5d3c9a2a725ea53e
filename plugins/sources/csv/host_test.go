package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// emitted is a row as the host got it.
type emitted struct {
	Flow   string
	At     int64
	Values map[string]any // of channels that have one
}

// batch is what one Emit brought.
type batch struct {
	rows     []emitted
	position []byte // nil: none
	wall     time.Time
}

// host is an Output that keeps everything.
type host struct {
	t        testing.TB
	resume   []byte
	stopping chan struct{}
	rewinds  chan sdk.Rewind
	onEmit   func(batches int) error // called without the lock
	once     sync.Once               // for stop

	mu       sync.Mutex
	flows    []sdk.Flow
	batches  []batch
	dropped  []sdk.Dropped
	progress map[string]int64
	events   []string // Announce, Emit, Dropped and Progress in their order
}

func newHost(t testing.TB, resume []byte) *host {
	return &host{
		t: t, resume: resume, stopping: make(chan struct{}), rewinds: make(chan sdk.Rewind, 1), progress: map[string]int64{},
	}
}

func (h *host) Resume() ([]byte, bool) { return h.resume, h.resume != nil }

func (h *host) Announce(flow sdk.Flow) (sdk.FlowNumber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := flow.Check(); err != nil {
		return 0, err
	}
	for i, known := range h.flows {
		if known.Name == flow.Name {
			if known.Fingerprint() != flow.Fingerprint() {
				return 0, fmt.Errorf("flow %q changed: %s", flow.Name, known.Difference(&flow))
			}
			return sdk.FlowNumber(i + 1), nil
		}
	}
	h.flows = append(h.flows, flow)
	h.events = append(h.events, "announce "+flow.Name)
	return sdk.FlowNumber(len(h.flows)), nil
}

func (h *host) Emit(ctx context.Context, flow sdk.FlowNumber, rows *sdk.Builder, position []byte) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	h.mu.Lock()
	definition := &h.flows[flow-1]
	require.NotZero(h.t, rows.Rows())
	require.LessOrEqual(h.t, len(position), sdk.MaxPositionBytes)
	raw := rows.Append(nil)
	require.LessOrEqual(h.t, len(raw), sdk.MaxPayloadBytes)
	parsed, err := sdk.ParseBatch(definition, raw)
	require.NoError(h.t, err)
	b := batch{position: slices.Clone(position), wall: time.Now()}
	for row := range parsed.Rows() {
		b.rows = append(b.rows, decode(parsed, row))
	}
	h.batches = append(h.batches, b)
	h.events = append(h.events, fmt.Sprintf("emit %s %d", definition.Name, parsed.Rows()))
	rows.Reset()
	n := len(h.batches)
	h.mu.Unlock()
	if h.onEmit != nil {
		return uint64(n), h.onEmit(n)
	}
	return uint64(n), nil
}

func decode(b *sdk.Batch, row int) emitted {
	e := emitted{Flow: b.Flow().Name, At: b.Times()[row], Values: map[string]any{}}
	for i := range b.Flow().Channels {
		c := b.Column(i)
		if !c.Valid(row) {
			continue
		}
		var v any
		switch c.Type() {
		case sdk.Double:
			v = c.Doubles()[row]
		case sdk.Float:
			v = c.Floats()[row]
		case sdk.Int32:
			v = c.Int32s()[row]
		case sdk.Uint32, sdk.Enum:
			v = c.Uint32s()[row]
		case sdk.Int64:
			v = c.Int64s()[row]
		case sdk.Uint64:
			v = c.Uint64s()[row]
		case sdk.Bool:
			v = c.Bool(row)
		case sdk.String:
			v = string(c.Bytes(row))
		default:
			v = slices.Clone(c.Bytes(row))
		}
		e.Values[b.Flow().Channels[i].Name] = v
	}
	return e
}

func (h *host) Progress(flow sdk.FlowNumber, upTo int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress[h.flows[flow-1].Name] = upTo
	h.events = append(h.events, "progress "+h.flows[flow-1].Name)
	return nil
}

func (h *host) Dropped(d sdk.Dropped) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	require.NotZero(h.t, d.Rows)
	h.dropped = append(h.dropped, d)
	h.events = append(h.events, fmt.Sprintf("dropped %s %d", h.flows[d.Flow-1].Name, d.Rows))
	return nil
}

func (h *host) AckWanted(uint64, time.Duration) error       { return nil }
func (h *host) WaitAck(ctx context.Context, _ uint64) error { return nil }
func (h *host) Rewinds() <-chan sdk.Rewind                  { return h.rewinds }
func (h *host) Stopping() <-chan struct{}                   { return h.stopping }
func (h *host) Finish() error                               { return nil }
func (h *host) stop()                                       { h.once.Do(func() { close(h.stopping) }) }

func (h *host) rewind(position []byte, fromBeginning bool) {
	h.rewinds <- sdk.Rewind{Position: position, FromBeginning: fromBeginning}
}

// channels returns "name type" of a flow's channels.
func (h *host) channels(flow int) []string {
	var out []string
	for _, c := range h.flows[flow].Channels {
		out = append(out, c.Name+" "+c.Type.String())
	}
	return out
}

// rows returns all rows in the order of their emission.
func (h *host) rows() []emitted {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []emitted
	for _, b := range h.batches {
		out = append(out, b.rows...)
	}
	return out
}

// refused returns the refused rows of each reason.
func (h *host) refused() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]uint64{}
	for _, d := range h.dropped {
		require.True(h.t, d.Refused)
		out[d.Reason] += d.Rows
	}
	return out
}

func (h *host) refusedRows() (n uint64) {
	for _, rows := range h.refused() {
		n += rows
	}
	return n
}

// lockedBuffer takes logs of many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// bench is a source under test with its log.
type bench struct {
	*source
	logs *lockedBuffer
}

func newSource(t testing.TB, c Config, stateDir string) bench {
	t.Helper()
	logs := &lockedBuffer{}
	made, err := open(sdk.Settings{
		Name: "test", StateDir: stateDir, Gather: sdk.DefaultGather,
		Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}, c)
	require.NoError(t, err)
	return bench{made.(*source), logs}
}

// run runs a source to its end and checks the account.
func (b bench) run(t testing.TB, h *host) error {
	t.Helper()
	before := b.account.read.Load()
	err := b.Run(context.Background(), h)
	if err == nil && b.config.Rebase != "now" {
		require.Equal(t, b.account.read.Load()-before, uint64(len(h.rows()))+h.refusedRows(), "rows read = emitted + refused")
	}
	return err
}

// write makes a file and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// fast is a configuration for one file that is replayed as fast as it goes. Its
// event time is column t in seconds.
func fast(path string) Config {
	c := defaultConfig()
	c.Path, c.Flow = &path, new("f")
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("t")}
	return c
}

// replay replays a file and returns the host.
func replay(t testing.TB, c Config) (*host, bench) {
	t.Helper()
	b := newSource(t, c, "")
	h := newHost(t, nil)
	require.NoError(t, b.run(t, h))
	return h, b
}

// short writes rows as "1s a=1 b=x", with the stamp in seconds.
func short(rows []emitted) []string {
	var out []string
	for _, r := range rows {
		text := time.Duration(r.At).String()
		for _, name := range slices.Sorted(maps.Keys(r.Values)) {
			text += fmt.Sprintf(" %s=%v", name, r.Values[name])
		}
		out = append(out, text)
	}
	return out
}

// sameRows shows the first difference only.
func sameRows(t testing.TB, want, got []string, what ...any) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i], got[i], "row %d %s", i, fmt.Sprint(what...))
	}
	require.Equal(t, len(want), len(got), "rows "+fmt.Sprint(what...))
}

func TestShutdown(t *testing.T) {
	path := write(t, "f.csv", "t,a\n0,1\n")
	b := newSource(t, fast(path), "")
	require.NoError(t, b.Shutdown(t.Context()), "before Run")
	require.NoError(t, b.Shutdown(t.Context()), "twice")

	c := fast(path)
	c.Follow, c.Speed = true, sdk.NumberOr{Number: 1}
	b = newSource(t, c, "")
	h := newHost(t, nil)
	first := make(chan struct{})
	h.onEmit = func(int) error { close(first); return nil }
	done := make(chan error)
	go func() { done <- b.Run(context.Background(), h) }()
	<-first
	require.NoError(t, b.Shutdown(t.Context()))
	require.NoError(t, <-done)
}

func TestRunEndsWithItsContext(t *testing.T) {
	c := fast(write(t, "f.csv", "t,a\n0,1\n"))
	c.Follow, c.Speed = true, sdk.NumberOr{Number: 1}
	b := newSource(t, c, "")
	h := newHost(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	h.onEmit = func(int) error { cancel(); return nil }
	require.ErrorIs(t, b.Run(ctx, h), context.Canceled)
}

// TestHostFails: an error of the host ends the run.
func TestHostFails(t *testing.T) {
	for _, speed := range []sdk.NumberOr{{Keyword: "max"}, {Number: 1}} {
		c := fast(write(t, "f.csv", "t,a\n0,1\n"))
		c.Speed = speed
		b := newSource(t, c, "")
		h := newHost(t, nil)
		h.onEmit = func(int) error { return errors.New("host is gone") }
		require.ErrorContains(t, b.Run(t.Context(), h), "host is gone")
	}
}

func TestMetrics(t *testing.T) {
	_, b := replay(t, fast(write(t, "f.csv", "t,a\n1,1\n0,2\n2\n")))
	var got []string
	for _, m := range b.Metrics() {
		got = append(got, fmt.Sprint(m.Name, " ", m.Value))
	}
	assert.Equal(t, []string{"rows_read 3", "rows_refused 1", "time_steps_back 1"}, got)
	assert.Equal(t, 1, strings.Count(b.logs.String(), "event time goes back"))
}
