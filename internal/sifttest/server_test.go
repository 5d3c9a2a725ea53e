package sifttest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if s.identity != nil {
		var err error
		creds, err = credentials.NewClientTLSFromFile(s.CAFile(t), "")
		require.NoError(t, err)
	}
	cc, err := grpc.NewClient("passthrough:///"+s.Address(), grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func withKey(t *testing.T, key string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
}

func flow(name string, channels ...string) *ingestionconfigsv2.FlowConfig {
	f := &ingestionconfigsv2.FlowConfig{Name: name}
	for _, c := range channels {
		f.Channels = append(f.Channels, &ingestionconfigsv2.ChannelConfig{Name: c, DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_DOUBLE})
	}
	return f
}

// TestStartUp goes through the calls of a client that starts for the second
// time, with a new flow.
func TestStartUp(t *testing.T) {
	s := New(t, Options{Keys: []string{"k"}, TLS: true, PageSize: 1})
	cc := dial(t, s)
	ctx := withKey(t, "k")

	_, err := pingv1.NewPingServiceClient(cc).Ping(t.Context(), &pingv1.PingRequest{})
	assert.Equal(t, codes.Unauthenticated, status.Code(err))
	_, err = pingv1.NewPingServiceClient(cc).Ping(ctx, &pingv1.PingRequest{})
	require.NoError(t, err)

	configs := ingestionconfigsv2.NewIngestionConfigServiceClient(cc)
	create := &ingestionconfigsv2.CreateIngestionConfigRequest{
		AssetName: "Stand 3", ClientKey: "it's", Flows: []*ingestionconfigsv2.FlowConfig{flow("a", "x", "y")},
	}
	created, err := configs.CreateIngestionConfig(ctx, create)
	require.NoError(t, err)
	id := created.GetIngestionConfig().GetIngestionConfigId()
	assert.Len(t, id, 36)
	_, err = configs.CreateIngestionConfig(ctx, create)
	assert.Equal(t, codes.AlreadyExists, status.Code(err))

	listed, err := configs.ListIngestionConfigs(ctx, &ingestionconfigsv2.ListIngestionConfigsRequest{Filter: `client_key == 'it\'s'`, PageSize: 1})
	require.NoError(t, err)
	require.Len(t, listed.GetIngestionConfigs(), 1)
	assert.Equal(t, id, listed.GetIngestionConfigs()[0].GetIngestionConfigId())

	add := &ingestionconfigsv2.CreateIngestionConfigFlowsRequest{IngestionConfigId: id, Flows: []*ingestionconfigsv2.FlowConfig{flow("b", "z")}}
	_, err = configs.CreateIngestionConfigFlows(ctx, add)
	require.NoError(t, err)
	_, err = configs.CreateIngestionConfigFlows(ctx, add)
	assert.Equal(t, codes.AlreadyExists, status.Code(err))

	var names []string
	for token := ""; ; {
		flows, err := configs.ListIngestionConfigFlows(ctx, &ingestionconfigsv2.ListIngestionConfigFlowsRequest{
			IngestionConfigId: id, PageSize: 1000, PageToken: token, Filter: "flow_name in ['a','b']",
		})
		require.NoError(t, err)
		require.Len(t, flows.GetFlows(), 1)
		names = append(names, flows.GetFlows()[0].GetName())
		if token = flows.GetNextPageToken(); token == "" {
			break
		}
	}
	assert.Equal(t, []string{"a", "b"}, names)

	assets := assetsv1.NewAssetServiceClient(cc)
	asset, err := assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: created.GetIngestionConfig().GetAssetId()})
	require.NoError(t, err)
	assert.Equal(t, "Stand 3", asset.GetAsset().GetName())
	asset.Asset.Tags = []string{"hot"}
	_, err = assets.UpdateAsset(ctx, &assetsv1.UpdateAssetRequest{Asset: asset.GetAsset(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"tags"}}})
	require.NoError(t, err)
	assert.Equal(t, []string{"hot"}, s.Assets()[0].GetTags())
	_, err = assets.UpdateAsset(ctx, &assetsv1.UpdateAssetRequest{Asset: asset.GetAsset(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}})
	assert.Equal(t, codes.InvalidArgument, status.Code(err))

	runs := runsv2.NewRunServiceClient(cc)
	key := "run-1"
	run, err := runs.CreateRun(ctx, &runsv2.CreateRunRequest{Name: "n", ClientKey: &key})
	require.NoError(t, err)
	_, err = runs.CreateRun(ctx, &runsv2.CreateRunRequest{Name: "n", ClientKey: &key})
	assert.Equal(t, codes.AlreadyExists, status.Code(err))
	run.Run.Name = "m"
	_, err = runs.UpdateRun(ctx, &runsv2.UpdateRunRequest{Run: run.GetRun(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}})
	require.NoError(t, err)
	found, err := runs.ListRuns(ctx, &runsv2.ListRunsRequest{Filter: "client_key == 'run-1'"})
	require.NoError(t, err)
	assert.Equal(t, "m", found.GetRuns()[0].GetName())
	_, err = runs.GetRun(ctx, &runsv2.GetRunRequest{RunId: "nobody"})
	assert.Equal(t, codes.NotFound, status.Code(err))
}

