package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers is the flow of all test sources: row i has the value i, from 1.
var numbers = sdk.Flow{Name: "numbers", Channels: []sdk.Channel{{Name: "n", Type: sdk.Int64}}}

// machine launches plugins inside this process, over real connections.
type machine struct {
	t       *testing.T
	plugins map[string]sdk.Plugin

	mu        sync.Mutex
	processes map[string]*process
}

func newMachine(t *testing.T, plugins ...sdk.Plugin) *machine {
	m := &machine{t: t, plugins: map[string]sdk.Plugin{}, processes: map[string]*process{}}
	for _, p := range plugins {
		m.plugins[p.Info.Name] = p
	}
	return m
}

// process is a plugin in this process; crash ends it as kill -9 would.
type process struct {
	name   string
	conn   *grpc.ClientConn
	server *grpc.Server
	wire   *wire.Server
	exited chan struct{}
	once   sync.Once
	err    error
}

func (m *machine) Launch(_ context.Context, o LaunchOptions) (Process, error) {
	plugin, ok := m.plugins[o.Plugin]
	if !ok {
		return nil, fmt.Errorf("no plugin %q", o.Plugin)
	}
	// A socket of a name that the kernel keeps: no file is left.
	address := filepath.Join(m.t.TempDir(), "s")
	listener, err := net.Listen("unix", address)
	if err != nil {
		return nil, err
	}
	for _, region := range o.Regions {
		fd, err := syscall.Dup(int(region.Inherit(0).Fd()))
		if err != nil {
			return nil, err
		}
		region.Inherit(fd) // the plugin closes it
	}
	p := &process{name: o.Plugin, server: grpc.NewServer(wire.ServerOptions()...), exited: make(chan struct{})}
	p.wire = wire.NewServer(plugin, wire.Logging{Logger: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar)})
	p.wire.Register(p.server)
	go p.server.Serve(listener) // ends with Stop
	options := append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if p.conn, err = grpc.NewClient("unix:"+address, options...); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.processes[o.Plugin+"."+o.Label] = p
	return p, nil
}

func (m *machine) process(name string) *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.processes[name]
}

func (p *process) end(err error) {
	p.once.Do(func() {
		p.err = err
		p.server.Stop()
		p.conn.Close()
		p.wire.Shutdown(context.Background())
		close(p.exited)
	})
}

func (p *process) crash() { p.end(errors.New("killed")) }

func (p *process) Conn() grpc.ClientConnInterface { return p.conn }

func (p *process) Exited() <-chan struct{} { return p.exited }

func (p *process) ExitError() error {
	<-p.exited
	return p.err
}

func (p *process) Scrub(text string) string { return text }

func (p *process) Explain(err error) error {
	select {
	case <-p.exited:
		return p.err
	case <-time.After(time.Second):
		return err
	}
}

func (p *process) Alive(context.Context) error { return nil }

func (p *process) Stop(context.Context) error {
	p.end(nil)
	return nil
}

// counter is a source that emits numbers in batches until it is stopped, or a
// number of rows.
type counter struct {
	rows    int // 0 = endless
	perEach int
	wantAck bool
	acked   chan struct{} // closed when all rows were acknowledged
	fail    error
}

func (c *counter) plugin(name string, replayable bool) sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: name}, sdk.SourceCapabilities{Replayable: replayable}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return c, nil })
}

func (c *counter) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{numbers}, Finite: c.rows > 0}, nil
}

func (c *counter) Run(ctx context.Context, out sdk.Output) error {
	flow, err := out.Announce(numbers)
	if err != nil {
		return err
	}
	b := sdk.NewBuilder(&numbers)
	var last uint64
	for n := 1; c.rows == 0 || n <= c.rows; {
		select {
		case <-out.Stopping():
			return nil
		default:
		}
		for range c.perEach {
			if c.rows > 0 && n > c.rows {
				break
			}
			b.Row(int64(n))
			b.Int64(0, int64(n))
			n++
		}
		if last, err = out.Emit(ctx, flow, b, nil); err != nil {
			return err
		}
	}
	if c.fail != nil {
		return c.fail
	}
	if !c.wantAck {
		return nil
	}
	if err := out.AckWanted(last, time.Second); err != nil {
		return err
	}
	if err := out.WaitAck(ctx, last); err != nil {
		return err
	}
	close(c.acked)
	return nil
}

func (c *counter) Shutdown(context.Context) error { return nil }

// plain is an encoder whose messages are the numbers in eight bytes. It refuses
// multiples of refuse.
type plain struct{ refuse int64 }

func (e *plain) plugin() sdk.Plugin {
	return sdk.NewEncoder(sdk.Info{Name: "plain"}, sdk.EncoderCapabilities{Format: "plain"}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Encoder, error) { return e, nil })
}

