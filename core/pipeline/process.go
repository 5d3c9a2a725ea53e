package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// Deadlines of calls to plugins.
const (
	pingInterval     = 5 * time.Second
	pingTimeout      = 5 * time.Second
	configureTimeout = 10 * time.Second
	discoverTimeout  = 30 * time.Second
)

// Slots of the shared memory regions: 16 of 1 MiB, as many as keep both sides busy.
const (
	slotBytes = sdk.MaxBatchBytes
	slots     = 16
)

// Launcher starts plugin processes.
type Launcher interface {
	Launch(ctx context.Context, o LaunchOptions) (Process, error)
}

// LaunchOptions say which plugin is started and with what.
type LaunchOptions struct {
	Kind     sdk.Kind
	Plugin   string // "csv"
	Pipeline string
	Label    string // of its block
	Env      map[string]string
	Secrets  []string // scrubbed from what it prints
	Regions  []*shm.Region
	Logger   *slog.Logger
}

// Process is a running plugin process.
type Process interface {
	Conn() grpc.ClientConnInterface
	// Exited is closed when the process is gone. ExitError says why, nil if it was
	// stopped in order.
	Exited() <-chan struct{}
	ExitError() error
	// Explain prefers the way in which the process ended to a broken stream that
	// follows from it, and names the plugin.
	Explain(err error) error
	// Scrub takes the configured secrets out of a text that came from the plugin.
	Scrub(text string) string
	// Alive returns nil when the plugin has answered a ping.
	Alive(ctx context.Context) error
	// Stop drains the plugin, then kills it when ctx is done; it returns when the
	// process is gone. It may be called twice.
	Stop(ctx context.Context) error
}

// plugin is one plugin of the pipeline with its process and its shared memory.
type plugin struct {
	block   *config.PluginBlock
	name    string // "source csv.stand"
	regions []*shm.Region
	process Process
}

// launch starts and configures a plugin.
func (p *Pipeline) launch(ctx context.Context, block *config.PluginBlock, gather time.Duration, directions ...shm.Direction) (*plugin, error) {
	pl := &plugin{block: block, name: fmt.Sprintf("%s %s.%s", block.Kind, block.Plugin, block.Label)}
	stateDir, err := p.stateDir(block)
	if err != nil {
		return nil, err
	}
	for _, direction := range directions {
		region, err := shm.Create(direction, slotBytes, slots)
		if errors.Is(err, errors.ErrUnsupported) {
			break // payloads go inline
		}
		if err != nil {
			pl.closeRegions()
			return nil, fmt.Errorf("%s: shared memory: %w", pl.name, err)
		}
		pl.regions = append(pl.regions, region)
	}
	pl.process, err = p.launcher.Launch(ctx, LaunchOptions{
		Kind: block.Kind, Plugin: block.Plugin, Pipeline: p.config.Name, Label: block.Label,
		Env: block.Host.Env, Secrets: block.Secrets, Regions: pl.regions, Logger: p.logger,
	})
	if err != nil {
		pl.closeRegions()
		return nil, err
	}
	if err := pl.configure(ctx, p, stateDir, gather); err != nil {
		return pl, err
	}
	return pl, nil
}

func (pl *plugin) configure(ctx context.Context, p *Pipeline, stateDir string, gather time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	diagnostics, err := wire.Configure(ctx, pl.process.Conn(), wire.ConfigureArgs{
		Pipeline: p.config.Name, Name: pl.block.Label, Asset: p.config.Asset, StateDir: stateDir,
		Gather: gather, Body: pl.block.Body, Regions: pl.regions,
	})
	if err != nil {
		return pl.explain(fmt.Errorf("configure: %w", err))
	}
	for _, d := range diagnostics {
		if d.Severity == sdk.SeverityError {
			return fmt.Errorf("%s: %s", pl.name, pl.process.Scrub(d.Summary+": "+d.Detail))
		}
		p.logger.Warn(pl.process.Scrub(d.Summary), "plugin", pl.name, "detail", pl.process.Scrub(d.Detail))
	}
	return nil
}

// explain gives an error of a call or stream the name of the block and what the
// process has to say.
func (pl *plugin) explain(err error) error {
	return fmt.Errorf("%s: %w", pl.name, pl.process.Explain(err))
}

// scrubbed returns what a plugin said as an error, without secrets. A destination
// may show them to the plugin.
func (pl *plugin) scrubbed(err error) *sdk.Error {
	e := *sdk.AsError(err)
	e.Message = pl.process.Scrub(e.Message)
	return &e
}

// answers reports whether the plugin answers a ping in time. When nobody wants to
// know any more, or it is gone, it counts as answering.
func (pl *plugin) answers(ctx context.Context) bool {
	ping, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if pl.process.Alive(ping) == nil || ctx.Err() != nil {
		return true
	}
	select {
	case <-pl.process.Exited():
		return true
	default:
		return false
	}
}

// exitError says why the process is gone although nobody asked for it.
func (pl *plugin) exitError() error {
	if err := pl.process.ExitError(); err != nil {
		return fmt.Errorf("%s: %w", pl.name, err)
	}
	return fmt.Errorf("%s: the process ended by itself", pl.name)
}

func (pl *plugin) region(i int) *shm.Region {
	if i < len(pl.regions) {
		return pl.regions[i]
	}
	return nil
}

func (pl *plugin) closeRegions() {
	for _, r := range pl.regions {
		_ = r.Close() // nothing is lost with the mapping
	}
}

// stop ends the process and frees its memory.
func (pl *plugin) stop(ctx context.Context) error {
	err := pl.process.Stop(ctx)
	pl.closeRegions()
	return err
}
