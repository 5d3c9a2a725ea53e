package config

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// pipelineBody is the part of a pipeline block that does not depend on plugins.
type pipelineBody struct {
	Asset        string        `config:"asset" doc:"Name of the asset at the destination"`
	AssetTags    []string      `config:"asset_tags" doc:"Tags of the asset"`
	DrainTimeout time.Duration `config:"drain_timeout" doc:"Time for stopping: delivering what is left, then ending the plugins"`
	RunFor       time.Duration `config:"run_for" doc:"Time after which the pipeline finishes, unless --for says otherwise; 0: never"`
	Run          *runBlock     `config:"run,block" doc:"Run that the data belongs to"`
	Checkpoint   Checkpoint    `config:"checkpoint,block" doc:"How often the destination confirms"`
	Retry        Retry         `config:"retry,block" doc:"Waits between attempts"`
	Queues       Queues        `config:"queues,block" doc:"How much may wait"`
	Backup       *Backup       `config:"backup,block" doc:"Log on disk"`
	RuleLimits   RuleLimits    `config:"rules,block" doc:"What holds for all rules"`
	Flows        []flowBlock   `config:"flow,block" doc:"Declares a flow of a dynamic source"`
}

// runBlock is a run block, without its metadata.
type runBlock struct {
	ID          string   `config:"id,require_one_of=run" doc:"Run that exists already"`
	Name        string   `config:"name,require_one_of=run" doc:"Name of a run that is made if it does not exist"`
	ClientKey   string   `config:"client_key" doc:"Key by which the run is found again"`
	Description string   `config:"description" doc:"What the run is about"`
	Tags        []string `config:"tags" doc:"Tags of the run"`
}

// attributes whose values may be of several types.
const (
	assetMetadata = "asset_metadata"
	runMetadata   = "metadata"
)

func metadataAttribute(name, about string) sdk.Attribute {
	return sdk.Attribute{Name: name, Type: typeScalar, Collection: sdk.Map, Description: "Named values of the " + about}
}

// pipelineSchema is the schema of a pipeline block without its plugin and rule
// blocks.
func pipelineSchema(defaults pipelineBody) sdk.Schema {
	s := sdk.SchemaOf(defaults)
	s.Attributes = append(s.Attributes, metadataAttribute(assetMetadata, "asset"))
	for i, b := range s.Blocks {
		if b.Type == "run" {
			s.Blocks[i].Body.Attributes = append(b.Body.Attributes, metadataAttribute(runMetadata, "run"))
		}
	}
	return s
}

