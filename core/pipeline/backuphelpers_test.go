package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
)

// reader is a source of the numbers up to rows that can go on from a position. It ends
// when all that it emitted is acknowledged, or when it is stopped.
type reader struct {
	rows, perEach int
	wantAck       bool          // says that it waits for its acks
	endless       bool          // waits to be stopped when everything is acknowledged
	acked         chan struct{} // closed then; may be nil
	onAck         func()        // called before

	mu      sync.Mutex
	resumed []int64 // where its runs began
}

func (r *reader) plugin(name string) sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: name}, sdk.SourceCapabilities{Replayable: true}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return r, nil })
}

func (r *reader) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{numbers}, Finite: true}, nil
}

func (r *reader) Run(ctx context.Context, out sdk.Output) error {
	flow, err := out.Announce(numbers)
	if err != nil {
		return err
	}
	n := int64(0)
	if position, ok := out.Resume(); ok {
		n = int64(binary.LittleEndian.Uint64(position))
	}
	r.mu.Lock()
	r.resumed = append(r.resumed, n)
	r.mu.Unlock()
	rows := sdk.NewBuilder(&numbers)
	var last uint64
	for n < int64(r.rows) {
		for range min(int64(r.perEach), int64(r.rows)-n) {
			n++
			rows.Row(n)
			rows.Int64(0, n)
		}
		if last, err = out.Emit(ctx, flow, rows, binary.LittleEndian.AppendUint64(nil, uint64(n))); err != nil {
			return err
		}
	}
	if last > 0 && r.wantAck {
		if err := out.AckWanted(last, time.Second); err != nil {
			return err
		}
	}
	if last > 0 && r.acked != nil {
		if err := out.WaitAck(ctx, last); err != nil {
			return err
		}
		if r.onAck != nil {
			r.onAck()
		}
		close(r.acked)
	}
	if r.endless {
		<-out.Stopping()
	}
	return nil
}

func (r *reader) Shutdown(context.Context) error { return nil }

// addressed is an encoder whose messages say for whom they are, and which number they
// carry. It refuses numbers up to refuse.
type addressed struct{ refuse int64 }

// Layout of its messages: the config's id, the flow's name, the number.
const (
	configAt  = 2
	nameAt    = configAt + sdk.BindingIDBytes + 2
	numberAt  = nameAt + len("numbers") + 1
	messageIs = numberAt + 8
)

func (e *addressed) plugin() sdk.Plugin {
	return sdk.NewEncoder(sdk.Info{Name: "addressed"},
		sdk.EncoderCapabilities{Format: "addressed", Decodes: true, Rebinds: true}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Encoder, error) { return e, nil })
}

func (e *addressed) Encode(dst []byte, batch *sdk.Batch, b sdk.Binding) (sdk.Encoded, error) {
	out := sdk.Encoded{Body: dst}
	out.MinTime, out.MaxTime = batch.TimeSpan()
	for row, n := range batch.Column(0).Int64s() {
		if n <= e.refuse {
			out.Refused = append(out.Refused, sdk.Refused{Row: row, Channel: "n", Reason: "it is small"})
			continue
		}
		out.Body = binary.LittleEndian.AppendUint32(out.Body, uint32(messageIs))
		out.Body = append(out.Body, 1<<3|2, sdk.BindingIDBytes)
		out.Body = append(out.Body, b.ConfigID...)
		out.Body = append(out.Body, 2<<3|2, byte(len("numbers")))
		out.Body = append(out.Body, "numbers"...)
		out.Body = append(out.Body, 15<<3|1)
		out.Body = binary.LittleEndian.AppendUint64(out.Body, uint64(n))
		out.Count++
	}
	return out, nil
}

func (e *addressed) Decode(rows *sdk.Builder, body []byte) error {
	for ; len(body) > 0; body = body[4+messageIs:] {
		n := int64(binary.LittleEndian.Uint64(body[4+numberAt:]))
		rows.Row(n)
		rows.Int64(0, n)
	}
	return nil
}

func (e *addressed) Rebind(body []byte, _, to sdk.Binding) error {
	for ; len(body) > 0; body = body[4+messageIs:] {
		copy(body[4+configAt:], to.ConfigID)
	}
	return nil
}

func (e *addressed) Shutdown(context.Context) error { return nil }

// place is a destination that can be away.
type place struct {
	id    string // of its config; empty: it gives none
	input sdk.Input

	mu        sync.Mutex
	away      bool
	took      []int64 // what it confirmed
	strangers int     // messages with other ids than its own
	onTake    func()  // called with a confirmation of something
}

