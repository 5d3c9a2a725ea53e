package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// answerTime is how long the reference client waits for the answer to its
// half-close.
const answerTime = 10 * time.Second

// siftClient does what the reference client library does, step by step: it knows
// nothing of the server but the public API.
type siftClient struct {
	conn    *grpc.ClientConn
	ping    pingv1.PingServiceClient
	configs configsv2.IngestionConfigServiceClient
	assets  assetsv1.AssetServiceClient
	runs    runsv2.RunServiceClient
	ingest  ingestv1.IngestServiceClient
	stream  []grpc.CallOption // of ingest streams
}

// session is a client that has made its config, flows and run known.
type session struct {
	*siftClient
	config *configsv2.IngestionConfig
	run    string // its id; empty: none
}

// identity is what a client is configured with.
type identity struct {
	asset, key string
	flows      []*configsv2.FlowConfig
	runKey     string
	tags       []string // of the asset
}

var errIncompatible = errors.New("incompatible ingestion config")

// dialSift connects; it does not wait for the server.
func dialSift(t *testing.T, address, key string, compress bool) *siftClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("sift_connect/0.14.0 tonic/0.14.9"),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return invoke(bearing(ctx, key), method, in, out, cc, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(bearing(ctx, key), d, cc, method, o...)
		}),
	)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	c := &siftClient{
		conn: conn, ping: pingv1.NewPingServiceClient(conn), configs: configsv2.NewIngestionConfigServiceClient(conn),
		assets: assetsv1.NewAssetServiceClient(conn), runs: runsv2.NewRunServiceClient(conn), ingest: ingestv1.NewIngestServiceClient(conn),
	}
	if compress {
		c.stream = append(c.stream, grpc.UseCompressor(gzip.Name))
	}
	return c
}

