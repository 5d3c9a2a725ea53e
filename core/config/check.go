package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// hostProblems reports what the checks of this file found in a body; prefix leads
// from the body to what they looked at.
func (l *loader) hostProblems(body *hclsyntax.Body, at hcl.Range, prefix []sdk.Step, problems []sdk.Diagnostic) {
	for _, p := range problems {
		p.Path = slices.Concat(prefix, p.Path)
		l.add(p.Severity, l.locate(body, at, p, l.scope), p.Summary, p.Detail)
	}
}

func step(block string) []sdk.Step { return []sdk.Step{{Block: block}} }

// duration is a duration of the host's settings, for checks.
type duration struct {
	name  string
	value time.Duration
}

func notNegative(durations ...duration) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	for _, d := range durations {
		if d.value < 0 {
			problems = append(problems, sdk.Problem("Negative duration", fmt.Sprintf("The attribute %s cannot be less than 0.", quote(d.name)), d.name))
		}
	}
	return problems
}

func positive(durations ...duration) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	for _, d := range durations {
		if d.value <= 0 {
			problems = append(problems, sdk.Problem("Duration too short", fmt.Sprintf("The attribute %s must be more than 0.", quote(d.name)), d.name))
		}
	}
	return problems
}

func atLeastOne(name string, n int) []sdk.Diagnostic {
	if n >= 1 {
		return nil
	}
	return []sdk.Diagnostic{sdk.Problem("Number too small", fmt.Sprintf("The attribute %s must be at least 1.", quote(name)), name)}
}

func notEmpty(attribute string, texts []string) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	for i, text := range texts {
		if text == "" {
			problems = append(problems, problemAt([]sdk.Step{{Attribute: attribute}, {Index: i + 1}},
				"Empty text", fmt.Sprintf("The elements of %s cannot be empty.", quote(attribute))))
		}
	}
	return problems
}

func (c Checkpoint) check() []sdk.Diagnostic {
	return positive(duration{"interval", c.Interval}, duration{"timeout", c.Timeout})
}

func (r Retry) check() []sdk.Diagnostic {
	problems := positive(duration{"initial", r.Initial}, duration{"max", r.Max})
	if len(problems) == 0 && r.Max < r.Initial {
		problems = append(problems, sdk.Problem("Contradicting durations",
			fmt.Sprintf("The longest wait, max = %q, is shorter than the first one, initial = %q.", formatDuration(r.Max), formatDuration(r.Initial)), "max"))
	}
	if r.Multiplier < 1 {
		problems = append(problems, sdk.Problem("Number too small", `The attribute "multiplier" must be at least 1: waits do not become shorter.`, "multiplier"))
	}
	return problems
}

// checkPipelineBody checks what the schema of a pipeline block cannot say; fits
// says that nothing is wrong by the schema. Transports do not inherit what is
// wrong here.
func (l *loader) checkPipelineBody(b *hclsyntax.Block, body *pipelineBody, fits bool) {
	at := headerRange(b)
	report := func(prefix []sdk.Step, problems []sdk.Diagnostic) { l.hostProblems(b.Body, at, prefix, problems) }

	report(nil, positive(duration{"drain_timeout", body.DrainTimeout}))
	report(nil, notNegative(duration{"run_for", body.RunFor}))
	report(nil, notEmpty("asset_tags", body.AssetTags))
	if problems := body.Checkpoint.check(); len(problems) > 0 {
		report(step("checkpoint"), problems)
		body.Checkpoint = defaultCheckpoint()
	}
	if problems := body.Retry.check(); len(problems) > 0 {
		report(step("retry"), problems)
		body.Retry = defaultRetry()
	}
	report(step("queues"), slices.Concat(
		atLeastOne("ingestion", body.Queues.Ingestion),
		atLeastOne("backup", body.Queues.Backup),
		atLeastOne("control", body.Queues.Control)))
	if body.Queues.Ingestion < 1 {
		body.Queues.Ingestion = defaultQueues().Ingestion
	}
	limits := positive(duration{"flush_interval", body.RuleLimits.FlushInterval}, duration{"max_jump", body.RuleLimits.MaxJump})
	if body.RuleLimits.Memory < 1<<20 {
		limits = append(limits, sdk.Problem("Size too small", `The attribute "memory" must be at least "1MiB".`, "memory"))
	}
	report(step("rules"), limits)
	if !fits {
		return
	}
	report(nil, checkFlows(body.Flows))
	if run := nthBlock(b.Body, "run", 0); run != nil {
		l.checkRun(run, body.Run)
	}
	if body.Backup != nil {
		report(step("backup"), body.Backup.check())
	}
}

// checkRun checks that a run is either attached to or described.
func (l *loader) checkRun(b *hclsyntax.Block, run *runBlock) {
	if run.ID == "" && run.Name == "" {
		name := "name"
		if b.Body.Attributes["id"] != nil {
			name = "id"
		}
		l.hostProblems(b.Body, headerRange(b), nil, []sdk.Diagnostic{sdk.Problem("Empty text", fmt.Sprintf("The attribute %s cannot be empty.", quote(name)), name)})
		return
	}
	l.hostProblems(b.Body, headerRange(b), nil, notEmpty("tags", run.Tags))
	if run.ID == "" {
		return
	}
	for _, a := range sortedAttributes(b.Body) {
		if a.Name != "id" {
			l.error(a.NameRange, "Conflicting settings", "With an id, data is attached to a run that exists, and %s would not change it. Remove one of the two.", quote(a.Name))
		}
	}
}

