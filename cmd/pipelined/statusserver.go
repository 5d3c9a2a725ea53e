package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/status"
)

// checkMetrics checks the address of --metrics.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return usage(fmt.Errorf("--metrics %s: want an address and a port, such as 127.0.0.1:9464", address))
	}
	return nil
}

// serveStatus lets others ask how a host is, until the caller closes the server.
func serveStatus(ctx context.Context, host *pipeline.Host, dataDir, metrics string, logger *slog.Logger) (*status.Server, error) {
	s, err := status.Start(ctx, status.Config{
		DataDir: dataDir, Metrics: metrics, Version: version, Logger: logger,
		Pipelines: func() []pipeline.Status {
			var all []pipeline.Status
			for _, p := range host.Pipelines() {
				all = append(all, p.Status())
			}
			return all
		},
	})
	if err != nil {
		return nil, &exitError{exitIO, err}
	}
	return s, nil
}
