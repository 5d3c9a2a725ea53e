package registry_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxBytes = 64 << 20

// api is a client of a registry.
type api struct {
	*registry.Store
	configs configsv2.IngestionConfigServiceClient
	assets  assetsv1.AssetServiceClient
	runs    runsv2.RunServiceClient
}

func open(t testing.TB, limit int64) api {
	t.Helper()
	store, err := registry.Open(t.TempDir(), limit)
	require.NoError(t, err)
	server := grpc.NewServer()
	store.Register(server)
	listener := bufconn.Listen(1 << 20)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, conn.Close())
		server.Stop()
		assert.NoError(t, <-ended)
		assert.NoError(t, store.Close())
	})
	return api{store, configsv2.NewIngestionConfigServiceClient(conn), assetsv1.NewAssetServiceClient(conn), runsv2.NewRunServiceClient(conn)}
}

func code(t *testing.T, want codes.Code, err error, text string) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
	if text != "" {
		require.ErrorContains(t, err, text)
	}
	if err != nil {
		require.Less(t, len(err.Error()), 1200)
		require.NotContains(t, status.Convert(err).Message(), "rpc error")
	}
}

func flow(name string, channels ...string) *configsv2.FlowConfig {
	f := &configsv2.FlowConfig{Name: name}
	for _, c := range channels {
		f.Channels = append(f.Channels, &configsv2.ChannelConfig{Name: c, DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_DOUBLE})
	}
	return f
}

func (a api) createConfig(t *testing.T, asset, key string, flows ...*configsv2.FlowConfig) *configsv2.IngestionConfig {
	t.Helper()
	out, err := a.configs.CreateIngestionConfig(t.Context(), &configsv2.CreateIngestionConfigRequest{AssetName: asset, ClientKey: key, Flows: flows})
	require.NoError(t, err)
	return out.GetIngestionConfig()
}

func TestConfigs(t *testing.T) {
	a := open(t, maxBytes)
	first := a.createConfig(t, "asset", "key", flow("f", "x"))
	second := a.createConfig(t, "asset", "key2")
	assert.Equal(t, first.GetAssetId(), second.GetAssetId())
	_, err := a.configs.CreateIngestionConfig(t.Context(), &configsv2.CreateIngestionConfigRequest{AssetName: "other", ClientKey: "key"})
	code(t, codes.AlreadyExists, err, `client key "key"`)
	assets, err := a.assets.ListAssets(t.Context(), &assetsv1.ListAssetsRequest{})
	require.NoError(t, err)
	assert.Len(t, assets.GetAssets(), 1, "a refused call leaves no asset")

	got, err := a.configs.GetIngestionConfig(t.Context(), &configsv2.GetIngestionConfigRequest{IngestionConfigId: first.GetIngestionConfigId()})
	require.NoError(t, err)
	assert.True(t, proto.Equal(first, got.GetIngestionConfig()))
	for _, id := range []string{"", "none", strings.Repeat("x", 100_000)} {
		_, err = a.configs.GetIngestionConfig(t.Context(), &configsv2.GetIngestionConfigRequest{IngestionConfigId: id})
		code(t, codes.NotFound, err, "there is no ingestion config")
		_, err = a.configs.ListIngestionConfigFlows(t.Context(), &configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id})
		code(t, codes.NotFound, err, "")
		_, err = a.configs.CreateIngestionConfigFlows(t.Context(), &configsv2.CreateIngestionConfigFlowsRequest{IngestionConfigId: id})
		code(t, codes.NotFound, err, "")
	}

	// Without a key each call makes a new one; their flows do not meet.
	third, fourth := a.createConfig(t, "asset", "", flow("f", "x")), a.createConfig(t, "asset", "", flow("f", "y"))
	x, err := a.Flow(third.GetIngestionConfigId(), "f", "")
	require.NoError(t, err)
	y, err := a.Flow(fourth.GetIngestionConfigId(), "f", "")
	require.NoError(t, err)
	assert.NotEqual(t, x.Origin, y.Origin)
	assert.Equal(t, third.GetIngestionConfigId(), x.Origin.ClientKey)
}