// checkPipeline checks the parts of a pipeline against each other. An asset that
// cannot be read is not missing.
func (l *loader) checkPipeline(p *Pipeline, b *hclsyntax.Block, assetReadable bool) {
	l.checkLabelsOnce(b)
	if nthBlock(b.Body, "source", 0) == nil {
		l.error(p.Range, "Missing source", "The pipeline %s has no source. Add source \"PLUGIN\" \"NAME\" {…}.", quote(p.Name))
	}
	if nthBlock(b.Body, "transport", 0) == nil {
		l.error(p.Range, "Missing transport", "The pipeline %s has no transport, so its data goes nowhere. Add transport \"PLUGIN\" \"NAME\" {…}.", quote(p.Name))
	}
	if p.Asset == "" && assetReadable {
		l.checkAsset(p)
	}
	for _, t := range p.Transports {
		l.checkTransport(p, t, nthBlock(b.Body, "encoder", 0) != nil)
	}
	for _, s := range p.Sources {
		if s.Until != "" && !slices.Contains(p.DependsOn, s.Until) {
			p.DependsOn = append(p.DependsOn, s.Until)
		}
	}
	slices.Sort(p.DependsOn)
	if len(p.Rules) > 0 {
		l.refuseRules(p)
	}
}

// refuseRules stands here until rules are part of this version.
func (l *loader) refuseRules(p *Pipeline) {
	l.error(p.Rules[0].Range, "Rules not available",
		"This version checks rules but does not run them, and the pipeline %s has %s. Remove what is not run.", quote(p.Name), count(len(p.Rules), "rule"))
}

// checkLabelsOnce reports two blocks of a kind with the same name.
func (l *loader) checkLabelsOnce(b *hclsyntax.Block) {
	seen := map[[2]string]hcl.Range{}
	for _, nested := range b.Body.Blocks {
		want := map[string]int{"source": 2, "transport": 2, "rule": 1}[nested.Type]
		if want == 0 || len(nested.Labels) != want {
			continue
		}
		key := [2]string{nested.Type, nested.Labels[want-1]}
		at := headerRange(nested)
		if first, twice := seen[key]; twice {
			l.error(at, "Duplicate "+nested.Type, "The pipeline has another %s called %s, at %s.", nested.Type, quote(key[1]), placeOf(first))
			continue
		}
		seen[key] = at
	}
}

// checkAsset checks that there is an asset if a transport needs one.
func (l *loader) checkAsset(p *Pipeline) {
	for _, t := range p.Transports {
		if t.Description.Transport.Binds {
			l.error(p.Range, "Missing asset", "The transport %s registers the data with its destination and needs the name of the asset: asset = \"NAME\" in the pipeline %s.", quote(t.Label), quote(p.Name))
			return
		}
	}
}

// checkTransport checks that a transport gets what it needs from its pipeline.
func (l *loader) checkTransport(p *Pipeline, t *Transport, encoder bool) {
	c := t.Description.Transport
	if c.Input != sdk.InputEncoded {
		return
	}
	if !encoder {
		l.error(t.Range, "Missing encoder", "The transport %s takes encoded messages, but the pipeline has no encoder. Add encoder \"PLUGIN\" {…}.", quote(t.Label))
		return
	}
	if p.Encoder == nil || len(c.Formats) == 0 {
		return
	}
	if format := p.Encoder.Description.Encoder.Format; !slices.Contains(c.Formats, format) {
		l.error(t.Range, "Encoder does not fit", "The transport %s takes messages in the format %s, and the encoder %s at %s gives %s.",
			quote(t.Label), quotedList(c.Formats), quote(p.Encoder.Plugin), placeOf(p.Encoder.Range), quote(format))
	}
}

// checkTogether checks pipelines against each other.
func (l *loader) checkTogether(c *Config) {
	l.checkCycles(c)
	var claims []claim
	for _, p := range c.Pipelines {
		for _, b := range p.pluginBlocks() {
			claims = append(claims, claimsOf(p, b)...)
		}
		if p.Backup != nil && p.Backup.Dir != "" {
			c := claim{plugin: "backup", what: p.Backup.Dir, owner: fmt.Sprintf("the backup of pipeline %q", p.Name), at: p.Backup.Range}
			claims = append(claims, c.directory())
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.at.Filename, b.at.Filename), cmp.Compare(a.at.Start.Byte, b.at.Start.Byte))
	})
	for i, later := range claims {
		for _, first := range claims[:i] {
			if problem := first.conflict(later); problem != "" {
				l.error(later.at, first.kind.summary(), "%s is at %s. %s", problem, placeOf(first.at), first.kind.advice())
				break
			}
		}
	}
}

// checkCycles reports pipelines that wait for each other's end.
func (l *loader) checkCycles(c *Config) {
	byName := map[string]*Pipeline{}
	for _, p := range c.Pipelines {
		byName[p.Name] = p
	}
	state := map[string]visitState{}
	var visit func(p *Pipeline, behind []string)
	visit = func(p *Pipeline, behind []string) {
		state[p.Name] = visiting
		behind = append(behind, p.Name)
		for _, s := range p.Sources {
			next := byName[s.Until]
			switch {
			case next == nil || state[s.Until] == visited:
			case state[s.Until] == visiting:
				circle := append(slices.Clone(behind[slices.Index(behind, s.Until):]), s.Until)
				l.error(s.UntilRange, "Circular until", "These pipelines wait for each other's end, so none of them would ever end: %s.", strings.Join(circle, " → "))
			default:
				visit(next, behind)
			}
		}
		state[p.Name] = visited
	}
	for _, p := range c.Pipelines {
		if state[p.Name] == unvisited {
			visit(p, nil)
		}
	}
}
