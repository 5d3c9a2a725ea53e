package plugintest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

const defaultTimeout = 30 * time.Second

// Options say what the kit may do with the plugin.
type Options struct {
	// Config is a body that works, without defaults: the kit fills them in from the
	// schema. Checks that need a configured plugin use it.
	Config sdk.Body
	// Timeout bounds each check; 0 = 30 s.
	Timeout time.Duration
	// Flows are what encoders and transports are tried with; empty: one flow that
	// has a channel of every type.
	Flows []sdk.Flow
	// Repeatable: a source that ends by itself gives the same rows each time.
	Repeatable bool
	// Registration is handed to a transport before anything is delivered; nil: no
	// Register call. Its flows are set by the kit.
	Registration *sdk.Registration
	// Encode makes messages for transports that take encoded batches of certain
	// formats; for others the kit makes up some.
	Encode func(dst []byte, batch *sdk.Batch, binding sdk.Binding) (sdk.Encoded, error)
}

// Result is the outcome of one check.
type Result struct {
	Name    string
	Err     error  // nil: the plugin keeps this part of the contract
	Skipped string // why the check could not be made
}

// errSkipped is wrapped by what a check returns that cannot be made.
var errSkipped = errors.New("skipped")

func skip(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errSkipped, fmt.Sprintf(format, args...))
}

// check is one part of the contract.
type check struct {
	name string
	run  func(context.Context, *kit) error
}

// kit is what all checks of one plugin share. It does not change.
type kit struct {
	process     Process
	options     Options
	description wire.Description
	body        sdk.Body
}

// newKit asks the plugin what it is.
func newKit(ctx context.Context, p Process, o Options) (*kit, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if len(o.Flows) == 0 {
		o.Flows = []sdk.Flow{everyType()}
	}
	k := &kit{process: p, options: o}
	err := k.timed(ctx, func(ctx context.Context) error {
		return k.with(ctx, func(l *Launched) (err error) {
			k.description, err = wire.Describe(ctx, l.Conn())
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	k.body = withDefaults(k.description.Schema, o.Config)
	return k, nil
}

func (k *kit) timed(ctx context.Context, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, k.options.Timeout,
		fmt.Errorf("the plugin took more than %s", k.options.Timeout))
	defer cancel()
	err := run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// checks returns those for the plugin's kind.
func (k *kit) checks() []check {
	out := processChecks()
	switch k.description.Kind {
	case sdk.KindSource:
		return append(out, sourceChecks()...)
	case sdk.KindEncoder:
		return append(out, encoderChecks()...)
	case sdk.KindTransport:
		return append(out, transportChecks()...)
	}
	return out
}

// Check holds the plugin to the contract of its kind.
func Check(ctx context.Context, p Process, o Options) []Result {
	k, err := newKit(ctx, p, o)
	if err != nil {
		return []Result{{Name: "start", Err: err}}
	}
	results := []Result{{Name: "start"}}
	for _, c := range k.checks() {
		results = append(results, k.result(ctx, c))
	}
	return results
}

func (k *kit) result(ctx context.Context, c check) Result {
	err := k.timed(ctx, func(ctx context.Context) error { return c.run(ctx, k) })
	if errors.Is(err, errSkipped) {
		return Result{Name: c.name, Skipped: err.Error()}
	}
	return Result{Name: c.name, Err: err}
}

// Run holds the plugin to the contract of its kind, a subtest for each check.
func Run(t *testing.T, p Process, o Options) {
	t.Helper()
	k, err := newKit(t.Context(), p, o)
	if err != nil {
		t.Fatalf("plugin %s does not start: %v", p.Path, err)
	}
	for _, c := range k.checks() {
		t.Run(c.name, func(t *testing.T) {
			switch r := k.result(t.Context(), c); {
			case r.Err != nil:
				t.Error(r.Err)
			case r.Skipped != "":
				t.Skip(r.Skipped)
			}
		})
	}
}
