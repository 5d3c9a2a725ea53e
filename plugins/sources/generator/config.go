package generator

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Limits of the configuration.
const (
	maxPacedRate   = 1e6
	maxNominalRate = 1e9  // with more, rows would share stamps
	minRate        = 1e-6 // rates are kept in millionths
	keywordMax     = "max"
)

// Config is the body of a source "generator" block.
type Config struct {
	Flow        string       `config:"flow" doc:"Name of the flow."`
	Rate        sdk.NumberOr `config:"rate" keywords:"max" doc:"Rows per second, up to 1000000, or \"max\": as fast as the pipeline takes them. Kept to 0.000001."`
	NominalRate float64      `config:"nominal_rate" doc:"Rows per second by their stamps when rate is \"max\"."`
	Channels    *int         `config:"channels,one_of=channels" doc:"So many channels of type double with a sine each, instead of channel blocks."`
	Channel     []Channel    `config:"channel,one_of=channels" doc:"A channel of the flow. Without any there are 10 sines."`
	Rows        int64        `config:"rows" doc:"Ends after so many rows; 0 = never."`
	Start       *time.Time   `config:"start" doc:"Stamp of the first row. Default: the time when the first run begins."`
	Seed        int64        `config:"seed" doc:"Runs with the same seed and configuration have the same values."`
	Batch       int          `config:"batch" doc:"Most rows in a batch."`
}

// Channel is the body of a channel block.
type Channel struct {
	Name        string        `config:"name,label"`
	Type        string        `config:"type" allowed:"double,float,int32,uint32,int64,uint64,bool,string,enum,bit_field,bytes" doc:"Type of the values. Integers are rounded and clipped to their range; bool is whether the wave is in its upper half; string is the number as text; enum is the wave's range cut into as many parts as there are values; bit_field and bytes are the integer's low bits and its 8 bytes. Of a counter bool is the lowest bit and enum the remainder."`
	Wave        string        `config:"wave" allowed:"sine,ramp,step,noise,counter,constant,square" doc:"sine; ramp: rises during a period and falls back; step: another random level in each period; noise: random in each row; counter: offset + number of the row, from 0; constant: offset; square: high, then low."`
	Amplitude   float64       `config:"amplitude" doc:"The wave goes from offset - amplitude to offset + amplitude."`
	Offset      float64       `config:"offset" doc:"Middle of the wave."`
	Min         *float64      `config:"min" doc:"With max, instead of amplitude and offset: least value of the wave."`
	Max         *float64      `config:"max" doc:"Greatest value of the wave."`
	Period      time.Duration `config:"period" doc:"Length of a wave in event time."`
	Phase       float64       `config:"phase" doc:"Where the wave begins, as a part of a period from 0 to 1."`
	Every       int64         `config:"every" doc:"The channel has a value in one row of so many, the first one included."`
	Unit        string        `config:"unit" doc:"Unit of the channel."`
	Description string        `config:"description" doc:"What the channel is."`
	Values      []string      `config:"values" doc:"Names of the values of an enum, whose keys count from 0."`
	Bits        []string      `config:"bits" doc:"Names of the bits of a bit_field, from the lowest. Default: 8 of them."`
}

// SetDefaults is called by the SDK.
func (c *Channel) SetDefaults() {
	c.Type, c.Wave = sdk.Double.String(), waves()[sine]
	c.Amplitude, c.Period, c.Every = 1, time.Second, 1
}

func defaultConfig() Config {
	return Config{
		Flow: "generator", Rate: sdk.NumberOr{Number: 10}, NominalRate: 1e6, Batch: sdk.MaxRowsInBatch,
	}
}

// Validate checks what the schema cannot say.
func (c *Config) Validate() []sdk.Diagnostic {
	var out []sdk.Diagnostic
	report := func(bad bool, attribute, summary, detail string) {
		if bad {
			out = append(out, sdk.Problem(summary, detail, attribute))
		}
	}
	report(c.Flow == "" || len(c.Flow) > sdk.MaxNameBytes, "flow", "Invalid flow name",
		fmt.Sprintf("A flow's name has 1 to %d bytes.", sdk.MaxNameBytes))
	report(c.Rate.Keyword == "" && !within(c.Rate.Number, minRate, maxPacedRate), "rate", "Invalid rate",
		fmt.Sprintf("A rate is %v to %v rows per second, or %q.", minRate, maxPacedRate, keywordMax))
	report(!within(c.NominalRate, minRate, maxNominalRate), "nominal_rate", "Invalid rate",
		fmt.Sprintf("A nominal rate is %v to %v rows per second.", minRate, maxNominalRate))
	report(c.Channels != nil && (*c.Channels < 1 || *c.Channels > sdk.MaxChannels), "channels", "Invalid number of channels",
		fmt.Sprintf("A flow has 1 to %d channels.", sdk.MaxChannels))
	report(c.Rows < 0, "rows", "Invalid number of rows", "Rows are counted from 1; 0 stands for no end.")
	report(c.Batch < 1 || c.Batch > sdk.MaxRowsInBatch, "batch", "Invalid size of batches",
		fmt.Sprintf("A batch has 1 to %d rows.", sdk.MaxRowsInBatch))
	report(c.Channels != nil && len(c.Channel) > 0, "channels", "Channels given twice",
		"Give either a number of channels or channel blocks.")
	if len(c.Channel) > sdk.MaxChannels {
		out = append(out, sdk.Problem("Too many channels", fmt.Sprintf("A flow has up to %d channels.", sdk.MaxChannels), "channel"))
	}
	names := map[string]bool{}
	for i := range c.Channel {
		out = append(out, c.Channel[i].problems(i, names)...)
		names[c.Channel[i].Name] = true
	}
	if len(out) == 0 && c.Rows > 0 && c.Start != nil {
		_, ok := c.clock(c.Start.UnixNano()).stamp(uint64(c.Rows - 1))
		report(!ok, "rows", "Rows end too late", "The stamp of the last row would be after the year 2262, the end of what stamps can say.")
	}
	return out
}