// idOf makes the id of a destination.
func idOf(name string) string { return name + strings.Repeat("-", sdk.BindingIDBytes-len(name)) }

func newPlace(name string) *place { return &place{id: idOf(name), input: sdk.InputEncoded} }

func (p *place) plugin(name string) sdk.Plugin {
	return sdk.NewTransport(sdk.Info{Name: name},
		sdk.TransportCapabilities{Input: p.input, Overlap: true, Binds: p.id != ""}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Transport, error) { return p, nil })
}

var errAway = sdk.Disconnected(errors.New("connection refused"))

func (p *place) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return errAway
	}
	return nil
}

func (p *place) setAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *place) Register(context.Context, sdk.Registration) (sdk.Registered, error) {
	return sdk.Registered{Destination: "place", Binding: sdk.Binding{ConfigID: p.id}}, p.check()
}

func (p *place) OpenStream(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
	return &placeStream{place: p}, p.check()
}

func (p *place) Shutdown(context.Context) error { return nil }

type placeStream struct {
	place     *place
	got       []int64
	strangers int
}

func (s *placeStream) Send(_ context.Context, d *sdk.Delivery) error {
	if d.Rows != nil {
		s.got = append(s.got, d.Rows.Column(0).Int64s()...)
		return s.place.check()
	}
	for body := d.Body; len(body) > 0; body = body[4+messageIs:] {
		if string(body[4+configAt:4+configAt+sdk.BindingIDBytes]) != s.place.id {
			s.strangers++
		}
		s.got = append(s.got, int64(binary.LittleEndian.Uint64(body[4+numberAt:])))
	}
	return s.place.check()
}

func (s *placeStream) Finish(context.Context) (sdk.Finished, error) {
	if err := s.place.check(); err != nil {
		return sdk.Finished{}, err
	}
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.took = append(s.place.took, s.got...)
	s.place.strangers += s.strangers
	if s.place.onTake != nil && len(s.got) > 0 {
		s.place.onTake()
	}
	return sdk.Finished{}, nil
}

func (s *placeStream) Abort() {}

// got returns the numbers that it confirmed, in order.
func (p *place) got() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.took)
	slices.Sort(out)
	return out
}

// requireOwn holds that all messages had the place's own ids.
func (p *place) requireOwn(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Zero(t, p.strangers, "messages with ids of somebody else")
}

// disk is where the runs of a pipeline keep their data.
type disk struct {
	t    *testing.T
	dir  string
	logs *strings.Builder
	mu   sync.Mutex
}

func newDisk(t *testing.T) *disk { return &disk{t: t, dir: t.TempDir(), logs: &strings.Builder{}} }

func (d *disk) backupDir() string { return filepath.Join(d.dir, "backup") }

// Write implements io.Writer for the log.
func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logs.Write(p)
}

// host returns a host of one pipeline with a backup on the disk.
func (d *disk) host(src sdk.Plugin, enc sdk.Plugin, to ...sdk.Plugin) (*Host, *machine) {
	m := newMachine(d.t, append([]sdk.Plugin{src, enc}, to...)...)
	c := blocks("p", src, &enc, to...)
	c.DrainTimeout = 300 * time.Millisecond
	c.Queues = config.Queues{Ingestion: 100_000, Backup: 100_000, Control: 1024, OnBackupLag: config.LagStream}
	c.Backup = &config.Backup{Dir: d.backupDir(), MaxFileSize: 1 << 20, OnFull: "block", Sync: "1s", SyncDelay: time.Second}
	var log io.Writer = d
	h := NewHost(&config.Config{DataDir: filepath.Join(d.dir, "data"), Pipelines: []*config.Pipeline{c}}, 0, m,
		slog.New(slog.NewTextHandler(log, nil)))
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Log(fmt.Sprint("log:\n", d.logs.String()))
			d.logs.Reset()
		}
	})
	return h, m
}

// only returns the status of a host's pipeline.
func only(h *Host) Status { return h.Pipelines()[0].Status() }

// total sums the account of a track over all flows.
func total(s Status, track int) (delivered, pending, lost uint64) {
	for _, f := range s.Flows {
		delivered += f.Tracks[track].Delivered
		pending += f.Tracks[track].Pending
		for _, n := range f.Tracks[track].Lost {
			lost += n
		}
	}
	return delivered, pending, lost
}
