package sifttest

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

type configService struct {
	ingestionconfigsv2.UnimplementedIngestionConfigServiceServer
	store *store
}

func (g configService) GetIngestionConfig(_ context.Context, r *ingestionconfigsv2.GetIngestionConfigRequest) (*ingestionconfigsv2.GetIngestionConfigResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	c := g.store.config(r.GetIngestionConfigId())
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "no ingestion config %.100q", r.GetIngestionConfigId())
	}
	return &ingestionconfigsv2.GetIngestionConfigResponse{IngestionConfig: proto.CloneOf(c.IngestionConfig)}, nil
}

func (g configService) CreateIngestionConfig(_ context.Context, r *ingestionconfigsv2.CreateIngestionConfigRequest) (*ingestionconfigsv2.CreateIngestionConfigResponse, error) {
	c, err := g.store.createConfig(r)
	if err != nil {
		return nil, err
	}
	return &ingestionconfigsv2.CreateIngestionConfigResponse{IngestionConfig: c}, nil
}

func (g configService) ListIngestionConfigs(_ context.Context, r *ingestionconfigsv2.ListIngestionConfigsRequest) (*ingestionconfigsv2.ListIngestionConfigsResponse, error) {
	f, err := parseFilter(r.GetFilter(), "ingestion_config_id", "client_key", "asset_id")
	if err != nil {
		return nil, err
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	var all []*ingestionconfigsv2.IngestionConfig
	for _, c := range g.store.configs {
		if f.matches(map[string]string{
			"ingestion_config_id": c.GetIngestionConfigId(), "client_key": c.GetClientKey(), "asset_id": c.GetAssetId(),
		}) {
			all = append(all, c.IngestionConfig)
		}
	}
	items, next, err := page(all, r.GetPageSize(), r.GetPageToken(), g.store.options.PageSize, r.GetFilter())
	return &ingestionconfigsv2.ListIngestionConfigsResponse{IngestionConfigs: copies(items), NextPageToken: next}, err
}

func (g configService) CreateIngestionConfigFlows(_ context.Context, r *ingestionconfigsv2.CreateIngestionConfigFlowsRequest) (*ingestionconfigsv2.CreateIngestionConfigFlowsResponse, error) {
	if err := g.store.createFlows(r.GetIngestionConfigId(), r.GetFlows()); err != nil {
		return nil, err
	}
	return &ingestionconfigsv2.CreateIngestionConfigFlowsResponse{}, nil
}

func (g configService) ListIngestionConfigFlows(_ context.Context, r *ingestionconfigsv2.ListIngestionConfigFlowsRequest) (*ingestionconfigsv2.ListIngestionConfigFlowsResponse, error) {
	f, err := parseFilter(r.GetFilter(), "flow_name")
	if err != nil {
		return nil, err
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	c := g.store.config(r.GetIngestionConfigId())
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "no ingestion config %.100q", r.GetIngestionConfigId())
	}
	var all []*ingestionconfigsv2.FlowConfig
	for _, flow := range c.flows {
		if f.matches(map[string]string{"flow_name": flow.GetName()}) {
			all = append(all, flow)
		}
	}
	items, next, err := page(all, r.GetPageSize(), r.GetPageToken(), g.store.options.PageSize, r.GetIngestionConfigId(), r.GetFilter())
	return &ingestionconfigsv2.ListIngestionConfigFlowsResponse{Flows: copies(items), NextPageToken: next}, err
}

type assetService struct {
	assetsv1.UnimplementedAssetServiceServer
	store *store
}

func (g assetService) find(id string) (*assetsv1.Asset, error) {
	i := slices.IndexFunc(g.store.assets, func(a *assetsv1.Asset) bool { return a.GetAssetId() == id })
	if i < 0 {
		return nil, status.Errorf(codes.NotFound, "no asset %.100q", id)
	}
	return g.store.assets[i], nil
}

func (g assetService) GetAsset(_ context.Context, r *assetsv1.GetAssetRequest) (*assetsv1.GetAssetResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	a, err := g.find(r.GetAssetId())
	if err != nil {
		return nil, err
	}
	return &assetsv1.GetAssetResponse{Asset: proto.CloneOf(a)}, nil
}

