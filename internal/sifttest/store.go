package sifttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// store keeps what the unary calls make, in the order in which it was made.
type store struct {
	options *Options

	mu      sync.Mutex
	assets  []*assetsv1.Asset
	configs []*config
	runs    []*runsv2.Run
}

type config struct {
	*ingestionconfigsv2.IngestionConfig
	flows []*ingestionconfigsv2.FlowConfig
}

// serviceID returns ids of 36 bytes.
func serviceID(kind string, n int) string {
	number := map[string]int{"asset": 1, "config": 2, "run": 3}[kind]
	return fmt.Sprintf("%08x-51f7-4000-8000-%012x", number, n)
}

// Assets returns copies of all assets.
func (s *Server) Assets() []*assetsv1.Asset {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return copies(s.store.assets)
}

// Runs returns copies of all runs.
func (s *Server) Runs() []*runsv2.Run {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return copies(s.store.runs)
}

// Configs returns copies of all ingestion configs.
func (s *Server) Configs() []*ingestionconfigsv2.IngestionConfig {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	var out []*ingestionconfigsv2.IngestionConfig
	for _, c := range s.store.configs {
		out = append(out, proto.CloneOf(c.IngestionConfig))
	}
	return out
}

// Flows returns copies of a config's flows.
func (s *Server) Flows(configID string) []*ingestionconfigsv2.FlowConfig {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if c := s.store.config(configID); c != nil {
		return copies(c.flows)
	}
	return nil
}

// AddConfig makes a config as a client would, for races and other clients.
func (s *Server) AddConfig(asset, clientKey string, flows ...*ingestionconfigsv2.FlowConfig) (*ingestionconfigsv2.IngestionConfig, error) {
	return s.store.createConfig(&ingestionconfigsv2.CreateIngestionConfigRequest{
		AssetName: asset, ClientKey: clientKey, Flows: flows,
	})
}

// AddFlows adds flows to a config as a client would.
func (s *Server) AddFlows(configID string, flows ...*ingestionconfigsv2.FlowConfig) error {
	return s.store.createFlows(configID, flows)
}

// AddRun makes a run as a client would.
func (s *Server) AddRun(name, clientKey string) (*runsv2.Run, error) {
	return s.store.createRun(&runsv2.CreateRunRequest{Name: name, ClientKey: &clientKey})
}

// asset returns the asset with that name, ignoring case, or makes it.
func (s *store) asset(name string) *assetsv1.Asset {
	i := slices.IndexFunc(s.assets, func(a *assetsv1.Asset) bool { return strings.EqualFold(a.GetName(), name) })
	if i >= 0 {
		return s.assets[i]
	}
	a := &assetsv1.Asset{AssetId: s.options.NewID("asset", len(s.assets)+1), Name: name}
	s.assets = append(s.assets, a)
	return a
}

func (s *store) config(id string) *config {
	for _, c := range s.configs {
		if c.GetIngestionConfigId() == id {
			return c
		}
	}
	return nil
}

func (s *store) createConfig(r *ingestionconfigsv2.CreateIngestionConfigRequest) (*ingestionconfigsv2.IngestionConfig, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.TrimSpace(r.GetAssetName()) == "" {
		return nil, status.Error(codes.InvalidArgument, "asset_name is empty")
	}
	for _, c := range s.configs {
		if key := c.GetClientKey(); key != "" && key == r.GetClientKey() {
			return nil, status.Errorf(codes.AlreadyExists, "an ingestion config with client key %.100q exists", key)
		}
	}
	c := &config{IngestionConfig: &ingestionconfigsv2.IngestionConfig{
		IngestionConfigId: s.options.NewID("config", len(s.configs)+1),
		ClientKey:         r.GetClientKey(),
	}}
	if _, err := c.add(r.GetFlows()); err != nil {
		return nil, err
	}
	c.AssetId = s.asset(r.GetAssetName()).GetAssetId()
	s.configs = append(s.configs, c)
	return proto.CloneOf(c.IngestionConfig), nil
}

func (s *store) createFlows(configID string, flows []*ingestionconfigsv2.FlowConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config(configID)
	if c == nil {
		return status.Errorf(codes.NotFound, "no ingestion config %.100q", configID)
	}
	before := len(c.flows)
	added, err := c.add(flows)
	if err != nil && s.options.Piecemeal {
		before += added
	}
	if err != nil {
		c.flows = c.flows[:before]
	}
	return err
}

// add appends flows until one cannot be added.
func (c *config) add(flows []*ingestionconfigsv2.FlowConfig) (int, error) {
	for i, f := range flows {
		if err := checkFlow(f); err != nil {
			return i, err
		}
		for _, known := range c.flows {
			if known.GetName() == f.GetName() {
				return i, status.Errorf(codes.AlreadyExists, "flow %.100q exists", f.GetName())
			}
		}
		c.flows = append(c.flows, proto.CloneOf(f))
	}
	return len(flows), nil
}

func checkFlow(f *ingestionconfigsv2.FlowConfig) error {
	if strings.TrimSpace(f.GetName()) == "" {
		return status.Error(codes.InvalidArgument, "flow without a name")
	}
	seen := make(map[string]bool)
	for _, c := range f.GetChannels() {
		if c.GetName() == "" || seen[c.GetName()] || c.GetDataType() == 0 {
			return status.Errorf(codes.InvalidArgument, "flow %.100q: bad channel %.100q", f.GetName(), c.GetName())
		}
		seen[c.GetName()] = true
	}
	return nil
}

func (s *store) createRun(r *runsv2.CreateRunRequest) (*runsv2.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.TrimSpace(r.GetName()) == "" {
		return nil, status.Error(codes.InvalidArgument, "name is empty")
	}
	for _, run := range s.runs {
		if r.ClientKey != nil && run.GetClientKey() == r.GetClientKey() {
			return nil, status.Errorf(codes.AlreadyExists, "a run with client key %.100q exists", r.GetClientKey())
		}
	}
	run := &runsv2.Run{
		RunId: s.options.NewID("run", len(s.runs)+1),
		Name:  r.GetName(), Description: r.GetDescription(), Tags: r.GetTags(),
		ClientKey: r.ClientKey, Metadata: r.GetMetadata(),
		StartTime: r.GetStartTime(), StopTime: r.GetStopTime(),
	}
	s.runs = append(s.runs, proto.CloneOf(run))
	return run, nil
}

func copies[M proto.Message](in []M) []M {
	out := make([]M, len(in))
	for i, m := range in {
		out[i] = proto.CloneOf(m)
	}
	return out
}