func bearing(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// startUp makes the client known: create first, and look only if it is there.
func (c *siftClient) startUp(ctx context.Context, who identity) (*session, error) {
	for range 2 { // two logical channels are checked
		if _, err := c.ping.Ping(ctx, &pingv1.PingRequest{}); err != nil {
			return nil, fmt.Errorf("ping: %w", err)
		}
	}
	s := &session{siftClient: c}
	created, err := c.configs.CreateIngestionConfig(ctx, &configsv2.CreateIngestionConfigRequest{
		AssetName: who.asset, ClientKey: who.key, Flows: who.flows,
	})
	switch {
	case err == nil:
		s.config = created.GetIngestionConfig()
		err = s.checkAsset(ctx, who.asset)
	case status.Code(err) == codes.AlreadyExists:
		err = s.join(ctx, who)
	}
	if err != nil {
		return nil, err
	}
	return s, s.finishStart(ctx, who)
}

// startUpListing is the older order, which other clients still have: look first,
// and create what is missing.
func (c *siftClient) startUpListing(ctx context.Context, who identity) (*session, error) {
	s := &session{siftClient: c}
	err := s.join(ctx, who)
	if errors.Is(err, errNoConfig) {
		created, createErr := c.configs.CreateIngestionConfig(ctx, &configsv2.CreateIngestionConfigRequest{
			AssetName: who.asset, ClientKey: who.key,
		})
		if createErr != nil {
			return nil, createErr
		}
		s.config = created.GetIngestionConfig()
		err = s.makeFlows(ctx, who.flows)
	}
	if err != nil {
		return nil, err
	}
	return s, s.finishStart(ctx, who)
}

var errNoConfig = errors.New("no ingestion config")

// join takes the config that is there, and adds the flows that it does not have.
func (s *session) join(ctx context.Context, who identity) error {
	list, err := s.configs.ListIngestionConfigs(ctx, &configsv2.ListIngestionConfigsRequest{
		Filter: fmt.Sprintf("client_key == '%s'", who.key), PageSize: 1,
	})
	if err != nil {
		return err
	}
	if len(list.GetIngestionConfigs()) == 0 {
		return errNoConfig
	}
	s.config = list.GetIngestionConfigs()[0]
	if err := s.checkAsset(ctx, who.asset); err != nil {
		return err
	}
	return s.makeFlows(ctx, who.flows)
}

func (s *session) checkAsset(ctx context.Context, name string) error {
	asset, err := s.assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
	if err != nil {
		return err
	}
	if !strings.EqualFold(asset.GetAsset().GetName(), name) {
		return fmt.Errorf("%w: asset %q", errIncompatible, asset.GetAsset().GetName())
	}
	return nil
}

// makeFlows creates the flows that the server does not have, each in a call of its
// own, all at once; then all must be there as they are here.
func (s *session) makeFlows(ctx context.Context, flows []*configsv2.FlowConfig) error {
	known, err := s.listFlows(ctx, flows)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed []error
	var calls sync.WaitGroup
	missing := without(flows, known)
	for _, f := range missing {
		calls.Go(func() {
			_, err := s.configs.CreateIngestionConfigFlows(ctx, &configsv2.CreateIngestionConfigFlowsRequest{
				IngestionConfigId: s.config.GetIngestionConfigId(), Flows: []*configsv2.FlowConfig{f},
			})
			if err != nil && status.Code(err) != codes.AlreadyExists {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	calls.Wait()
	if len(failed) > 0 || len(missing) == 0 {
		return errors.Join(failed...)
	}
	known, err = s.listFlows(ctx, flows)
	if err == nil && len(without(flows, known)) > 0 {
		err = fmt.Errorf("%w: flow %q", errIncompatible, without(flows, known)[0].GetName())
	}
	return err
}

// without returns the flows that are not among the known ones, in every field.
func without(flows, known []*configsv2.FlowConfig) []*configsv2.FlowConfig {
	return slices.DeleteFunc(slices.Clone(flows), func(f *configsv2.FlowConfig) bool {
		return slices.ContainsFunc(known, func(k *configsv2.FlowConfig) bool { return proto.Equal(f, k) })
	})
}

func (s *session) listFlows(ctx context.Context, flows []*configsv2.FlowConfig) ([]*configsv2.FlowConfig, error) {
	var names []string
	for _, f := range flows {
		names = append(names, "'"+f.GetName()+"'")
	}
	request := &configsv2.ListIngestionConfigFlowsRequest{
		IngestionConfigId: s.config.GetIngestionConfigId(), PageSize: 1000,
		Filter: "flow_name in [" + strings.Join(names, ",") + "]",
	}
	var out []*configsv2.FlowConfig
	for {
		page, err := s.configs.ListIngestionConfigFlows(ctx, request)
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetFlows()...)
		if request.PageToken = page.GetNextPageToken(); len(page.GetFlows()) == 0 || request.PageToken == "" {
			return out, nil
		}
	}
}

// finishStart attaches the run and describes the asset.
func (s *session) finishStart(ctx context.Context, who identity) error {
	if who.runKey != "" {
		list, err := s.runs.ListRuns(ctx, &runsv2.ListRunsRequest{Filter: fmt.Sprintf("client_key == '%s'", who.runKey), PageSize: 1})
		if err != nil {
			return err
		}
		if len(list.GetRuns()) > 0 {
			s.run = list.GetRuns()[0].GetRunId()
		} else {
			created, err := s.runs.CreateRun(ctx, &runsv2.CreateRunRequest{
				Name: "run " + who.runKey, Description: "of a test", Tags: []string{"e2e"}, ClientKey: &who.runKey,
			})
			if err != nil {
				return err
			}
			s.run = created.GetRun().GetRunId()
		}
	}
	if len(who.tags) == 0 {
		return nil
	}
	asset, err := s.assets.GetAsset(ctx, &assetsv1.GetAssetRequest{AssetId: s.config.GetAssetId()})
	if err != nil {
		return err
	}
	asset.GetAsset().Tags = who.tags
	_, err = s.assets.UpdateAsset(ctx, &assetsv1.UpdateAssetRequest{
		Asset: asset.GetAsset(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"tags"}},
	})
	return err
}

type ingestValue = ingestv1.IngestWithConfigDataChannelValue

// row is a request: one row of a flow.
func (s *session) row(flow string, at int64, values ...*ingestValue) *ingestv1.IngestWithConfigDataStreamRequest {
	return &ingestv1.IngestWithConfigDataStreamRequest{
		IngestionConfigId: s.config.GetIngestionConfigId(), Flow: flow, RunId: s.run,
		Timestamp:     &timestamppb.Timestamp{Seconds: at / 1e9, Nanos: int32(at % 1e9)},
		ChannelValues: values,
	}
}

// send opens a stream, sends rows and half-closes it; it returns the answer.
func (s *session) send(ctx context.Context, rows ...*ingestv1.IngestWithConfigDataStreamRequest) error {
	stream, err := s.ingest.IngestWithConfigDataStream(ctx, s.stream...)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := stream.Send(r); err != nil {
			break // the answer says why
		}
	}
	return closeStream(ctx, stream)
}

// closeStream half-closes and waits for the answer as long as the reference does.
func closeStream(ctx context.Context, stream grpc.ClientStreamingClient[ingestv1.IngestWithConfigDataStreamRequest, ingestv1.IngestWithConfigDataStreamResponse]) error {
	answer := make(chan error, 1)
	go func() {
		_, err := stream.CloseAndRecv()
		answer <- err
	}()
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return fmt.Errorf("no answer within %s: %w", answerTime, context.DeadlineExceeded)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func doubleValue(v float64) *ingestValue {
	return &ingestValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Double{Double: v}}
}

func uint64Value(v uint64) *ingestValue {
	return &ingestValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: v}}
}

func stringValue(v string) *ingestValue {
	return &ingestValue{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: v}}
}

func noValue() *ingestValue {
	return &ingestValue{Type: &ingestv1.IngestWithConfigDataChannelValue_Empty{Empty: &emptypb.Empty{}}}
}

// channel describes a channel of a client.
func channel(name string, typ typev1.ChannelDataType) *configsv2.ChannelConfig {
	return &configsv2.ChannelConfig{Name: name, DataType: typ}
}
