package config

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// ruleChannels is the attribute with the channels of a rule: its values are text,
// or maps of the attributes in ruleChannel.
const ruleChannels = "channels"

func ruleSchema(defaults Rule) sdk.Schema {
	s := sdk.SchemaOf(defaults)
	s.Attributes = append(s.Attributes, sdk.Attribute{
		Name: ruleChannels, Type: typeTree, Collection: sdk.Map,
		Description: "Channels that the rule reads: name = \"flow.channel\", or name = { flow = …, channel = … }",
	})
	s.OneOf = append(
		s.OneOf,
		sdk.OneOf{Names: []string{"when", "absent", "sequence", "not_followed"}, Required: true},
		sdk.OneOf{Names: []string{"hold", "clear_when"}},
	)
	return s
}

func (l *loader) loadRule(ctx context.Context, b *hclsyntax.Block, s *scope, flows []sdk.Flow) *Rule {
	w := whereOf(b)
	if !l.checkLabels(b, []string{"name"}, w) || !l.checkName("rule", b.Labels[0], b.LabelRanges[0]) {
		return nil
	}
	r := defaultRule()
	d := l.decodeBody(b.Body, bodySchema{Schema: ruleSchema(r), scope: s, elsewhere: except{blocks: []string{"evaluator"}}}, w)
	ok := l.fill(d, &r, w)
	r.Name, r.Range = b.Labels[0], w.at
	for i := range b.Body.Blocks {
		if nested := b.Body.Blocks[i]; nested.Type == "evaluator" {
			if r.Evaluator != nil {
				l.error(headerRange(nested), "Too many blocks", "A rule has one evaluator at most; the first is at %s.", placeOf(r.Evaluator.Range))
			}
			r.Evaluator = l.plainPlugin(ctx, sdk.KindEvaluator, nested, s)
		}
	}
	if ok {
		r.Form = r.form()
		problems := r.check(b.Body)
		var more []sdk.Diagnostic
		r.Channels, more = channelsOf(d.body.Attributes[ruleChannels])
		problems = append(problems, more...)
		l.hostProblems(b.Body, w.at, nil, append(problems, r.ambiguous(flows)...))
	}
	return &r
}

func (r *Rule) form() RuleForm {
	switch {
	case r.Absent != nil:
		return FormAbsent
	case r.Sequence != nil:
		return FormSequence
	case r.NotFollowed != nil:
		return FormNotFollowed
	}
	return FormWhen
}

// check finds what the schema of rule blocks cannot say.
func (r *Rule) check(body *hclsyntax.Body) []sdk.Diagnostic {
	given := func(name string) bool { return body.Attributes[name] != nil }
	var problems []sdk.Diagnostic
	report := func(summary, detail string, path ...string) {
		problems = append(problems, sdk.Problem(summary, detail, path...))
	}
	if r.Form != FormWhen {
		for _, name := range []string{"hold", "clear_when"} {
			if given(name) {
				report("Conflicting settings", fmt.Sprintf("The attribute %s belongs to a rule with when, and this one has the form %s.", quote(name), r.Form), name)
			}
		}
	}
	if given("hold") {
		problems = append(problems, positive(duration{"hold", r.Hold})...)
	}
	problems = append(problems, notNegative(duration{"lateness", r.Lateness}, duration{"idle", r.Idle})...)
	for name, d := range map[string]*time.Duration{"max_wait": r.MaxWait, "revise_window": r.Revise, "warmup": r.Warmup} {
		if d != nil {
			problems = append(problems, positive(duration{name, *d})...)
		}
	}
	switch {
	case r.Late == "revise" && r.Revise == nil:
		report("Missing attribute", `With late = "revise", revise_window says how late a row may change a verdict.`, "late")
	case r.Late != "revise" && r.Revise != nil:
		report("Conflicting settings", `The attribute "revise_window" belongs to late = "revise".`, "revise_window")
	}
	switch {
	case r.Form == FormAbsent && given(ruleChannels):
		report("Conflicting settings", `A rule with absent names its channel there, and reads no others.`, ruleChannels)
	case r.Form != FormAbsent && !given(ruleChannels):
		report("Missing attribute", fmt.Sprintf("The rule %s reads no channels: channels = { name = \"flow.channel\" }.", quote(r.Name)))
		problems[len(problems)-1].Path = nil
	}
	return append(problems, r.checkForm()...)
}

// checkForm checks the block that gives a rule its form.
func (r *Rule) checkForm() []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	inBlock := func(block string, found []sdk.Diagnostic) {
		for _, p := range found {
			p.Path = append(step(block), p.Path...)
			problems = append(problems, p)
		}
	}
	if a := r.Absent; a != nil {
		inBlock("absent", positive(duration{"for", a.For}))
		if !validReference(a.Channel) {
			inBlock("absent", []sdk.Diagnostic{sdk.Problem("Invalid channel", channelForm(a.Channel), "channel")})
		}
	}
	if s := r.Sequence; s != nil {
		inBlock("sequence", positive(duration{"within", s.Within}))
	}
	if s := r.NotFollowed; s != nil {
		inBlock("not_followed", positive(duration{"within", s.Within}))
	}
	return problems
}

