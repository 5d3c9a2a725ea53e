package wire

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

type fullConfig struct {
	Path    string            `config:"path,required,path_read" doc:"File to read."`
	Key     sdk.Secret        `config:"key,required"`
	Speed   sdk.NumberOr      `config:"speed" keywords:"max"`
	Mode    string            `config:"mode" allowed:"a,b"`
	Wait    time.Duration     `config:"wait"`
	Size    sdk.Size          `config:"size"`
	From    *time.Time        `config:"from,one_of=start"`
	Row     *int64            `config:"row,one_of=start"`
	Tags    []string          `config:"tags"`
	Factors map[string]string `config:"factors"`
	Columns []column          `config:"column,required"`
	Limit   *limit            `config:"limit"`
}

type column struct {
	Name string  `config:"name,label"`
	Type string  `config:"type,required"`
	Gain float64 `config:"gain"`
}

type limit struct {
	Most int64 `config:"most"`
}

func (c *fullConfig) Validate() []sdk.Diagnostic {
	if c.Path == "bad" {
		return []sdk.Diagnostic{
			sdk.Problem("Bad path", "It is bad.", "path"),
			{Severity: sdk.SeverityWarning, Summary: "W", Path: []sdk.Step{{Block: "column", BlockIndex: 1}, {Index: 3}, {Key: "k"}}, Line: 2, Column: 3},
		}
	}
	return nil
}

func fullPlugin(open func(sdk.Settings, fullConfig) (sdk.Source, error)) sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "full", Version: "1.2", Description: "All of it."}, sdk.SourceCapabilities{Replayable: true},
		fullConfig{Speed: sdk.NumberOr{Keyword: "max"}, Mode: "a", Wait: time.Second, Size: 1 << 20, Tags: []string{"x"}}, open)
}

func TestDescribe(t *testing.T) {
	for _, p := range []sdk.Plugin{fullPlugin(nil), toyPlugin(), sinkPlugin(nil)} {
		conn, _ := serveUnconfigured(t, p)
		d, err := Describe(deadline(t), conn)
		require.NoError(t, err)
		assert.Equal(t, Description{
			Kind: p.Kind, Info: p.Info, Schema: p.Schema, Source: p.Source, Encoder: p.Encoder, Transport: p.Transport,
		}, d)
	}
}

func text(s string) sdk.Value { return sdk.Value{Kind: sdk.KindString, String: s} }

