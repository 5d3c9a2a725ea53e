package wire

import (
	"fmt"
	"maps"
	"slices"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

func registrationToPB(r *sdk.Registration) (*pb.RegisterRequest, error) {
	out := &pb.RegisterRequest{Asset: r.Asset, ClientKey: r.ClientKey, AssetTags: r.AssetTags}
	for i := range r.Flows {
		out.Flows = append(out.Flows, flowToPB(&r.Flows[i]))
	}
	var err error
	if out.AssetMetadata, err = metadataToPB(r.AssetMetadata); err != nil {
		return nil, fmt.Errorf("metadata of the asset: %w", err)
	}
	run := &pb.Run{
		Id: r.Run.ID, Name: r.Run.Name, ClientKey: r.Run.ClientKey,
		Description: r.Run.Description, Tags: r.Run.Tags,
	}
	if run.Metadata, err = metadataToPB(r.Run.Metadata); err != nil {
		return nil, fmt.Errorf("metadata of the run: %w", err)
	}
	if run.Id != "" || run.Name != "" || run.ClientKey != "" {
		out.Run = run
	}
	return out, nil
}

func registrationFromPB(r *pb.RegisterRequest) (sdk.Registration, error) {
	run := r.GetRun()
	out := sdk.Registration{
		Asset: r.GetAsset(), ClientKey: r.GetClientKey(),
		AssetTags: r.GetAssetTags(), AssetMetadata: metadataFromPB(r.GetAssetMetadata()),
		Run: sdk.Run{
			ID: run.GetId(), Name: run.GetName(), ClientKey: run.GetClientKey(),
			Description: run.GetDescription(), Tags: run.GetTags(), Metadata: metadataFromPB(run.GetMetadata()),
		},
	}
	for _, f := range r.GetFlows() {
		flow, err := flowFromPB(f)
		if err != nil {
			return out, err
		}
		out.Flows = append(out.Flows, *flow)
	}
	return out, nil
}

func metadataToPB(metadata []sdk.Metadata) (map[string]*pb.MetadataValue, error) {
	if len(metadata) == 0 {
		return nil, nil
	}
	out := make(map[string]*pb.MetadataValue, len(metadata))
	for _, m := range metadata {
		switch v := m.Value.(type) {
		case string:
			out[m.Name] = &pb.MetadataValue{Value: &pb.MetadataValue_String_{String_: v}}
		case float64:
			out[m.Name] = &pb.MetadataValue{Value: &pb.MetadataValue_Number{Number: v}}
		case bool:
			out[m.Name] = &pb.MetadataValue{Value: &pb.MetadataValue_Bool{Bool: v}}
		default:
			return nil, fmt.Errorf("%s is a %T, want string, float64 or bool", shorten(m.Name), m.Value)
		}
	}
	return out, nil
}

// metadataFromPB returns the values in the order of their names.
func metadataFromPB(metadata map[string]*pb.MetadataValue) []sdk.Metadata {
	var out []sdk.Metadata
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		switch v := metadata[name].GetValue().(type) {
		case *pb.MetadataValue_String_:
			out = append(out, sdk.Metadata{Name: name, Value: v.String_})
		case *pb.MetadataValue_Number:
			out = append(out, sdk.Metadata{Name: name, Value: v.Number})
		case *pb.MetadataValue_Bool:
			out = append(out, sdk.Metadata{Name: name, Value: v.Bool})
		}
	}
	return out
}
