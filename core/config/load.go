package config

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Options belong to Load.
type Options struct {
	// Variables are values for variable blocks, as given with -var.
	Variables map[string]string
	// DataDir is `data_dir` of the files.
	DataDir string
	// Schemas knows the plugins; required.
	Schemas SchemaProvider
	// Validator asks plugins to check their blocks; nil leaves that out.
	Validator PluginValidator
	// AllowMissingSecrets makes a secret that cannot be read a warning: for
	// checking a file on a machine that does not have the secrets.
	AllowMissingSecrets bool
	// LookupEnv reads environment variables; nil = os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// Now is the time that timestamp() returns; zero = the time of the call.
	Now time.Time
}

// Load reads a pipeline file, or all `*.hcl` files of a directory that are
// neither hidden nor tests (`*.test.hcl`). The configuration is nil if one of the
// diagnostics is an error.
func Load(ctx context.Context, path string, o Options) (*Config, Diagnostics) {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	l := &loader{
		options: o,
		report:  report{sources: map[string][]byte{}},
		secrets: map[string]struct{}{},
		known:   map[pluginName]*PluginDescription{},
	}
	c := l.load(ctx, path)
	problems := l.finish()
	if problems.HasErrors() {
		return nil, problems
	}
	return c, problems
}

// loader is one call of Load.
type loader struct {
	report
	options   Options
	scope     *scope // of all files
	secrets   map[string]struct{}
	loops     loops
	pipelines map[string]hcl.Range // by name
	known     map[pluginName]*PluginDescription
}

func (l *loader) load(ctx context.Context, path string) *Config {
	sources, dir := readSources(path, &l.report)
	blocks := map[string][]*hclsyntax.Block{}
	names := make([]string, 0, len(sources))
	broken := l.errors() > 0
	for _, s := range sources {
		names = append(names, s.name)
		body, ok := l.parse(s)
		if !ok {
			broken = true
			continue
		}
		l.collect(body, blocks)
	}
	if broken {
		return nil // what a broken file defines would be missing everywhere
	}
	dataDir, err := filepath.Abs(l.options.DataDir)
	if err != nil {
		l.error(fileRange(path), "Cannot find the data directory", "%s", sentence(err))
		return nil
	}
	l.scope = l.newScope()
	l.scope.set("data_dir", cty.StringVal(dataDir))
	l.scope.setGroup("path", map[string]value{"module": plain(dir)}, nil)
	l.loadVariables(blocks["variable"])
	l.loadLocals(blocks["locals"])

	c := &Config{Dir: dir, DataDir: dataDir, Files: names}
	l.namePipelines(blocks["pipeline"])
	if len(blocks["pipeline"]) == 0 {
		l.error(fileRange(names[0]), "No pipeline", "There is no pipeline block. Write pipeline \"NAME\" {…}.")
	}
	for _, b := range blocks["pipeline"] {
		if p := l.loadPipeline(ctx, b); p != nil && l.pipelines[p.Name] == p.Range {
			c.Pipelines = append(c.Pipelines, p)
		}
	}
	l.checkTogether(c)
	c.Secrets = longestFirst(slices.Collect(maps.Keys(l.secrets)))
	for _, p := range c.Pipelines {
		for _, b := range p.pluginBlocks() {
			c.Secrets = append(c.Secrets, b.Secrets...)
		}
	}
	c.Secrets = longestFirst(c.Secrets)
	return c
}

// plain is a text that is no secret.
func plain(text string) value { return value{cty.StringVal(text), cty.StringVal(text)} }

// collect sorts the blocks of a file by their type.
func (l *loader) collect(body *hclsyntax.Body, blocks map[string][]*hclsyntax.Block) {
	types := []string{"pipeline", "variable", "locals"}
	for _, a := range sortedAttributes(body) {
		l.error(a.NameRange, "Attribute outside of a block",
			"The attribute %s stands outside of a block. Attributes belong in a pipeline, values of your own in a locals block.", quote(a.Name))
	}
	for _, b := range body.Blocks {
		if !slices.Contains(types, b.Type) {
			l.error(headerRange(b), "Unknown block", "There is no block %s outside of a pipeline.%s Known: %s.",
				quote(b.Type), didYouMean(b.Type, types), nameList(types))
			continue
		}
		blocks[b.Type] = append(blocks[b.Type], b)
	}
}
