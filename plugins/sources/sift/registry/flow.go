package registry

import (
	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// Flow is a registered flow, ready for the pipeline.
type Flow struct {
	sdk.Flow
	AssetID string
}

// Flow returns a flow with its origin. The run may be empty. An error tells, as
// a status, what is not registered.
func (s *Store) Flow(configID, name, runID string) (*Flow, error) {
	out := new(Flow)
	err := s.view(func(tx *bbolt.Tx) error {
		config := new(configsv2.IngestionConfig)
		if err := loadConfig(tx, configID, config); err != nil {
			return err
		}
		definition := new(configsv2.FlowConfig)
		number := tx.Bucket(flowNames).Bucket([]byte(configID)).Get([]byte(name))
		if name == "" || number == nil {
			return refuse(codes.NotFound, "ingestion config %s has no flow %s", quote(config.GetClientKey()), quote(name))
		}
		if err := proto.Unmarshal(tx.Bucket(flows).Bucket([]byte(configID)).Get(number), definition); err != nil {
			return err
		}
		out.Flow = toFlow(definition)
		out.AssetID = config.GetAssetId()
		return origin(tx, config, runID, &out.Origin)
	})
	return out, err
}

// origin says for whom a config's rows come in.
func origin(tx *bbolt.Tx, config *configsv2.IngestionConfig, runID string, into *sdk.Origin) error {
	asset := new(assetsv1.Asset)
	if _, err := load(tx, assets, config.GetAssetId(), asset); err != nil {
		return err
	}
	into.Asset = asset.GetName()
	into.ClientKey = config.GetClientKey()
	if into.ClientKey == "" {
		// Configs without a key may share names and differ in content.
		into.ClientKey = config.GetIngestionConfigId()
	}
	if runID == "" {
		return nil
	}
	run := new(runsv2.Run)
	if err := loadRun(tx, runID, run); err != nil {
		return err
	}
	into.Run = run.GetClientKey()
	if into.Run == "" {
		into.Run = run.GetName()
	}
	return nil
}

// checkFlows refuses flows that the pipeline would not take.
func checkFlows(added []*configsv2.FlowConfig) error {
	if len(added) > MaxFlows {
		return refuse(codes.InvalidArgument, "%d flows, the limit is %d", len(added), MaxFlows)
	}
	names := make(map[string]struct{}, len(added))
	for _, config := range added {
		if _, twice := names[config.GetName()]; twice {
			return refuse(codes.InvalidArgument, "flow %s comes twice", quote(config.GetName()))
		}
		names[config.GetName()] = struct{}{}
		if err := checkFlow(config); err != nil {
			return err
		}
	}
	return nil
}

func checkFlow(config *configsv2.FlowConfig) error {
	// First what the conversion relies on, and what keeps later texts short.
	if err := checkLength("a flow's name", config.GetName()); err != nil {
		return err
	}
	for _, c := range config.GetChannels() {
		if err := checkLength("a channel's name", c.GetName()); err != nil {
			return err
		}
		if t := c.GetDataType(); t < 1 || !sdk.ChannelType(min(t, 255)).Valid() {
			return refuse(codes.InvalidArgument, "channel %s of flow %s has no known data type", quote(c.GetName()), quote(config.GetName()))
		}
	}
	flow := toFlow(config)
	if err := flow.Check(); err != nil {
		return refuse(codes.InvalidArgument, "%v", err)
	}
	return nil
}

// toFlow describes a config's flow in the pipeline's words. The type numbers are
// the same.
func toFlow(config *configsv2.FlowConfig) sdk.Flow {
	flow := sdk.Flow{Name: config.GetName(), Channels: make([]sdk.Channel, len(config.GetChannels()))}
	for i, c := range config.GetChannels() {
		channel := sdk.Channel{
			Name:        c.GetName(),
			Type:        sdk.ChannelType(c.GetDataType()),
			Unit:        c.GetUnit(),
			Description: c.GetDescription(),
		}
		for _, e := range c.GetEnumTypes() {
			channel.Enum = append(channel.Enum, sdk.EnumValue{Name: e.GetName(), Key: e.GetKey(), Signed: e.GetIsSigned()})
		}
		for _, b := range c.GetBitFieldElements() {
			channel.BitField = append(channel.BitField, sdk.BitFieldElement{Name: b.GetName(), Index: b.GetIndex(), BitCount: b.GetBitCount()})
		}
		flow.Channels[i] = channel
	}
	return flow
}
