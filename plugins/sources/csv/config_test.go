package csv

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// place writes the path of a diagnostic as "file[1].time.unit".
func placeOf(d sdk.Diagnostic) string {
	var out []string
	for _, s := range d.Path {
		if s.Block == "" {
			out = append(out, s.Attribute)
			continue
		}
		name := s.Block
		if s.BlockIndex > 0 {
			name += fmt.Sprintf("[%d]", s.BlockIndex)
		}
		out = append(out, name)
	}
	return strings.Join(out, ".")
}

func TestValidate(t *testing.T) {
	many := make([]FileConfig, maxFiles+1)
	for i := range many {
		many[i] = FileConfig{Flow: fmt.Sprint(i), Path: "a.csv"}
	}
	files := func(f ...FileConfig) func(*Config) {
		return func(c *Config) { c.Path, c.Flow, c.Files = nil, nil, f }
	}
	columns := func(columns ...ColumnConfig) func(*Config) { return func(c *Config) { c.Columns = columns } }
	for _, tc := range []struct {
		name string
		path string // default a.csv
		set  func(c *Config)
		want []string // "place: part of the detail"
	}{
		{name: "good", set: func(*Config) {}},
		{name: "good, packed", path: "x/y.JSONL.GZ", set: func(*Config) {}},
		{name: "nothing", set: func(c *Config) { c.Path, c.Flow = nil, nil }, want: []string{": Set path, or add file blocks."}},
		{name: "empty path", path: "-", set: func(c *Config) { c.Path = new("") }, want: []string{"path: Name the file to read.", `path: The extension ""`}},
		{
			name: "path and files", set: func(c *Config) { c.Files = []FileConfig{{Flow: "g", Path: "b.csv"}} },
			want: []string{"path: A source has either path or file blocks."},
		},
		{
			name: "flow without path", set: func(c *Config) { c.Path = nil; c.Files = []FileConfig{{Flow: "g", Path: "b.csv"}} },
			want: []string{"flow: It names the flow of path"},
		},
		{name: "no flow", path: ".csv", set: func(c *Config) { c.Flow = nil }, want: []string{"path: The file's name gives no name for its flow; set flow."}},
		{
			name: "same flow", set: files(FileConfig{Flow: "g", Path: "a.csv"}, FileConfig{Flow: "g", Path: "b.csv"}),
			want: []string{`file[1]: Two files have the flow "g"`},
		},
		{name: "flow without a name", set: files(FileConfig{Path: "a.csv"}), want: []string{"file: The label of a file block names its flow."}},
		{name: "too many", set: files(many...), want: []string{"file[64]: A source reads at most 64 files"}},
		{name: "unknown format", path: "a.txt", set: func(*Config) {}, want: []string{`path: The extension ".txt" does not tell`}},
		{name: "given format", path: "a.txt", set: func(c *Config) { c.Format = new("ndjson") }},

		{name: "delimiter too long", set: func(c *Config) { c.Delimiter = new(",,") }, want: []string{"delimiter: It must be one ASCII character"}},
		{name: "delimiter empty", set: func(c *Config) { c.Delimiter = new("") }, want: []string{"delimiter: "}},
		{name: "delimiter quote", set: func(c *Config) { c.Delimiter = new(`"`) }, want: []string{"delimiter: "}},
		{name: "delimiter line end", set: func(c *Config) { c.Delimiter = new("\n") }, want: []string{"delimiter: "}},
		{name: "delimiter not ASCII", set: func(c *Config) { c.Delimiter = new("§") }, want: []string{"delimiter: "}},
		{name: "delimiter of NDJSON", path: "a.json", set: func(c *Config) { c.Delimiter = new(";") }, want: []string{"delimiter: It is for CSV"}},
		{
			name: "settings of CSV", set: files(FileConfig{Flow: "g", Path: "a.json", Header: new(false), Delimiter: new(";")}),
			want: []string{"file.delimiter: It is for CSV", "file.header: It is for CSV"},
		},
		{name: "lines below 0", set: func(c *Config) { c.SkipLines = -1 }, want: []string{"skip_lines: It cannot be below 0."}},
		{
			name: "lines below 0 in a file", set: files(FileConfig{Flow: "a", Path: "a.csv"}, FileConfig{Flow: "g", Path: "a.csv", SkipLines: new(-1)}),
			want: []string{"file[1].skip_lines: It cannot be below 0."},
		},

		{name: "no time", set: func(c *Config) { c.Time = nil }, want: []string{": Add time { column"}},
		{
			name: "no time in files", set: func(c *Config) {
				files(FileConfig{Flow: "a", Path: "a.csv"}, FileConfig{Flow: "b", Path: "a.csv", Time: &TimeConfig{Column: new("x")}})(c)
				c.Time.Column = nil
			}, want: []string{"file: Add time { column"},
		},
		{name: "no column", set: func(c *Config) { c.Time.Column = new("") }, want: []string{": Add time { column"}},
		{name: "bad path of time", path: "a.json", set: func(c *Config) { c.Time.Column = new("a..b") }, want: []string{`time.column: path "a..b": empty key.`}},
		{name: "unknown unit", set: func(c *Config) { c.Time.Unit = new("seconds") }, want: []string{`time.unit: unknown unit "seconds"`}},
		{
			name: "start of text", set: func(c *Config) { c.Time.Unit, c.Time.Start = new("rfc3339"), new(time.Unix(5, 0)) },
			want: []string{`time.start: It is added to numbers; unit "rfc3339" is a full time.`},
		},
		{
			name: "start too late", set: func(c *Config) { c.Time.Start = new(time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)) },
			want: []string{"time.start: start: time is outside"},
		},
		{name: "format of numbers", set: func(c *Config) { c.Time.Format = new("%Y") }, want: []string{`time.format: It is for unit "layout"; the unit is "s".`}},
		{name: "no format", set: func(c *Config) { c.Time.Unit = new("layout") }, want: []string{`time.unit: With unit "layout" set format, such as "%Y-%m-%d %H:%M:%S".`}},
		{
			name: "bad format", set: func(c *Config) { c.Time.Unit, c.Time.Format = new("layout"), new("%H:%M") },
			want: []string{`time.format: layout "15:04" has no year or no day`},
		},
		{name: "zone of numbers", set: func(c *Config) { c.Time.Zone = new("UTC") }, want: []string{`time.timezone: It is for times written as text; the unit is "s".`}},
		{
			name: "unknown zone", set: func(c *Config) { c.Time.Unit, c.Time.Zone = new("rfc3339"), new("Mars/Olympus") },
			want: []string{`time.timezone: This machine knows no zone "Mars/Olympus"`},
		},
		{
			name: "inherited once", set: func(c *Config) {
				files(FileConfig{Flow: "a", Path: "a.csv"}, FileConfig{Flow: "b", Path: "b.csv"})(c)
				c.Time.Unit = new("x")
			}, want: []string{"time.unit: unknown unit"},
		},
		{
			name: "merged time", set: func(c *Config) {
				files(FileConfig{Flow: "a", Path: "a.csv", Time: &TimeConfig{Unit: new("layout"), Format: new("%F")}})(c)
			},
		},

		{name: "speed 0", set: func(c *Config) { c.Speed = sdk.NumberOr{} }, want: []string{"speed: It must be greater than 0"}},
		{name: "speed NaN", set: func(c *Config) { c.Speed = sdk.NumberOr{Number: math.NaN()} }, want: []string{"speed: "}},
		{name: "gap 0", set: func(c *Config) { c.MaxGap = new(time.Duration(0)) }, want: []string{"max_gap: It must be longer than 0."}},
		{name: "poll 0", set: func(c *Config) { c.Poll = 0 }, want: []string{"poll: It must be longer than 0."}},
		{name: "followed", set: func(c *Config) { c.Follow, c.Speed = true, sdk.NumberOr{Number: 1} }},
		{
			name: "followed replay", path: "a.csv.gz", set: func(c *Config) { c.Follow, c.Rebase, c.MaxGap = true, "now", new(time.Second) },
			want: []string{"max_gap: Rows of a file", "path: A gzip file cannot be followed.", "rebase: Rows of a file", "speed: Rows of a file"},
		},

		{name: "column twice", set: columns(ColumnConfig{Name: "a"}, ColumnConfig{Name: "a"}), want: []string{`column[1]: The column "a" is declared twice.`}},
		{
			name: "channel twice", set: columns(ColumnConfig{Name: "a"}, ColumnConfig{Name: "b", Channel: new("a")}),
			want: []string{`column[1]: Two columns have the channel "a".`},
		},
		{name: "ignored channel", set: columns(ColumnConfig{Name: "a", Ignore: true}, ColumnConfig{Name: "b", Channel: new("a")})},
		{name: "no name", set: columns(ColumnConfig{}), want: []string{"column: The label names the column."}},
		{name: "no channel", set: columns(ColumnConfig{Name: "a", Channel: new("")}), want: []string{"column.channel: The name of a channel cannot be empty."}},
		{name: "unknown type", set: columns(ColumnConfig{Name: "a", Type: new("bit_field")}), want: []string{`column.type: The type "bit_field" cannot be read from text.`}},
		{name: "path in CSV", set: columns(ColumnConfig{Name: "a", Path: new("b")}), want: []string{"column.path: Paths are for NDJSON"}},
		{name: "bad path", path: "a.json", set: columns(ColumnConfig{Name: "a", Path: new("b[x]")}), want: []string{`column.path: path "b[x]": "[x]" is not an element such as [0].`}},
		{name: "name is no path", path: "a.json", set: columns(ColumnConfig{Name: "a."}), want: []string{`column: path "a.": unexpected "."`}},
		{name: "enum without values", set: columns(ColumnConfig{Name: "a", Type: new("enum")}), want: []string{"column.type: An enum needs values"}},
		{
			name: "values without enum", set: columns(ColumnConfig{Name: "a", Values: map[string]uint32{"X": 1}}),
			want: []string{`column.values: Values belong to type "enum".`},
		},
		{
			name: "bad enum", set: columns(ColumnConfig{Name: "a", Type: new("enum"), Values: map[string]uint32{"X": 1, "Y": 1, "": 2}}),
			want: []string{`column.values: The key 1 has two names, "X" and "Y".`, "column.values: The name of the key 2 is empty."},
		},
		{
			name: "column of a file", set: func(c *Config) {
				files(FileConfig{Flow: "a", Path: "a.csv", Columns: []ColumnConfig{{Name: "x", Type: new("double")}, {Name: "y", Channel: new("")}}})(c)
				c.Columns = []ColumnConfig{{Name: "x", Type: new("int32")}, {Name: "y"}, {Name: "z", Path: new("q")}}
			}, want: []string{"column[2].path: Paths are for NDJSON", "file.column[1].channel: The name of a channel cannot be empty."},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := fast("a.csv")
			if tc.path != "" {
				c.Path = &tc.path
			}
			tc.set(&c)
			diags := c.Validate()
			var got []string
			for _, d := range diags {
				assert.Equal(t, sdk.SeverityError, d.Severity)
				assert.NotEmpty(t, d.Summary)
				got = append(got, placeOf(d)+": "+d.Detail)
			}
			require.Equal(t, len(tc.want), len(got), "%q", got)
			for _, want := range tc.want {
				assert.Condition(t, func() bool {
					for _, g := range got {
						if strings.HasPrefix(g, want) {
							return true
						}
					}
					return false
				}, "%q is not among %q", want, got)
			}
			_, err := open(sdk.Settings{}, c)
			assert.Equal(t, len(diags) > 0, err != nil)
		})
	}
}

