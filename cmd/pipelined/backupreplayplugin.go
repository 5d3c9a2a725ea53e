package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/replay"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// pbfsFormat is the format of the messages in PBFS files. The files do not say it.
const pbfsFormat = "sift.ingest.v1.IngestWithConfigDataStreamRequest"

// findTarget finds the transport that is meant: PLUGIN.LABEL, PIPELINE/PLUGIN.LABEL,
// or nothing if there is only one.
func findTarget(c *config.Config, name string) (*target, error) {
	var able, matching []*target
	var refused error
	for _, p := range c.Pipelines {
		for _, t := range p.Transports {
			candidate := &target{p, t}
			named := name == t.Plugin+"."+t.Label || name == candidate.name() || name == t.Label
			if err := candidate.check(); err != nil {
				if named {
					refused = err
				}
				continue
			}
			able = append(able, candidate)
			if named || name == "" {
				matching = append(matching, candidate)
			}
		}
	}
	switch {
	case len(matching) == 1:
		return matching[0], nil
	case len(matching) > 1 && name == "":
		return nil, usage(fmt.Errorf("there are several transports: choose one with --to (%s)", names(able)))
	case len(matching) > 1:
		return nil, usage(fmt.Errorf("--to %s: there are several: choose one of %s", name, names(matching)))
	case refused != nil:
		return nil, usage(fmt.Errorf("--to %s: %w", name, refused))
	case name == "":
		return nil, usage(errors.New("no transport of the pipelines takes backup files as they are"))
	}
	return nil, usage(fmt.Errorf("--to %s: there is no such transport; there is %s", name, names(able)))
}

func names(targets []*target) string {
	var out []string
	for _, t := range targets {
		out = append(out, t.name())
	}
	if len(out) == 0 {
		return "none that takes backup files"
	}
	return strings.Join(out, ", ")
}

// check says why a transport cannot take the messages of backup files.
func (t *target) check() error {
	d := t.transport.Description.Transport
	switch {
	case d.Input != sdk.InputEncoded:
		return errors.New("this transport takes rows, not encoded messages")
	case len(d.Formats) > 0 && !slices.Contains(d.Formats, pbfsFormat):
		return fmt.Errorf("this transport does not take messages of the format %s", pbfsFormat)
	}
	return nil
}

// key names the directory of progress: another destination has another one. What the
// plugin may reach tells destinations apart; keys and other settings do not matter.
func (t *target) key() string {
	block := &t.transport.PluginBlock
	meant := map[string]sdk.Value{}
	others := map[string]sdk.Value{}
	for _, a := range block.Description.Schema.Attributes {
		v, ok := block.Body.Attributes[a.Name]
		switch {
		case !ok || a.Sensitive:
		case a.Grant == sdk.GrantTCPConnect || a.Grant == sdk.GrantPathWrite || a.Grant == sdk.GrantDevice:
			meant[a.Name] = v
		default:
			others[a.Name] = v
		}
	}
	if len(meant) == 0 {
		meant = others
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(meant)) {
		value, err := json.Marshal(meant[name])
		if err != nil { // a number that JSON has none for
			value = fmt.Append(nil, meant[name])
		}
		fmt.Fprintf(sum, "%q %s\n", name, value)
	}
	return fmt.Sprintf("%s-%s-%s", block.Plugin, block.Label, hex.EncodeToString(sum.Sum(nil)[:8]))
}

// Slots of the memory that is shared with the transport.
const replaySlots = 16

const (
	replayConfigureTimeout = 10 * time.Second
	replayStopTimeout      = 5 * time.Second
)

// connector starts the transport.
type connector struct {
	target  *target
	plugins *plugins
	dataDir string
	logger  *slog.Logger
}

// connect starts the transport's process and begins a session with it.
func (c *connector) connect(ctx context.Context) (replay.Session, error) {
	region, err := shm.Create(shm.ToPlugin, sdk.MaxBatchBytes, replaySlots)
	if errors.Is(err, errors.ErrUnsupported) {
		region = nil // payloads go inline
	} else if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	var regions []*shm.Region
	if region != nil {
		regions = append(regions, region)
	}
	process, err := c.start(ctx, &c.target.transport.PluginBlock, regions)
	if err != nil {
		closeRegions(regions)
		return nil, err
	}
	stop := func() { c.stop(process, regions) }
	session, err := replay.NewSession(process.Conn(), replay.SessionSettings{
		Region: region, Format: pbfsFormat, Closed: stop,
		Clean: func(err error) error {
			if said, ok := errors.AsType[*sdk.Error](err); ok {
				clean := *said
				clean.Message = process.Scrub(clean.Message)
				return &clean
			}
			return process.Explain(err)
		},
	})
	if err != nil {
		err = process.Explain(err)
		stop()
		return nil, err
	}
	return session, nil
}

func closeRegions(regions []*shm.Region) {
	for _, r := range regions {
		_ = r.Close() // nothing is lost with the mapping
	}
}

// start starts and configures the plugin of a block.
func (c *connector) start(ctx context.Context, block *config.PluginBlock, regions []*shm.Region) (pipeline.Process, error) {
	stateDir := filepath.Join(c.dataDir, c.target.pipeline.Name, "replay", "state", fmt.Sprintf("%s-%s-%s", block.Kind, block.Plugin, block.Label))
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, sdk.Permanent(err)
	}
	launcher, err := c.plugins.launcher()
	if err != nil {
		return nil, err
	}
	process, err := launcher.Launch(ctx, pipeline.LaunchOptions{
		Kind: block.Kind, Plugin: block.Plugin, Pipeline: c.target.pipeline.Name, Label: block.Label,
		Env: block.Host.Env, Secrets: block.Secrets, Regions: regions, Logger: c.logger,
	})
	if err != nil {
		return nil, err
	}
	if err := c.configure(ctx, process, block, stateDir, regions); err != nil {
		c.stop(process, nil)
		return nil, err
	}
	return process, nil
}

func (c *connector) configure(ctx context.Context, process pipeline.Process, block *config.PluginBlock, stateDir string, regions []*shm.Region) error {
	ctx, cancel := context.WithTimeout(ctx, replayConfigureTimeout)
	defer cancel()
	diagnostics, err := wire.Configure(ctx, process.Conn(), wire.ConfigureArgs{
		Pipeline: c.target.pipeline.Name, Name: block.Label, Asset: c.target.pipeline.Asset,
		StateDir: stateDir, Body: block.Body, Regions: regions,
	})
	if err != nil {
		return process.Explain(fmt.Errorf("configure: %w", err))
	}
	for _, d := range diagnostics {
		if d.Severity == sdk.SeverityError {
			return sdk.Permanent(errors.New(process.Scrub(d.Summary + ": " + d.Detail)))
		}
		c.logger.Warn(process.Scrub(d.Summary), "plugin", block.Plugin+"."+block.Label, "detail", process.Scrub(d.Detail))
	}
	return nil
}

func (c *connector) stop(process pipeline.Process, regions []*shm.Region) {
	ctx, cancel := context.WithTimeout(context.Background(), replayStopTimeout)
	defer cancel()
	if err := process.Stop(ctx); err != nil {
		c.logger.Warn("the transport did not end well", "error", err)
	}
	closeRegions(regions)
}
