package sdk_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestChannelTypes(t *testing.T) {
	names := map[string]bool{}
	for i, typ := range sdk.ChannelTypes() {
		assert.EqualValues(t, i+1, typ, "numbered as in the contract")
		assert.True(t, typ.Valid())
		back, err := sdk.ParseChannelType(typ.String())
		require.NoError(t, err)
		assert.Equal(t, typ, back)
		names[typ.String()] = true
	}
	assert.Len(t, names, 11)
	for _, typ := range []sdk.ChannelType{0, 12, 255} {
		assert.False(t, typ.Valid())
		assert.Contains(t, typ.String(), "channel type ")
	}
	_, err := sdk.ParseChannelType("Double")
	require.EqualError(t, err, `unknown channel type "Double"`)
}

// rich has something in every field.
func rich() sdk.Flow {
	return sdk.Flow{
		Origin: sdk.Origin{Asset: "stand-3", ClientKey: "key", Run: "run-1"},
		Name:   "é", StrictlyIncreasing: true,
		Channels: []sdk.Channel{
			{Name: "state", Type: sdk.Enum, Enum: []sdk.EnumValue{{Name: "off"}, {Name: "on", Key: 1<<32 - 1, Signed: true}}},
			{Name: "bits", Type: sdk.BitField, BitField: []sdk.BitFieldElement{
				{Name: "a", BitCount: 1},
				{Name: "b", Index: -1, BitCount: 7},
			}},
		},
	}
}

// TestGoldenFingerprints: they are stored and sent, so they must never change.
// The values were computed by another program from the description.
func TestGoldenFingerprints(t *testing.T) {
	plain := sdk.Flow{Name: "engine", Channels: []sdk.Channel{
		{Name: "temp", Type: sdk.Double, Unit: "degC", Description: "chamber"},
	}}
	assert.Equal(t, "bb2cf6a33c272db75a19e0a20ad54967", plain.Fingerprint().String())
	flow := rich()
	assert.Equal(t, "286bc6b5a8adc87bb68d70271bfffa4a", flow.Fingerprint().String())
}

