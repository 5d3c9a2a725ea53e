package sift

import (
	"fmt"
	"slices"
	"strings"

	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	"github.com/pipelined/pipelined/sdk"
)

// flowConfig is a flow as the service knows it. The numbers of the channel types
// are the same on both sides.
func flowConfig(f *sdk.Flow) *ingestionconfigsv2.FlowConfig {
	out := &ingestionconfigsv2.FlowConfig{Name: f.Name}
	for i := range f.Channels {
		c := &f.Channels[i]
		channel := &ingestionconfigsv2.ChannelConfig{
			Name: c.Name, Unit: c.Unit, Description: c.Description, DataType: typev1.ChannelDataType(c.Type),
		}
		for _, e := range c.Enum {
			channel.EnumTypes = append(channel.EnumTypes, &typev1.ChannelEnumType{Name: e.Name, Key: e.Key, IsSigned: e.Signed})
		}
		for _, e := range c.BitField {
			channel.BitFieldElements = append(channel.BitFieldElements, &typev1.ChannelBitFieldElement{
				Name: e.Name, Index: e.Index, BitCount: e.BitCount,
			})
		}
		out.Channels = append(out.Channels, channel)
	}
	return out
}

// flowOf is the inverse of flowConfig. A type that we do not know stays invalid,
// so that it equals none.
func flowOf(f *ingestionconfigsv2.FlowConfig) sdk.Flow {
	out := sdk.Flow{Name: f.GetName()}
	for _, c := range f.GetChannels() {
		channel := sdk.Channel{Name: c.GetName(), Unit: c.GetUnit(), Description: c.GetDescription()}
		if n := c.GetDataType(); n >= 0 && n <= 0xff {
			channel.Type = sdk.ChannelType(n)
		}
		for _, e := range c.GetEnumTypes() {
			channel.Enum = append(channel.Enum, sdk.EnumValue{Name: e.GetName(), Key: e.GetKey(), Signed: e.GetIsSigned()})
		}
		for _, e := range c.GetBitFieldElements() {
			channel.BitField = append(channel.BitField, sdk.BitFieldElement{Name: e.GetName(), Index: e.GetIndex(), BitCount: e.GetBitCount()})
		}
		out.Channels = append(out.Channels, channel)
	}
	return out
}

// metadataValues converts metadata in the order of its names.
func metadataValues(in []sdk.Metadata) ([]*metadatav1.MetadataValue, error) {
	var out []*metadatav1.MetadataValue
	for _, m := range in {
		key := &metadatav1.MetadataKey{Name: m.Name}
		value := &metadatav1.MetadataValue{Key: key}
		switch v := m.Value.(type) {
		case string:
			key.Type = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_STRING
			value.Value = &metadatav1.MetadataValue_StringValue{StringValue: v}
		case float64:
			key.Type = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_NUMBER
			value.Value = &metadatav1.MetadataValue_NumberValue{NumberValue: v}
		case bool:
			key.Type = metadatav1.MetadataKeyType_METADATA_KEY_TYPE_BOOLEAN
			value.Value = &metadatav1.MetadataValue_BooleanValue{BooleanValue: v}
		default:
			return nil, fmt.Errorf("%q is a %T; string, number and bool are possible", m.Name, m.Value)
		}
		out = append(out, value)
	}
	slices.SortFunc(out, func(a, b *metadatav1.MetadataValue) int {
		return strings.Compare(a.GetKey().GetName(), b.GetKey().GetName())
	})
	return out, nil
}

// sameMetadata compares names and values; what else the service keeps does not
// matter.
func sameMetadata(a, b []*metadatav1.MetadataValue) bool {
	values := func(in []*metadatav1.MetadataValue) map[string]string {
		out := make(map[string]string, len(in))
		for _, m := range in {
			out[m.GetKey().GetName()] = metadataText(m)
		}
		return out
	}
	x, y := values(a), values(b)
	if len(x) != len(y) {
		return false
	}
	for name, text := range x {
		if other, ok := y[name]; !ok || other != text {
			return false
		}
	}
	return true
}

// metadataText is equal for equal values only.
func metadataText(m *metadatav1.MetadataValue) string {
	switch v := m.GetValue().(type) {
	case *metadatav1.MetadataValue_StringValue:
		return "s" + v.StringValue
	case *metadatav1.MetadataValue_NumberValue:
		return fmt.Sprint("n", v.NumberValue)
	case *metadatav1.MetadataValue_BooleanValue:
		return fmt.Sprint("b", v.BooleanValue)
	default:
		return "?"
	}
}

func sameSet(a, b []string) bool {
	sorted := func(in []string) []string { return slices.Compact(slices.Sorted(slices.Values(in))) }
	return slices.Equal(sorted(a), sorted(b))
}

// equals is a filter for one value; quotes and the like are escaped.
func equals(name, value string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(value)
	return name + " == '" + escaped + "'"
}

// lowerASCII folds the case of ASCII letters only, as the service does.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
