package e2e

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

const epoch = int64(1_750_000_000_000_000_000) // of the rows of clients, ns

// receiver is a running host with a server for clients, and Parquet files behind it.
type receiver struct {
	*host
	address string
}

func startReceiver(t *testing.T, o options) *receiver {
	t.Helper()
	r := &receiver{address: freeAddress(t)}
	r.host = start(t, o, "run", writeFile(t, "receiver.hcl", fmt.Sprintf(`
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    keys   = [secret::env(%q)]
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, r.address, apiKey)))
	r.awaitOutput("listening for Sift clients")
	return r
}

func (r *receiver) tables(path ...string) string {
	return filepath.Join(append([]string{r.dataDir, "parquet"}, path...)...)
}

// finish ends the receiver in order, checks its account and returns the rows that
// it has read.
func (r *receiver) finish() uint64 {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	r.requireExit(exitOK)
	return r.requireBalanced("receiver")
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// flowOfAllTypes has a channel of every type.
func flowOfAllTypes() *configsv2.FlowConfig {
	f := &configsv2.FlowConfig{Name: "all"}
	for typ := typev1.ChannelDataType_CHANNEL_DATA_TYPE_DOUBLE; typ <= typev1.ChannelDataType_CHANNEL_DATA_TYPE_BYTES; typ++ {
		c := channel(typ.String()[len("CHANNEL_DATA_TYPE_"):], typ)
		c.Unit, c.Description = "V", "a channel"
		switch typ {
		case typev1.ChannelDataType_CHANNEL_DATA_TYPE_ENUM:
			c.EnumTypes = []*typev1.ChannelEnumType{{Name: "OFF", Key: 0}, {Name: "ON", Key: 7}}
		case typev1.ChannelDataType_CHANNEL_DATA_TYPE_BIT_FIELD:
			c.BitFieldElements = []*typev1.ChannelBitFieldElement{{Name: "low", Index: 0, BitCount: 4}, {Name: "high", Index: 4, BitCount: 12}}
		}
		f.Channels = append(f.Channels, c)
	}
	return f
}

// rowOfAllTypes returns values for flowOfAllTypes, and what Parquet has for them.
func rowOfAllTypes() (values []*ingestValue, want []value) {
	values = []*ingestValue{
		doubleValue(math.Inf(-1)), stringValue("grüße \x00 'quoted'"),
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Enum{Enum: 7}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_BitField{BitField: []byte{0x5a, 0x01}}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Bool{Bool: true}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Float{Float: math.MaxFloat32}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Int32{Int32: math.MinInt32}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint32{Uint32: math.MaxUint32}},
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Int64{Int64: math.MinInt64}},
		uint64Value(math.MaxUint64),
		{Type: &ingestv1.IngestWithConfigDataChannelValue_Bytes{Bytes: []byte{0xff, 0x00}}},
	}
	want = []value{
		math.Inf(-1), "grüße \x00 'quoted'", "ON", "\x5a\x01", true, float32(math.MaxFloat32),
		int64(math.MinInt32), uint64(math.MaxUint32), int64(math.MinInt64), uint64(math.MaxUint64), "\xff\x00",
	}
	return values, want
}

// A client as the reference library has it: start-up, metrics side stream, run,
// compressed ingest stream with checkpoints. OK comes when the rows lie in Parquet
// files.
func TestReferenceClient(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	r := startReceiver(t, options{})
	client := dialSift(t, r.address, "a-key", true)
	s, err := client.startUp(ctx, identity{
		asset: "Engine Stand", key: "stand-v1", runKey: "hotfire-12", tags: []string{"qualification"},
		flows: []*configsv2.FlowConfig{flowOfAllTypes(), {
			Name: "slow", Channels: []*configsv2.ChannelConfig{channel("n", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64)},
		}},
	})
	require.NoError(t, err)
	metrics := startMetrics(t, ctx, client, "Engine Stand.stand-v1")

	values, want := rowOfAllTypes()
	empty := slices.Repeat([]*ingestValue{noValue()}, len(values))
	require.NoError(t, s.send(ctx,
		s.row("all", epoch, values...), s.row("slow", epoch+1, uint64Value(1)), s.row("all", epoch+2, empty...)))
	all := readTable(t, r.tables("Engine_Stand-*", "all"))
	assert.Equal(t, []int64{epoch, epoch + 2}, all.times)
	assert.Equal(t, [][]value{want, make([]value, len(want))}, all.rows)
	assert.Equal(t, "Engine Stand", all.metadata["pipelined.asset"])
	assert.Equal(t, "stand-v1", all.metadata["pipelined.client_key"])
	assert.Contains(t, all.metadata["pipelined.run"], "hotfire-12")

	for i := range 3 { // more checkpoints, on the same connection
		var rows []*ingestv1.IngestWithConfigDataStreamRequest
		for n := range 1000 {
			rows = append(rows, s.row("slow", epoch+int64(1000*i+n+2), uint64Value(uint64(1000*i+n+2))))
		}
		require.NoError(t, s.send(ctx, rows...))
		slow := readTable(t, r.tables("Engine_Stand-*", "slow"))
		require.Len(t, slow.rows, 1000*(i+1)+1, "OK means that the rows are in the files")
	}
	require.NoError(t, s.send(ctx), "a stream without rows is normal")
	metrics()

	require.NotZero(t, r.finish())
	slow := readTable(t, r.tables("Engine_Stand-*", "slow"))
	for i, v := range slow.column(t, "n") {
		require.Equal(t, uint64(i+1), v)
		require.Equal(t, epoch+int64(i)+1, slow.times[i])
	}
	assert.Len(t, readTable(t, r.tables("sift_app", "sift-stream-logs")).rows, 1)
}

// startMetrics begins the side stream that the reference client has; the returned
// function ends it.
func startMetrics(t *testing.T, ctx context.Context, client *siftClient, of string) (end func()) {
	t.Helper()
	flow := &configsv2.FlowConfig{Name: "sift-stream-metrics-flow"}
	var values []*ingestValue
	for i := range 53 {
		typ := typev1.ChannelDataType_CHANNEL_DATA_TYPE_DOUBLE
		values = append(values, doubleValue(float64(i)))
		if i%2 == 1 {
			typ = typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64
			values[i] = uint64Value(uint64(i))
		}
		flow.Channels = append(flow.Channels, channel(fmt.Sprintf("stream.%s.metric_%d", of, i), typ))
	}
	logs := &configsv2.FlowConfig{Name: "sift-stream-logs"}
	for _, suffix := range []string{"level", "target", "message"} {
		logs.Channels = append(logs.Channels, channel("stream."+of+".tracing_event."+suffix, typev1.ChannelDataType_CHANNEL_DATA_TYPE_STRING))
	}
	s, err := client.startUp(ctx, identity{
		asset: "sift_app", key: "sift-stream-metrics-12345678901234567890", flows: []*configsv2.FlowConfig{flow, logs},
	})
	require.NoError(t, err)
	stream, err := client.ingest.IngestWithConfigDataStream(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(s.row(flow.GetName(), epoch, values...)))
	require.NoError(t, stream.Send(s.row(logs.GetName(), epoch, stringValue("INFO"), stringValue("sift_stream"), stringValue("hello"))))
	return func() { require.NoError(t, closeStream(ctx, stream)) }
}

// Clients of both orders meet the same config, before and after a restart of the
// host; flows can be added, but not changed.
func TestReceiverRemembersClients(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	o := options{dataDir: filepath.Join(t.TempDir(), "data")}
	flow := func(name, unit string) *configsv2.FlowConfig {
		c := channel("n", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64)
		c.Unit = unit
		return &configsv2.FlowConfig{Name: name, Channels: []*configsv2.ChannelConfig{c}}
	}
	who := identity{asset: "rover", key: "rover-v1", runKey: "drive", flows: []*configsv2.FlowConfig{flow("a", "m"), flow("b", "m")}}

	r := startReceiver(t, o)
	first, err := dialSift(t, r.address, "a-key", false).startUpListing(ctx, who)
	require.NoError(t, err)
	require.NoError(t, first.send(ctx, first.row("a", epoch, uint64Value(1))))
	assert.Equal(t, uint64(1), r.finish())

	r = startReceiver(t, o)
	client := dialSift(t, r.address, "a-key", false)
	for name, startUp := range map[string]func(context.Context, identity) (*session, error){
		"create first": client.startUp, "list first": client.startUpListing,
	} {
		s, err := startUp(ctx, who)
		require.NoError(t, err, name)
		assert.True(t, proto.Equal(first.config, s.config), "%s: %v is not %v", name, s.config, first.config)
		assert.Equal(t, first.run, s.run, name)
	}
	who.flows = append(who.flows, flow("c", "m"))
	second, err := client.startUp(ctx, who)
	require.NoError(t, err, "a flow can be added")
	require.NoError(t, second.send(ctx, second.row("c", epoch, uint64Value(2))))
	who.flows[1] = flow("b", "km")
	_, err = client.startUp(ctx, who)
	require.ErrorIs(t, err, errIncompatible, "a flow cannot be changed")

	run, err := client.runs.GetRun(ctx, &runsv2.GetRunRequest{RunId: first.run})
	require.NoError(t, err)
	assert.Equal(t, epoch, run.GetRun().GetStartTime().AsTime().UnixNano(), "the data's first stamp")
	assert.Equal(t, uint64(1), r.finish())
	assert.Equal(t, [][]value{{uint64(1)}}, readTable(t, r.tables("rover", "a")).rows)
	assert.Equal(t, [][]value{{uint64(2)}}, readTable(t, r.tables("rover", "c")).rows)
}

// Rows that do not fit are refused one by one, named, and do not end the stream.
func TestReceiverRefusesBadRows(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	r := startReceiver(t, options{})
	s, err := dialSift(t, r.address, "a-key", false).startUp(ctx, identity{asset: "rover", key: "rover-v1", flows: []*configsv2.FlowConfig{{
		Name: "a", Channels: []*configsv2.ChannelConfig{channel("n", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64)},
	}}})
	require.NoError(t, err)
	good := s.row("a", epoch, uint64Value(1))
	require.NoError(t, s.send(ctx, good,
		s.row("a", epoch, stringValue("no number")), s.row("a", epoch), s.row("a", epoch, uint64Value(1), uint64Value(2))))
	assert.Len(t, readTable(t, r.tables("rover", "a")).rows, 1)

	strict := s.row("a", epoch, stringValue("no number"))
	strict.EndStreamOnValidationError = true
	assert.Equal(t, codes.InvalidArgument, status.Code(s.send(ctx, strict)))

	_, err = dialSift(t, r.address, "another-key", false).startUp(ctx, identity{asset: "rover", key: "other"})
	assert.Equal(t, codes.Unauthenticated, status.Code(err))

	r.finish()
	a := r.account("receiver")["rover/a"]
	assert.Equal(t, uint64(1), a.accepted)
	assert.Equal(t, uint64(4), a.refused)
	assert.Contains(t, r.stdout.String(), "refused of rover/a: 1 row: ")
}

// A stream that its client breaks off is not answered; what came is not lost for
// that reason. A stream that is open while the host stops is told so, and every
// stream that was answered with OK is in the files.
func TestReceiverStopsUnderLoad(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	r := startReceiver(t, options{})
	flows := []*configsv2.FlowConfig{{
		Name: "load", Channels: []*configsv2.ChannelConfig{
			channel("client", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64), channel("n", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64),
		},
	}}
	const clients, perStream = 4, 200
	confirmed := make([]uint64, clients) // rows of each client
	broken := dialSift(t, r.address, "a-key", false)
	var running sync.WaitGroup
	busy := make(chan struct{}, clients)
	for i := range clients {
		running.Go(func() {
			s, err := dialSift(t, r.address, "a-key", i%2 == 0).startUp(ctx, identity{asset: "rover", key: "v1", flows: flows})
			if !assert.NoError(t, err) {
				busy <- struct{}{}
				return
			}
			for {
				var rows []*ingestv1.IngestWithConfigDataStreamRequest
				for n := range uint64(perStream) {
					rows = append(rows, s.row("load", epoch+int64(confirmed[i]+n), uint64Value(uint64(i)), uint64Value(confirmed[i]+n)))
				}
				if s.send(ctx, rows...) != nil {
					return // the host has stopped
				}
				if confirmed[i] += perStream; confirmed[i] == 3*perStream {
					busy <- struct{}{}
				}
			}
		})
	}
	s, err := broken.startUp(ctx, identity{asset: "rover", key: "v1", flows: flows})
	require.NoError(t, err)
	cancelled, cancel := context.WithCancel(ctx)
	stream, err := broken.ingest.IngestWithConfigDataStream(cancelled)
	require.NoError(t, err)
	require.NoError(t, stream.Send(s.row("load", epoch, uint64Value(99), uint64Value(0))))
	cancel()
	_, err = stream.CloseAndRecv()
	assert.Equal(t, codes.Canceled, status.Code(err))

	for range clients {
		select {
		case <-busy:
		case <-time.After(patience):
			require.FailNow(t, "the clients make no progress")
		}
	}
	r.finish()
	running.Wait()

	got := map[[2]uint64]bool{}
	table := readTable(t, r.tables("rover", "load"))
	for _, row := range table.rows {
		got[[2]uint64{row[0].(uint64), row[1].(uint64)}] = true
	}
	for i, rows := range confirmed {
		for n := range rows {
			require.True(t, got[[2]uint64{uint64(i), n}], "row %d of client %d was confirmed and is not in the files", n, i)
		}
	}
}

// A receiver that is killed: what a client was told OK for is in the files, and the
// client's config is known after a restart.
func TestReceiverIsKilled(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	o := options{dataDir: filepath.Join(t.TempDir(), "data")}
	who := identity{asset: "rover", key: "rover-v1", runKey: "drive", flows: []*configsv2.FlowConfig{numberFlow("load")}}
	var config *configsv2.IngestionConfig
	for n := range uint64(3) {
		r := startReceiver(t, o)
		s, err := dialSift(t, r.address, "a-key", false).startUp(ctx, who)
		require.NoError(t, err)
		if config == nil {
			config = s.config
		}
		assert.True(t, proto.Equal(config, s.config), "%v is not %v", s.config, config)
		require.NoError(t, s.send(ctx, s.row("load", epoch+int64(n), uint64Value(n))))
		r.signal(syscall.SIGKILL)
		r.wait()
		assert.Len(t, readTable(t, r.tables("rover", "load")).rows, int(n)+1)
	}
}