func TestConfigsThatAreRefused(t *testing.T) {
	a := open(t, maxBytes)
	long := strings.Repeat("x", sdk.MaxNameBytes+1)
	many := make([]string, sdk.MaxChannels+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	noType := flow("f", "a")
	noType.Channels[0].DataType = 0
	oddType := flow("f", "a")
	oddType.Channels[0].DataType = 256 + 1
	for name, tc := range map[string]struct {
		in   *configsv2.CreateIngestionConfigRequest
		want string
	}{
		"no asset":        {&configsv2.CreateIngestionConfigRequest{}, "asset_name is blank"},
		"blank asset":     {&configsv2.CreateIngestionConfigRequest{AssetName: " \t"}, "asset_name is blank"},
		"long asset":      {&configsv2.CreateIngestionConfigRequest{AssetName: long}, "asset_name has 16385 bytes"},
		"long key":        {&configsv2.CreateIngestionConfigRequest{AssetName: "a", ClientKey: long}, "client_key has 16385 bytes"},
		"flow twice":      {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f", "x"), flow("f", "x")}}, `flow "f" comes twice`},
		"no name":         {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("", "x")}}, "flow has no name"},
		"long name":       {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow(long, "x")}}, "a flow's name has 16385 bytes"},
		"no channels":     {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f")}}, `flow "f" has no channels`},
		"channel twice":   {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f", "x", "x")}}, `two channels "x"`},
		"no channel name": {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f", "")}}, "no name"},
		"long channel":    {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f", long)}}, "16385 bytes"},
		"channels":        {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{flow("f", many...)}}, "65537 channels"},
		"no type":         {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{noType}}, "no known data type"},
		"odd type":        {&configsv2.CreateIngestionConfigRequest{AssetName: "a", Flows: []*configsv2.FlowConfig{oddType}}, "no known data type"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.configs.CreateIngestionConfig(t.Context(), tc.in)
			code(t, codes.InvalidArgument, err, tc.want)
		})
	}
	list, err := a.configs.ListIngestionConfigs(t.Context(), &configsv2.ListIngestionConfigsRequest{})
	require.NoError(t, err)
	assert.Empty(t, list.GetIngestionConfigs())
}

func TestFlowsAreAddedTogetherOrNotAtAll(t *testing.T) {
	a := open(t, maxBytes)
	id := a.createConfig(t, "asset", "key", flow("f", "x")).GetIngestionConfigId()
	add := func(flows ...*configsv2.FlowConfig) error {
		_, err := a.configs.CreateIngestionConfigFlows(t.Context(), &configsv2.CreateIngestionConfigFlowsRequest{IngestionConfigId: id, Flows: flows})
		return err
	}
	code(t, codes.AlreadyExists, add(flow("g", "x"), flow("f", "other")), `flow "f"`)
	require.NoError(t, add(flow("g", "x")))
	code(t, codes.AlreadyExists, add(flow("g", "x")), "")
	list, err := a.configs.ListIngestionConfigFlows(t.Context(), &configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id})
	require.NoError(t, err)
	require.Len(t, list.GetFlows(), 2)
	assert.True(t, proto.Equal(flow("f", "x"), list.GetFlows()[0]), "a flow never changes")
}

