package config

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/pipelined/pipelined/sdk"
)

// flowBlock is a flow block.
type flowBlock struct {
	Name               string         `config:"name,label"`
	StrictlyIncreasing bool           `config:"strictly_increasing" doc:"Promises that each stamp is greater than the one before"`
	Channels           []channelBlock `config:"channel,block,required" doc:"Channel of the flow, in order"`
}

// channelBlock is a channel block inside a flow block.
type channelBlock struct {
	Name        string           `config:"name,label"`
	Type        string           `config:"type,required" allowed:"double,float,string,enum,bit_field,bool,int32,uint32,int64,uint64,bytes" doc:"Type of its values"`
	Unit        string           `config:"unit" doc:"Unit of its values"`
	Description string           `config:"description" doc:"What it measures"`
	Enum        map[string]int64 `config:"enum" doc:"Names of the keys of an enum channel"`
	Elements    []elementBlock   `config:"element,block" doc:"Range of bits of a bit_field channel"`
}

// elementBlock is an element block inside a channel block.
type elementBlock struct {
	Name     string `config:"name,label"`
	Index    int64  `config:"index,required" doc:"Position of its first bit, from 0"`
	BitCount int64  `config:"bit_count,required" doc:"Number of bits"`
}

func (f flowBlock) flow() sdk.Flow {
	out := sdk.Flow{Name: f.Name, StrictlyIncreasing: f.StrictlyIncreasing}
	for _, c := range f.Channels {
		out.Channels = append(out.Channels, c.channel())
	}
	return out
}

func (c channelBlock) channel() sdk.Channel {
	t, _ := sdk.ParseChannelType(c.Type) // the schema allows no other
	out := sdk.Channel{Name: c.Name, Type: t, Unit: c.Unit, Description: c.Description}
	for name, key := range c.Enum {
		out.Enum = append(out.Enum, sdk.EnumValue{Name: name, Key: uint32(key)})
	}
	slices.SortFunc(out.Enum, func(a, b sdk.EnumValue) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Name, b.Name))
	})
	for _, e := range c.Elements {
		out.BitField = append(out.BitField, sdk.BitFieldElement{Name: e.Name, Index: int32(e.Index), BitCount: uint32(e.BitCount)})
	}
	return out
}

// checkFlows finds what the schema of flow blocks cannot say.
func checkFlows(flows []flowBlock) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	seen := map[string]bool{}
	for i, f := range flows {
		at := []sdk.Step{{Block: "flow", BlockIndex: i}}
		if seen[f.Name] {
			problems = append(problems, problemAt(at, "Duplicate flow", "Another flow block has the name "+quote(f.Name)+"."))
		}
		seen[f.Name] = true
		channels := map[string]bool{}
		for j, c := range f.Channels {
			at := append(slices.Clone(at), sdk.Step{Block: "channel", BlockIndex: j})
			if channels[c.Name] {
				problems = append(problems, problemAt(at, "Duplicate channel", "The flow has another channel "+quote(c.Name)+"."))
			}
			channels[c.Name] = true
			problems = append(problems, c.check(at)...)
		}
		flow := f.flow()
		if err := flow.Check(); err != nil && len(problems) == 0 {
			problems = append(problems, problemAt(at, "Invalid flow", upperFirst(err.Error())+"."))
		}
	}
	return problems
}

func (c channelBlock) check(at []sdk.Step) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	within := func(attribute string) []sdk.Step { return append(slices.Clone(at), sdk.Step{Attribute: attribute}) }
	if len(c.Enum) > 0 && c.Type != "enum" {
		problems = append(problems, problemAt(within("enum"), "Names without enum", `Only a channel of type "enum" has names for its values.`))
	}
	if len(c.Enum) == 0 && c.Type == "enum" {
		problems = append(problems, problemAt(at, "Enum without names", `A channel of type "enum" needs names for its keys: enum = { idle = 0, armed = 1 }.`))
	}
	keys := map[int64]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Enum)) {
		key := c.Enum[name]
		at := append(within("enum"), sdk.Step{Key: name})
		if keys[key] {
			problems = append(problems, problemAt(at, "Duplicate enum key", "Another name has the same key."))
		}
		keys[key] = true
		if key < 0 || key > math.MaxUint32 {
			problems = append(problems, problemAt(at, "Invalid enum key", "A key is between 0 and 4294967295."))
		}
	}
	if len(c.Elements) > 0 && c.Type != "bit_field" {
		problems = append(problems, problemAt(at, "Elements without bit field", `Only a channel of type "bit_field" has elements.`))
	}
	for k, e := range c.Elements {
		if e.Index < 0 || e.Index > math.MaxInt32 || e.BitCount < 1 || e.BitCount > 64 {
			at := append(slices.Clone(at), sdk.Step{Block: "element", BlockIndex: k})
			problems = append(problems, problemAt(at, "Invalid element", "The index is 0 or more; the number of bits is between 1 and 64."))
		}
	}
	return problems
}

func problemAt(path []sdk.Step, summary, detail string) sdk.Diagnostic {
	return sdk.Diagnostic{Severity: sdk.SeverityError, Summary: summary, Detail: detail, Path: path}
}
