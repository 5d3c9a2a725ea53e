package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
)

// startGateway starts a pipeline that passes on what clients send to it.
func startGateway(t *testing.T, uri string) *receiver {
	t.Helper()
	r := &receiver{address: freeAddress(t)}
	r.host = start(t, options{}, "run", writeFile(t, "gateway.hcl", fmt.Sprintf(`
pipeline "receiver" {
  asset         = "gateway"
  drain_timeout = "2s"
  source "sift" "in" {
    listen = %q
  }
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri     = %q
    api_key = secret::env(%q)
    retry {
      initial = "20ms"
      max     = "100ms"
    }
  }
}
`, r.address, uri, apiKey)))
	r.awaitOutput("listening for Sift clients")
	return r
}

func numberFlow(name string) *configsv2.FlowConfig {
	return &configsv2.FlowConfig{Name: name, Channels: []*configsv2.ChannelConfig{channel("n", typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64)}}
}

// A gateway is invisible: the destination has the clients' assets, keys, flows, runs
// and rows as they are, and a client's OK is the destination's.
func TestGateway(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	r := startGateway(t, server.URI())
	for _, who := range []identity{
		{asset: "rover", key: "rover-v1", runKey: "drive-1", flows: []*configsv2.FlowConfig{numberFlow("wheels"), flowOfAllTypes()}},
		{asset: "drone", key: "drone-v1", flows: []*configsv2.FlowConfig{numberFlow("wheels")}},
	} {
		s, err := dialSift(t, r.address, "any", false).startUp(ctx, who)
		require.NoError(t, err)
		var rows []*ingestv1.IngestWithConfigDataStreamRequest
		for n := range uint64(100) {
			rows = append(rows, s.row("wheels", epoch+int64(n), uint64Value(n)))
		}
		if len(who.flows) > 1 {
			values, _ := rowOfAllTypes()
			rows = append(rows, s.row("all", epoch, values...))
		}
		before := len(server.Acknowledged())
		require.NoError(t, s.send(ctx, rows...))
		assert.Len(t, server.Acknowledged()[before:], len(rows), "OK means that the destination has the rows")
	}
	require.Equal(t, uint64(201), r.finish())

	require.Len(t, server.Configs(), 2)
	for i, asset := range []string{"rover", "drone"} {
		config := server.Configs()[i]
		assert.Equal(t, asset+"-v1", config.GetClientKey())
		assert.Equal(t, asset, server.Assets()[i].GetName())
		for _, flow := range server.Flows(config.GetIngestionConfigId()) {
			if flow.GetName() == "wheels" {
				assert.Equal(t, "n", flow.GetChannels()[0].GetName(), "plain names")
			} else {
				assert.Empty(t, without([]*configsv2.FlowConfig{flowOfAllTypes()}, []*configsv2.FlowConfig{flow}), "%v", flow)
			}
		}
	}
	require.Len(t, server.Runs(), 1)
	assert.Equal(t, "drive-1", server.Runs()[0].GetClientKey())
	values, _ := rowOfAllTypes()
	got := map[string]int{}
	for _, st := range server.Streams() {
		if !st.Acknowledged() {
			continue
		}
		for _, m := range st.Requests(t) {
			got[m.GetIngestionConfigId()+"/"+m.GetFlow()+"/"+m.GetRunId()]++
			if m.GetFlow() == "all" {
				require.Len(t, m.GetChannelValues(), len(values))
				for i, v := range m.GetChannelValues() {
					assert.Equal(t, values[i].String(), v.String())
				}
			}
		}
	}
	rover, drone, run := server.Configs()[0].GetIngestionConfigId(), server.Configs()[1].GetIngestionConfigId(), server.Runs()[0].GetRunId()
	assert.Equal(t, map[string]int{rover + "/wheels/" + run: 100, rover + "/all/" + run: 1, drone + "/wheels/": 100}, got)
}

// While the destination is away a client is not told OK. It sends again, and then
// everything is there.
func TestGatewayWithoutDestination(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	server := sifttest.New(t, sifttest.Options{})
	r := startGateway(t, server.URI())
	s, err := dialSift(t, r.address, "any", false).startUp(ctx, identity{asset: "rover", key: "rover-v1", flows: []*configsv2.FlowConfig{numberFlow("load")}})
	require.NoError(t, err)
	require.NoError(t, s.send(ctx, s.row("load", epoch, uint64Value(0))))
	server.Stop()
	err = s.send(ctx, s.row("load", epoch+1, uint64Value(1)))
	assert.Equal(t, codes.Unavailable, status.Code(err), "in time, so that the client need not give up: %v", err)
	require.NoError(t, server.Start())
	require.NoError(t, s.send(ctx, s.row("load", epoch+2, uint64Value(2))))
	r.signal(syscall.SIGTERM)
	r.requireExit(exitOK)
	r.requireBalanced("receiver")
	got := map[uint64]bool{}
	for _, m := range server.Acknowledged() {
		var request ingestv1.IngestWithConfigDataStreamRequest
		require.NoError(t, proto.Unmarshal(m, &request))
		got[request.GetChannelValues()[0].GetUint64()] = true
	}
	assert.Equal(t, map[uint64]bool{0: true, 1: true, 2: true}, got, "what was received is delivered, even without an OK")
}

// A key that the destination does not take any more, when a client comes with a new
// flow: the rows are not refused but wait, until the key is right again.
func TestGatewayWithRefusedKey(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	r := startGateway(t, server.URI())
	server.SetKeys("another")
	s, err := dialSift(t, r.address, "any", false).startUp(ctx, identity{asset: "rover", key: "rover-v1", flows: []*configsv2.FlowConfig{numberFlow("load")}})
	require.NoError(t, err)
	err = s.send(ctx, s.row("load", epoch, uint64Value(0)))
	assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	assert.Contains(t, r.stderr.String(), "UNAUTHENTICATED")
	server.SetKeys("a-key")
	require.NoError(t, s.send(ctx, s.row("load", epoch+1, uint64Value(1))))
	assert.Equal(t, uint64(2), r.finish())
	assert.Equal(t, uint64(2), r.account("receiver")["rover/load"].accepted)
	assert.Len(t, server.Acknowledged(), 2)
}

// A flow that the destination has with other content is refused, by name, and the
// clients' other flows get through.
func TestGatewayWithIncompatibleFlow(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	server := sifttest.New(t, sifttest.Options{})
	other := numberFlow("changed")
	other.Channels[0].Unit = "m"
	_, err := server.AddConfig("rover", "rover-v1", other)
	require.NoError(t, err)
	r := startGateway(t, server.URI())
	s, err := dialSift(t, r.address, "any", false).startUp(ctx, identity{
		asset: "rover", key: "rover-v1", flows: []*configsv2.FlowConfig{numberFlow("changed"), numberFlow("good")},
	})
	require.NoError(t, err)
	require.NoError(t, s.send(ctx, s.row("changed", epoch, uint64Value(1)), s.row("good", epoch, uint64Value(2))))
	r.finish()
	accounts := r.account("receiver")
	assert.Equal(t, uint64(1), accounts["rover/changed"].refused)
	assert.Equal(t, uint64(1), accounts["rover/good"].accepted)
	assert.True(t, strings.Contains(r.stdout.String(), `unit of "n"`), "%s", r.stdout.String())
	assert.Len(t, server.Acknowledged(), 1)
}