func TestFlowPages(t *testing.T) {
	a := open(t, maxBytes)
	var flows []*configsv2.FlowConfig
	for i := range 120 {
		flows = append(flows, flow(fmt.Sprintf("f%03d", i), "x"))
	}
	id := a.createConfig(t, "asset", "key", flows...).GetIngestionConfigId()
	other := a.createConfig(t, "asset", "key2", flows...).GetIngestionConfigId()
	page := func(in *configsv2.ListIngestionConfigFlowsRequest) *configsv2.ListIngestionConfigFlowsResponse {
		t.Helper()
		out, err := a.configs.ListIngestionConfigFlows(t.Context(), in)
		require.NoError(t, err)
		return out
	}
	first := page(&configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id})
	assert.Len(t, first.GetFlows(), 50)
	second := page(&configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, PageToken: first.GetNextPageToken(), PageSize: 69})
	assert.Len(t, second.GetFlows(), 69)
	third := page(&configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, PageToken: second.GetNextPageToken(), PageSize: 1})
	assert.Len(t, third.GetFlows(), 1)
	assert.Empty(t, third.GetNextPageToken())
	var got []string
	for _, part := range [][]*configsv2.FlowConfig{first.GetFlows(), second.GetFlows(), third.GetFlows()} {
		for _, f := range part {
			got = append(got, f.GetName())
		}
	}
	for i, f := range flows {
		assert.Equal(t, f.GetName(), got[i])
	}
	filtered := page(&configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, Filter: "flow_name in ['f007','f100','none']", PageSize: 1})
	assert.Len(t, filtered.GetFlows(), 1)
	filtered = page(&configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, Filter: "flow_name in ['f007','f100','none']", PageSize: 1, PageToken: filtered.GetNextPageToken()})
	assert.Equal(t, "f100", filtered.GetFlows()[0].GetName())
	assert.Empty(t, filtered.GetNextPageToken())

	for name, in := range map[string]*configsv2.ListIngestionConfigFlowsRequest{
		"other filter": {IngestionConfigId: id, PageToken: first.GetNextPageToken(), Filter: "flow_name == 'x'"},
		"other config": {IngestionConfigId: other, PageToken: first.GetNextPageToken()},
		"made up":      {IngestionConfigId: id, PageToken: "AAAAAAAAAAAAAAA"},
		"not base64":   {IngestionConfigId: id, PageToken: "!"},
		"short":        {IngestionConfigId: id, PageToken: first.GetNextPageToken()[:4]},
	} {
		_, err := a.configs.ListIngestionConfigFlows(t.Context(), in)
		code(t, codes.InvalidArgument, err, "page_token")
		_ = name
	}
	_, err := a.configs.ListIngestionConfigFlows(t.Context(), &configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, Filter: "name == 'x'"})
	code(t, codes.InvalidArgument, err, `no field "name"; there are flow_name`)
}

// Pages of large flows stay below what every client takes.
func TestPagesAreBoundedInBytes(t *testing.T) {
	a := open(t, maxBytes)
	id := a.createConfig(t, "asset", "key").GetIngestionConfigId()
	for i := range 8 {
		f := flow(fmt.Sprint("f", i), "x")
		f.Channels[0].Description = strings.Repeat("d", 900<<10)
		_, err := a.configs.CreateIngestionConfigFlows(t.Context(), &configsv2.CreateIngestionConfigFlowsRequest{IngestionConfigId: id, Flows: []*configsv2.FlowConfig{f}})
		require.NoError(t, err)
	}
	count := 0
	for token := ""; ; {
		out, err := a.configs.ListIngestionConfigFlows(t.Context(), &configsv2.ListIngestionConfigFlowsRequest{IngestionConfigId: id, PageToken: token})
		require.NoError(t, err)
		assert.LessOrEqual(t, proto.Size(out), 2<<20+100)
		count += len(out.GetFlows())
		if token = out.GetNextPageToken(); token == "" {
			break
		}
	}
	assert.Equal(t, 8, count)
}

