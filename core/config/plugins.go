package config

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// pluginName identifies a plugin.
type pluginName struct {
	kind sdk.Kind
	name string
}

// pluginSettings are the host's settings in the block of any plugin.
type pluginSettings struct {
	Plugin HostSettings `config:"plugin,block" doc:"Settings of the plugin's process"`
}

// sourceSettings are the host's settings in a source block, besides until.
type sourceSettings struct {
	IdleExit time.Duration `config:"idle_exit" doc:"The source has ended when it gave no data for this time. 0: never"`
	Gather   time.Duration `config:"gather" doc:"After a first row at once, rows are gathered for this time into a batch. 0: each row at once"`
	Plugin   HostSettings  `config:"plugin,block" doc:"Settings of the plugin's process"`
}

// transportSettings are the host's settings in a transport block.
type transportSettings struct {
	Required     bool            `config:"required" doc:"false: it loses its oldest data before it can stop other transports"`
	Flows        []string        `config:"flows" doc:"Names of the flows that it gets; * stands for any text, ? for one character. Default: all"`
	ChannelNames ChannelNames    `config:"channel_names" allowed:"qualified,plain" doc:"Whether the destination sees flow.channel or channel"`
	Checkpoint   Checkpoint      `config:"checkpoint,block" doc:"As in the pipeline, for this transport"`
	Retry        Retry           `config:"retry,block" doc:"As in the pipeline, for this transport"`
	Queues       TransportQueues `config:"queues,block" doc:"As in the pipeline, for this transport"`
	Plugin       HostSettings    `config:"plugin,block" doc:"Settings of the plugin's process"`
}

func sourceSchema(defaults sourceSettings) sdk.Schema {
	s := sdk.SchemaOf(defaults)
	s.Attributes = append(s.Attributes, sdk.Attribute{
		Name: "until", Type: typePipeline,
		Description: "The source ends when this pipeline has ended",
	})
	return s
}

func (l *loader) loadSource(ctx context.Context, b *hclsyntax.Block, s *scope) *Source {
	settings := sourceSettings{Gather: defaultGather(), Plugin: defaultHostSettings()}
	block, host := l.pluginBlock(ctx, sdk.KindSource, b, sourceSchema(settings), s)
	if block == nil {
		return nil
	}
	l.fill(host, &settings, whereOf(b))
	l.hostProblems(b.Body, block.Range, nil, notNegative(duration{"idle_exit", settings.IdleExit}, duration{"gather", settings.Gather}))
	l.hostProblems(b.Body, block.Range, step("plugin"), unavailableSandbox(settings.Plugin))
	block.Host = settings.Plugin
	return &Source{
		PluginBlock: *block,
		Until:       host.body.Attributes["until"].String,
		UntilRange:  l.locate(b.Body, block.Range, sdk.Problem("", "", "until"), s),
		IdleExit:    settings.IdleExit,
		Gather:      settings.Gather,
	}
}

func (l *loader) loadEncoder(ctx context.Context, b *hclsyntax.Block, s *scope) *Encoder {
	block := l.plainPlugin(ctx, sdk.KindEncoder, b, s)
	if block == nil {
		return nil
	}
	return &Encoder{PluginBlock: *block}
}

// plainPlugin reads the block of a plugin for which the host has no settings of
// its own but those of the process.
func (l *loader) plainPlugin(ctx context.Context, kind sdk.Kind, b *hclsyntax.Block, s *scope) *PluginBlock {
	settings := pluginSettings{Plugin: defaultHostSettings()}
	block, host := l.pluginBlock(ctx, kind, b, sdk.SchemaOf(settings), s)
	if block == nil {
		return nil
	}
	l.fill(host, &settings, whereOf(b))
	l.hostProblems(b.Body, block.Range, step("plugin"), unavailableSandbox(settings.Plugin))
	block.Host = settings.Plugin
	return block
}

