package wire

import (
	"errors"
	"fmt"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

const (
	maxConfigDepth = 32      // of nested values and blocks
	maxStepIndex   = 1 << 30 // of a list item or a block in a path
)

func valueToPB(v sdk.Value) *pb.ConfigValue {
	switch v.Kind {
	case sdk.KindString:
		return &pb.ConfigValue{Value: &pb.ConfigValue_String_{String_: v.String}}
	case sdk.KindInteger:
		return &pb.ConfigValue{Value: &pb.ConfigValue_Integer{Integer: v.Integer}}
	case sdk.KindNumber:
		return &pb.ConfigValue{Value: &pb.ConfigValue_Number{Number: v.Number}}
	case sdk.KindBool:
		return &pb.ConfigValue{Value: &pb.ConfigValue_Bool{Bool: v.Bool}}
	case sdk.KindList:
		list := &pb.ConfigList{}
		for _, item := range v.List {
			list.Items = append(list.Items, valueToPB(item))
		}
		return &pb.ConfigValue{Value: &pb.ConfigValue_List{List: list}}
	case sdk.KindMap:
		items := make(map[string]*pb.ConfigValue, len(v.Map))
		for key, item := range v.Map {
			items[key] = valueToPB(item)
		}
		return &pb.ConfigValue{Value: &pb.ConfigValue_Map{Map: &pb.ConfigMap{Items: items}}}
	}
	return &pb.ConfigValue{}
}

func valueFromPB(v *pb.ConfigValue) (sdk.Value, error) { return valueAt(v, 0) }

func valueAt(v *pb.ConfigValue, depth int) (sdk.Value, error) {
	if depth > maxConfigDepth {
		return sdk.Value{}, fmt.Errorf("value is nested more than %d deep", maxConfigDepth)
	}
	switch x := v.GetValue().(type) {
	case *pb.ConfigValue_String_:
		return sdk.Value{Kind: sdk.KindString, String: x.String_}, nil
	case *pb.ConfigValue_Integer:
		return sdk.Value{Kind: sdk.KindInteger, Integer: x.Integer}, nil
	case *pb.ConfigValue_Number:
		return sdk.Value{Kind: sdk.KindNumber, Number: x.Number}, nil
	case *pb.ConfigValue_Bool:
		return sdk.Value{Kind: sdk.KindBool, Bool: x.Bool}, nil
	case *pb.ConfigValue_List:
		out := sdk.Value{Kind: sdk.KindList}
		for _, item := range x.List.GetItems() {
			value, err := valueAt(item, depth+1)
			if err != nil {
				return out, err
			}
			out.List = append(out.List, value)
		}
		return out, nil
	case *pb.ConfigValue_Map:
		out := sdk.Value{Kind: sdk.KindMap, Map: make(map[string]sdk.Value, len(x.Map.GetItems()))}
		for key, item := range x.Map.GetItems() {
			value, err := valueAt(item, depth+1)
			if err != nil {
				return out, err
			}
			out.Map[key] = value
		}
		return out, nil
	}
	return sdk.Value{}, errors.New("value of unknown kind")
}

func bodyToPB(b sdk.Body) *pb.ConfigBody {
	out := &pb.ConfigBody{Attributes: make(map[string]*pb.ConfigValue, len(b.Attributes))}
	for name, v := range b.Attributes {
		out.Attributes[name] = valueToPB(v)
	}
	for _, block := range b.Blocks {
		out.Blocks = append(out.Blocks, &pb.ConfigBlock{
			Type: block.Type, Labels: block.Labels, Body: bodyToPB(block.Body),
		})
	}
	return out
}

func bodyFromPB(b *pb.ConfigBody) (sdk.Body, error) { return bodyAt(b, 0) }

func bodyAt(b *pb.ConfigBody, depth int) (sdk.Body, error) {
	if depth > maxConfigDepth {
		return sdk.Body{}, fmt.Errorf("blocks are nested more than %d deep", maxConfigDepth)
	}
	out := sdk.Body{Attributes: make(map[string]sdk.Value, len(b.GetAttributes()))}
	for name, v := range b.GetAttributes() {
		value, err := valueFromPB(v)
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		out.Attributes[name] = value
	}
	for _, block := range b.GetBlocks() {
		body, err := bodyAt(block.GetBody(), depth+1)
		if err != nil {
			return out, fmt.Errorf("%s: %w", block.GetType(), err)
		}
		out.Blocks = append(out.Blocks, sdk.BlockBody{Type: block.GetType(), Labels: block.GetLabels(), Body: body})
	}
	return out, nil
}

func diagnosticsToPB(diags []sdk.Diagnostic) []*pb.Diagnostic {
	var out []*pb.Diagnostic
	for _, d := range diags {
		p := &pb.Diagnostic{
			Severity: pb.Severity(d.Severity),
			Summary:  cutText(d.Summary, maxFailureText),
			Detail:   cutText(d.Detail, maxFailureText),
			Line:     uint32(max(0, d.Line)),
			Column:   uint32(max(0, d.Column)),
		}
		for _, step := range d.Path {
			p.Path = append(p.Path, stepToPB(step))
		}
		out = append(out, p)
	}
	return out
}

func stepToPB(s sdk.Step) *pb.PathStep {
	switch {
	case s.Block != "":
		block := &pb.BlockStep{Type: s.Block, Index: uint32(max(0, s.BlockIndex))}
		return &pb.PathStep{Step: &pb.PathStep_Block{Block: block}}
	case s.Attribute != "":
		return &pb.PathStep{Step: &pb.PathStep_Attribute{Attribute: s.Attribute}}
	case s.Index > 0: // from 1 here, from 0 in the contract
		return &pb.PathStep{Step: &pb.PathStep_Index{Index: uint32(s.Index - 1)}}
	}
	return &pb.PathStep{Step: &pb.PathStep_Key{Key: s.Key}}
}

// diagnosticsFromPB takes an unknown severity for an error.
func diagnosticsFromPB(diags []*pb.Diagnostic) []sdk.Diagnostic {
	var out []sdk.Diagnostic
	for _, d := range diags {
		s := sdk.Diagnostic{
			Severity: sdk.SeverityError,
			Summary:  cutText(d.GetSummary(), maxFailureText),
			Detail:   cutText(d.GetDetail(), maxFailureText),
			Line:     int(d.GetLine()),
			Column:   int(d.GetColumn()),
		}
		if d.GetSeverity() == pb.Severity_SEVERITY_WARNING {
			s.Severity = sdk.SeverityWarning
		}
		for _, step := range d.GetPath() {
			s.Path = append(s.Path, stepFromPB(step))
		}
		out = append(out, s)
	}
	return out
}

func stepFromPB(s *pb.PathStep) sdk.Step {
	switch x := s.GetStep().(type) {
	case *pb.PathStep_Attribute:
		return sdk.Step{Attribute: x.Attribute}
	case *pb.PathStep_Block:
		return sdk.Step{Block: x.Block.GetType(), BlockIndex: int(min(x.Block.GetIndex(), maxStepIndex))}
	case *pb.PathStep_Index:
		return sdk.Step{Index: int(min(x.Index, maxStepIndex)) + 1}
	case *pb.PathStep_Key:
		return sdk.Step{Key: x.Key}
	}
	return sdk.Step{}
}
