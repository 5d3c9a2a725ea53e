package wire

import (
	"errors"
	"fmt"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// maxSchemaDepth bounds nested blocks.
const maxSchemaDepth = 16

func schemaToPB(s sdk.Schema) *pb.ConfigSchema {
	out := &pb.ConfigSchema{}
	for i := range s.Attributes {
		out.Attributes = append(out.Attributes, attributeToPB(&s.Attributes[i]))
	}
	for _, b := range s.Blocks {
		out.Blocks = append(out.Blocks, &pb.Block{
			Type:        b.Type,
			Body:        schemaToPB(b.Body),
			Labels:      b.Labels,
			MinItems:    uint32(b.Min),
			MaxItems:    uint32(b.Max),
			Description: b.Description,
		})
	}
	for _, o := range s.OneOf {
		out.OneOf = append(out.OneOf, &pb.OneOf{Names: o.Names, Required: o.Required})
	}
	return out
}

func attributeToPB(a *sdk.Attribute) *pb.Attribute {
	out := &pb.Attribute{
		Name:        a.Name,
		Type:        pb.ValueType(a.Type),
		Collection:  pb.Collection(a.Collection),
		Grant:       pb.Grant(a.Grant),
		Required:    a.Required,
		Sensitive:   a.Sensitive,
		Description: a.Description,
		Allowed:     a.Allowed,
		Keywords:    a.Keywords,
	}
	if a.Default != nil {
		out.Default = valueToPB(*a.Default)
	}
	return out
}

// schemaFromPB returns a schema that a host can use: names are there and unique,
// numbers of types are known, depth is bounded.
func schemaFromPB(s *pb.ConfigSchema) (sdk.Schema, error) { return schemaAt(s, 0) }

func schemaAt(s *pb.ConfigSchema, depth int) (sdk.Schema, error) {
	var out sdk.Schema
	if depth > maxSchemaDepth {
		return out, fmt.Errorf("schema has blocks nested more than %d deep", maxSchemaDepth)
	}
	names := map[string]struct{}{}
	for _, a := range s.GetAttributes() {
		if err := addName(names, a.GetName()); err != nil {
			return out, err
		}
		attribute, err := attributeFromPB(a)
		if err != nil {
			return out, fmt.Errorf("attribute %s: %w", shorten(a.GetName()), err)
		}
		out.Attributes = append(out.Attributes, attribute)
	}
	for _, b := range s.GetBlocks() {
		if err := addName(names, b.GetType()); err != nil {
			return out, err
		}
		block, err := blockFromPB(b, depth)
		if err != nil {
			return out, fmt.Errorf("block %s: %w", shorten(b.GetType()), err)
		}
		out.Blocks = append(out.Blocks, block)
	}
	for _, o := range s.GetOneOf() {
		for _, name := range o.GetNames() {
			if _, ok := names[name]; !ok {
				return out, fmt.Errorf("one-of group names %s, which does not exist", shorten(name))
			}
		}
		out.OneOf = append(out.OneOf, sdk.OneOf{Names: o.GetNames(), Required: o.GetRequired()})
	}
	return out, nil
}

func addName(names map[string]struct{}, name string) error {
	if name == "" {
		return errors.New("schema has an attribute or block without a name")
	}
	if _, twice := names[name]; twice {
		return fmt.Errorf("schema has %s twice", shorten(name))
	}
	names[name] = struct{}{}
	return nil
}

func blockFromPB(b *pb.Block, depth int) (sdk.Block, error) {
	const most = 1 << 20
	if b.GetMinItems() > most || b.GetMaxItems() > most || b.GetMaxItems() != 0 && b.GetMinItems() > b.GetMaxItems() {
		return sdk.Block{}, fmt.Errorf("may stand %d to %d times, which cannot be", b.GetMinItems(), b.GetMaxItems())
	}
	body, err := schemaAt(b.GetBody(), depth+1)
	return sdk.Block{
		Type:        b.GetType(),
		Labels:      b.GetLabels(),
		Body:        body,
		Min:         int(b.GetMinItems()),
		Max:         int(b.GetMaxItems()),
		Description: b.GetDescription(),
	}, err
}

func attributeFromPB(a *pb.Attribute) (sdk.Attribute, error) {
	out := sdk.Attribute{
		Name:        a.GetName(),
		Type:        sdk.ValueType(a.GetType()),
		Collection:  sdk.Collection(a.GetCollection()),
		Grant:       sdk.Grant(a.GetGrant()),
		Required:    a.GetRequired(),
		Sensitive:   a.GetSensitive(),
		Description: a.GetDescription(),
		Allowed:     a.GetAllowed(),
		Keywords:    a.GetKeywords(),
	}
	switch {
	case a.GetType() < pb.ValueType_VALUE_TYPE_STRING || a.GetType() > pb.ValueType_VALUE_TYPE_TIME:
		return out, fmt.Errorf("unknown type %d", a.GetType())
	case a.GetCollection() < 0 || a.GetCollection() > pb.Collection_COLLECTION_MAP:
		return out, fmt.Errorf("unknown collection %d", a.GetCollection())
	case a.GetGrant() < 0 || a.GetGrant() > pb.Grant_GRANT_DEVICE:
		return out, fmt.Errorf("unknown grant %d", a.GetGrant())
	case a.GetDefault() == nil:
		return out, nil
	}
	value, err := valueFromPB(a.GetDefault())
	if err != nil {
		return out, fmt.Errorf("default: %w", err)
	}
	out.Default = &value
	return out, nil
}