func fullBody() sdk.Body {
	return sdk.Body{
		Attributes: map[string]sdk.Value{
			"path": text("/p"), "key": text("k"), "speed": {Kind: sdk.KindNumber, Number: 2}, "mode": text("b"),
			"wait": {Kind: sdk.KindInteger, Integer: 5}, "row": {Kind: sdk.KindInteger, Integer: 7},
			"tags":    {Kind: sdk.KindList, List: []sdk.Value{text("t")}},
			"factors": {Kind: sdk.KindMap, Map: map[string]sdk.Value{"f": text("g")}},
		},
		Blocks: []sdk.BlockBody{{Type: "column", Labels: []string{"c"}, Body: sdk.Body{
			Attributes: map[string]sdk.Value{"type": text("double"), "gain": {Kind: sdk.KindInteger, Integer: 2}},
		}}},
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*sdk.Body)
		want   []string // summaries
	}{
		"good":              {func(*sdk.Body) {}, nil},
		"secret missing":    {func(b *sdk.Body) { delete(b.Attributes, "key") }, nil},
		"empty":             {func(b *sdk.Body) { *b = sdk.Body{} }, []string{"Missing attribute", "Missing block"}},
		"wrong type":        {func(b *sdk.Body) { b.Attributes["wait"] = text("5s") }, []string{"Wrong type"}},
		"wrong item":        {func(b *sdk.Body) { b.Attributes["tags"].List[0] = sdk.Value{Kind: sdk.KindBool} }, []string{"Wrong type"}},
		"keyword":           {func(b *sdk.Body) { b.Attributes["speed"] = text("max") }, nil},
		"no keyword":        {func(b *sdk.Body) { b.Attributes["speed"] = text("fast") }, []string{"Wrong type"}},
		"not allowed":       {func(b *sdk.Body) { b.Attributes["mode"] = text("c") }, []string{"Value not allowed"}},
		"unknown attribute": {func(b *sdk.Body) { b.Attributes["x"] = text("c") }, []string{"Unknown attribute"}},
		"unknown block":     {func(b *sdk.Body) { b.Blocks = append(b.Blocks, sdk.BlockBody{Type: "x"}) }, []string{"Unknown block"}},
		"labels":            {func(b *sdk.Body) { b.Blocks[0].Labels = nil }, []string{"Wrong labels"}},
		"in a block":        {func(b *sdk.Body) { delete(b.Blocks[0].Body.Attributes, "type") }, []string{"Missing attribute"}},
		"too many": {func(b *sdk.Body) {
			b.Blocks = append(b.Blocks, sdk.BlockBody{Type: "limit"}, sdk.BlockBody{Type: "limit"})
		}, []string{"Too many blocks"}},
		"two of a group": {func(b *sdk.Body) { b.Attributes["from"] = sdk.Value{Kind: sdk.KindInteger, Integer: 1} }, []string{"Choose one"}},
		"plugin's own":   {func(b *sdk.Body) { b.Attributes["path"] = text("bad") }, []string{"Bad path", "W"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := serveUnconfigured(t, fullPlugin(nil))
			body := fullBody()
			tc.change(&body)
			diags, err := Validate(deadline(t), conn, body)
			require.NoError(t, err)
			var got []string
			for _, d := range diags {
				got = append(got, d.Summary)
			}
			assert.Equal(t, tc.want, got)
			if name == "plugin's own" {
				var config fullConfig
				config.Path = "bad"
				assert.Equal(t, config.Validate(), diags)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	args := ConfigureArgs{Pipeline: "p", Name: "n", Asset: "a", StateDir: "/s", Gather: time.Millisecond, Body: fullBody()}
	t.Run("good", func(t *testing.T) {
		var settings sdk.Settings
		var config fullConfig
		conn, _ := serveUnconfigured(t, fullPlugin(func(s sdk.Settings, c fullConfig) (sdk.Source, error) {
			settings, config = s, c
			return scripted{}, nil
		}))
		_, err := Discover(deadline(t), conn)
		require.ErrorContains(t, err, "has not been configured")
		diags, err := Configure(deadline(t), conn, args)
		require.NoError(t, err)
		assert.Empty(t, diags)
		assert.Equal(t, []string{"p", "n", "a", "/s"}, []string{settings.Pipeline, settings.Name, settings.Asset, settings.StateDir})
		assert.Equal(t, time.Millisecond, settings.Gather)
		assert.Equal(t, "k", config.Key.Reveal())
		assert.Equal(t, []column{{Name: "c", Type: "double", Gain: 2}}, config.Columns)
		assert.Equal(t, sdk.Size(1<<20), config.Size)
		_, err = Configure(deadline(t), conn, args)
		require.ErrorContains(t, err, "configured already")
	})
	for name, tc := range map[string]struct {
		open func(sdk.Settings, fullConfig) (sdk.Source, error)
		key  bool
		want string
	}{
		"error":     {func(sdk.Settings, fullConfig) (sdk.Source, error) { return nil, errors.New("no such device") }, true, "no such device"},
		"panic":     {func(sdk.Settings, fullConfig) (sdk.Source, error) { panic("oh") }, true, "plugin code panicked in Open: oh"},
		"no secret": {nil, false, `The attribute "key" is required.`},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := serveUnconfigured(t, fullPlugin(tc.open))
			args := args
			args.Body = fullBody()
			if !tc.key {
				delete(args.Body.Attributes, "key")
			}
			diags, err := Configure(deadline(t), conn, args)
			require.NoError(t, err)
			require.Len(t, diags, 1)
			assert.Equal(t, tc.want, diags[0].Detail)
			_, err = Discover(deadline(t), conn)
			require.ErrorContains(t, err, "has not been configured")
		})
	}
}

type metered struct{ toy }

func (metered) Metrics() []sdk.Metric {
	return []sdk.Metric{{Name: "rows_total", Type: sdk.Counter, Value: 3, Labels: map[string]string{"a": "b"}, Help: "h"}}
}

func TestMetrics(t *testing.T) {
	conn, _ := serveInProcess(t, toyPlugin())
	got, err := Metrics(deadline(t), conn)
	require.NoError(t, err)
	assert.Empty(t, got)

	plugin := toyPlugin()
	plugin.Open = func(sdk.Settings, sdk.Body) (sdk.Component, error) { return metered{}, nil }
	conn, _ = serveInProcess(t, plugin)
	got, err = Metrics(deadline(t), conn)
	require.NoError(t, err)
	assert.Equal(t, metered{}.Metrics(), got)
}

// TestWrongKind: what Open returned must be of the kind that the plugin says.
func TestWrongKind(t *testing.T) {
	plugin := toyPlugin()
	plugin.Open = func(sdk.Settings, sdk.Body) (sdk.Component, error) { return scripted{}, nil }
	conn, _ := serveInProcess(t, plugin)
	stream, err := OpenEncoder(deadline(t), conn, StreamRegions{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.ErrorContains(t, err, "is no encoder")

	_, err = Discover(deadline(t), conn)
	require.ErrorIs(t, err, ErrContract)
}
