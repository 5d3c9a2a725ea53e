package siftserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// form is what a reference client is started with.
type form struct {
	asset, key string
	flows      []*configsv2.FlowConfig
	run        *runForm
	tags       []string
	metadata   []*metadatav1.MetadataValue
}

type runForm struct {
	id                     string // wins over the rest
	name, key, description string
	tags                   []string
	metadata               []*metadatav1.MetadataValue
}

// session is a started reference client.
type session struct {
	client *client
	config *configsv2.IngestionConfig
	flows  []*configsv2.FlowConfig
	run    *runsv2.Run
}

var errIncompatible = errors.New("incompatible ingestion config change")

// startUp does what sift_stream 0.14 does, step by step, in its words and order.
func (c *client) startUp(ctx context.Context, f form) (*session, error) {
	for range 2 {
		if _, err := c.ping.Ping(ctx, &pingv1.PingRequest{}); err != nil {
			return nil, err
		}
	}
	s := &session{client: c, flows: f.flows}
	created, err := c.configs.CreateIngestionConfig(ctx, &configsv2.CreateIngestionConfigRequest{AssetName: f.asset, ClientKey: f.key, Flows: f.flows})
	switch status.Code(err) {
	case codes.OK:
		s.config = created.GetIngestionConfig()
		asset, err := c.assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
		if err != nil || asset.GetAsset().GetName() != f.asset {
			return nil, fmt.Errorf("asset %v: %w", asset, err)
		}
	case codes.AlreadyExists:
		if err := s.join(ctx, f); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if err := s.attach(ctx, f.run); err != nil {
		return nil, err
	}
	return s, s.tag(ctx, f)
}

// join is steps 4 to 9: the config is there.
func (s *session) join(ctx context.Context, f form) error {
	list, err := s.client.configs.ListIngestionConfigs(ctx, &configsv2.ListIngestionConfigsRequest{
		Filter: fmt.Sprintf("client_key == '%s'", f.key), PageSize: 1,
	})
	if err != nil || len(list.GetIngestionConfigs()) == 0 {
		return fmt.Errorf("no config: %w", err)
	}
	s.config = list.GetIngestionConfigs()[0]
	asset, err := s.client.assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
	if err != nil || !strings.EqualFold(asset.GetAsset().GetName(), f.asset) {
		return errors.Join(errIncompatible, err)
	}
	if s.flows, err = s.list(ctx, f.flows); err != nil || len(f.flows) == 0 {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(f.flows), func(flow *configsv2.FlowConfig) bool { return contains(s.flows, flow) })
	if len(missing) == 0 {
		return nil
	}
	if err := s.addFlows(ctx, missing); err != nil {
		return err
	}
	if s.flows, err = s.list(ctx, f.flows); err != nil {
		return err
	}
	for _, flow := range f.flows {
		if !contains(s.flows, flow) {
			return errIncompatible
		}
	}
	return nil
}

func contains(flows []*configsv2.FlowConfig, flow *configsv2.FlowConfig) bool {
	return slices.ContainsFunc(flows, func(other *configsv2.FlowConfig) bool { return proto.Equal(flow, other) })
}

// addFlows sends one call for each flow, all at once.
func (s *session) addFlows(ctx context.Context, flows []*configsv2.FlowConfig) error {
	results := make([]error, len(flows))
	var calls sync.WaitGroup
	for i, flow := range flows {
		calls.Go(func() {
			_, err := s.client.configs.CreateIngestionConfigFlows(ctx, &configsv2.CreateIngestionConfigFlowsRequest{
				IngestionConfigId: s.config.GetIngestionConfigId(), Flows: []*configsv2.FlowConfig{flow},
			})
			if status.Code(err) != codes.AlreadyExists {
				results[i] = err
			}
		})
	}
	calls.Wait()
	return errors.Join(results...)
}

// list pages through the wanted flows; none wanted means all.
func (s *session) list(ctx context.Context, wanted []*configsv2.FlowConfig) ([]*configsv2.FlowConfig, error) {
	filter := ""
	if len(wanted) > 0 {
		var names []string
		for _, flow := range wanted {
			names = append(names, "'"+flow.GetName()+"'")
		}
		filter = "flow_name in [" + strings.Join(names, ",") + "]"
	}
	var out []*configsv2.FlowConfig
	for token := ""; ; {
		page, err := s.client.configs.ListIngestionConfigFlows(ctx, &configsv2.ListIngestionConfigFlowsRequest{
			IngestionConfigId: s.config.GetIngestionConfigId(), PageSize: 1000, PageToken: token, Filter: filter,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetFlows()...)
		if token = page.GetNextPageToken(); token == "" || len(page.GetFlows()) == 0 {
			return out, nil
		}
	}
}

// attach is step 10.
func (s *session) attach(ctx context.Context, f *runForm) error {
	if f == nil {
		return nil
	}
	if f.id != "" {
		got, err := s.client.runs.GetRun(ctx, &runsv2.GetRunRequest{RunId: f.id})
		s.run = got.GetRun()
		return err
	}
	list, err := s.client.runs.ListRuns(ctx, &runsv2.ListRunsRequest{Filter: fmt.Sprintf("client_key == '%s'", f.key), PageSize: 1})
	if err != nil {
		return err
	}
	if len(list.GetRuns()) == 0 {
		created, err := s.client.runs.CreateRun(ctx, &runsv2.CreateRunRequest{
			Name: f.name, Description: f.description, Tags: f.tags, ClientKey: proto.String(f.key), Metadata: f.metadata,
		})
		s.run = created.GetRun()
		return err
	}
	s.run = list.GetRuns()[0]
	return s.updateRun(ctx, f)
}

// updateRun sends the whole run with a mask of what differs.
func (s *session) updateRun(ctx context.Context, f *runForm) error {
	wanted, mask := proto.CloneOf(s.run), &fieldmaskpb.FieldMask{}
	if f.name != s.run.GetName() {
		wanted.Name = f.name
		mask.Paths = append(mask.Paths, "name")
	}
	if f.description != "" && f.description != s.run.GetDescription() {
		wanted.Description = f.description
		mask.Paths = append(mask.Paths, "description")
	}
	for _, tag := range f.tags {
		if !slices.Contains(s.run.GetTags(), tag) {
			wanted.Tags = f.tags
			mask.Paths = append(mask.Paths, "tags")
			break
		}
	}
	if len(f.metadata) > 0 && !slices.EqualFunc(f.metadata, s.run.GetMetadata(), func(a, b *metadatav1.MetadataValue) bool { return proto.Equal(a, b) }) {
		wanted.Metadata = f.metadata
		mask.Paths = append(mask.Paths, "metadata")
	}
	if len(mask.Paths) == 0 {
		return nil
	}
	updated, err := s.client.runs.UpdateRun(ctx, &runsv2.UpdateRunRequest{Run: wanted, UpdateMask: mask})
	s.run = updated.GetRun()
	return err
}

// tag is step 11.
func (s *session) tag(ctx context.Context, f form) error {
	if len(f.tags) == 0 && len(f.metadata) == 0 {
		return nil
	}
	got, err := s.client.assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
	if err != nil {
		return err
	}
	asset, mask := got.GetAsset(), &fieldmaskpb.FieldMask{}
	if len(f.tags) > 0 {
		asset.Tags = f.tags
		mask.Paths = append(mask.Paths, "tags")
	}
	if len(f.metadata) > 0 {
		asset.Metadata = f.metadata
		mask.Paths = append(mask.Paths, "metadata")
	}
	_, err = s.client.assets.UpdateAsset(ctx, &assetsv1.UpdateAssetRequest{Asset: asset, UpdateMask: mask})
	return err
}

// row is a message as the client sends it: one value for each channel.
func (s *session) row(flow string, at int64, values ...*wireValue) *wireRow {
	return &wireRow{
		IngestionConfigId: s.config.GetIngestionConfigId(), Flow: flow, RunId: s.run.GetRunId(),
		Timestamp: &timestamppb.Timestamp{Seconds: at / second, Nanos: int32(at % second)}, ChannelValues: values,
	}
}

func doubles(name string, channels ...string) *configsv2.FlowConfig {
	f := &configsv2.FlowConfig{Name: name}
	for _, c := range channels {
		f.Channels = append(f.Channels, &configsv2.ChannelConfig{Name: c, DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_DOUBLE, Unit: "m", Description: "of " + c})
	}
	return f
}

// engine has channels with everything that a definition can hold.
func engine() *configsv2.FlowConfig {
	f := doubles("engine", "pressure", "temperature")
	f.Channels = append(f.Channels,
		&configsv2.ChannelConfig{Name: "state", DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_ENUM, EnumTypes: []*typev1.ChannelEnumType{
			{Name: "on", Key: 7}, {Name: "off", Key: 1, IsSigned: true},
		}},
		&configsv2.ChannelConfig{Name: "flags", DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_BIT_FIELD, BitFieldElements: []*typev1.ChannelBitFieldElement{
			{Name: "z", Index: 4, BitCount: 4}, {Name: "a", Index: 0, BitCount: 4},
		}},
	)
	return f
}

func label(name, value string) *metadatav1.MetadataValue {
	return &metadatav1.MetadataValue{
		Key:   &metadatav1.MetadataKey{Name: name, Type: metadatav1.MetadataKeyType_METADATA_KEY_TYPE_STRING},
		Value: &metadatav1.MetadataValue_StringValue{StringValue: value},
	}
}

// A reference client starts, streams and takes a checkpoint, with its metrics
// beside it on the same connection; then it comes back with one more flow.
func TestReferenceClient(t *testing.T) {
	r := start(t)
	c := r.dial(anyKey)
	f := form{
		asset: "stand-3", key: "stand-3-v1", flows: []*configsv2.FlowConfig{engine(), doubles("gps", "lat", "lon")},
		run:  &runForm{name: "hotfire 12", key: "hotfire-12", tags: []string{"a", "b"}},
		tags: []string{"rig"}, metadata: []*metadatav1.MetadataValue{label("site", "north")},
	}
	s, err := c.startUp(t.Context(), f)
	require.NoError(t, err)
	assert.Len(t, s.config.GetIngestionConfigId(), 36)
	assert.Len(t, s.run.GetRunId(), 36)

	metricNames := []string{"stream.stand-3.stand-3-v1.sent", "stream.stand-3.stand-3-v1.bytes"}
	side, err := c.startUp(t.Context(), form{asset: "sift_app", key: "sift-stream-metrics-1766", flows: []*configsv2.FlowConfig{doubles("sift-stream-metrics-flow", metricNames...)}})
	require.NoError(t, err)
	metrics, _ := c.stream()
	main, _ := c.stream()
	require.NoError(t, metrics.Send(side.row("sift-stream-metrics-flow", 5, double(1), double(2))))
	for i := range 100 {
		require.NoError(t, main.Send(s.row("engine", int64(i+1), double(float64(i)), empty(), valueOf(sdk.Enum, uint64(i), nil), bits(byte(i), 0xff))))
		require.NoError(t, main.Send(s.row("gps", int64(i+1), empty(), double(-1))))
	}
	_, err = main.CloseAndRecv()
	require.NoError(t, err)
	_, err = metrics.CloseAndRecv()
	require.NoError(t, err)

	got := r.out.rows()
	want := map[string][]string{"sift_app/sift-stream-metrics-1766//sift-stream-metrics-flow": {"5 1 2"}}
	for i := range 100 {
		want["stand-3/stand-3-v1/hotfire-12/engine"] = append(want["stand-3/stand-3-v1/hotfire-12/engine"], fmt.Sprintf("%d %d - %d %02xff", i+1, i, i, i))
		want["stand-3/stand-3-v1/hotfire-12/gps"] = append(want["stand-3/stand-3-v1/hotfire-12/gps"], fmt.Sprintf("%d - -1", i+1))
	}
	assert.Equal(t, want, got)

	// It comes back: one flow more, another run name, other tags.
	f.flows = append(f.flows, doubles("imu", "x"))
	f.run = &runForm{name: "hotfire 12b", key: "hotfire-12", description: "second try", tags: []string{"c"}}
	again, err := c.startUp(t.Context(), f)
	require.NoError(t, err)
	assert.Equal(t, s.config.GetIngestionConfigId(), again.config.GetIngestionConfigId())
	assert.Equal(t, s.run.GetRunId(), again.run.GetRunId())
	assert.Equal(t, "hotfire 12b", again.run.GetName())
	assert.Equal(t, []string{"c"}, again.run.GetTags())
	require.Len(t, again.flows, 3)
	for i, flow := range f.flows {
		assert.True(t, proto.Equal(flow, again.flows[i]), "%v", again.flows[i])
	}
	byID, err := c.startUp(t.Context(), form{asset: "STAND-3", key: "stand-3-v1", run: &runForm{id: s.run.GetRunId()}})
	require.NoError(t, err)
	assert.Len(t, byID.flows, 3)
	assert.Equal(t, int64(1), byID.run.GetStartTime().AsTime().UnixNano())
	assert.Equal(t, int64(100), byID.run.GetStopTime().AsTime().UnixNano())
	assert.Equal(t, int64(99), byID.run.GetDuration().AsDuration().Nanoseconds())
	assert.Equal(t, []string{s.config.GetAssetId()}, byID.run.GetAssetIds())

	asset, err := c.assets.GetAsset(t.Context(), &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
	require.NoError(t, err)
	assert.Equal(t, []string{"rig"}, asset.GetAsset().GetTags())

	f.flows[1] = doubles("gps", "lon", "lat")
	_, err = c.startUp(t.Context(), f)
	assert.ErrorIs(t, err, errIncompatible)
}

// Clients before 0.9.1, and those in Python, list before they create.
func TestOlderClientListsFirst(t *testing.T) {
	r := start(t)
	c := r.dial("bearer x")
	list := func() []*configsv2.IngestionConfig {
		out, err := c.configs.ListIngestionConfigs(t.Context(), &configsv2.ListIngestionConfigsRequest{Filter: `client_key=="old-1"`})
		require.NoError(t, err)
		assert.Empty(t, out.GetNextPageToken())
		return out.GetIngestionConfigs()
	}
	require.Empty(t, list())
	created, err := c.configs.CreateIngestionConfig(t.Context(), &configsv2.CreateIngestionConfigRequest{AssetName: "a", ClientKey: "old-1"})
	require.NoError(t, err)
	require.Len(t, list(), 1)
	assert.True(t, proto.Equal(created.GetIngestionConfig(), list()[0]))
	s := &session{client: c, config: list()[0]}
	require.NoError(t, s.addFlows(t.Context(), []*configsv2.FlowConfig{engine()}))
	flows, err := s.list(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, flows, 1)
	assert.True(t, proto.Equal(engine(), flows[0]))

	runs, err := c.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{Filter: `name=="r"`})
	require.NoError(t, err)
	require.Empty(t, runs.GetRuns())
	_, err = c.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: "r"})
	require.NoError(t, err)
	runs, err = c.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{Filter: `name=="r"`})
	require.NoError(t, err)
	require.Len(t, runs.GetRuns(), 1)
	s.run = runs.GetRuns()[0]
	stream, _ := c.stream()
	require.NoError(t, stream.Send(s.row("engine", 1, double(1), double(2), empty(), empty())))
	_, err = stream.CloseAndRecv()
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"a/old-1/r/engine": {"1 1 2 - -"}}, r.out.rows())
}

