package sdk

import (
	"context"
	"log/slog"
	"time"
)

// Kind is one of the plugin kinds.
type Kind uint8

// The kinds, numbered as in the plugin contract.
const (
	KindSource Kind = iota + 1
	KindEncoder
	KindTransport
	KindEvaluator
)

// String returns the word that pipeline files use.
func (k Kind) String() string {
	switch k {
	case KindSource:
		return "source"
	case KindEncoder:
		return "encoder"
	case KindTransport:
		return "transport"
	case KindEvaluator:
		return "evaluator"
	}
	return "unknown kind"
}

// Info names a plugin.
type Info struct {
	Name        string // as in pipeline files: lower_snake_case
	Version     string
	Description string // one paragraph for `plugin docs`
}

// Settings is what the host tells a plugin beside its configuration.
type Settings struct {
	Pipeline string
	Name     string // label of the plugin's block
	Asset    string
	StateDir string // belongs to this block alone; exists
	// Gather is how long a source gathers rows before it emits a batch, for
	// NewGatherer; 0 = each row goes at once.
	Gather time.Duration
	Logger *slog.Logger
	// Health reports a change; it never blocks.
	Health func(Health)
}

// HealthState says whether a plugin can do its work.
type HealthState uint8

// The states.
const (
	HealthOK HealthState = iota + 1
	// HealthBlocked: alive, waits for something outside.
	HealthBlocked
	// HealthFailing: needs a person.
	HealthFailing
)

// Health is a plugin's state with its reason.
type Health struct {
	State  HealthState
	Reason string
	Code   uint32 // gRPC status code, if the reason is one
}

// MetricType is counter or gauge.
type MetricType uint8

// The metric types.
const (
	Counter MetricType = iota + 1
	Gauge
)

// Metric is one number of a plugin.
type Metric struct {
	Name   string
	Type   MetricType
	Value  float64
	Labels map[string]string
	Help   string
}

// Meter is implemented by plugins that have numbers of their own.
type Meter interface {
	Metrics() []Metric
}

// Component is the life of an opened plugin. Opening it reaches nothing outside
// the process; its methods do.
type Component interface {
	// Shutdown frees everything and joins what was started. It may come first and
	// may come twice; ctx is the time left.
	Shutdown(ctx context.Context) error
}

// SourceCapabilities tells the host how to treat a source.
type SourceCapabilities struct {
	// Replayable: Run can go on from a position that it gave with a batch.
	Replayable bool
}

// EncoderCapabilities tells the host what an encoder does.
type EncoderCapabilities struct {
	Format  string // of its messages
	Decodes bool
	Rebinds bool
}

// Input is what a transport takes.
type Input uint8

// The inputs.
const (
	InputEncoded Input = iota + 1
	InputRows
)

// TransportCapabilities tells the host how to treat a transport.
type TransportCapabilities struct {
	Input           Input
	Formats         []string // encoded formats it takes; empty: any
	MaxMessageBytes int      // greatest message the destination takes; 0 = no limit
	Overlap         bool     // a stream may open while the last waits for its answer
	Binds           bool     // messages carry ids that Register returns
}

// Plugin is a plugin as a value: what it is and how it is opened.
type Plugin struct {
	Kind   Kind
	Info   Info
	Schema Schema

	Source    SourceCapabilities
	Encoder   EncoderCapabilities
	Transport TransportCapabilities

	// Validate checks a configuration that fits the schema. Secrets may be empty.
	Validate func(Body) []Diagnostic
	// Open returns a Source, Encoder or Transport according to Kind.
	Open func(Settings, Body) (Component, error)
}

// Validator is implemented by configurations that check more than their schema.
type Validator interface {
	Validate() []Diagnostic
}

// NewSource makes a source plugin. C is a struct with `config` tags (see
// SchemaOf); defaults holds the value of every attribute that is left out.
func NewSource[C any](info Info, caps SourceCapabilities, defaults C, open func(Settings, C) (Source, error)) Plugin {
	p := newPlugin(KindSource, info, defaults, open)
	p.Source = caps
	return p
}

// NewEncoder makes an encoder plugin; see NewSource.
func NewEncoder[C any](info Info, caps EncoderCapabilities, defaults C, open func(Settings, C) (Encoder, error)) Plugin {
	p := newPlugin(KindEncoder, info, defaults, open)
	p.Encoder = caps
	return p
}

// NewTransport makes a transport plugin; see NewSource.
func NewTransport[C any](info Info, caps TransportCapabilities, defaults C, open func(Settings, C) (Transport, error)) Plugin {
	p := newPlugin(KindTransport, info, defaults, open)
	p.Transport = caps
	return p
}

func newPlugin[C any, T Component](kind Kind, info Info, defaults C, open func(Settings, C) (T, error)) Plugin {
	decode := func(body Body) (C, error) {
		c := defaults
		err := Decode(body, &c)
		return c, err
	}
	return Plugin{
		Kind:   kind,
		Info:   info,
		Schema: SchemaOf(defaults),
		Validate: func(body Body) []Diagnostic {
			c, err := decode(body)
			if err != nil {
				return []Diagnostic{{Severity: SeverityError, Summary: "Invalid configuration", Detail: err.Error()}}
			}
			if v, ok := any(&c).(Validator); ok {
				return v.Validate()
			}
			return nil
		},
		Open: func(s Settings, body Body) (Component, error) {
			c, err := decode(body)
			if err != nil {
				return nil, err
			}
			return open(s, c)
		},
	}
}