// TestFingerprintSeesEverything: each change of a flow gives another fingerprint,
// and moving text from one field to the next one does as well.
func TestFingerprintSeesEverything(t *testing.T) {
	seen := map[sdk.Fingerprint]string{}
	for name, change := range map[string]func(f *sdk.Flow){
		"nothing":         func(*sdk.Flow) {},
		"asset":           func(f *sdk.Flow) { f.Origin.Asset = "stand-4" },
		"key":             func(f *sdk.Flow) { f.Origin.ClientKey = "" },
		"run":             func(f *sdk.Flow) { f.Origin.Run = "run-2" },
		"asset to key":    func(f *sdk.Flow) { f.Origin.Asset, f.Origin.ClientKey = "stand-", "3key" },
		"name":            func(f *sdk.Flow) { f.Name = "e" },
		"increasing":      func(f *sdk.Flow) { f.StrictlyIncreasing = false },
		"order":           func(f *sdk.Flow) { f.Channels[0], f.Channels[1] = f.Channels[1], f.Channels[0] },
		"fewer":           func(f *sdk.Flow) { f.Channels = f.Channels[:1] },
		"more":            func(f *sdk.Flow) { f.Channels = append(f.Channels, sdk.Channel{}) },
		"channel name":    func(f *sdk.Flow) { f.Channels[0].Name = "States" },
		"type":            func(f *sdk.Flow) { f.Channels[0].Type = sdk.Uint32 },
		"unit":            func(f *sdk.Flow) { f.Channels[0].Unit = "V" },
		"description":     func(f *sdk.Flow) { f.Channels[0].Description = "V" },
		"enum name":       func(f *sdk.Flow) { f.Channels[0].Enum[0].Name = "OFF" },
		"enum key":        func(f *sdk.Flow) { f.Channels[0].Enum[0].Key = 2 },
		"enum sign":       func(f *sdk.Flow) { f.Channels[0].Enum[0].Signed = true },
		"enum order":      func(f *sdk.Flow) { e := f.Channels[0].Enum; e[0], e[1] = e[1], e[0] },
		"fewer enums":     func(f *sdk.Flow) { f.Channels[0].Enum = nil },
		"element name":    func(f *sdk.Flow) { f.Channels[1].BitField[0].Name = "c" },
		"element index":   func(f *sdk.Flow) { f.Channels[1].BitField[0].Index = 2 },
		"element bits":    func(f *sdk.Flow) { f.Channels[1].BitField[0].BitCount = 2 },
		"enum to element": func(f *sdk.Flow) { f.Channels[1].BitField = nil },
	} {
		flow := rich()
		change(&flow)
		print := flow.Fingerprint()
		assert.Empty(t, seen[print], "%s looks like this too: %s", name, seen[print])
		seen[print] = name
		assert.Equal(t, print, flow.Fingerprint())
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", sdk.MaxNameBytes+1)
	for _, tc := range []struct {
		name   string
		change func(f *sdk.Flow)
		want   string
	}{
		{"good", func(*sdk.Flow) {}, ""},
		{"longest names", func(f *sdk.Flow) { f.Name, f.Channels[0].Name = long[1:], long[1:] }, ""},
		{"strange names", func(f *sdk.Flow) { f.Name, f.Channels[0].Name = "a/b 'c'", " \n\"" }, ""},
		{"most channels", func(f *sdk.Flow) { *f = *flowOf(slices.Repeat([]sdk.ChannelType{sdk.Bool}, sdk.MaxChannels)...) }, ""},
		{"no name", func(f *sdk.Flow) { f.Name = "" }, "flow has no name"},
		{"long name", func(f *sdk.Flow) { f.Name = long }, "flow name has 16385 bytes, the limit is 16384"},
		{"name not UTF-8", func(f *sdk.Flow) { f.Name = "\xff" }, `flow name "\xff" is not UTF-8`},
		{"no channels", func(f *sdk.Flow) { f.Channels = nil }, `flow "é" has no channels`},
		{
			"too many channels",
			func(f *sdk.Flow) { f.Channels = make([]sdk.Channel, sdk.MaxChannels+1) },
			`flow "é" has 65537 channels, the limit is 65536`,
		},
		{"channel without name", func(f *sdk.Flow) { f.Channels[1].Name = "" }, `flow "é": channel 1: no name`},
		{"long channel name", func(f *sdk.Flow) { f.Channels[0].Name = long }, "channel 0: name has 16385 bytes, the limit is 16384"},
		{"channel not UTF-8", func(f *sdk.Flow) { f.Channels[0].Name = "\x80" }, `channel 0: name "\x80" is not UTF-8`},
		{"no type", func(f *sdk.Flow) { f.Channels[0].Type = 0 }, `"state" has unknown type 0`},
		{"duplicate", func(f *sdk.Flow) { f.Channels[1].Name = "state" }, `flow "é" has two channels "state"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flow := rich()
			tc.change(&flow)
			if tc.want == "" {
				require.NoError(t, flow.Check())
			} else {
				require.ErrorContains(t, flow.Check(), tc.want)
			}
		})
	}
}

func TestDifference(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(f *sdk.Flow)
		want   string
	}{
		{"nothing", func(*sdk.Flow) {}, ""},
		{"not the channels", func(f *sdk.Flow) { f.Name, f.Origin, f.StrictlyIncreasing = "x", sdk.Origin{}, false }, ""},
		{"fewer", func(f *sdk.Flow) { f.Channels = f.Channels[:1] }, `channel "bits" is missing`},
		{"more", func(f *sdk.Flow) { f.Channels = append(f.Channels, sdk.Channel{Name: "new"}) }, `channel "new" is new`},
		{"name", func(f *sdk.Flow) { f.Channels[0].Name = "mode" }, `channel 1: name "state", now "mode"`},
		{"type", func(f *sdk.Flow) { f.Channels[1].Type = sdk.Bytes }, `channel 2: type of "bits" is bit_field, now bytes`},
		{"unit", func(f *sdk.Flow) { f.Channels[0].Unit = "V" }, `channel 1: unit of "state" is "", now "V"`},
		{"description", func(f *sdk.Flow) { f.Channels[0].Description = "V" }, `channel 1: description of "state" is "", now "V"`},
		{"enum", func(f *sdk.Flow) { f.Channels[0].Enum[1].Signed = false }, `channel 1: enum values of "state" differ`},
		{"element", func(f *sdk.Flow) { f.Channels[1].BitField[1].Index = 0 }, `channel 2: bit field elements of "bits" differ`},
		{
			"two", func(f *sdk.Flow) { f.Channels[0].Unit, f.Channels = "V", f.Channels[:1] },
			`channel 1: unit of "state" is "", now "V"; channel "bits" is missing`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, after := rich(), rich()
			tc.change(&after)
			assert.Equal(t, tc.want, before.Difference(&after))
		})
	}

	five, six := flowOf(make([]sdk.ChannelType, 5)...), flowOf(make([]sdk.ChannelType, 6)...)
	none := &sdk.Flow{}
	assert.Equal(t, 4, strings.Count(five.Difference(none), ";"))
	assert.NotContains(t, five.Difference(none), "…")
	assert.True(t, strings.HasSuffix(six.Difference(none), "; …"))
}

func TestChannelByName(t *testing.T) {
	flow := rich()
	assert.Equal(t, 0, flow.Channel("state"))
	assert.Equal(t, 1, flow.Channel("bits"))
	assert.Equal(t, -1, flow.Channel("State"))
}