func open(t *testing.T, ctx context.Context, cc *grpc.ClientConn) ingestv1.IngestService_IngestWithConfigDataStreamClient {
	t.Helper()
	stream, err := ingestv1.NewIngestServiceClient(cc).IngestWithConfigDataStream(ctx)
	require.NoError(t, err)
	return stream
}

func TestStreams(t *testing.T) {
	refused := status.Error(codes.InvalidArgument, "no such flow")
	for _, tc := range []struct {
		name      string
		behaviour Behaviour
		want      codes.Code
		acked     bool
		count     int
	}{
		{"all taken", TakeAll, codes.OK, true, 2},
		{"early OK", EndAfter(1, nil), codes.OK, false, 1},
		{"status in mid-stream", EndAfter(1, refused), codes.InvalidArgument, false, 1},
		{"refused at the end", Refuse(refused), codes.InvalidArgument, false, 2},
		{"trailers only", func(st *Stream) error { _ = TakeAll(st); return ErrTrailersOnly }, codes.Internal, false, 2},
		{"headers first", HeadersFirst(TakeAll), codes.OK, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(t, Options{})
			s.Queue(tc.behaviour)
			stream := open(t, t.Context(), dial(t, s))
			for range 2 {
				if stream.Send(&ingestv1.IngestWithConfigDataStreamRequest{Flow: "f"}) != nil {
					break
				}
			}
			_, err := stream.CloseAndRecv()
			assert.Equal(t, tc.want, status.Code(err))
			st := s.Stream(t, 0)
			st.WaitEnded(t)
			assert.Equal(t, tc.acked, st.Acknowledged())
			assert.Equal(t, tc.count, st.Count())
			assert.Equal(t, "f", st.Requests(t)[0].GetFlow())
		})
	}
}

func TestCancelIsNotAcknowledged(t *testing.T) {
	s := New(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	stream := open(t, ctx, dial(t, s))
	require.NoError(t, stream.Send(&ingestv1.IngestWithConfigDataStreamRequest{Flow: "f"}))
	st := s.Stream(t, 0)
	st.WaitCount(t, 1)
	cancel()
	st.WaitEnded(t)
	assert.False(t, st.Acknowledged())
	assert.Error(t, st.Err())
	assert.Empty(t, s.Acknowledged())
}

func TestRateLimited(t *testing.T) {
	details := status.Convert(RateLimited(time.Second)).Details()
	require.Len(t, details, 1)
	assert.Equal(t, codes.ResourceExhausted, status.Code(RateLimited(time.Second)))
}

// TestFreeze: a frozen connection answers nothing, and goes on when thawed.
func TestFreeze(t *testing.T) {
	s := New(t, Options{})
	ping := pingv1.NewPingServiceClient(dial(t, s))
	_, err := ping.Ping(t.Context(), &pingv1.PingRequest{})
	require.NoError(t, err)

	s.Freeze()
	answer := make(chan error, 1)
	go func() {
		_, err := ping.Ping(t.Context(), &pingv1.PingRequest{})
		answer <- err
	}()
	select {
	case err := <-answer:
		require.NoError(t, err)
		t.Fatal("answered while frozen")
	case <-time.After(50 * time.Millisecond):
	}
	s.Thaw()
	require.NoError(t, <-answer)
	assert.Equal(t, 1, s.Connections())
}

// TestDrainAndStart: after GOAWAY an open stream may still end, new ones find the
// server again when it listens, and what was registered is still there.
func TestDrainAndStart(t *testing.T) {
	s := New(t, Options{})
	_, err := s.AddRun("n", "k")
	require.NoError(t, err)
	cc := dial(t, s)
	stream := open(t, t.Context(), cc)
	s.Stream(t, 0)
	s.Drain()
	require.NoError(t, stream.Send(&ingestv1.IngestWithConfigDataStreamRequest{}))
	_, err = stream.CloseAndRecv()
	require.NoError(t, err)
	assert.True(t, s.Streams()[0].Acknowledged())

	require.NoError(t, s.Start())
	found, err := runsv2.NewRunServiceClient(cc).ListRuns(t.Context(), &runsv2.ListRunsRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)
	assert.Len(t, found.GetRuns(), 1)
}

func TestResetAndIntercept(t *testing.T) {
	s := New(t, Options{Intercept: func(_ context.Context, method string, r proto.Message) error {
		if method == runsv2.RunService_GetRun_FullMethodName {
			return status.Error(codes.Aborted, r.(*runsv2.GetRunRequest).GetRunId())
		}
		return nil
	}})
	cc := dial(t, s)
	_, err := runsv2.NewRunServiceClient(cc).GetRun(t.Context(), &runsv2.GetRunRequest{RunId: "x"})
	assert.Equal(t, codes.Aborted, status.Code(err))

	stream := open(t, t.Context(), cc)
	s.Stream(t, 0)
	s.Reset()
	_, err = stream.CloseAndRecv()
	assert.Equal(t, codes.Unavailable, status.Code(err))
	s.Streams()[0].WaitEnded(t)
}