// TestColumnsOfFilesWin: a file's own declaration replaces that of the source.
func TestColumnsOfFilesWin(t *testing.T) {
	c := fast("")
	c.Path, c.Flow = nil, nil
	c.Files = []FileConfig{
		{Flow: "a", Path: write(t, "a.csv", "t,x,y\n0,1,2\n"), Columns: []ColumnConfig{{Name: "x", Type: new("double")}}},
		{Flow: "b", Path: write(t, "b.tsv", "t\tx\ty\n0\t1\t2\n"), Null: []string{"2"}, OnlyDeclared: new(true), Time: &TimeConfig{Unit: new("ms"), Start: new(time.Unix(0, 7))}},
	}
	c.Columns = []ColumnConfig{{Name: "x", Type: new("string"), Unit: "V", Description: "d"}}
	h, _ := replay(t, c)
	assert.Equal(t, []string{"x double", "y int64"}, h.channels(0))
	assert.Equal(t, []sdk.Channel{{Name: "x", Type: sdk.String, Unit: "V", Description: "d"}}, h.flows[1].Channels)
	assert.Equal(t, []string{"0s x=1 y=2", "7ns x=1"}, short(h.rows()))
}

func TestFlowFromPath(t *testing.T) {
	c := fast(write(t, "engine.v2.csv", "t,a\n0,1\n"))
	c.Flow = nil
	h, _ := replay(t, c)
	assert.Equal(t, "engine", h.flows[0].Name)
}