func TestRuns(t *testing.T) {
	a := open(t, maxBytes)
	create := func(in *runsv2.CreateRunRequest) *runsv2.Run {
		t.Helper()
		out, err := a.runs.CreateRun(t.Context(), in)
		require.NoError(t, err)
		return out.GetRun()
	}
	keyed := create(&runsv2.CreateRunRequest{Name: "b", ClientKey: proto.String("k"), Description: "d", Tags: []string{"t"}})
	bare := create(&runsv2.CreateRunRequest{Name: "a"})
	archived := create(&runsv2.CreateRunRequest{Name: "c", ClientKey: proto.String("")})
	assert.Nil(t, archived.ClientKey)
	_, err := a.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "x", ClientKey: proto.String("k")})
	code(t, codes.AlreadyExists, err, `client key "k"`)

	update := func(run *runsv2.Run, paths ...string) (*runsv2.Run, error) {
		out, err := a.runs.UpdateRun(t.Context(), &runsv2.UpdateRunRequest{Run: run, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		return out.GetRun(), err
	}
	changed, err := update(&runsv2.Run{RunId: archived.GetRunId(), IsArchived: true, Name: "not taken"}, "is_archived")
	require.NoError(t, err)
	assert.True(t, changed.GetIsArchived())
	assert.NotNil(t, changed.GetArchivedDate())
	assert.Equal(t, "c", changed.GetName())
	assert.True(t, changed.GetModifiedDate().AsTime().After(changed.GetCreatedDate().AsTime()))

	names := func(filter, order string) string {
		t.Helper()
		out, err := a.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{Filter: filter, OrderBy: order})
		require.NoError(t, err)
		var names []string
		for _, run := range out.GetRuns() {
			names = append(names, run.GetName())
		}
		return strings.Join(names, "")
	}
	assert.Equal(t, "cab", names("", ""), "newest first")
	assert.Equal(t, "bac", names("", "created_date"))
	assert.Equal(t, "abc", names("", "name"))
	assert.Equal(t, "cba", names("", " name  desc "))
	assert.Equal(t, "bac", names("", "description desc, name asc"))
	assert.Equal(t, "ba", names("!is_archived", "name desc"))
	assert.Equal(t, "b", names("client_key == 'k'", ""))
	assert.Equal(t, "b", names("run_id == '"+keyed.GetRunId()+"'", ""))
	assert.Equal(t, "", names("asset_name == 'asset'", ""))
	config := a.createConfig(t, "asset", "key", flow("f", "x"))
	require.NoError(t, a.Ingested(map[string]*registry.Ingested{bare.GetRunId(): {Least: 1, Greatest: 2, AssetIDs: []string{config.GetAssetId()}}}))
	assert.Equal(t, "a", names("asset_name == 'asset'", ""))
	assert.Equal(t, "a", names("asset_id == '"+config.GetAssetId()+"' && is_archived == false", ""))
	for _, order := range []string{"nothing", "name up", "name,", "name asc desc", strings.Repeat("name,", 1000) + "name"} {
		_, err := a.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{OrderBy: order})
		code(t, codes.InvalidArgument, err, "order_by")
	}

	one, err := a.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{PageSize: 2, OrderBy: "name"})
	require.NoError(t, err)
	two, err := a.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{PageSize: 2, OrderBy: "name", PageToken: one.GetNextPageToken()})
	require.NoError(t, err)
	assert.Equal(t, "c", two.GetRuns()[0].GetName())
	assert.Empty(t, two.GetNextPageToken())
	_, err = a.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{PageSize: 2, OrderBy: "name desc", PageToken: one.GetNextPageToken()})
	code(t, codes.InvalidArgument, err, "page_token")

	// The client key can be set once.
	_, err = update(&runsv2.Run{RunId: bare.GetRunId(), ClientKey: proto.String("k")}, "client_key")
	code(t, codes.AlreadyExists, err, "")
	changed, err = update(&runsv2.Run{RunId: bare.GetRunId(), ClientKey: proto.String("k2")}, "client_key")
	require.NoError(t, err)
	assert.Equal(t, "k2", changed.GetClientKey())
	_, err = update(&runsv2.Run{RunId: bare.GetRunId(), ClientKey: proto.String("k3")}, "client_key")
	code(t, codes.InvalidArgument, err, "cannot change")
	_, err = update(&runsv2.Run{RunId: bare.GetRunId(), ClientKey: proto.String("k2")}, "client_key")
	require.NoError(t, err)
	_, err = a.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "x", ClientKey: proto.String("k3")})
	require.NoError(t, err, "a refused key is free")

	f, err := a.Flow(config.GetIngestionConfigId(), "f", bare.GetRunId())
	require.NoError(t, err)
	assert.Equal(t, sdk.Origin{Asset: "asset", ClientKey: "key", Run: "k2"}, f.Origin)
	f, err = a.Flow(config.GetIngestionConfigId(), "f", archived.GetRunId())
	require.NoError(t, err)
	assert.Equal(t, "c", f.Origin.Run)
}

