package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
)

// runOptions are the flags of run.
type runOptions struct {
	*globals
	loadOptions
	duration time.Duration
	metrics  string // an address; empty: none
}

// loadOptions are the flags of commands that read pipeline files.
type loadOptions struct {
	variables []string
	dataDir   string
}

func (o *loadOptions) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.variables, "var", nil, "set a variable of the pipeline files, as name=value (may be repeated)")
	o.registerDataDir(cmd)
}

func (o *loadOptions) registerDataDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dataDir, "data-dir", "", "keep state and data here (default: $STATE_DIRECTORY, else the user's state directory)")
}

func newRun(g *globals) *cobra.Command {
	o := &runOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "run PATH",
		Short: "Run the pipelines of a file or directory",
		Long: "Run starts the pipelines of a file, or of all *.hcl files of a directory, and shows\n" +
			"their progress. It ends when all pipelines have finished, after --for, or on Ctrl-C;\n" +
			"then it delivers what it still holds and prints the account. A second Ctrl-C ends it\n" +
			"at once.",
		Example: "  pipelined run pipelines/quickstart\n  pipelined run --for 1h -var asset=stand-3 stand.hcl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, args[0])
		},
	}
	o.register(cmd)
	cmd.Flags().DurationVar(&o.duration, "for", 0, "finish after this time, such as 30s or 2h")
	cmd.Flags().StringVar(&o.metrics, "metrics", "", "also serve /metrics at this TCP address, such as 127.0.0.1:9464")
	return cmd
}

func (o *runOptions) run(cmd *cobra.Command, path string) error {
	if o.duration < 0 {
		return usage(fmt.Errorf("--for %s: a run takes some time", o.duration))
	}
	if err := checkMetrics(o.metrics); err != nil {
		return err
	}
	// Output that nobody reads any more must not end the run. The signal is caught
	// rather than ignored, which plugins would inherit.
	brokenPipes := make(chan os.Signal, 1)
	signal.Notify(brokenPipes, syscall.SIGPIPE)
	defer signal.Stop(brokenPipes)
	screen := newScreen(cmd.OutOrStdout())
	logger, err := o.logger(screen.logWriter(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	dataDir, err := o.resolveDataDir()
	if err != nil {
		return err
	}
	lock, err := pipeline.LockDataDir(dataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	plugins, err := o.plugins(logger)
	if err != nil {
		return err
	}
	defer plugins.close()
	c, err := o.load(cmd, o.globals, plugins, path, dataDir, false)
	if err != nil {
		return err
	}
	launcher, err := plugins.launcher()
	if err != nil {
		return err
	}
	host := pipeline.NewHost(c, o.duration, launcher, logger)
	fmt.Fprintf(screen, "data directory: %s\n", dataDir)
	server, err := serveStatus(cmd.Context(), host, dataDir, o.metrics, logger)
	if err != nil {
		return err
	}
	defer server.Close()
	runErr := o.supervise(cmd.Context(), host, screen)
	screen.finish()
	return conclude(cmd.OutOrStdout(), host, runErr)
}

// supervise runs the host until it ends, and passes on what the user wants.
func (o *runOptions) supervise(ctx context.Context, host *pipeline.Host, screen *screen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	result := make(chan error, 1)
	go func() { result <- host.Run(ctx) }()
	progress := newProgress(host, screen)
	defer progress.stop()
	stopping := false
	for {
		select {
		case err := <-result:
			return err
		case <-signals:
			if stopping {
				fmt.Fprintln(screen, "stopping at once")
				cancel()
			} else {
				fmt.Fprintln(screen, "stopping; what was received is being delivered (once more to stop at once)")
				host.Stop()
			}
			stopping = true
		case <-progress.tick():
			progress.show()
		}
	}
}

// conclude prints the account and decides on the exit code.
func conclude(out io.Writer, host *pipeline.Host, runErr error) error {
	printAccount(out, host.Pipelines())
	if runErr != nil {
		return &exitError{code: runCode(runErr), cause: runErr}
	}
	var replayable, gone, kept, lost, unaccounted uint64
	for _, p := range host.Pipelines() {
		r, g := p.Undelivered()
		replayable, gone, lost = replayable+r, gone+g, lost+p.Lost()
		kept += p.Kept()
		unaccounted += p.Status().Unaccounted
	}
	switch {
	case unaccounted > 0:
		return &exitError{exitFailure, fmt.Errorf("the account is wrong by %d messages: this is a mistake in pipelined, please report it", unaccounted)}
	case lost > 0:
		return &exitError{exitFailure, fmt.Errorf("%d rows were lost; the account says where and why", lost)}
	case gone > 0:
		return &exitError{exitFailure, fmt.Errorf("%d rows were received and not delivered", gone)}
	case kept > 0 && replayable > 0:
		return &exitError{exitPending, fmt.Errorf("%d messages are safe on the disk and not delivered, the next run delivers them; "+
			"%d rows were read and not stored, their source still has them", kept, replayable)}
	case kept > 0:
		return &exitError{exitPending, fmt.Errorf("%d messages are safe on the disk and not delivered; the next run delivers them", kept)}
	case replayable > 0:
		return &exitError{exitPending, fmt.Errorf("%d rows were read and not delivered; their source still has them", replayable)}
	}
	return nil
}

// runCode is the exit code of a run that failed: input and output problems, and a
// transport that must not be removed yet, have their own, everything else means that a plugin or destination is unavailable.
func runCode(err error) int {
	if code := exitCode(err); code == exitIO {
		return code
	}
	if errors.Is(err, pipeline.ErrRemoved) {
		return exitConfig
	}
	return exitUnavailable
}

func (o *loadOptions) resolveDataDir() (string, error) {
	dir := o.dataDir
	if dir == "" {
		var err error
		if dir, err = defaultDataDir(); err != nil {
			return "", err
		}
	}
	return filepath.Abs(dir)
}

// load reads the configuration and prints its problems.
func (o *loadOptions) load(cmd *cobra.Command, g *globals, p *plugins, path, dataDir string, allowMissingSecrets bool) (*config.Config, error) {
	variables := map[string]string{}
	for _, v := range o.variables {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, usage(fmt.Errorf("--var %s: want name=value", v))
		}
		variables[name] = value
	}
	c, diagnostics := config.Load(cmd.Context(), path, config.Options{
		Variables: variables, DataDir: dataDir, Schemas: p, Validator: p, AllowMissingSecrets: allowMissingSecrets,
	})
	if err := g.printDiagnostics(cmd.ErrOrStderr(), diagnostics); err != nil {
		return nil, err
	}
	switch {
	case diagnostics.Unavailable():
		return nil, &exitError{code: exitUnavailable}
	case diagnostics.HasErrors():
		return nil, &exitError{code: exitConfig}
	}
	return c, nil
}