func (e *plain) Encode(dst []byte, batch *sdk.Batch, _ sdk.Binding) (sdk.Encoded, error) {
	out := sdk.Encoded{Body: dst}
	out.MinTime, out.MaxTime = batch.TimeSpan()
	for row, n := range batch.Column(0).Int64s() {
		if e.refuse > 0 && n%e.refuse == 0 {
			out.Refused = append(out.Refused, sdk.Refused{Row: row, Channel: "n", Reason: "it is a multiple"})
			continue
		}
		out.Body = binary.LittleEndian.AppendUint32(out.Body, 8)
		out.Body = binary.LittleEndian.AppendUint64(out.Body, uint64(n))
		out.Count++
	}
	return out, nil
}

func (e *plain) Decode(*sdk.Builder, []byte) error { return errors.ErrUnsupported }

func (e *plain) Rebind([]byte, sdk.Binding, sdk.Binding) error { return errors.ErrUnsupported }

func (e *plain) Shutdown(context.Context) error { return nil }

// sink is a transport that keeps what it was told to confirm.
type sink struct {
	input      sdk.Input
	unready    func() error // what Register says
	finishErr  func() error // what Finish says
	onConfirm  func()
	mu         sync.Mutex
	confirmed  []int64
	registered []sdk.Registration
}

func (s *sink) plugin(name string) sdk.Plugin {
	return sdk.NewTransport(sdk.Info{Name: name}, sdk.TransportCapabilities{Input: s.input, Overlap: true}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Transport, error) { return s, nil })
}

func (s *sink) Register(_ context.Context, r sdk.Registration) (sdk.Registered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registered = append(s.registered, r)
	if s.unready != nil {
		if err := s.unready(); err != nil {
			return sdk.Registered{}, err
		}
	}
	return sdk.Registered{Destination: "sink"}, nil
}

func (s *sink) OpenStream(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
	return &sinkStream{sink: s}, nil
}

func (s *sink) Shutdown(context.Context) error { return nil }

type sinkStream struct {
	sink *sink
	got  []int64
}

func (s *sinkStream) Send(_ context.Context, d *sdk.Delivery) error {
	if d.Rows != nil {
		s.got = append(s.got, d.Rows.Column(0).Int64s()...)
		return nil
	}
	for body := d.Body; len(body) > 0; body = body[12:] {
		s.got = append(s.got, int64(binary.LittleEndian.Uint64(body[4:])))
	}
	return nil
}

func (s *sinkStream) Finish(context.Context) (sdk.Finished, error) {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if s.sink.finishErr != nil {
		if err := s.sink.finishErr(); err != nil {
			return sdk.Finished{}, err
		}
	}
	s.sink.confirmed = append(s.sink.confirmed, s.got...)
	if s.sink.onConfirm != nil && len(s.got) > 0 {
		s.sink.onConfirm()
	}
	return sdk.Finished{}, nil
}

func (s *sinkStream) Abort() {}

// got returns the confirmed numbers in order.
func (s *sink) got() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.confirmed)
	slices.Sort(out)
	return out
}

// upTo returns the numbers from 1 to n for which keep says so.
func upTo(n int64, keep func(int64) bool) []int64 {
	var out []int64
	for i := int64(1); i <= n; i++ {
		if keep == nil || keep(i) {
			out = append(out, i)
		}
	}
	return out
}

// blocks makes a pipeline's configuration; plugins carry their descriptions.
func blocks(name string, source sdk.Plugin, encoder *sdk.Plugin, transports ...sdk.Plugin) *config.Pipeline {
	describe := func(p sdk.Plugin) config.PluginBlock {
		return config.PluginBlock{
			Kind: p.Kind, Plugin: p.Info.Name, Label: "x",
			Description: config.PluginDescription{Source: p.Source, Encoder: p.Encoder, Transport: p.Transport},
		}
	}
	c := &config.Pipeline{
		Name: name, Asset: "asset", DrainTimeout: 5 * time.Second,
		Sources: []*config.Source{{PluginBlock: describe(source)}},
	}
	if encoder != nil {
		c.Encoder = &config.Encoder{PluginBlock: describe(*encoder)}
	}
	for _, t := range transports {
		c.Transports = append(c.Transports, &config.Transport{
			PluginBlock: describe(t), Required: true,
			Checkpoint: config.Checkpoint{Interval: 50 * time.Millisecond, Timeout: 5 * time.Second},
			Retry:      config.Retry{Initial: time.Millisecond, Max: 10 * time.Millisecond, Multiplier: 2},
			Queues:     config.TransportQueues{Ingestion: 100_000},
		})
	}
	return c
}

// host runs pipelines on a machine.
func newTestHost(t *testing.T, m *machine, pipelines ...*config.Pipeline) *Host {
	c := &config.Config{DataDir: t.TempDir(), Pipelines: pipelines}
	return NewHost(c, 0, m, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// run runs the host to its end.
func run(t *testing.T, h *Host) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- h.Run(t.Context()) }()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the host does not end")
		return nil
	}
}

// requireBalanced checks that counters and census agree.
func requireBalanced(t *testing.T, h *Host) {
	t.Helper()
	for _, p := range h.Pipelines() {
		require.Zero(t, p.Status().Unaccounted, "pipeline %s", p.Name())
	}
}