// problems checks the i-th channel block; names are those of the others before.
func (c *Channel) problems(i int, names map[string]bool) []sdk.Diagnostic {
	var out []sdk.Diagnostic
	report := func(bad bool, attribute, summary, detail string) {
		if bad {
			d := sdk.Problem(summary, detail)
			d.Path = []sdk.Step{{Block: "channel", BlockIndex: i}}
			if attribute != "" {
				d.Path = append(d.Path, sdk.Step{Attribute: attribute})
			}
			out = append(out, d)
		}
	}
	report(c.Name == "" || len(c.Name) > sdk.MaxNameBytes, "", "Invalid channel name",
		fmt.Sprintf("A channel's name has 1 to %d bytes.", sdk.MaxNameBytes))
	report(names[c.Name], "", "Duplicate channel", fmt.Sprintf("There is another channel %q before this one.", c.Name))
	_, err := sdk.ParseChannelType(c.Type)
	report(err != nil, "type", "Unknown type", fmt.Sprintf("There is no channel type %q.", c.Type))
	report(!slices.Contains(waves(), c.Wave), "wave", "Unknown wave",
		fmt.Sprintf("The wave is %q; there are %s.", c.Wave, strings.Join(waves(), ", ")))
	report(!finite(c.Amplitude) || !finite(c.Offset), "amplitude", "Invalid number", "Amplitude and offset are finite numbers.")
	report((c.Min == nil) != (c.Max == nil), "min", "Half a range", "Give both min and max, or neither.")
	if c.Min != nil && c.Max != nil {
		report(!finite(*c.Min) || !finite(*c.Max) || *c.Min > *c.Max, "min", "Invalid range", "Min is at most max, and both are finite.")
		report(c.Amplitude != 1 || c.Offset != 0, "min", "Range given twice", "Give either min and max, or amplitude and offset.")
	}
	report(c.Period <= 0, "period", "Invalid period", "A period is longer than 0.")
	report(!within(c.Phase, 0, 1), "phase", "Invalid phase", "A phase is a part of a period: 0 to 1.")
	report(c.Every < 1, "every", "Invalid interval", "A channel has a value in one row of at least 1.")
	report((c.Type == sdk.Enum.String()) != (len(c.Values) > 0), "values", "Invalid enum",
		"A channel of type enum has values, and no other has.")
	report(c.Type != sdk.BitField.String() && len(c.Bits) > 0, "bits", "Bits without a bit field", "Only a channel of type bit_field has bits.")
	report(len(c.Bits) > 64, "bits", "Too many bits", "A bit field has up to 64 bits here.")
	return out
}

func within(v, least, greatest float64) bool { return v >= least && v <= greatest }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// rate returns the rows in 10^6 s of event time.
func (c *Config) rate() uint64 {
	rate := c.Rate.Number
	if c.Rate.Keyword == keywordMax {
		rate = c.NominalRate
	}
	return uint64(math.Round(rate * rateUnit))
}

func (c *Config) clock(start int64) clock { return clock{start: start, rate: c.rate()} }

// channels returns the channel blocks, or those that stand for them.
func (c *Config) channels() []Channel {
	if len(c.Channel) > 0 {
		return c.Channel
	}
	n := 10
	if c.Channels != nil {
		n = *c.Channels
	}
	out := make([]Channel, n)
	for i := range out {
		out[i].SetDefaults()
		out[i].Name = fmt.Sprintf("channel_%d", i)
		out[i].Phase = unit(mix(key(c.Seed, i)))
	}
	return out
}

func (c *Config) flow() sdk.Flow {
	flow := sdk.Flow{Name: c.Flow, StrictlyIncreasing: true}
	for _, ch := range c.channels() {
		flow.Channels = append(flow.Channels, ch.channel())
	}
	return flow
}

func (c *Channel) channel() sdk.Channel {
	typ, _ := sdk.ParseChannelType(c.Type) // Validate has checked it
	out := sdk.Channel{Name: c.Name, Type: typ, Unit: c.Unit, Description: c.Description}
	for i, name := range c.Values {
		out.Enum = append(out.Enum, sdk.EnumValue{Name: name, Key: uint32(i)})
	}
	if typ == sdk.BitField {
		for i, name := range c.bits() {
			out.BitField = append(out.BitField, sdk.BitFieldElement{Name: name, Index: int32(i), BitCount: 1})
		}
	}
	return out
}

func (c *Channel) bits() []string {
	if len(c.Bits) > 0 {
		return c.Bits
	}
	return []string{"bit_0", "bit_1", "bit_2", "bit_3", "bit_4", "bit_5", "bit_6", "bit_7"}
}