var validAlias = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validReference reports whether text can be flow.channel.
func validReference(text string) bool {
	dot := strings.IndexByte(text, '.')
	return dot > 0 && strings.LastIndexByte(text, '.') < len(text)-1
}

// ambiguous finds references that are the names of two channels of declared flows.
// Flows that sources find while they run are not known here.
func (r *Rule) ambiguous(flows []sdk.Flow) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	check := func(reference string, path ...sdk.Step) {
		var forms []string
		for i := range flows {
			channel, ok := strings.CutPrefix(reference, flows[i].Name+".")
			if ok && flows[i].Channel(channel) >= 0 {
				forms = append(forms, fmt.Sprintf("{ flow = %s, channel = %s }", quote(flows[i].Name), quote(channel)))
			}
		}
		if len(forms) > 1 {
			problems = append(problems, problemAt(path, "Ambiguous channel",
				fmt.Sprintf("%s is the name of several channels. Write %s.", quote(reference), strings.Join(forms, " or "))))
		}
	}
	for _, c := range r.Channels {
		check(c.Reference, sdk.Step{Attribute: ruleChannels}, sdk.Step{Key: c.Alias})
	}
	if r.Absent != nil {
		check(r.Absent.Channel, sdk.Step{Block: "absent"}, sdk.Step{Attribute: "channel"})
	}
	return problems
}

func channelForm(text string) string {
	return fmt.Sprintf("A channel is named as flow.channel, and %s is not. If a name has dots of its own, write { flow = \"…\", channel = \"…\" }.", quote(text))
}

// channelsOf reads the channels attribute of a rule.
func channelsOf(v sdk.Value) ([]RuleChannel, []sdk.Diagnostic) {
	var channels []RuleChannel
	var problems []sdk.Diagnostic
	for _, alias := range slices.Sorted(maps.Keys(v.Map)) {
		at := []sdk.Step{{Attribute: ruleChannels}, {Key: alias}}
		if !validAlias.MatchString(alias) {
			problems = append(problems, problemAt(at, "Invalid name", quote(alias)+" cannot be used in expressions: a name has letters, digits and _ only, and does not begin with a digit."))
		}
		c := RuleChannel{Alias: alias}
		switch item := v.Map[alias]; item.Kind {
		case sdk.KindString:
			c.Reference = item.String
			if !validReference(c.Reference) {
				problems = append(problems, problemAt(at, "Invalid channel", channelForm(c.Reference)))
			}
		case sdk.KindMap:
			problems = append(problems, c.take(item.Map, at)...)
		default:
			problems = append(problems, problemAt(at, "Invalid channel", "A channel is \"flow.channel\", or { flow = \"…\", channel = \"…\" }."))
		}
		channels = append(channels, c)
	}
	return channels, problems
}

// take reads a channel that is written as a map.
func (c *RuleChannel) take(items map[string]sdk.Value, at []sdk.Step) []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	known := []string{"flow", "channel", "optional", "default", "lateness"}
	for _, key := range slices.Sorted(maps.Keys(items)) {
		item := items[key]
		fits := true
		switch key {
		case "flow":
			c.Flow, fits = item.String, item.Kind == sdk.KindString && item.String != ""
		case "channel":
			c.Channel, fits = item.String, item.Kind == sdk.KindString && item.String != ""
		case "optional":
			c.Optional, fits = item.Bool, item.Kind == sdk.KindBool
		case "default":
			c.Default, fits = &item, item.Kind != sdk.KindMap && item.Kind != sdk.KindList
		case "lateness":
			d, err := parseDuration(item.String)
			c.Lateness, fits = &d, err == nil && d >= 0
		default:
			problems = append(problems, problemAt(keyed(at, key), "Unknown setting of a channel",
				fmt.Sprintf("A channel has no %s.%s Known: %s.", quote(key), didYouMean(key, known), nameList(known))))
		}
		if !fits {
			problems = append(problems, problemAt(keyed(at, key), "Invalid value", fmt.Sprintf("The setting %s takes %s.", quote(key), channelTypes(key))))
		}
	}
	for _, key := range []string{"flow", "channel"} {
		if _, given := items[key]; !given {
			problems = append(problems, problemAt(at, "Missing setting of a channel", fmt.Sprintf("It needs %s = \"…\".", key)))
		}
	}
	return problems
}

func keyed(at []sdk.Step, key string) []sdk.Step { return append(slices.Clone(at), sdk.Step{Key: key}) }

// channelTypes says what the settings of a channel take.
func channelTypes(key string) string {
	switch key {
	case "optional":
		return "true or false"
	case "default":
		return "text in quotes, a number, true or false"
	case "lateness":
		return `a duration of 0 or more in quotes, such as "250ms"`
	}
	return "text in quotes"
}
