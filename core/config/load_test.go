package config

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func text(s string) sdk.Value { return sdk.Value{Kind: sdk.KindString, String: s} }

func whole(n int64) sdk.Value { return sdk.Value{Kind: sdk.KindInteger, Integer: n} }

// TestLoad looks at everything that the good example says.
func TestLoad(t *testing.T) {
	raw, err := os.ReadFile("testdata/good.hcl")
	require.NoError(t, err)
	c := mustLoad(t, string(raw), func(o *Options) { o.Variables = map[string]string{"flight": "f10"} })
	require.Len(t, c.Pipelines, 1)
	p := c.Pipelines[0]

	assert.Equal(t, "replay", p.Name)
	assert.Equal(t, "rocket", p.Asset)
	assert.Equal(t, []string{"test"}, p.AssetTags)
	assert.Equal(t, []sdk.Metadata{{Name: "flown", Value: true}, {Name: "owner", Value: "ops"}, {Name: "serial", Value: 12.0}}, p.AssetMetadata)
	assert.Equal(t, 90*time.Second, p.DrainTimeout)
	assert.Equal(t, sdk.Run{Name: "hotfire-2026-05-01", Tags: []string{"qualification"}, Metadata: []sdk.Metadata{{Name: "attempt", Value: 3.0}}}, p.Run)
	assert.Equal(t, Checkpoint{Interval: 30 * time.Second, Timeout: 10 * time.Second}, p.Checkpoint)
	assert.Equal(t, Retry{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}, p.Retry)
	assert.Equal(t, Queues{Ingestion: 5000, Backup: 102_400, Control: 1024, OnBackupLag: LagBlock}, p.Queues)
	assert.Equal(t, RuleLimits{FlushInterval: 20 * time.Millisecond, Memory: 64 << 20, MaxJump: 10 * time.Second}, p.RuleLimits)
	assert.Nil(t, p.Backup)
	assert.Equal(t, []sdk.Flow{{
		Name: "imu", StrictlyIncreasing: true,
		Channels: []sdk.Channel{
			{Name: "accel_x", Type: sdk.Double, Unit: "m/s2"},
			{Name: "state", Type: sdk.Enum, Enum: []sdk.EnumValue{{Name: "idle", Key: 0}, {Name: "armed", Key: 1}}},
			{Name: "flags", Type: sdk.BitField, BitField: []sdk.BitFieldElement{{Name: "valve", Index: 0, BitCount: 1}}},
		},
	}}, p.Flows)

	require.Len(t, p.Sources, 1)
	s := p.Sources[0]
	assert.Equal(t, sdk.KindSource, s.Kind)
	assert.Equal(t, "csv", s.Plugin)
	assert.Equal(t, "flight", s.Label)
	assert.Equal(t, 5*time.Second, s.IdleExit)
	assert.Zero(t, s.Gather)
	assert.Equal(t, HostSettings{Sandbox: SandboxOff, Env: map[string]string{"TZ": "UTC"}}, s.Host)
	assert.Equal(t, sdk.Body{
		Attributes: map[string]sdk.Value{
			"path":    text(c.Dir + "/data/f10.csv"),
			"flow":    text("csv"), // default
			"columns": {Kind: sdk.KindList, List: []sdk.Value{text("ALT"), text("VEL")}},
			"speed":   text("max"),
			"types":   {Kind: sdk.KindMap, Map: map[string]sdk.Value{"alt": text("double")}},
			"period":  whole(250e6),
			"limit":   whole(3 << 29),
			"start":   whole(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).UnixNano()),
			"follow":  {Kind: sdk.KindBool},
			"query":   text(""),
		},
		Blocks: []sdk.BlockBody{
			{Type: "time", Body: sdk.Body{Attributes: map[string]sdk.Value{"column": text("t"), "unit": text("s")}}},
			{Type: "column", Labels: []string{"alt"}, Body: sdk.Body{Attributes: map[string]sdk.Value{"unit": text("m")}}},
		},
	}, s.Body)
	var settings csvSettings
	require.NoError(t, sdk.Decode(s.Body, &settings))
	assert.Equal(t, "t", settings.Time.Column)

	assert.Equal(t, "ingestion_config", p.Encoder.Plugin)
	assert.Equal(t, text("replay-v1"), p.Encoder.Body.Attributes["client_key"])

	require.Len(t, p.Transports, 2)
	live := p.Transports[0]
	assert.True(t, live.Required)
	assert.Equal(t, []string{"flight", "rule/*"}, live.Flows)
	assert.Equal(t, ChannelNamesPlain, live.ChannelNames)
	assert.Equal(t, Checkpoint{Interval: 5 * time.Second, Timeout: 10 * time.Second}, live.Checkpoint)
	assert.Equal(t, TransportQueues{Ingestion: 10}, live.Queues)
	assert.Equal(t, SecretTexts{theSecret}, live.Secrets)
	assert.Equal(t, SandboxOn, live.Host.Sandbox)
	lake := p.Transports[1]
	assert.True(t, lake.Required)
	assert.Equal(t, p.Checkpoint, lake.Checkpoint)
	assert.Equal(t, p.Retry, lake.Retry)
	assert.Equal(t, TransportQueues{Ingestion: 5000}, lake.Queues)
	assert.Equal(t, ChannelNamesAuto, lake.ChannelNames)
	assert.Equal(t, text("/data/flights-f10"), lake.Body.Attributes["dir"])
	assert.Equal(t, SecretTexts{theSecret}, c.Secrets)
}

