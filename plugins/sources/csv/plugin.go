package csv

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pipelined/pipelined/sdk"
)

// Plugin returns the plugin.
func Plugin() sdk.Plugin {
	return sdk.NewSource(sdk.Info{
		Name: "csv", Version: "1.0.0",
		Description: "Replays CSV and NDJSON files, at real speed, scaled or as fast as it goes, or follows files that grow. " +
			"Each file is a flow; rows of several files are merged by event time. Files may be compressed with gzip.",
	}, sdk.SourceCapabilities{Replayable: true}, defaultConfig(), open)
}

// source is an opened plugin.
type source struct {
	settings sdk.Settings
	config   Config
	specs    []spec
	schemas  []*schema // of each spec; nil: not known yet
	account  account

	health sdk.Health    // reported last
	closed chan struct{} // by Shutdown

	mu struct {
		sync.Mutex
		shut    bool
		running chan struct{} // closed when Run returns; nil: it was not called
	}
}

func open(settings sdk.Settings, c Config) (sdk.Source, error) {
	specs, diags := resolve(c)
	var errs []error
	for _, d := range diags {
		errs = append(errs, fmt.Errorf("%s: %s", d.Summary, d.Detail))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, sdk.Permanent(err)
	}
	s := &source{settings: settings, config: c, specs: specs, schemas: make([]*schema, len(specs)), closed: make(chan struct{})}
	s.account.log = settings.Logger
	return s, nil
}

// Discover opens the files and finds their columns.
func (s *source) Discover(ctx context.Context) (sdk.Discovery, error) {
	d := sdk.Discovery{Finite: !s.config.Follow}
	for i := range s.specs {
		schema, _, err := inspect(ctx, &s.specs[i], memory{s.settings.StateDir}, s.settings.Logger)
		if err != nil {
			return sdk.Discovery{}, sdk.Permanent(err)
		}
		s.schemas[i] = schema
		if schema == nil {
			d.Dynamic = d.Dynamic || s.config.Follow
			continue
		}
		d.Flows = append(d.Flows, schema.flow)
	}
	return d, nil
}

// Run replays or follows the files.
func (s *source) Run(ctx context.Context, out sdk.Output) error {
	defer s.begin()()
	work, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		defer stop()
		select {
		case <-out.Stopping():
		case <-s.closed:
		case <-work.Done():
		}
	})

	from, _ := out.Resume()
	for {
		err := s.pass(work, out, from)
		if rewind, ok := errors.AsType[*rewindError](err); ok {
			s.settings.Logger.Info("the host asks for rows again", "reason", rewind.Reason)
			from = rewind.Position
			if rewind.FromBeginning {
				from = nil
			}
			continue
		}
		if work.Err() != nil {
			return ctx.Err() // nil when it was stopped
		}
		return err
	}
}

// pass reads from a position to the end, or until it is interrupted.
func (s *source) pass(ctx context.Context, out sdk.Output, from []byte) error {
	r, err := s.newRun(out, from)
	if err != nil {
		return err
	}
	if s.config.Follow {
		return r.finish(ctx, r.follow(ctx))
	}
	return r.finish(ctx, r.replay(ctx))
}

// begin notes that Run is running, until the returned function is called.
func (s *source) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := make(chan struct{})
	s.mu.running = running
	return func() { close(running) }
}

// Shutdown ends a run and waits for it.
func (s *source) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.mu.shut {
		s.mu.shut = true
		close(s.closed)
	}
	running := s.mu.running
	s.mu.Unlock()
	if running == nil {
		return nil
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Metrics returns the account of the rows.
func (s *source) Metrics() []sdk.Metric { return s.account.metrics() }

// setHealth reports a change.
func (s *source) setHealth(h sdk.Health) {
	if h == s.health {
		return
	}
	if s.health = h; h.State == sdk.HealthBlocked {
		s.settings.Logger.Warn(h.Reason)
	}
	if s.settings.Health != nil {
		s.settings.Health(h)
	}
}