func TestDiscover(t *testing.T) {
	c := fast("")
	c.Path, c.Flow = nil, nil
	c.Files = []FileConfig{{Flow: "a", Path: write(t, "a.csv", "t,x,s\n0,1,ON\n")}, {Flow: "none", Path: write(t, "b.csv", "t,x\n")}}
	c.Files[0].Columns = []ColumnConfig{{Name: "s", Type: new("enum"), Values: map[string]uint32{"ON": 1, "OFF": 0}}}
	b := newSource(t, c, "")
	d, err := b.Discover(t.Context())
	require.NoError(t, err)
	assert.Equal(t, sdk.Discovery{Finite: true, Flows: []sdk.Flow{{Name: "a", Channels: []sdk.Channel{
		{Name: "x", Type: sdk.Int64},
		{Name: "s", Type: sdk.Enum, Enum: []sdk.EnumValue{{Name: "OFF"}, {Name: "ON", Key: 1}}},
	}}}}, d)
	h := newHost(t, nil)
	require.NoError(t, b.run(t, h))
	assert.Equal(t, d.Flows, h.flows)
}

// TestPlugin goes through the plugin's schema, as a host does.
func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, "csv", p.Info.Name)
	assert.True(t, p.Source.Replayable)
	checkDescribed(t, "csv", p.Schema)

	text := func(s string) sdk.Value { return sdk.Value{Kind: sdk.KindString, String: s} }
	body := sdk.Body{
		Attributes: map[string]sdk.Value{
			"path": text(write(t, "f.csv", "t,a\n0,1\n1,NA\n")), "flow": text("engine"), "speed": text("max"),
			"null": {Kind: sdk.KindList, List: []sdk.Value{text(""), text("NA")}},
		},
		Blocks: []sdk.BlockBody{{Type: "time", Body: sdk.Body{Attributes: map[string]sdk.Value{
			"column": text("t"), "start": {Kind: sdk.KindInteger, Integer: int64(time.Hour)},
		}}}},
	}
	assert.Empty(t, p.Validate(body))
	settings := newSource(t, fast(write(t, "g.csv", "")), "").settings
	made, err := p.Open(settings, body)
	require.NoError(t, err)
	h := newHost(t, nil)
	require.NoError(t, made.(sdk.Source).Run(t.Context(), h))
	assert.Equal(t, []string{"1h0m0s a=1", "1h0m1s"}, short(h.rows()))

	delete(body.Attributes, "path")
	require.Len(t, p.Validate(body), 1)
	_, err = p.Open(settings, body)
	require.ErrorContains(t, err, "Missing file")
	require.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

// checkDescribed wants a description of every attribute and block.
func checkDescribed(t *testing.T, name string, s sdk.Schema) {
	t.Helper()
	for _, a := range s.Attributes {
		assert.NotEmpty(t, a.Description, name+"."+a.Name)
	}
	for _, b := range s.Blocks {
		assert.NotEmpty(t, b.Description, name+"."+b.Type)
		checkDescribed(t, name+"."+b.Type, b.Body)
	}
}