// TestDefaults holds the defaults against those that are promised.
func TestDefaults(t *testing.T) {
	p := mustLoad(t, goodText).Pipelines[0]
	assert.Equal(t, 20*time.Second, p.DrainTimeout)
	assert.Equal(t, Checkpoint{Interval: time.Minute, Timeout: 10 * time.Second}, p.Checkpoint)
	assert.Equal(t, Retry{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 5}, p.Retry)
	assert.Equal(t, Queues{Ingestion: 102_400, Backup: 102_400, Control: 1_024, OnBackupLag: LagStream}, p.Queues)
	assert.Equal(t, RuleLimits{FlushInterval: 20 * time.Millisecond, Memory: 256 << 20, MaxJump: 10 * time.Second}, p.RuleLimits)
	assert.Equal(t, 5*time.Millisecond, p.Sources[0].Gather)
	assert.True(t, p.Transports[0].Required)
	assert.Empty(t, p.Run)
}

func TestDependsOn(t *testing.T) {
	c := mustLoad(t, `
pipeline "one" {
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/one"
  }
}
pipeline "two" {
  source "sift" "a" {
    until = pipeline.three
  }
  source "sift" "b" {
    listen = "127.0.0.1:1"
    until  = pipeline.one
  }
  source "sift" "c" {
    listen = "127.0.0.1:2"
    until  = pipeline["one"]
  }
  transport "parquet" "out" {
    dir = "/two"
  }
}
pipeline "three" {
  source "host" "in" {
    until = pipeline.one
  }
  transport "parquet" "out" {
    dir = "/three"
  }
}
`)
	assert.Empty(t, c.Pipelines[0].DependsOn)
	assert.Equal(t, []string{"one", "three"}, c.Pipelines[1].DependsOn)
	assert.Equal(t, []string{"one"}, c.Pipelines[2].DependsOn)
	assert.Equal(t, "three", c.Pipelines[1].Sources[0].Until)
}