func TestRunsThatAreRefused(t *testing.T) {
	a := open(t, maxBytes)
	out, err := a.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "r"})
	require.NoError(t, err)
	id := out.GetRun().GetRunId()
	at := func(s int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: s} }
	for name, tc := range map[string]struct {
		run   *runsv2.Run
		paths []string
		want  string
	}{
		"no mask":       {&runsv2.Run{RunId: id}, nil, "update_mask names no field"},
		"odd mask":      {&runsv2.Run{RunId: id}, []string{"name", "run_id"}, `update_mask names "run_id"`},
		"no name":       {&runsv2.Run{RunId: id}, []string{"name"}, "name is blank"},
		"blank tag":     {&runsv2.Run{RunId: id, Tags: []string{"a", " "}}, []string{"tags"}, "a tag is blank"},
		"stop first":    {&runsv2.Run{RunId: id, StartTime: at(2), StopTime: at(1)}, []string{"start_time", "stop_time"}, "stop_time is before start_time"},
		"odd time":      {&runsv2.Run{RunId: id, StartTime: &timestamppb.Timestamp{Nanos: -1}}, []string{"start_time"}, "start_time"},
		"no key":        {&runsv2.Run{RunId: id, ClientKey: proto.String(" ")}, []string{"client_key"}, "client_key is blank"},
		"large":         {&runsv2.Run{RunId: id, Description: strings.Repeat("d", registry.MaxRecordBytes)}, []string{"description"}, "the limit is"},
		"metadata type": {&runsv2.Run{RunId: id, Metadata: []*metadatav1.MetadataValue{{Key: &metadatav1.MetadataKey{Name: "m", Type: 2}, Value: &metadatav1.MetadataValue_StringValue{}}}}, []string{"metadata"}, `metadata "m" has type`},
		"metadata key":  {&runsv2.Run{RunId: id, Metadata: []*metadatav1.MetadataValue{{}}}, []string{"metadata"}, "a metadata key is blank"},
		"no value":      {&runsv2.Run{RunId: id, Metadata: []*metadatav1.MetadataValue{{Key: &metadatav1.MetadataKey{Name: "m"}}}}, []string{"metadata"}, `metadata "m" has no value`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.runs.UpdateRun(t.Context(), &runsv2.UpdateRunRequest{Run: tc.run, UpdateMask: &fieldmaskpb.FieldMask{Paths: tc.paths}})
			code(t, codes.InvalidArgument, err, tc.want)
		})
	}
	got, err := a.runs.GetRun(t.Context(), &runsv2.GetRunRequest{RunId: id})
	require.NoError(t, err)
	assert.True(t, proto.Equal(out.GetRun(), got.GetRun()), "a refused call changes nothing")

	_, err = a.runs.UpdateRun(t.Context(), &runsv2.UpdateRunRequest{Run: &runsv2.Run{RunId: "none"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}})
	code(t, codes.NotFound, err, "")
	_, err = a.runs.GetRun(t.Context(), &runsv2.GetRunRequest{})
	code(t, codes.NotFound, err, "")
	_, err = a.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{})
	code(t, codes.InvalidArgument, err, "name is blank")
	_, err = a.runs.StopRun(t.Context(), &runsv2.StopRunRequest{RunId: "none"})
	code(t, codes.NotFound, err, "")
}

func TestStopRun(t *testing.T) {
	a := open(t, maxBytes)
	out, err := a.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "r", StartTime: timestamppb.New(time.Now().Add(-time.Minute))})
	require.NoError(t, err)
	_, err = a.runs.StopRun(t.Context(), &runsv2.StopRunRequest{RunId: out.GetRun().GetRunId()})
	require.NoError(t, err)
	got, err := a.runs.GetRun(t.Context(), &runsv2.GetRunRequest{RunId: out.GetRun().GetRunId()})
	require.NoError(t, err)
	assert.InDelta(t, 60, got.GetRun().GetDuration().AsDuration().Seconds(), 20)

	valid, err := a.runs.ValidateRunFilter(t.Context(), &runsv2.ValidateRunFilterRequest{Filter: "name == 'x'"})
	require.NoError(t, err)
	assert.Empty(t, valid.GetErrorMessage())
	valid, err = a.runs.ValidateRunFilter(t.Context(), &runsv2.ValidateRunFilterRequest{Filter: "name = 'x'"})
	require.NoError(t, err)
	assert.NotEmpty(t, valid.GetErrorMessage())
}