func (l *loader) loadTransport(ctx context.Context, b *hclsyntax.Block, s *scope, p *Pipeline) *Transport {
	settings := transportSettings{
		Required:   true,
		Checkpoint: p.Checkpoint,
		Retry:      p.Retry,
		Queues:     TransportQueues{Ingestion: p.Queues.Ingestion},
		Plugin:     defaultHostSettings(),
	}
	block, host := l.pluginBlock(ctx, sdk.KindTransport, b, sdk.SchemaOf(settings), s)
	if block == nil {
		return nil
	}
	l.fill(host, &settings, whereOf(b))
	l.hostProblems(b.Body, block.Range, nil, notEmpty("flows", settings.Flows))
	l.hostProblems(b.Body, block.Range, nil, unavailableOptional(settings.Required))
	l.hostProblems(b.Body, block.Range, step("checkpoint"), settings.Checkpoint.check())
	l.hostProblems(b.Body, block.Range, step("retry"), settings.Retry.check())
	l.hostProblems(b.Body, block.Range, step("queues"), atLeastOne("ingestion", settings.Queues.Ingestion))
	l.hostProblems(b.Body, block.Range, step("plugin"), unavailableSandbox(settings.Plugin))
	block.Host = settings.Plugin
	return &Transport{
		PluginBlock:  *block,
		Required:     settings.Required,
		Flows:        settings.Flows,
		ChannelNames: settings.ChannelNames,
		Checkpoint:   settings.Checkpoint,
		Retry:        settings.Retry,
		Queues:       settings.Queues,
	}
}

// unavailableSandbox stands here until plugins are confined: what is required must
// not be left out silently.
func unavailableSandbox(h HostSettings) []sdk.Diagnostic {
	if h.Sandbox != SandboxRequired {
		return nil
	}
	return []sdk.Diagnostic{sdk.Problem("Sandbox not available",
		"This version does not confine plugins, so it cannot start one that requires it.", "sandbox")}
}

// unavailableOptional stands here until a transport can lose its oldest data before
// it stops the others.
func unavailableOptional(required bool) []sdk.Diagnostic {
	if required {
		return nil
	}
	return []sdk.Diagnostic{sdk.Problem("Optional transports not available",
		"In this version every transport is required: a slow one lets the sources wait.", "required")}
}

// pluginBlock reads what the blocks of all kinds have in common, and the host's
// settings. It returns nil if the block cannot be used at all.
func (l *loader) pluginBlock(ctx context.Context, kind sdk.Kind, b *hclsyntax.Block, host sdk.Schema, s *scope) (*PluginBlock, decoded) {
	w := whereOf(b)
	labels := []string{"plugin"}
	if kind == sdk.KindSource || kind == sdk.KindTransport {
		labels = append(labels, "name")
	}
	if !l.checkLabels(b, labels, w) {
		return nil, decoded{}
	}
	label := b.Labels[len(labels)-1]
	named := l.checkName(kind.String(), label, b.LabelRanges[len(labels)-1])
	description, ok := l.describe(ctx, kind, b.Labels[0], b.LabelRanges[0])
	if !ok || !named {
		return nil, decoded{}
	}
	hostNames := map[string]bool{}
	for _, name := range (bodySchema{Schema: host}).names() {
		hostNames[name] = true
	}
	if !l.checkNames(kind, description.Schema, hostNames, w) {
		return nil, decoded{}
	}
	d := l.decodeBody(b.Body, bodySchema{Schema: joined(host, description.Schema), scope: s, host: hostNames}, w)
	own, hosts := d.split(hostNames)
	block := &PluginBlock{
		Kind: kind, Plugin: b.Labels[0], Label: label, Range: w.at,
		Description: *description, Body: own.body, Secrets: own.secrets,
	}
	if d.ok && !d.partial {
		l.askPlugin(ctx, block, b, own.shown, s)
	}
	return block, hosts
}

// describe finds a plugin and keeps its description for the next block.
func (l *loader) describe(ctx context.Context, kind sdk.Kind, name string, at hcl.Range) (*PluginDescription, bool) {
	key := pluginName{kind, name}
	if d, asked := l.known[key]; asked && d != nil {
		return d, true
	}
	names := l.options.Schemas.Known(kind)
	if !slices.Contains(names, name) {
		l.error(at, "Unknown plugin", "There is no %s plugin %s.%s %s", kind, quote(name), didYouMean(name, names), listed("Installed", names, "None are installed."))
		return nil, false
	}
	d, err := l.options.Schemas.Schema(ctx, kind, name)
	if err != nil {
		l.unavailable(at, "Unusable plugin", fmt.Sprintf("The %s plugin %s cannot be described", kind, quote(name)), err)
		return nil, false
	}
	l.known[key] = &d
	return &d, true
}