func TestFunctions(t *testing.T) {
	dir := writeFiles(t, map[string]string{"note.txt": "from a file\n"})
	for expr, want := range map[string]string{
		`env("HOME_DIR")`:                                    "/home/test",
		`env("NO_SUCH", "default")`:                          "default",
		`chomp(file("` + dir + `/note.txt"))`:                "from a file",
		`timestamp()`:                                        "2026-05-01T12:00:00Z",
		`timeadd("2026-05-01T12:00:00Z", "1d1h")`:            "2026-05-02T13:00:00Z",
		`timeadd("2026-05-01T12:00:00Z", "-250ms")`:          "2026-05-01T11:59:59.75Z",
		`timediff(timestamp(), "2026-05-01T10:30:00Z")`:      "1h30m",
		`formatdate("YYYYMMDD'T'hhmmss", timestamp())`:       "20260501T120000",
		`tostring(unixtime("1970-01-01T00:00:01.5Z"))`:       "1.5",
		`fromunixtime(1.5)`:                                  "1970-01-01T00:00:01.5Z",
		`tostring(seconds("1h30m"))`:                         "5400",
		`tostring(bytes("10KiB"))`:                           "10240",
		`tostring(startswith("abc", "ab"))`:                  "true",
		`tostring(endswith("abc", "ab"))`:                    "false",
		`replace("a-b-c", "-", "_")`:                         "a_b_c",
		`basename("/x/y.csv")`:                               "y.csv",
		`dirname("/x/y.csv")`:                                "/x",
		`abspath("/x/../y")`:                                 "/y",
		`format("%05.1f|%s", 3.14159, "x")`:                  "003.1|x",
		`join(",", formatlist("%s!", ["a", "b"]))`:           "a!,b!",
		`upper(substr("hello", 0, 2))`:                       "HE",
		`join(",", [for i in range(3) : tostring(i * 2)])`:   "0,2,4",
		`jsonencode({ a = [1, true, null] })`:                `{"a":[1,true,null]}`,
		`jsondecode("{\"a\": \"b\"}").a`:                     "b",
		`lookup({ a = "x" }, "b", "none")`:                   "none",
		`join(",", sort(keys(merge({ b = 1 }, { a = 2 }))))`: "a,b",
		`coalesce(null, "x")`:                                "x",
		`pipeline.name`:                                      "p",
		`data_dir`:                                           "/data",
		`"${1 + 2}-${max(1, 5)}"`:                            "3-5",
		`true ? "yes" : "no"`:                                "yes",
		`{ a = "x" }["a"]`:                                   "x",
		`join(",", [{ n = "x" }, { n = "y" }][*].n)`:         "x,y",
		`regex("[0-9]+", "ab12c")`:                           "12",
		"<<-EOT\n    a\n      b\n    EOT\n":                  "a\n  b\n",
	} {
		c, problems := loadText(t, strings.Replace(goodText, "source", "asset = "+expr+"\n  source", 1))
		if assert.NotNil(t, c, "%s\n%s", expr, rendered(t, problems)) {
			assert.Equal(t, want, c.Pipelines[0].Asset, expr)
		}
	}
}