func (g assetService) UpdateAsset(_ context.Context, r *assetsv1.UpdateAssetRequest) (*assetsv1.UpdateAssetResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	a, err := g.find(r.GetAsset().GetAssetId())
	if err != nil {
		return nil, err
	}
	for _, path := range r.GetUpdateMask().GetPaths() {
		switch path {
		case "tags":
			a.Tags = slices.Clone(r.GetAsset().GetTags())
		case "metadata":
			a.Metadata = copies(r.GetAsset().GetMetadata())
		default:
			return nil, status.Errorf(codes.InvalidArgument, "update_mask: %q cannot be updated", path)
		}
	}
	a.ModifiedDate = timestamppb.Now()
	return &assetsv1.UpdateAssetResponse{Asset: proto.CloneOf(a)}, nil
}

func (g assetService) ListAssets(_ context.Context, r *assetsv1.ListAssetsRequest) (*assetsv1.ListAssetsResponse, error) {
	f, err := parseFilter(r.GetFilter(), "asset_id", "name")
	if err != nil {
		return nil, err
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	var all []*assetsv1.Asset
	for _, a := range g.store.assets {
		if f.matches(map[string]string{"asset_id": a.GetAssetId(), "name": a.GetName()}) {
			all = append(all, a)
		}
	}
	items, next, err := page(all, r.GetPageSize(), r.GetPageToken(), g.store.options.PageSize, r.GetFilter(), r.GetOrderBy())
	return &assetsv1.ListAssetsResponse{Assets: copies(items), NextPageToken: next}, err
}

type runService struct {
	runsv2.UnimplementedRunServiceServer
	store *store
}

func (g runService) find(id string) (*runsv2.Run, error) {
	i := slices.IndexFunc(g.store.runs, func(r *runsv2.Run) bool { return r.GetRunId() == id })
	if i < 0 {
		return nil, status.Errorf(codes.NotFound, "no run %.100q", id)
	}
	return g.store.runs[i], nil
}

func (g runService) GetRun(_ context.Context, r *runsv2.GetRunRequest) (*runsv2.GetRunResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	run, err := g.find(r.GetRunId())
	if err != nil {
		return nil, err
	}
	return &runsv2.GetRunResponse{Run: proto.CloneOf(run)}, nil
}

func (g runService) ListRuns(_ context.Context, r *runsv2.ListRunsRequest) (*runsv2.ListRunsResponse, error) {
	f, err := parseFilter(r.GetFilter(), "run_id", "client_key", "name")
	if err != nil {
		return nil, err
	}
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	var all []*runsv2.Run
	for _, run := range g.store.runs {
		if f.matches(map[string]string{"run_id": run.GetRunId(), "client_key": run.GetClientKey(), "name": run.GetName()}) {
			all = append(all, run)
		}
	}
	slices.Reverse(all) // the newest first, as the service does
	items, next, err := page(all, r.GetPageSize(), r.GetPageToken(), g.store.options.PageSize, r.GetFilter(), r.GetOrderBy())
	return &runsv2.ListRunsResponse{Runs: copies(items), NextPageToken: next}, err
}

func (g runService) CreateRun(_ context.Context, r *runsv2.CreateRunRequest) (*runsv2.CreateRunResponse, error) {
	run, err := g.store.createRun(r)
	if err != nil {
		return nil, err
	}
	return &runsv2.CreateRunResponse{Run: run}, nil
}

func (g runService) UpdateRun(_ context.Context, r *runsv2.UpdateRunRequest) (*runsv2.UpdateRunResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	run, err := g.find(r.GetRun().GetRunId())
	if err != nil {
		return nil, err
	}
	want := proto.CloneOf(r.GetRun())
	for _, path := range r.GetUpdateMask().GetPaths() {
		switch path {
		case "name":
			run.Name = want.GetName()
		case "description":
			run.Description = want.GetDescription()
		case "tags":
			run.Tags = want.GetTags()
		case "metadata":
			run.Metadata = want.GetMetadata()
		default:
			return nil, status.Errorf(codes.InvalidArgument, "update_mask: %q cannot be updated here", path)
		}
	}
	run.ModifiedDate = timestamppb.Now()
	return &runsv2.UpdateRunResponse{Run: proto.CloneOf(run)}, nil
}

func (g runService) StopRun(_ context.Context, r *runsv2.StopRunRequest) (*runsv2.StopRunResponse, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	run, err := g.find(r.GetRunId())
	if err != nil {
		return nil, err
	}
	run.StopTime = timestamppb.Now()
	return &runsv2.StopRunResponse{}, nil
}