// checkNames reports settings of a plugin that the host's settings hide.
func (l *loader) checkNames(kind sdk.Kind, schema sdk.Schema, host map[string]bool, w where) bool {
	ok := true
	for _, name := range (bodySchema{Schema: schema}).names() {
		if host[name] {
			l.error(w.at, "Unusable plugin", "The plugin declares a setting %s, but in the block of a %s that name is the host's. The plugin has to be changed.", quote(name), kind)
			ok = false
		}
	}
	return ok
}

func (s bodySchema) names() []string { return append(s.attributeNames(), s.blockNames()...) }

// joined is a schema with the settings of two.
func joined(a, b sdk.Schema) sdk.Schema {
	return sdk.Schema{
		Attributes: slices.Concat(a.Attributes, b.Attributes),
		Blocks:     slices.Concat(a.Blocks, b.Blocks),
		OneOf:      slices.Concat(a.OneOf, b.OneOf),
	}
}

// split separates the settings of the host from those of the plugin.
func (d decoded) split(host map[string]bool) (plugin, hosts decoded) {
	plugin.body, hosts.body = splitBody(d.body, host)
	plugin.shown, hosts.shown = splitBody(d.shown, host)
	plugin.secrets = d.secrets // the host's settings have none
	plugin.ok, hosts.ok = d.ok, d.ok
	return plugin, hosts
}

func splitBody(body sdk.Body, host map[string]bool) (plugin, hosts sdk.Body) {
	plugin.Attributes, hosts.Attributes = map[string]sdk.Value{}, map[string]sdk.Value{}
	for name, v := range body.Attributes {
		if host[name] {
			hosts.Attributes[name] = v
		} else {
			plugin.Attributes[name] = v
		}
	}
	for _, b := range body.Blocks {
		if host[b.Type] {
			hosts.Blocks = append(hosts.Blocks, b)
		} else {
			plugin.Blocks = append(plugin.Blocks, b)
		}
	}
	return plugin, hosts
}

// askPlugin lets the plugin check its body and puts its problems into place.
func (l *loader) askPlugin(ctx context.Context, block *PluginBlock, b *hclsyntax.Block, shown sdk.Body, s *scope) {
	if l.options.Validator == nil {
		return
	}
	problems, err := l.options.Validator.Validate(ctx, block.Kind, block.Plugin, shown)
	if err != nil {
		l.unavailable(block.Range, "Plugin did not answer", fmt.Sprintf("The %s plugin %s could not check its block", block.Kind, quote(block.Plugin)), err)
		return
	}
	for _, p := range problems {
		if hidden(b.Body, shown, p.Path) {
			continue // it was not told the value, so it knows nothing about it
		}
		severity := sdk.SeverityError
		if p.Severity == sdk.SeverityWarning {
			severity = sdk.SeverityWarning
		}
		summary := p.Summary
		if summary == "" {
			summary = "Invalid configuration"
		}
		l.add(severity, l.locate(b.Body, block.Range, p, s), summary, p.Detail)
	}
}

// hidden reports whether a path leads to an attribute that is in the file but was
// kept from the plugin.
func hidden(body *hclsyntax.Body, shown sdk.Body, path []sdk.Step) bool {
	for _, one := range path {
		switch {
		case one.Attribute != "":
			_, given := body.Attributes[one.Attribute]
			_, told := shown.Attributes[one.Attribute]
			return given && !told
		case one.Block != "":
			b, inner := nthBlock(body, one.Block, one.BlockIndex), nthBody(shown, one.Block, one.BlockIndex)
			if b == nil || inner == nil {
				return false
			}
			body, shown = b.Body, *inner
		default:
			return false
		}
	}
	return false
}

func nthBody(body sdk.Body, blockType string, n int) *sdk.Body {
	for i, b := range body.Blocks {
		if b.Type == blockType {
			if n == 0 {
				return &body.Blocks[i].Body
			}
			n--
		}
	}
	return nil
}
