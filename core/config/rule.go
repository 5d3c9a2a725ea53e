package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pipelined/pipelined/sdk"
)

// RuleForm is what a rule does with its expressions.
type RuleForm string

// The forms.
const (
	FormWhen        RuleForm = "when" // with hold or clear_when, if given
	FormAbsent      RuleForm = "absent"
	FormSequence    RuleForm = "sequence"
	FormNotFollowed RuleForm = "not_followed"
)

// Rule is a rule block. Durations are of event time unless stated.
type Rule struct {
	Name  string
	Range hcl.Range
	Form  RuleForm

	When      string        `config:"when" doc:"Expression that raises the rule"`
	Hold      time.Duration `config:"hold" doc:"How long when must stay true"`
	ClearWhen string        `config:"clear_when" doc:"Expression that clears the rule; without it, it clears when when is false"`

	Absent      *Absent   `config:"absent,block" doc:"Fires when a channel has no data"`
	Sequence    *Sequence `config:"sequence,block" doc:"Fires when one expression follows another in time"`
	NotFollowed *Sequence `config:"not_followed,block" doc:"Fires when one expression does not follow another in time"`

	Lateness time.Duration     `config:"lateness" doc:"How far a row may be behind the newest row of its own channel"`
	MaxWait  *time.Duration    `config:"max_wait" doc:"How far the slowest channel may be behind the fastest; none: any"`
	Idle     time.Duration     `config:"idle" doc:"Wall time without data after which a channel is not waited for; 0: never"`
	Progress string            `config:"progress" allowed:"flow,channel" doc:"Whether a row of a flow is progress for all its channels"`
	Late     string            `config:"late" allowed:"count,revise" doc:"What happens with late rows"`
	Revise   *time.Duration    `config:"revise_window" doc:"With late = revise: how late a row may change a verdict"`
	Warmup   *time.Duration    `config:"warmup" doc:"How much stored data a new version of the rule begins with"`
	Labels   map[string]string `config:"labels" doc:"Copied into each verdict"`

	Channels  []RuleChannel // sorted by alias
	Evaluator *PluginBlock  // nil: the bundled one
}

// Absent is an absent block.
type Absent struct {
	Channel string        `config:"channel,required" doc:"Channel that is watched, as flow.channel"`
	For     time.Duration `config:"for,required" doc:"Time without a sample"`
}

// Sequence is a sequence or a not_followed block.
type Sequence struct {
	First  string        `config:"first,required" doc:"Expression that begins the sequence"`
	Then   string        `config:"then,required" doc:"Expression that has to follow"`
	Within time.Duration `config:"within,required" doc:"Time for it"`
}

// RuleChannel is a channel that a rule reads. Either Reference or Flow and
// Channel are set.
type RuleChannel struct {
	Alias     string // its name in expressions
	Reference string // flow.channel as written; both names may have dots in them
	Flow      string
	Channel   string
	Optional  bool           // the rule does not wait for its first value
	Default   *sdk.Value     // its value before the first sample
	Lateness  *time.Duration // nil: the rule's
}