func TestVariables(t *testing.T) {
	for _, tc := range []struct {
		name, declaration, given, want string
	}{
		{"text", `type = string`, "a b", `"a b"`},
		{"text that looks like a number", `type = string`, "5", `"5"`},
		{"untyped", ``, "5", `"5"`},
		{"untyped with a number as default", `default = 1`, "5", "5"},
		{"number", `type = number`, "5.5", "5.5"},
		{"bool", `type = bool`, "true", "true"},
		{"list", `type = list(string)`, `["a", "b"]`, `["a","b"]`},
		{"map", `type = map(number)`, `{ a = 1 }`, `{"a":1}`},
		{"object", `type = object({ a = number, b = string })`, `{ a = 1, b = "x" }`, `{"a":1,"b":"x"}`},
		{"any with a list as default", `default = ["x"]`, `["a"]`, `["a"]`},
		{"empty", `type = string`, "", `""`},
		{"template signs", `type = string`, "${x} %{y}", `"${x} %{y}"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := "variable \"v\" {\n" + tc.declaration + "\n}\n" +
				strings.Replace(goodText, "source", "asset = jsonencode(var.v)\n  source", 1)
			c := mustLoad(t, file, func(o *Options) { o.Variables = map[string]string{"v": tc.given} })
			assert.Equal(t, tc.want, c.Pipelines[0].Asset)
		})
	}
}

func TestTakes(t *testing.T) {
	for _, tc := range []struct {
		patterns string
		flow     string
		want     bool
	}{
		{"", "anything", true},
		{"engine", "engine", true},
		{"engine", "engine2", false},
		{"engine,imu", "imu", true},
		{"rule/*", "rule/overheat", true},
		{"rule/*", "rule/a/b", true},
		{"rule/*", "rules", false},
		{"*", "", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b", "xxaxxbxx", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"a?c", "a日c", true},
		{"[a]", "a", false},
		{"*", "a*b", true},
		{"**a", "a", true},
		{strings.Repeat("*a", 50) + "b", strings.Repeat("a", 5000), false},
	} {
		transport := &Transport{}
		if tc.patterns != "" {
			transport.Flows = strings.Split(tc.patterns, ",")
		}
		assert.Equal(t, tc.want, transport.Takes(tc.flow), "%s %s", tc.patterns, tc.flow)
	}
}

func TestFormatValue(t *testing.T) {
	list := sdk.Value{Kind: sdk.KindList, List: []sdk.Value{whole(1e9), whole(60e9)}}
	for _, tc := range []struct {
		of   sdk.ValueType
		v    sdk.Value
		want string
	}{
		{sdk.TypeString, text("a\"b"), `"a\"b"`},
		{sdk.TypeInteger, whole(-5), "-5"},
		{sdk.TypeNumber, sdk.Value{Kind: sdk.KindNumber, Number: 0.5}, "0.5"},
		{sdk.TypeNumber, text("max"), `"max"`},
		{sdk.TypeBool, sdk.Value{Kind: sdk.KindBool, Bool: true}, "true"},
		{sdk.TypeDuration, whole(250e6), `"250ms"`},
		{sdk.TypeSize, whole(500 << 20), `"500MiB"`},
		{sdk.TypeTime, whole(0), `"1970-01-01T00:00:00Z"`},
		{sdk.TypeDuration, list, `["1s", "1m"]`},
		{sdk.TypeSize, sdk.Value{Kind: sdk.KindMap, Map: map[string]sdk.Value{"b": whole(1), "a": whole(1000)}}, `{ "a" = "1KB", "b" = "1B" }`},
		{sdk.TypeString, sdk.Value{Kind: sdk.KindMap}, "{}"},
	} {
		assert.Equal(t, tc.want, FormatValue(sdk.Attribute{Type: tc.of}, tc.v))
	}
}

// loadAnyway returns what a file says although something is refused.
func loadAnyway(t *testing.T, path string) (*Config, Diagnostics) {
	t.Helper()
	l := &loader{
		options: testOptions(), report: report{sources: map[string][]byte{}},
		secrets: map[string]struct{}{}, known: map[pluginName]*PluginDescription{},
	}
	c := l.load(t.Context(), path)
	return c, l.finish()
}

// TestDesign looks at what this version reads and refuses.
func TestDesign(t *testing.T) {
	c, problems := loadAnyway(t, "testdata/design.hcl")
	assert.Equal(t, []string{"Rules not available", "Rules not available"}, summaries(problems))
	stand, receiver := c.Pipelines[0], c.Pipelines[1]

	b := *stand.Backup
	b.Range = stand.Range
	assert.Equal(t, Backup{
		Dir: "/data/engine_stand/backups", MaxFileSize: 500 << 20, MaxFileCount: 100, MaxDisk: 20 << 30, MinFree: 1 << 30,
		OnFull: "block", Sync: "1s", SyncDelay: time.Second, Range: stand.Range,
	}, b)

	seconds := func(n time.Duration) *time.Duration { d := n * time.Second; return &d }
	overheat := *stand.Rules[0]
	assert.Equal(t, Rule{
		Name: "overheat", Range: overheat.Range, Form: FormWhen,
		When: "temp > 950.0 && valve", Hold: 500 * time.Millisecond,
		Lateness: time.Second, MaxWait: seconds(5), Idle: 30 * time.Second, Progress: "flow", Late: "count",
		Labels: map[string]string{"severity": "critical"},
		Channels: []RuleChannel{
			{Alias: "temp", Reference: "engine.chamber_temp"},
			{Alias: "valve", Flow: "engine", Channel: "main_valve", Default: &sdk.Value{Kind: sdk.KindBool}},
		},
	}, overheat)

	require.Len(t, receiver.Rules, 3)
	stuck := receiver.Rules[0]
	assert.Equal(t, "max(p, '5s') - min(p, '5s') > 0.01", stuck.ClearWhen)
	assert.Equal(t, "revise", stuck.Late)
	assert.Equal(t, seconds(600), stuck.Revise)
	assert.Equal(t, seconds(24*3600), stuck.Warmup)
	late := 200 * time.Millisecond
	assert.Equal(t, []RuleChannel{{Alias: "p", Flow: "imu", Channel: "accel_x", Optional: true, Lateness: &late}}, stuck.Channels)
	assert.Equal(t, "zscore", stuck.Evaluator.Plugin)
	assert.Equal(t, sdk.Value{Kind: sdk.KindNumber, Number: 2.5}, stuck.Evaluator.Body.Attributes["threshold"])

	silent, drogue := receiver.Rules[1], receiver.Rules[2]
	assert.Equal(t, FormAbsent, silent.Form)
	assert.Equal(t, &Absent{Channel: "imu.accel_x", For: 2 * time.Second}, silent.Absent)
	assert.Equal(t, FormSequence, drogue.Form)
	assert.Equal(t, &Sequence{First: "v < 0.0", Then: "deployed", Within: 30 * time.Second}, drogue.Sequence)
	assert.Equal(t, FormNotFollowed, (&Rule{NotFollowed: &Sequence{}}).form())
}

// TestRealOptions loads with the environment and the clock of the process.
func TestRealOptions(t *testing.T) {
	t.Setenv("CONFIG_TEST_SECRET", theSecret)
	dir := writeFiles(t, map[string]string{"a.hcl": strings.Replace(goodText, "source",
		"asset = formatdate(\"YYYY\", timestamp())\n source \"sift\" \"x\" {\n keys = { a = secret::env(\"CONFIG_TEST_SECRET\") }\n }\n source", 1)})
	p := plugins()
	c, problems := Load(t.Context(), dir, Options{Schemas: p, Validator: p})
	require.Empty(t, problems)
	assert.Equal(t, time.Now().UTC().Format("2006"), c.Pipelines[0].Asset)
	assert.Equal(t, SecretTexts{theSecret}, c.Secrets)
	working, err := os.Getwd()
	require.NoError(t, err)
	assert.Equal(t, working, c.DataDir)
}

// TestTextPlaces finds places in texts that plugins have problems with.
func TestTextPlaces(t *testing.T) {
	for _, tc := range []struct {
		name, expr   string
		line, column int
		want         string // the marked part of the snippet
	}{
		{"first", `"abc"`, 1, 1, "a"},
		{"last", `"abc"`, 1, 3, "c"},
		{"behind the end", `"abc"`, 1, 4, ""},
		{"far behind the end", `"abc"`, 1, 40, ""},
		{"line that is not there", `"abc"`, 2, 1, `"abc"`},
		{"no column", `"abc"`, 1, 0, "a"},
		{"escapes", `"\t\r\"\\\u00e9\U0001F680x"`, 1, 7, "x"},
		{"an escape", `"\t\U0001F680x"`, 1, 2, `\U0001F680`},
		{"second line", `"a\nbc"`, 2, 2, "c"},
		{"behind a line", `"a\nbc"`, 1, 9, `\n`},
		{"doubled signs", `"$${a} %%{b} x"`, 1, 11, "x"},
		{"wide characters", `"日本x"`, 1, 3, "x"},
		{"empty", `""`, 1, 1, ""},
		{"parentheses", `("abc")`, 1, 1, `("abc")`},
		{"number inside", `"a${5}b"`, 1, 3, "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := plugins()
			csv := p[pluginName{sdk.KindSource, "csv"}]
			csv.validate = func(sdk.Body) []sdk.Diagnostic {
				return []sdk.Diagnostic{{Summary: "No", Path: []sdk.Step{{Attribute: "query"}}, Line: tc.line, Column: tc.column}}
			}
			p[pluginName{sdk.KindSource, "csv"}] = csv
			_, problems := loadText(t, strings.Replace(goodText, "source",
				"source \"csv\" \"x\" {\n path = \"/x\"\n query = "+tc.expr+"\n }\n source", 1),
				func(o *Options) { o.Schemas = p; o.Validator = p })
			require.Len(t, problems, 1)
			s := problems[0].Snippet
			assert.Equal(t, tc.want, s.Text[s.Start:s.End])
			assert.Equal(t, 5, problems[0].Subject.Start.Line)
		})
	}
}

func TestClaims(t *testing.T) {
	schema := sdk.Schema{
		Attributes: []sdk.Attribute{{Name: "dirs", Grant: sdk.GrantPathWrite, Collection: sdk.List}},
		Blocks: []sdk.Block{{Type: "server", Body: sdk.Schema{
			Attributes: []sdk.Attribute{{Name: "listen", Grant: sdk.GrantTCPBind, Collection: sdk.Map}},
		}}},
	}
	block := &PluginBlock{
		Kind: sdk.KindTransport, Description: PluginDescription{Schema: schema},
		Body: sdk.Body{
			Attributes: map[string]sdk.Value{"dirs": {Kind: sdk.KindList, List: []sdk.Value{text("/a"), text("/a/b"), text("")}}},
			Blocks: []sdk.BlockBody{{Type: "server", Body: sdk.Body{Attributes: map[string]sdk.Value{
				"listen": {Kind: sdk.KindMap, Map: map[string]sdk.Value{"x": text(":80")}},
			}}}},
		},
	}
	claims := claimsOf(&Pipeline{Name: "p"}, block)
	require.Len(t, claims, 3)
	assert.NotEmpty(t, claims[0].conflict(claims[1]))
	assert.NotEmpty(t, claims[1].conflict(claims[0]))
	assert.Empty(t, claims[0].conflict(claims[2]))
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", ":80", true},
		{"[::]:80", "localhost:80", true},
		{"localhost:0", "localhost:0", false},
		{"unix:/a", "unix:/a", true},
		{"junk", "127.0.0.1:80", false},
	} {
		assert.Equal(t, tc.same, sameListener(tc.a, tc.b), "%s %s", tc.a, tc.b)
		assert.Equal(t, tc.same, sameListener(tc.b, tc.a), "%s %s", tc.b, tc.a)
	}
	assert.False(t, within("/ab", "/a"))
	assert.True(t, within("/a", "/"))
}

func TestGuard(t *testing.T) {
	assert.True(t, guard(func() { panic(theSecret) }))
	assert.False(t, guard(func() {}))
}

// deafPlugins cannot be asked.
type deafPlugins struct{ fakePlugins }

func (deafPlugins) Validate(context.Context, sdk.Kind, string, sdk.Body) ([]sdk.Diagnostic, error) {
	return nil, context.DeadlineExceeded
}

func TestPluginThatDoesNotAnswer(t *testing.T) {
	_, problems := loadText(t, goodText, func(o *Options) { o.Validator = deafPlugins{plugins()} })
	assert.Equal(t, []string{"Plugin did not answer", "Plugin did not answer"}, summaries(problems))
	assert.True(t, problems.Unavailable(), "the file may be right")
	_, problems = loadText(t, goodText+"nonsense", func(o *Options) { o.Validator = deafPlugins{plugins()} })
	assert.False(t, problems.Unavailable())
	_, problems = loadText(t, goodText, func(o *Options) { o.Validator = nil })
	assert.Empty(t, problems)
	assert.False(t, problems.Unavailable())
}

// TestEveryChannelType holds the types that a channel block allows against those
// there are.
func TestEveryChannelType(t *testing.T) {
	s := sdk.SchemaOf(channelBlock{})
	for _, a := range s.Attributes {
		if a.Name == "type" {
			var names []string
			for _, typ := range sdk.ChannelTypes() {
				names = append(names, typ.String())
			}
			assert.ElementsMatch(t, names, a.Allowed)
			return
		}
	}
	t.Fatal("no attribute type")
}
