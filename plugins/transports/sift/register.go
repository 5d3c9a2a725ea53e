package sift

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// maxAnswerBytes bounds one answer to a unary call: a page of wide flows is
// large.
const maxAnswerBytes = 64 << 20

// Register makes config, flows, run and the asset's properties known. It may be
// repeated at any time.
func (t *transport) Register(ctx context.Context, r sdk.Registration) (sdk.Registered, error) {
	registered, err := t.register(ctx, r)
	if err != nil {
		t.health.failed(err)
		return registered, err
	}
	t.health.ok()
	return registered, nil
}

func (t *transport) register(ctx context.Context, r sdk.Registration) (sdk.Registered, error) {
	if strings.TrimSpace(r.Asset) == "" || strings.TrimSpace(r.ClientKey) == "" {
		return sdk.Registered{}, unsendable(fmt.Errorf("asset %q and client key %q must not be blank", r.Asset, r.ClientKey))
	}
	cc, err := t.controlConn()
	if err != nil {
		return sdk.Registered{}, err
	}
	defer cc.Close()
	g := &registrar{
		transport: t,
		configs:   ingestionconfigsv2.NewIngestionConfigServiceClient(cc),
		assets:    assetsv1.NewAssetServiceClient(cc),
		runs:      runsv2.NewRunServiceClient(cc),
	}
	flows := prepareFlows(r.Flows)
	config, err := g.config(ctx, r, flows)
	if err != nil {
		return sdk.Registered{}, err
	}
	if err := g.flows(ctx, config.GetIngestionConfigId(), flows); err != nil {
		return sdk.Registered{}, err
	}
	run, err := g.run(ctx, r.Run)
	if err != nil {
		return sdk.Registered{}, err
	}
	if err := g.describeAsset(ctx, config.GetAssetId(), r.AssetTags, r.AssetMetadata); err != nil {
		return sdk.Registered{}, err
	}
	return sdk.Registered{
		Destination: t.target.scheme() + "://" + t.target.address() + "/" + config.GetIngestionConfigId(),
		Binding:     sdk.Binding{ConfigID: config.GetIngestionConfigId(), RunID: run},
		Conflicts:   flows.conflicts,
	}, nil
}

// controlConn makes the client of one registration. It connects with its first
// call. Registrations are rare, so nothing is kept between them.
func (t *transport) controlConn() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if t.target.tls {
		config, err := t.tlsConfig()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(userAgent),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return t.dial(ctx, address) }),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: t.config.ConnectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}
	if t.key != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(t.key)))
	}
	return grpc.NewClient("passthrough:///"+t.target.address(), options...)
}

// bearer is the key as grpc-go wants it.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false: http:// is the user's choice, and Validate
// has warned.
func (bearer) RequireTransportSecurity() bool { return false }

// registrar makes the calls of one registration.
type registrar struct {
	transport *transport
	configs   ingestionconfigsv2.IngestionConfigServiceClient
	assets    assetsv1.AssetServiceClient
	runs      runsv2.RunServiceClient
}

// call makes a unary call with its deadline. The error names what was tried.
func call[Q, A any](ctx context.Context, g *registrar, what string, f func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, g.transport.config.CallTimeout)
	defer cancel()
	answer, err := f(ctx, request)
	st := status.Convert(err)
	g.transport.counters.calls.count(uint32(st.Code()))
	if err == nil {
		return answer, nil
	}
	var retry *errdetails.RetryInfo
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info
		}
	}
	e := failure(st.Code(), clip(st.Message()), retry)
	e.Message = what + ": " + e.Message
	return answer, e
}

// codeOf returns the gRPC code of an error of call.
func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return codes.Code(sdk.AsError(err).Code)
}

