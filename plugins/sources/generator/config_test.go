package generator

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestValidate(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	count := func(v int) *int { return &v }
	second := func(change func(c *Channel)) func(*Config) {
		return func(c *Config) { c.Channel = []Channel{block("first", nil), block("second", change)} }
	}
	for _, tc := range []struct {
		name      string
		change    func(c *Config)
		attribute string // of the config, or of its second channel block
		summary   string
	}{
		{"flow", func(c *Config) { c.Flow = "" }, "flow", "Invalid flow name"},
		{"rate 0", func(c *Config) { c.Rate = sdk.NumberOr{} }, "rate", "Invalid rate"},
		{"rate over a million", func(c *Config) { c.Rate.Number = 1e6 + 1 }, "rate", "Invalid rate"},
		{"rate NaN", func(c *Config) { c.Rate.Number = math.NaN() }, "rate", "Invalid rate"},
		{"nominal rate", func(c *Config) { c.NominalRate = 2e9 }, "nominal_rate", "Invalid rate"},
		{"no channels", func(c *Config) { c.Channels = count(0) }, "channels", "Invalid number of channels"},
		{"too many channels", func(c *Config) { c.Channels = count(65_537) }, "channels", "Invalid number of channels"},
		{"rows", func(c *Config) { c.Rows = -1 }, "rows", "Invalid number of rows"},
		{"no batch", func(c *Config) { c.Batch = 0 }, "batch", "Invalid size of batches"},
		{"large batch", func(c *Config) { c.Batch = 4097 }, "batch", "Invalid size of batches"},
		{"both", func(c *Config) { c.Channels = count(1); second(nil)(c) }, "channels", "Channels given twice"},

		{"channel name", second(func(c *Channel) { c.Name = "" }), "-", "Invalid channel name"},
		{"duplicate", second(func(c *Channel) { c.Name = "first" }), "-", "Duplicate channel"},
		{"type", second(func(c *Channel) { c.Type = "decimal" }), "-type", "Unknown type"},
		{"wave", second(func(c *Channel) { c.Wave = "saw" }), "-wave", "Unknown wave"},
		{"amplitude", second(func(c *Channel) { c.Amplitude = math.Inf(1) }), "-amplitude", "Invalid number"},
		{"min alone", second(func(c *Channel) { c.Min = number(1) }), "-min", "Half a range"},
		{"min over max", second(func(c *Channel) { c.Min, c.Max = number(2), number(1) }), "-min", "Invalid range"},
		{
			"min and offset",
			second(func(c *Channel) { c.Min, c.Max, c.Offset = number(1), number(2), 1 }), "-min", "Range given twice",
		},
		{"period", second(func(c *Channel) { c.Period = 0 }), "-period", "Invalid period"},
		{"phase", second(func(c *Channel) { c.Phase = 1.5 }), "-phase", "Invalid phase"},
		{"every", second(func(c *Channel) { c.Every = 0 }), "-every", "Invalid interval"},
		{"enum without values", second(func(c *Channel) { c.Type = "enum" }), "-values", "Invalid enum"},
		{"values without enum", second(func(c *Channel) { c.Values = []string{"a"} }), "-values", "Invalid enum"},
		{"bits without bit field", second(func(c *Channel) { c.Bits = []string{"a"} }), "-bits", "Bits without a bit field"},
		{
			"65 bits",
			second(func(c *Channel) { c.Type, c.Bits = "bit_field", make([]string, 65) }), "-bits", "Too many bits",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := config(1, tc.change)
			if c.Rate.Keyword != "" && tc.attribute == "rate" {
				c.Rate.Keyword = ""
			}
			problems := c.Validate()
			require.Len(t, problems, 1)
			assert.Equal(t, tc.summary, problems[0].Summary)
			assert.NotEmpty(t, problems[0].Detail)
			want := []sdk.Step{{Attribute: tc.attribute}}
			switch {
			case tc.attribute == "-":
				want = []sdk.Step{{Block: "channel", BlockIndex: 1}}
			case tc.attribute[0] == '-':
				want = []sdk.Step{{Block: "channel", BlockIndex: 1}, {Attribute: tc.attribute[1:]}}
			}
			assert.Equal(t, want, problems[0].Path)

			_, err := open(sdk.Settings{}, c)
			require.ErrorContains(t, err, problems[0].Detail)
		})
	}
}

// TestBounds: what is just allowed works.
func TestBounds(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"slowest":       func(c *Config) { c.NominalRate = minRate },
		"fastest":       func(c *Config) { c.NominalRate = maxNominalRate },
		"short period":  func(c *Config) { c.Channel = []Channel{block("x", func(c *Channel) { c.Period = 1 })} },
		"long period":   func(c *Config) { c.Channel = []Channel{block("x", func(c *Channel) { c.Period = math.MaxInt64 })} },
		"greatest seed": func(c *Config) { c.Seed = math.MinInt64 },
		"64 bits": func(c *Config) {
			c.Channel = []Channel{block("x", func(c *Channel) { c.Type, c.Bits = "bit_field", make([]string, 64) })}
		},
		"epoch": func(c *Config) { c.Start = new(time.Unix(0, 0)) },
		"huge values": func(c *Config) {
			low, high := -math.MaxFloat64, math.MaxFloat64
			c.Channel = []Channel{block("x", func(c *Channel) { c.Min, c.Max = &low, &high })}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(3, change)
			require.Empty(t, c.Validate())
			out := newOutput(t)
			require.NoError(t, newSource(t, c).Run(t.Context(), out))
			assert.Equal(t, 3, out.count())
			stamps, doubles := out.rows()
			assert.Less(t, stamps[0], stamps[1])
			for _, row := range doubles {
				for _, v := range row {
					assert.False(t, math.IsNaN(v) || math.IsInf(v, 0))
				}
			}
		})
	}
}