func TestClientsRace(t *testing.T) {
	r := start(t)
	flows := []*configsv2.FlowConfig{engine(), doubles("gps", "lat"), doubles("imu", "x")}
	sessions, results := make([]*session, 8), make([]error, 8)
	var clients sync.WaitGroup
	for i := range sessions {
		c := r.dial(anyKey)
		clients.Go(func() {
			f := form{asset: "a", key: "k", flows: flows[:1+i%3]}
			sessions[i], results[i] = c.startUp(t.Context(), f)
		})
	}
	clients.Wait()
	for i, s := range sessions {
		require.NoError(t, results[i])
		assert.Equal(t, sessions[0].config.GetIngestionConfigId(), s.config.GetIngestionConfigId())
	}
	all, err := sessions[0].list(t.Context(), nil)
	require.NoError(t, err)
	assert.Len(t, all, 3)
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	f := form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{engine()}, run: &runForm{name: "r", key: "r1"}}
	first := start(t, inDir(dir))
	before, err := first.dial(anyKey).startUp(t.Context(), f)
	require.NoError(t, err)
	first.stop()

	second := start(t, inDir(dir))
	after, err := second.dial(anyKey).startUp(t.Context(), f)
	require.NoError(t, err)
	assert.True(t, proto.Equal(before.config, after.config))
	assert.True(t, proto.Equal(before.run, after.run))
	assert.True(t, proto.Equal(before.flows[0], after.flows[0]))
}
