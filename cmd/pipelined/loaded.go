package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/config"
)

// loaded is what a command has that works beside pipelines, not in one.
type loaded struct {
	logger  *slog.Logger
	dataDir string
	plugins *plugins // the caller closes them
	config  *config.Config
}

// open reads the configuration for a command that takes no data directory for itself.
func (o *loadOptions) open(cmd *cobra.Command, g *globals, path string, allowMissingSecrets bool) (l loaded, err error) {
	if l.logger, err = g.logger(cmd.ErrOrStderr()); err != nil {
		return l, err
	}
	if l.dataDir, err = o.resolveDataDir(); err != nil {
		return l, err
	}
	if l.plugins, err = g.plugins(l.logger); err != nil {
		return l, err
	}
	if l.config, err = o.load(cmd, g, l.plugins, path, l.dataDir, allowMissingSecrets); err != nil {
		l.plugins.close()
	}
	return l, err
}
