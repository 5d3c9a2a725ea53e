package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Config of the source.
type Config struct {
	Groups  []string                 `config:"groups" allowed:"cpu,memory,disk,network,temperature,fan" doc:"What is read; groups that this machine does not have are left out"`
	Period  time.Duration            `config:"period" doc:"Time between two readings"`
	Periods map[string]time.Duration `config:"periods" doc:"Other periods by group, as in { cpu = \"100ms\" }"`
}

// minPeriod keeps a mistake from filling a processor.
const minPeriod = 10 * time.Millisecond

// Validate checks the periods.
func (c *Config) Validate() []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	if c.Period < minPeriod {
		problems = append(problems, sdk.Problem("Period is too short", tooShort(c.Period), "period"))
	}
	for group, period := range c.Periods {
		path := []sdk.Step{{Attribute: "periods"}, {Key: group}}
		switch {
		case !slices.Contains(groupNames(), group):
			problems = append(problems, sdk.Diagnostic{
				Severity: sdk.SeverityError, Summary: "Unknown group", Path: path,
				Detail: fmt.Sprintf("There is no group %q. Groups are: %s.", group, strings.Join(groupNames(), ", ")),
			})
		case period < minPeriod:
			problems = append(problems, sdk.Diagnostic{
				Severity: sdk.SeverityError, Summary: "Period is too short", Path: path, Detail: tooShort(period),
			})
		}
	}
	return problems
}

func tooShort(period time.Duration) string {
	return fmt.Sprintf("The period is %s; the least is %s.", period, minPeriod)
}

// Plugin returns the source as a plugin.
func Plugin() sdk.Plugin {
	return sdk.NewSource(
		sdk.Info{
			Name: "host", Version: "1.0.0",
			Description: "Reads this machine's own telemetry: processors, memory, disks, network, temperatures and fans. Each group is a flow with its own period.",
		},
		sdk.SourceCapabilities{},
		Config{Groups: groupNames(), Period: time.Second},
		func(s sdk.Settings, c Config) (sdk.Source, error) {
			return &source{settings: s, config: c, collect: collectors()}, nil
		},
	)
}

// collector reads one group.
type collector struct {
	group string
	// channels says what the machine has; none: the group is left out.
	channels func(ctx context.Context) ([]sdk.Channel, error)
	// sample sets the channels of a row by their names.
	sample func(ctx context.Context, set func(channel string, value float64)) error
}

type source struct {
	settings sdk.Settings
	config   Config
	collect  []collector

	once  sync.Once
	found []group
	err   error
}

// group is a group that the machine has, with its flow.
type group struct {
	collector
	flow   sdk.Flow
	index  map[string]int // channel positions by name
	period time.Duration
}

func (s *source) Discover(ctx context.Context) (sdk.Discovery, error) {
	groups, err := s.groups(ctx)
	if err != nil {
		return sdk.Discovery{}, err
	}
	var d sdk.Discovery
	for _, g := range groups {
		d.Flows = append(d.Flows, g.flow)
	}
	return d, nil
}

// groups finds out once what the machine has.
func (s *source) groups(ctx context.Context) ([]group, error) {
	s.once.Do(func() {
		for _, c := range s.collect {
			if !slices.Contains(s.config.Groups, c.group) {
				continue
			}
			channels, err := c.channels(ctx)
			if err != nil {
				s.settings.Logger.Warn("a group cannot be read and is left out", "group", c.group, "error", err)
				continue
			}
			if len(channels) > 0 {
				s.found = append(s.found, s.group(c, channels))
			}
		}
		if len(s.found) == 0 {
			s.err = sdk.Permanent(fmt.Errorf("this machine has none of the groups %s", strings.Join(s.config.Groups, ", ")))
		}
	})
	return s.found, s.err
}

func (s *source) group(c collector, channels []sdk.Channel) group {
	g := group{
		collector: c, flow: sdk.Flow{Name: c.group, Channels: channels},
		index: map[string]int{}, period: s.config.Period,
	}
	for i, channel := range channels {
		g.index[channel.Name] = i
	}
	if period, ok := s.config.Periods[c.group]; ok {
		g.period = period
	}
	return g
}

func (s *source) Run(ctx context.Context, out sdk.Output) error {
	groups, err := s.groups(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	gather := sdk.NewGatherer(out, s.settings.Gather)
	var loops sync.WaitGroup
	for _, g := range groups {
		loops.Go(func() {
			if err := s.loop(ctx, g, gather, out.Stopping()); err != nil {
				cancel(err)
			}
		})
	}
	loops.Wait()
	err = context.Cause(ctx)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if closeErr := gather.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// loop reads one group each period until stopped. A reading that takes longer than
// the period makes the next one late; it does not bunch them up.
func (s *source) loop(ctx context.Context, g group, gather *sdk.Gatherer, stopping <-chan struct{}) error {
	number, err := gather.Announce(g.flow)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(g.period)
	defer ticker.Stop()
	failing := false
	for {
		if err := s.row(ctx, g, number, gather, &failing); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-stopping:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// row emits one reading. A reading that fails is logged when failing begins, and
// leaves a row without values of what could not be read.
func (s *source) row(ctx context.Context, g group, number sdk.FlowNumber, gather *sdk.Gatherer, failing *bool) error {
	type sample struct {
		channel int
		value   float64
	}
	var samples []sample
	err := g.sample(ctx, func(channel string, value float64) {
		if i, ok := g.index[channel]; ok {
			samples = append(samples, sample{i, value})
		}
	})
	if err != nil && !*failing && ctx.Err() == nil {
		s.settings.Logger.Warn("a group cannot be read at the moment", "group", g.group, "error", err)
	}
	*failing = err != nil
	if len(samples) == 0 {
		return nil
	}
	return gather.Row(ctx, number, time.Now().UnixNano(), nil, func(b *sdk.Builder) {
		for _, s := range samples {
			b.Double(s.channel, s.value)
		}
	})
}

func (s *source) Shutdown(context.Context) error { return nil }