func defaultPipeline() pipelineBody {
	return pipelineBody{
		DrainTimeout: DefaultDrainTimeout,
		Checkpoint:   defaultCheckpoint(),
		Retry:        defaultRetry(),
		Queues:       defaultQueues(),
		RuleLimits:   defaultRuleLimits(),
	}
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// checkName reports labels that cannot be the name of a pipeline or of one of its
// parts: they become names of directories, metrics and flows.
func (l *loader) checkName(kind, name string, at hcl.Range) bool {
	if validName.MatchString(name) {
		return true
	}
	l.error(at, "Invalid name", "%s cannot be the name of a %s. A name begins with a lower-case letter and has lower-case letters, digits and _ only, at most 63.", quote(name), kind)
	return false
}

// namePipelines notes the names of all pipelines, so that they can refer to each
// other.
func (l *loader) namePipelines(blocks []*hclsyntax.Block) {
	l.pipelines = map[string]hcl.Range{}
	for _, b := range blocks {
		if len(b.Labels) != 1 {
			continue // reported with its content
		}
		if first, twice := l.pipelines[b.Labels[0]]; twice {
			l.error(headerRange(b), "Duplicate pipeline", "The pipeline %s is already defined at %s.", quote(b.Labels[0]), placeOf(first))
			continue
		}
		l.pipelines[b.Labels[0]] = headerRange(b)
	}
}

// loadPipeline reads a pipeline block; nil if not even its name can be used.
func (l *loader) loadPipeline(ctx context.Context, b *hclsyntax.Block) *Pipeline {
	w := whereOf(b)
	if !l.checkLabels(b, []string{"name"}, w) || !l.checkName("pipeline", b.Labels[0], b.LabelRanges[0]) {
		return nil
	}
	p := &Pipeline{Name: b.Labels[0], Range: w.at}
	s := l.scope.child()
	s.setGroup("pipeline", map[string]value{"name": plain(p.Name)}, nil)

	body := defaultPipeline()
	d := l.decodeBody(b.Body, bodySchema{
		Schema:    pipelineSchema(body),
		scope:     s,
		elsewhere: except{blocks: []string{"source", "encoder", "transport", "rule"}},
	}, w)
	l.fill(d, &body, w)
	l.checkPipelineBody(b, &body, d.ok)
	if body.Backup != nil {
		body.Backup.Range = headerRange(nthBlock(b.Body, "backup", 0))
	}
	p.take(d.body, body)
	for _, nested := range b.Body.Blocks {
		at := headerRange(nested)
		switch nested.Type {
		case "source":
			p.Sources = appendPart(p.Sources, l.loadSource(ctx, nested, s))
		case "transport":
			p.Transports = appendPart(p.Transports, l.loadTransport(ctx, nested, s, p))
		case "encoder":
			if p.Encoder != nil {
				l.error(at, "Too many encoders", "A pipeline has one encoder at most; the first is at %s.", placeOf(p.Encoder.Range))
			}
			p.Encoder = l.loadEncoder(ctx, nested, s)
		case "rule":
			p.Rules = appendPart(p.Rules, l.loadRule(ctx, nested, s, p.Flows))
		}
	}
	_, readable := d.body.Attributes["asset"]
	l.checkPipeline(p, b, readable)
	if p.Backup != nil && p.Encoder == nil {
		p.Encoder = l.impliedEncoder(ctx, p.Backup.Range, s)
	}
	return p
}

// impliedEncoder returns the encoder of a pipeline whose transports need none but
// whose backup does.
func (l *loader) impliedEncoder(ctx context.Context, at hcl.Range, s *scope) *Encoder {
	file, _ := hclsyntax.ParseConfig([]byte("encoder \"ingestion_config\" {}"), at.Filename, at.Start)
	block := file.Body.(*hclsyntax.Body).Blocks[0]
	return l.loadEncoder(ctx, block, s)
}

// appendPart appends what could be read.
func appendPart[T any](parts []*T, part *T) []*T {
	if part == nil {
		return parts
	}
	return append(parts, part)
}

// take copies what the block says into the pipeline.
func (p *Pipeline) take(body sdk.Body, b pipelineBody) {
	p.Asset, p.AssetTags, p.DrainTimeout, p.RunFor = b.Asset, b.AssetTags, b.DrainTimeout, b.RunFor
	p.AssetMetadata = metadata(body.Attributes[assetMetadata])
	p.Checkpoint, p.Retry, p.Queues, p.RuleLimits = b.Checkpoint, b.Retry, b.Queues, b.RuleLimits
	p.Backup = b.Backup
	if b.Run != nil {
		p.Run = sdk.Run{
			ID: b.Run.ID, Name: b.Run.Name, ClientKey: b.Run.ClientKey,
			Description: b.Run.Description, Tags: b.Run.Tags,
		}
		for _, nested := range body.Blocks {
			if nested.Type == "run" {
				p.Run.Metadata = metadata(nested.Body.Attributes[runMetadata])
			}
		}
	}
	for _, f := range b.Flows {
		p.Flows = append(p.Flows, f.flow())
	}
}

// metadata turns a map into named values, sorted by name.
func metadata(v sdk.Value) []sdk.Metadata {
	var out []sdk.Metadata
	for _, name := range slices.Sorted(maps.Keys(v.Map)) {
		m := sdk.Metadata{Name: name}
		switch item := v.Map[name]; item.Kind {
		case sdk.KindString:
			m.Value = item.String
		case sdk.KindNumber:
			m.Value = item.Number
		case sdk.KindBool:
			m.Value = item.Bool
		}
		out = append(out, m)
	}
	return out
}

// pluginBlocks returns all blocks of plugins, sources first.
func (p *Pipeline) pluginBlocks() []*PluginBlock {
	var out []*PluginBlock
	for _, s := range p.Sources {
		out = append(out, &s.PluginBlock)
	}
	if p.Encoder != nil {
		out = append(out, &p.Encoder.PluginBlock)
	}
	for _, t := range p.Transports {
		out = append(out, &t.PluginBlock)
	}
	for _, r := range p.Rules {
		if r.Evaluator != nil {
			out = append(out, r.Evaluator)
		}
	}
	return out
}

// pipelineReference reads pipeline.NAME.
func (l *loader) pipelineReference(a *hclsyntax.Attribute) (string, bool) {
	names := slices.Sorted(maps.Keys(l.pipelines))
	t, problems := hcl.AbsTraversalForExpr(a.Expr)
	name, named := "", false
	if !problems.HasErrors() && len(t) == 2 && t.RootName() == "pipeline" {
		name, named = memberName(t)
	}
	if !named {
		hint := ""
		if text, ok := literalText(a.Expr); ok && slices.Contains(names, text) {
			hint = fmt.Sprintf(" Write %s = pipeline.%s.", a.Name, text)
		}
		l.error(a.Expr.Range(), "Not a pipeline", "The attribute %s names a pipeline, as in %s = pipeline.NAME.%s", quote(a.Name), a.Name, hint)
		return "", false
	}
	if _, known := l.pipelines[name]; !known {
		l.error(a.Expr.Range(), "Unknown pipeline", "There is no pipeline %s.%s %s", quote(name), didYouMean(name, names), listed("Pipelines", names, ""))
		return "", false
	}
	return name, true
}
