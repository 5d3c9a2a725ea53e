package config

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// fakePlugins are plugins without processes.
type fakePlugins map[pluginName]fakePlugin

type fakePlugin struct {
	PluginDescription
	broken   error
	validate func(sdk.Body) []sdk.Diagnostic
}

func (f fakePlugins) Known(kind sdk.Kind) []string {
	var names []string
	for key := range maps.Keys(f) {
		if key.kind == kind {
			names = append(names, key.name)
		}
	}
	return names
}

func (f fakePlugins) Schema(_ context.Context, kind sdk.Kind, name string) (PluginDescription, error) {
	p := f[pluginName{kind, name}]
	return p.PluginDescription, p.broken
}

func (f fakePlugins) Validate(_ context.Context, kind sdk.Kind, name string, body sdk.Body) ([]sdk.Diagnostic, error) {
	p := f[pluginName{kind, name}]
	if p.validate == nil {
		return nil, nil
	}
	return p.validate(body), p.broken
}

// csvSettings has attributes of many types.
type csvSettings struct {
	Path    string             `config:"path,required,path_read" doc:"File to read"`
	Flow    string             `config:"flow" doc:"Name of the flow"`
	Speed   sdk.NumberOr       `config:"speed" keywords:"max" doc:"Speed of replay"`
	Columns []string           `config:"columns" doc:"Columns to read"`
	Ports   []int64            `config:"ports"`
	Types   map[string]string  `config:"types" allowed:"double,bool"`
	Scale   map[string]float64 `config:"scale"`
	Follow  bool               `config:"follow"`
	Period  time.Duration      `config:"period"`
	Limit   sdk.Size           `config:"limit"`
	Start   time.Time          `config:"start"`
	Query   string             `config:"query"`
	Time    *csvTime           `config:"time,block" doc:"Column with the time"`
	Extras  []csvExtra         `config:"column,block"`
}

type csvTime struct {
	Column string `config:"column,required"`
	Unit   string `config:"unit" allowed:"s,ms,us,ns"`
}

type csvExtra struct {
	Name string `config:"name,label"`
	Unit string `config:"unit"`
	Key  string `config:"key,sensitive"`
}

type siftSourceSettings struct {
	Listen string            `config:"listen,tcp_bind"`
	Keys   map[string]string `config:"keys,sensitive"`
}

type generatorSettings struct {
	Rate  float64 `config:"rate,one_of=rate"`
	Every *int64  `config:"every,one_of=rate"`
	Seed  int64   `config:"seed,require_one_of=seed"`
	Salt  string  `config:"salt,require_one_of=seed"`
}

type encoderSettings struct {
	ClientKey string `config:"client_key"`
}

type siftSettings struct {
	URI    string     `config:"uri,required,tcp_connect"`
	APIKey sdk.Secret `config:"api_key,required"`
	Note   string     `config:"note"`
}

type directorySettings struct {
	Dir string `config:"dir,required,path_write"`
}

type zscoreSettings struct {
	Threshold float64 `config:"threshold"`
}

type hostileSettings struct {
	Until string `config:"until"`
}

// plugins are the plugins that the tests know.
func plugins() fakePlugins {
	describe := func(defaults any) PluginDescription {
		return PluginDescription{Version: "1.0.0", Schema: sdk.SchemaOf(defaults)}
	}
	encoded := func(d PluginDescription, formats []string, binds bool) fakePlugin {
		d.Transport = sdk.TransportCapabilities{Input: sdk.InputEncoded, Formats: formats, Binds: binds}
		return fakePlugin{PluginDescription: d}
	}
	rows := func(d PluginDescription) fakePlugin {
		d.Transport = sdk.TransportCapabilities{Input: sdk.InputRows}
		return fakePlugin{PluginDescription: d}
	}
	encoder := func(format string) fakePlugin {
		d := describe(encoderSettings{})
		d.Encoder = sdk.EncoderCapabilities{Format: format}
		return fakePlugin{PluginDescription: d}
	}
	return fakePlugins{
		{sdk.KindSource, "csv"}: {
			PluginDescription: describe(csvSettings{Flow: "csv", Speed: sdk.NumberOr{Number: 1}}),
			validate:          validateCSV,
		},
		{sdk.KindSource, "sift"}:      {PluginDescription: describe(siftSourceSettings{Listen: "127.0.0.1:50051"})},
		{sdk.KindSource, "generator"}: {PluginDescription: describe(generatorSettings{Rate: 1})},
		{sdk.KindSource, "host"}:      {PluginDescription: describe(struct{}{})},
		{sdk.KindSource, "hostile"}:   {PluginDescription: describe(hostileSettings{})},
		{sdk.KindSource, "broken"}:    {broken: errors.New("it prints junk instead of a handshake")},
		{sdk.KindSource, "silent"}: {
			PluginDescription: describe(struct{}{}),
			validate:          func(sdk.Body) []sdk.Diagnostic { return nil },
		},
		{sdk.KindEncoder, "ingestion_config"}: encoder("ingestion_config"),
		{sdk.KindEncoder, "ndjson"}:           encoder("ndjson"),
		{sdk.KindTransport, "sift"}:           encoded(describe(siftSettings{}), []string{"ingestion_config"}, true),
		{sdk.KindTransport, "file"}:           encoded(describe(directorySettings{}), nil, false),
		{sdk.KindTransport, "parquet"}:        rows(describe(directorySettings{})),
		{sdk.KindEvaluator, "zscore"}:         {PluginDescription: describe(zscoreSettings{Threshold: 3})},
	}
}

