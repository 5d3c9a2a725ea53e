package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/plugin"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// askTimeout bounds each question to a plugin that is not running a pipeline.
const askTimeout = 5 * time.Second

// plugins are all plugins that this command knows: the bundled ones as values, the
// others as processes. It is what configurations are checked against.
type plugins struct {
	bundled   []sdk.Plugin
	catalog   *plugin.Catalog
	processes *plugin.Launcher // nil until a process is needed
	logger    *slog.Logger
}

func (g *globals) plugins(logger *slog.Logger) (*plugins, error) {
	for _, dir := range g.pluginDirs { // the others need not exist
		if _, err := os.Stat(dir); err != nil {
			return nil, usage(fmt.Errorf("--plugin-dir: %w", err))
		}
	}
	p := &plugins{bundled: bundled(), logger: logger}
	var ids []plugin.ID
	for _, b := range p.bundled {
		ids = append(ids, plugin.ID{Kind: b.Kind, Name: b.Info.Name})
	}
	catalog, err := plugin.NewCatalog(plugin.CatalogConfig{Bundled: ids, Verb: pluginVerb, Dirs: g.directories()})
	if err != nil {
		return nil, err
	}
	p.catalog = catalog
	return p, nil
}

// close ends what processes are left.
func (p *plugins) close() {
	if p.processes == nil {
		return
	}
	if err := p.processes.Close(); err != nil {
		p.logger.Warn("plugin processes did not end well", "error", err)
	}
}

func (p *plugins) launcherOf() (*plugin.Launcher, error) {
	if p.processes == nil {
		launcher, err := plugin.NewLauncher(p.logger, plugin.SocketBases(os.Getenv))
		if err != nil {
			return nil, err
		}
		p.processes = launcher
	}
	return p.processes, nil
}

func (p *plugins) find(kind sdk.Kind, name string) (sdk.Plugin, bool) {
	i := slices.IndexFunc(p.bundled, func(b sdk.Plugin) bool { return b.Kind == kind && b.Info.Name == name })
	if i < 0 {
		return sdk.Plugin{}, false
	}
	return p.bundled[i], true
}

// Known returns the names of the plugins of a kind, also of those that are refused:
// asking for one says why.
func (p *plugins) Known(kind sdk.Kind) []string {
	var names []string
	for _, e := range p.catalog.List() {
		if e.Kind == kind && !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
	}
	return names
}

// Schema describes a plugin. A third-party plugin is started for it.
func (p *plugins) Schema(ctx context.Context, kind sdk.Kind, name string) (config.PluginDescription, error) {
	d, err := p.describe(ctx, kind, name)
	if err != nil {
		return config.PluginDescription{}, err
	}
	return config.PluginDescription{
		Version: d.Info.Version, Schema: d.Schema,
		Source: d.Source, Encoder: d.Encoder, Transport: d.Transport,
	}, nil
}

func (p *plugins) describe(ctx context.Context, kind sdk.Kind, name string) (d wire.Description, err error) {
	if b, ok := p.find(kind, name); ok {
		return wire.Description{
			Kind: b.Kind, Info: b.Info, Schema: b.Schema,
			Source: b.Source, Encoder: b.Encoder, Transport: b.Transport,
		}, nil
	}
	err = p.ask(ctx, kind, name, func(_ context.Context, process *plugin.Process) error {
		d = process.Description()
		return nil
	})
	return d, err
}

// Validate has a plugin check a body.
func (p *plugins) Validate(ctx context.Context, kind sdk.Kind, name string, body sdk.Body) (found []sdk.Diagnostic, err error) {
	if b, ok := p.find(kind, name); ok {
		return b.Validate(body), nil
	}
	err = p.ask(ctx, kind, name, func(ctx context.Context, process *plugin.Process) error {
		found, err = wire.Validate(ctx, process.Conn(), body)
		return process.Explain(err)
	})
	return found, err
}

// ask starts a plugin for one question.
func (p *plugins) ask(ctx context.Context, kind sdk.Kind, name string, question func(context.Context, *plugin.Process) error) error {
	spec, err := p.catalog.Find(kind, name)
	if err != nil {
		return err
	}
	launcher, err := p.launcherOf()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("it did not answer within %s", askTimeout))
	defer cancel()
	process, err := launcher.Launch(ctx, spec, plugin.Options{Logger: p.logger})
	if err != nil {
		return err
	}
	return errors.Join(question(ctx, process), process.Stop(ctx))
}

// starter starts the processes of pipelines, each with its share of the machine.
type starter struct {
	plugins *plugins
	share   plugin.Budget
}

// processMemory is what one plugin process may use, in bytes, before its garbage
// collector works harder.
const processMemory = 256 << 20

// launcher returns what starts the processes of a configuration.
func (p *plugins) launcher() (pipeline.Launcher, error) {
	if _, err := p.launcherOf(); err != nil {
		return nil, err
	}
	return &starter{plugins: p, share: plugin.Budget{Memory: processMemory}}, nil
}

// Launch starts the process of one plugin block.
func (s *starter) Launch(ctx context.Context, o pipeline.LaunchOptions) (pipeline.Process, error) {
	spec, err := s.plugins.catalog.Find(o.Kind, o.Plugin)
	if err != nil {
		return nil, err
	}
	logger := o.Logger.With("block", fmt.Sprintf("%s.%s", o.Plugin, o.Label))
	process, err := s.plugins.processes.Launch(ctx, spec, plugin.Options{
		Logger: logger, Budget: s.share, Env: o.Env, Secrets: o.Secrets, Regions: o.Regions,
		OnHealth: func(h sdk.Health) {
			if h.State == sdk.HealthFailing {
				logger.Warn("plugin needs attention", "reason", h.Reason)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return process, nil
}