func TestAssets(t *testing.T) {
	a := open(t, maxBytes)
	out, err := a.assets.CreateAsset(t.Context(), &assetsv1.CreateAssetRequest{Name: "Rig", Tags: []string{"x"}})
	require.NoError(t, err)
	id := out.GetAsset().GetAssetId()
	_, err = a.assets.CreateAsset(t.Context(), &assetsv1.CreateAssetRequest{Name: "Rig"})
	code(t, codes.AlreadyExists, err, "")
	assert.Equal(t, id, a.createConfig(t, "Rig", "k").GetAssetId())
	other := a.createConfig(t, "rig", "k2").GetAssetId()
	assert.NotEqual(t, id, other, "names are exact")

	list := func(filter string) int {
		t.Helper()
		out, err := a.assets.ListAssets(t.Context(), &assetsv1.ListAssetsRequest{Filter: filter, OrderBy: "name desc"})
		require.NoError(t, err)
		return len(out.GetAssets())
	}
	assert.Equal(t, 2, list("name_lower == 'rig'"))
	assert.Equal(t, 1, list("tag_name == 'x'"))
	assert.Equal(t, 1, list("asset_id == '"+other+"'"))

	update := func(asset *assetsv1.Asset, paths ...string) (*assetsv1.Asset, error) {
		out, err := a.assets.UpdateAsset(t.Context(), &assetsv1.UpdateAssetRequest{Asset: asset, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		return out.GetAsset(), err
	}
	changed, err := update(&assetsv1.Asset{AssetId: id, Name: "not taken", ArchivedDate: &timestamppb.Timestamp{Seconds: 5}}, "archived_date", "tags")
	require.NoError(t, err)
	assert.True(t, changed.GetIsArchived())
	assert.Empty(t, changed.GetTags(), "tags are replaced")
	assert.Equal(t, "Rig", changed.GetName())
	changed, err = update(&assetsv1.Asset{AssetId: id, IsArchived: true}, "is_archived")
	require.NoError(t, err)
	assert.EqualValues(t, 5, changed.GetArchivedDate().GetSeconds(), "it was archived before")
	changed, err = update(&assetsv1.Asset{AssetId: id}, "is_archived")
	require.NoError(t, err)
	assert.Nil(t, changed.GetArchivedDate())
	_, err = update(&assetsv1.Asset{AssetId: id}, "name")
	code(t, codes.InvalidArgument, err, `update_mask names "name"`)
	_, err = update(&assetsv1.Asset{AssetId: id})
	code(t, codes.InvalidArgument, err, "names no field")
	_, err = update(&assetsv1.Asset{AssetId: "none"}, "tags")
	code(t, codes.NotFound, err, "")
	_, err = a.assets.GetAsset(t.Context(), &assetsv1.GetAssetRequest{AssetId: "none"})
	code(t, codes.NotFound, err, "")
}

func TestFileIsBounded(t *testing.T) {
	a := open(t, 1<<20)
	id := a.createConfig(t, "asset", "key").GetIngestionConfigId()
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		f := flow(fmt.Sprint("f", i), "x")
		f.Channels[0].Description = strings.Repeat("d", 100<<10)
		_, err = a.configs.CreateIngestionConfigFlows(t.Context(), &configsv2.CreateIngestionConfigFlowsRequest{IngestionConfigId: id, Flows: []*configsv2.FlowConfig{f}})
	}
	code(t, codes.ResourceExhausted, err, "raise max_state")
	_, err = a.Flow(id, "f0", "")
	require.NoError(t, err, "what is there stays")
}

func TestFileBecomesPrivate(t *testing.T) {
	dir := t.TempDir()
	store, err := registry.Open(dir, maxBytes)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	path := filepath.Join(dir, registry.FileName)
	require.NoError(t, os.Chmod(path, 0o644))
	store, err = registry.Open(dir, maxBytes)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func BenchmarkFlow(b *testing.B) {
	a := open(b, maxBytes)
	channels := make([]string, 100)
	for i := range channels {
		channels[i] = fmt.Sprint("channel", i)
	}
	config, err := a.configs.CreateIngestionConfig(b.Context(), &configsv2.CreateIngestionConfigRequest{AssetName: "a", ClientKey: "k", Flows: []*configsv2.FlowConfig{flow("f", channels...)}})
	require.NoError(b, err)
	id := config.GetIngestionConfig().GetIngestionConfigId()
	for b.Loop() {
		if _, err := a.Flow(id, "f", ""); err != nil {
			b.Fatal(err)
		}
	}
}