// config makes the ingestion config with its first flows, or finds it.
func (g *registrar) config(ctx context.Context, r sdk.Registration, flows *flowSet) (*ingestionconfigsv2.IngestionConfig, error) {
	first := flows.firstGroup()
	config, err := g.createConfig(ctx, r, first)
	if codeOf(err) == codes.InvalidArgument && len(first) > 0 {
		// One of the flows may be the reason; alone they are judged one by one.
		if empty, emptyErr := g.createConfig(ctx, r, nil); emptyErr == nil || codeOf(emptyErr) == codes.AlreadyExists {
			config, err, first = empty, emptyErr, nil
		}
	}
	switch codeOf(err) {
	case codes.OK:
		flows.created(first)
		return config, nil
	case codes.AlreadyExists:
		return g.findConfig(ctx, r)
	default:
		return nil, err
	}
}

func (g *registrar) createConfig(ctx context.Context, r sdk.Registration, flows []*ingestionconfigsv2.FlowConfig) (*ingestionconfigsv2.IngestionConfig, error) {
	answer, err := call(ctx, g, "create ingestion config", g.configs.CreateIngestionConfig, &ingestionconfigsv2.CreateIngestionConfigRequest{
		AssetName: r.Asset, ClientKey: r.ClientKey, Flows: flows,
	})
	return answer.GetIngestionConfig(), err
}

// findConfig looks the config up by its client key and checks that it belongs to
// the asset.
func (g *registrar) findConfig(ctx context.Context, r sdk.Registration) (*ingestionconfigsv2.IngestionConfig, error) {
	answer, err := call(ctx, g, "find ingestion config", g.configs.ListIngestionConfigs, &ingestionconfigsv2.ListIngestionConfigsRequest{
		Filter: equals("client_key", r.ClientKey), PageSize: 10,
	})
	if err != nil {
		return nil, err
	}
	configs := answer.GetIngestionConfigs()
	i := slices.IndexFunc(configs, func(c *ingestionconfigsv2.IngestionConfig) bool { return c.GetClientKey() == r.ClientKey })
	if i < 0 {
		return nil, sdk.Retry(fmt.Errorf("find ingestion config: the destination has client key %.100q and does not list it", r.ClientKey), 0)
	}
	asset, err := g.asset(ctx, configs[i].GetAssetId())
	if err != nil {
		return nil, err
	}
	if lowerASCII(asset.GetName()) != lowerASCII(r.Asset) {
		return nil, unsendable(fmt.Errorf("client key %.100q belongs to asset %.100q at the destination, not to %.100q; choose another client key",
			r.ClientKey, asset.GetName(), r.Asset))
	}
	return configs[i], nil
}

func (g *registrar) asset(ctx context.Context, id string) (*assetsv1.Asset, error) {
	answer, err := call(ctx, g, "get asset", g.assets.GetAsset, &assetsv1.GetAssetRequest{AssetId: id})
	return answer.GetAsset(), err
}

// describeAsset replaces the asset's tags and metadata where they are given and
// differ.
func (g *registrar) describeAsset(ctx context.Context, id string, tags []string, metadata []sdk.Metadata) error {
	if len(tags) == 0 && len(metadata) == 0 {
		return nil
	}
	wanted, err := metadataValues(metadata)
	if err != nil {
		return unsendable(fmt.Errorf("asset metadata: %w", err))
	}
	asset, err := g.asset(ctx, id)
	if err != nil {
		return err
	}
	mask := new(fieldmaskpb.FieldMask)
	if len(tags) > 0 && !sameSet(asset.GetTags(), tags) {
		asset.Tags = tags
		mask.Paths = append(mask.Paths, "tags")
	}
	if len(metadata) > 0 && !sameMetadata(asset.GetMetadata(), wanted) {
		asset.Metadata = wanted
		mask.Paths = append(mask.Paths, "metadata")
	}
	if len(mask.Paths) == 0 {
		return nil
	}
	_, err = call(ctx, g, "update asset", g.assets.UpdateAsset, &assetsv1.UpdateAssetRequest{Asset: asset, UpdateMask: mask})
	return err
}
