package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
)

func replayTransport(plugin, label string, input sdk.Input, formats ...string) *config.Transport {
	t := &config.Transport{}
	t.Kind, t.Plugin, t.Label = sdk.KindTransport, plugin, label
	t.Description.Transport = sdk.TransportCapabilities{Input: input, Formats: formats}
	t.Description.Schema.Attributes = []sdk.Attribute{
		{Name: "uri", Grant: sdk.GrantTCPConnect}, {Name: "api_key", Sensitive: true}, {Name: "gzip"},
	}
	t.Body.Attributes = map[string]sdk.Value{"uri": {Kind: sdk.KindString, String: "http://a"}}
	return t
}

func TestFindTarget(t *testing.T) {
	one := &config.Pipeline{Name: "one", Transports: []*config.Transport{
		replayTransport("sift", "live", sdk.InputEncoded, pbfsFormat),
		replayTransport("file", "disk", sdk.InputEncoded),
		replayTransport("parquet", "lake", sdk.InputRows),
		replayTransport("odd", "format", sdk.InputEncoded, "other"),
	}}
	two := &config.Pipeline{Name: "two", Transports: []*config.Transport{replayTransport("sift", "live", sdk.InputEncoded)}}
	rows := &config.Pipeline{Name: "rows", Transports: []*config.Transport{replayTransport("parquet", "lake", sdk.InputRows)}}
	for _, tc := range []struct {
		name      string
		pipelines []*config.Pipeline
		to        string
		want      string // or the end of the error
		fails     bool
	}{
		{name: "the only one", pipelines: []*config.Pipeline{two}, want: "two/sift.live"},
		{name: "the only one that can", pipelines: []*config.Pipeline{two, rows}, want: "two/sift.live"},
		{name: "by block", pipelines: []*config.Pipeline{one}, to: "file.disk", want: "one/file.disk"},
		{name: "by label", pipelines: []*config.Pipeline{one}, to: "disk", want: "one/file.disk"},
		{name: "by pipeline", pipelines: []*config.Pipeline{one, two}, to: "two/sift.live", want: "two/sift.live"},
		{name: "several", pipelines: []*config.Pipeline{one}, fails: true, want: "choose one with --to (one/sift.live, one/file.disk)"},
		{name: "ambiguous", pipelines: []*config.Pipeline{one, two}, to: "sift.live", fails: true, want: "choose one of one/sift.live, two/sift.live"},
		{name: "rows", pipelines: []*config.Pipeline{one}, to: "parquet.lake", fails: true, want: "this transport takes rows, not encoded messages"},
		{name: "format", pipelines: []*config.Pipeline{one}, to: "odd.format", fails: true, want: "does not take messages of the format " + pbfsFormat},
		{name: "unknown", pipelines: []*config.Pipeline{one}, to: "sift.lve", fails: true, want: "there is one/sift.live, one/file.disk"},
		{name: "none", pipelines: []*config.Pipeline{rows}, fails: true, want: "takes backup files as they are"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := findTarget(&config.Config{Pipelines: tc.pipelines}, tc.to)
			if tc.fails {
				require.Error(t, err)
				assert.Equal(t, exitUsage, exitCode(err))
				assert.Contains(t, err.Error(), tc.want)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got.name())
		})
	}
}

// Progress belongs to the place that a transport delivers to, not to how it does.
func TestTargetKey(t *testing.T) {
	key := func(change func(map[string]sdk.Value)) string {
		transport := replayTransport("sift", "live", sdk.InputEncoded)
		change(transport.Body.Attributes)
		return (&target{&config.Pipeline{}, transport}).key()
	}
	base := key(func(map[string]sdk.Value) {})
	assert.Regexp(t, "^sift-live-[0-9a-f]{16}$", base)
	assert.Equal(t, base, key(func(a map[string]sdk.Value) { a["gzip"] = sdk.Value{Kind: sdk.KindBool, Bool: true} }))
	assert.Equal(t, base, key(func(a map[string]sdk.Value) { a["api_key"] = sdk.Value{Kind: sdk.KindString, String: "k"} }))
	assert.NotEqual(t, base, key(func(a map[string]sdk.Value) { a["uri"] = sdk.Value{Kind: sdk.KindString, String: "http://b"} }))
	alone := key(func(a map[string]sdk.Value) { delete(a, "uri") })
	assert.NotEqual(t, base, alone)
	odd := key(func(a map[string]sdk.Value) {
		delete(a, "uri")
		a["gzip"] = sdk.Value{Kind: sdk.KindNumber, Number: math.NaN()}
	})
	assert.NotEqual(t, alone, odd, "without an address all settings count")
}
