package registry

import (
	"context"
	"encoding/binary"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"

	"github.com/pipelined/pipelined/plugins/sources/sift/filter"
)

// configService keeps ingestion configs and their flows.
type configService struct {
	configsv2.UnimplementedIngestionConfigServiceServer
	store *Store
}

func (s configService) GetIngestionConfig(_ context.Context, in *configsv2.GetIngestionConfigRequest) (*configsv2.GetIngestionConfigResponse, error) {
	config := new(configsv2.IngestionConfig)
	err := s.store.view(func(tx *bbolt.Tx) error {
		return loadConfig(tx, in.GetIngestionConfigId(), config)
	})
	if err != nil {
		return nil, err
	}
	return &configsv2.GetIngestionConfigResponse{IngestionConfig: config}, nil
}

// loadConfig reads a config that must be there.
func loadConfig(tx *bbolt.Tx, id string, into *configsv2.IngestionConfig) error {
	ok, err := load(tx, configs, id, into)
	if err == nil && !ok {
		err = refuse(codes.NotFound, "there is no ingestion config %s", quote(id))
	}
	return err
}

func (s configService) CreateIngestionConfig(_ context.Context, in *configsv2.CreateIngestionConfigRequest) (*configsv2.CreateIngestionConfigResponse, error) {
	key := in.GetClientKey()
	if err := checkName("asset_name", in.GetAssetName()); err != nil {
		return nil, err
	}
	if err := checkLength("client_key", key); err != nil {
		return nil, err
	}
	if err := checkFlows(in.GetFlows()); err != nil {
		return nil, err
	}
	config := &configsv2.IngestionConfig{ClientKey: key}
	err := s.store.update(func(tx *bbolt.Tx) error {
		if key != "" && tx.Bucket(configKeys).Get([]byte(key)) != nil {
			return refuse(codes.AlreadyExists, "there is an ingestion config with client key %s", quote(key))
		}
		asset, err := s.store.ensureAsset(tx, in.GetAssetName())
		if err != nil {
			return err
		}
		id, err := create(tx, configs)
		if err != nil {
			return err
		}
		config.IngestionConfigId, config.AssetId = id, asset
		if key != "" {
			if err := tx.Bucket(configKeys).Put([]byte(key), []byte(id)); err != nil {
				return err
			}
		}
		if err := save(tx, configs, id, config); err != nil {
			return err
		}
		return addFlows(tx, id, in.GetFlows())
	})
	if err != nil {
		return nil, err
	}
	return &configsv2.CreateIngestionConfigResponse{IngestionConfig: config}, nil
}