// validateCSV finds problems in all the places that a path can lead to.
func validateCSV(body sdk.Body) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	at := func(detail string, line, column int, path ...sdk.Step) {
		problems = append(problems, sdk.Diagnostic{
			Severity: sdk.SeverityError, Summary: "Plugin says no", Detail: detail, Path: path, Line: line, Column: column,
		})
	}
	query := body.Attributes["query"].String
	if i := strings.Index(query, "BAD"); i >= 0 {
		line := strings.Count(query[:i], "\n") + 1
		column := len([]rune(query[strings.LastIndex(query[:i], "\n")+1:i])) + 1
		at("The word BAD is bad.", line, column, sdk.Step{Attribute: "query"})
	}
	if query == "end" {
		at("It ends too early.", 1, 4, sdk.Step{Attribute: "query"})
	}
	for i, item := range body.Attributes["columns"].List {
		if item.String == "bad" {
			at("This column is bad.", 0, 0, sdk.Step{Attribute: "columns"}, sdk.Step{Index: i + 1})
		}
	}
	if _, ok := body.Attributes["scale"].Map["bad"]; ok {
		at("This key is bad.", 0, 0, sdk.Step{Attribute: "scale"}, sdk.Step{Key: "bad"})
	}
	extra := 0
	for _, b := range body.Blocks {
		if b.Type == "column" {
			if b.Body.Attributes["unit"].String == "bad" {
				at("This unit is bad.", 0, 0, sdk.Step{Block: "column", BlockIndex: extra}, sdk.Step{Attribute: "unit"})
			}
			if b.Labels[0] == "bad" {
				at("This block is bad.", 0, 0, sdk.Step{Block: "column", BlockIndex: extra})
			}
			if b.Body.Attributes["key"].String != "" {
				at("I was told "+b.Body.Attributes["key"].String, 0, 0, sdk.Step{Block: "column", BlockIndex: extra})
			}
			extra++
		}
	}
	if body.Attributes["flow"].String == "warn" {
		problems = append(problems, sdk.Diagnostic{Severity: sdk.SeverityWarning, Summary: "Odd flow", Path: []sdk.Step{{Attribute: "flow"}}})
	}
	if body.Attributes["flow"].String == "everywhere" {
		at("A path that leads nowhere.", 0, 0, sdk.Step{Block: "nothing"}, sdk.Step{Attribute: "x"})
		at("The whole block.", 0, 0)
		at("An attribute that is not there.", 3, 4, sdk.Step{Attribute: "limit"})
	}
	return problems
}

// environment is what LookupEnv finds in tests.
func environment() map[string]string {
	return map[string]string{
		"HOME_DIR": "/home/test",
		"SECRET":   theSecret,
		"EMPTY":    "",
	}
}

// theSecret must never be printed.
const theSecret = "hunter2.Tr0ub4dor"

func testOptions() Options {
	p := plugins()
	return Options{
		DataDir: "/data", Schemas: p, Validator: p,
		Now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		LookupEnv: func(name string) (string, bool) {
			v, ok := environment()[name]
			return v, ok
		},
	}
}

// loadText loads one file with the given text.
func loadText(t testing.TB, text string, change ...func(*Options)) (*Config, Diagnostics) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.hcl")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	o := testOptions()
	for _, f := range change {
		f(&o)
	}
	c, problems := Load(t.Context(), name, o)
	for i := range problems {
		problems[i].Subject.Filename = strings.ReplaceAll(problems[i].Subject.Filename, name, "test.hcl")
		problems[i].Detail = strings.ReplaceAll(problems[i].Detail, name, "test.hcl")
	}
	return c, problems
}

// mustLoad loads text that has nothing wrong with it.
func mustLoad(t testing.TB, text string, change ...func(*Options)) *Config {
	t.Helper()
	c, problems := loadText(t, text, change...)
	require.Empty(t, rendered(t, problems))
	require.NotNil(t, c)
	return c
}

func rendered(t testing.TB, problems Diagnostics) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, problems.Render(&out, 100, false))
	return out.String()
}

// summaries are the summaries of all problems, for short assertions.
func summaries(problems Diagnostics) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Summary)
	}
	return slices.Clip(out)
}

// functionNames are the functions that pipeline files may call.
func functionNames() []string {
	l := &loader{}
	return slices.Sorted(maps.Keys(l.functions(reveal)))
}
