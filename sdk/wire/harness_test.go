package wire

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// patience bounds every wait of the tests; nothing takes that long.
const patience = 20 * time.Second

// deadline returns a context that ends with the test, or when patience is over.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// connect serves on a connection inside this process. It returns the connection.
func connect(t testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(append(ServerOptions(), grpc.WaitForHandlers(true))...)
	register(server)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	options := append(DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///plugin", options...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		wg.Wait()
	})
	return conn
}

// serveInProcess serves an sdk.Plugin and configures it with regions.
func serveInProcess(t testing.TB, p sdk.Plugin, regions ...*shm.Region) (*grpc.ClientConn, *Server) {
	t.Helper()
	conn, server := serveUnconfigured(t, p)
	diags, err := Configure(deadline(t), conn, ConfigureArgs{Pipeline: "p", Name: "n", Regions: regions})
	require.NoError(t, err)
	require.Empty(t, diags)
	return conn, server
}

func serveUnconfigured(t testing.TB, p sdk.Plugin) (*grpc.ClientConn, *Server) {
	t.Helper()
	server := NewServer(p, Logging{Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Level: new(slog.LevelVar)})
	// Runs after connect's own clean-up.
	t.Cleanup(func() { require.NoError(t, server.Shutdown(context.Background())) })
	return connect(t, server.Register), server
}

// testWriter passes log lines on to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}

// newRegion makes a region that "the plugin process", which is this one, inherits.
func newRegion(t testing.TB, direction shm.Direction, slotBytes, slots int) *shm.Region {
	t.Helper()
	r, err := shm.Create(direction, slotBytes, slots)
	require.NoError(t, err)
	fd, err := unix.FcntlInt(r.Inherit(0).Fd(), unix.F_DUPFD_CLOEXEC, 3)
	require.NoError(t, err)
	r.Inherit(fd)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// forms runs a test with payloads inline and in slots.
func forms(t *testing.T, directions []shm.Direction, run func(t *testing.T, regions []*shm.Region)) {
	t.Helper()
	t.Run("inline", func(t *testing.T) { run(t, make([]*shm.Region, len(directions))) })
	for _, slots := range []int{1, 4, 16} {
		t.Run(fmt.Sprintf("%d slots", slots), func(t *testing.T) {
			var regions []*shm.Region
			for _, d := range directions {
				regions = append(regions, newRegion(t, d, 64<<10, slots))
			}
			run(t, regions)
		})
	}
}

// present leaves nil regions out.
func present(regions []*shm.Region) []*shm.Region {
	var out []*shm.Region
	for _, r := range regions {
		if r != nil {
			out = append(out, r)
		}
	}
	return out
}

// noConfig is the configuration of plugins that have none.
type noConfig struct{}

// nothing is a component without anything to shut down.
type nothing struct{}

func (nothing) Shutdown(context.Context) error { return nil }

var testFlow = sdk.Flow{Name: "engine", Channels: []sdk.Channel{
	{Name: "rpm", Type: sdk.Double}, {Name: "note", Type: sdk.String}, {Name: "on", Type: sdk.Bool},
}}

// fill appends n rows that depend on from.
func fill(b *sdk.Builder, from, n int) {
	for i := from; i < from+n; i++ {
		b.Row(int64(i) * 1000)
		b.Double(0, float64(i)/3)
		if i%3 == 0 {
			b.String(1, fmt.Sprintf("note %d", i))
		}
		b.Bool(2, i%2 == 0)
	}
}

// flowBatch returns n rows as a batch to be sent.
func flowBatch(sequence uint64, from, n int) Batch {
	b := sdk.NewBuilder(&testFlow)
	fill(b, from, n)
	least, greatest := b.TimeSpan()
	return Batch{
		Sequence: sequence, Flow: 1, Count: n, MinTime: least, MaxTime: greatest,
		Payload: b.Append(nil),
	}
}

// await takes a value, which must come soon.
func await[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// meanwhile runs call beside the test, which fails if call does. Join waits for it;
// the end of the test does so in any case.
func meanwhile(t testing.TB, call func() error) (join func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	join = sync.OnceFunc(func() { require.NoError(t, await(t, done)) })
	t.Cleanup(join)
	return join
}

// until reads events until the wanted one comes; its type is all that counts.
func until[Want, Event any](t testing.TB, recv func() (Event, error)) Want {
	t.Helper()
	for {
		event, err := recv()
		require.NoError(t, err)
		if want, ok := any(event).(Want); ok {
			return want
		}
	}
}

// drainToEOF reads what is left.
func drainToEOF[Event any](t testing.TB, recv func() (Event, error)) []Event {
	t.Helper()
	var out []Event
	for {
		event, err := recv()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		out = append(out, event)
	}
}