func (s configService) ListIngestionConfigs(_ context.Context, in *configsv2.ListIngestionConfigsRequest) (*configsv2.ListIngestionConfigsResponse, error) {
	match, err := parseFilter(in.GetFilter(), filter.Fields{
		"ingestion_config_id": filter.String, "client_key": filter.String, "asset_id": filter.String,
	})
	if err != nil {
		return nil, err
	}
	page, err := newPage(in.GetPageSize(), in.GetPageToken(), "configs", in.GetFilter())
	if err != nil {
		return nil, err
	}
	var all []*configsv2.IngestionConfig
	err = s.store.view(func(tx *bbolt.Tx) error {
		return each(tx, configs, func(c *configsv2.IngestionConfig) {
			if match.Match(func(field string) []string { return configField(c, field) }) {
				all = append(all, c)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	items, next, err := cut(page, all, (*configsv2.IngestionConfig).GetIngestionConfigId)
	if err != nil {
		return nil, err
	}
	return &configsv2.ListIngestionConfigsResponse{IngestionConfigs: items, NextPageToken: next}, nil
}

func configField(c *configsv2.IngestionConfig, field string) []string {
	switch field {
	case "ingestion_config_id":
		return []string{c.GetIngestionConfigId()}
	case "client_key":
		return []string{c.GetClientKey()}
	default:
		return []string{c.GetAssetId()}
	}
}

func (s configService) CreateIngestionConfigFlows(_ context.Context, in *configsv2.CreateIngestionConfigFlowsRequest) (*configsv2.CreateIngestionConfigFlowsResponse, error) {
	if err := checkFlows(in.GetFlows()); err != nil {
		return nil, err
	}
	// Clients send one call for each missing flow, all at once: Batch writes them
	// together.
	err := withStatus(s.store.db.Batch(func(tx *bbolt.Tx) error {
		id := in.GetIngestionConfigId()
		if err := loadConfig(tx, id, new(configsv2.IngestionConfig)); err != nil {
			return err
		}
		return addFlows(tx, id, in.GetFlows())
	}))
	if err != nil {
		return nil, err
	}
	return &configsv2.CreateIngestionConfigFlowsResponse{}, nil
}

// addFlows adds all flows to a config, or none if one's name is in use.
func addFlows(tx *bbolt.Tx, config string, added []*configsv2.FlowConfig) error {
	names, err := tx.Bucket(flowNames).CreateBucketIfNotExists([]byte(config))
	if err != nil {
		return err
	}
	definitions, err := tx.Bucket(flows).CreateBucketIfNotExists([]byte(config))
	if err != nil {
		return err
	}
	for _, flow := range added {
		if names.Get([]byte(flow.GetName())) != nil {
			return refuse(codes.AlreadyExists, "the ingestion config has a flow %s", quote(flow.GetName()))
		}
		n, err := definitions.NextSequence()
		if err != nil {
			return err
		}
		if n > MaxFlows {
			return refuse(codes.ResourceExhausted, "an ingestion config has at most %d flows; use another client key", MaxFlows)
		}
		raw, err := proto.Marshal(flow)
		if err != nil {
			return err
		}
		number := binary.BigEndian.AppendUint64(nil, n)
		if err := names.Put([]byte(flow.GetName()), number); err != nil {
			return err
		}
		if err := definitions.Put(number, raw); err != nil {
			return err
		}
	}
	return nil
}

func (s configService) ListIngestionConfigFlows(_ context.Context, in *configsv2.ListIngestionConfigFlowsRequest) (*configsv2.ListIngestionConfigFlowsResponse, error) {
	id := in.GetIngestionConfigId()
	match, err := parseFilter(in.GetFilter(), filter.Fields{"flow_name": filter.String})
	if err != nil {
		return nil, err
	}
	page, err := newPage(in.GetPageSize(), in.GetPageToken(), "flows", id, in.GetFilter())
	if err != nil {
		return nil, err
	}
	c := collector[*configsv2.FlowConfig]{page: page}
	err = s.store.view(func(tx *bbolt.Tx) error {
		if err := loadConfig(tx, id, new(configsv2.IngestionConfig)); err != nil {
			return err
		}
		return collectFlows(tx.Bucket(flows).Bucket([]byte(id)), &c, match)
	})
	if err != nil {
		return nil, err
	}
	return &configsv2.ListIngestionConfigFlowsResponse{Flows: c.items, NextPageToken: c.next()}, nil
}

// collectFlows reads flows in the order of their creation. It stops at the end
// of the page: definitions can be large.
func collectFlows(definitions *bbolt.Bucket, c *collector[*configsv2.FlowConfig], match *filter.Filter) error {
	cursor := definitions.Cursor()
	number, raw := cursor.Seek(c.page.after)
	if c.page.after != nil && string(number) == string(c.page.after) {
		number, raw = cursor.Next()
	}
	for ; number != nil; number, raw = cursor.Next() {
		flow := new(configsv2.FlowConfig)
		if err := proto.Unmarshal(raw, flow); err != nil {
			return err
		}
		name := []string{flow.GetName()}
		if match.Match(func(string) []string { return name }) && !c.add(number, flow) {
			return nil
		}
	}
	return nil
}
