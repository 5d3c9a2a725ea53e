package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/status"
)

// statusTimeout bounds a question that is answered at once.
const statusTimeout = 15 * time.Second

// statusOptions are the flags of status.
type statusOptions struct {
	loadOptions
	json    bool
	wait    string
	timeout time.Duration
}

func newStatus() *cobra.Command {
	o := &statusOptions{}
	cmd := &cobra.Command{
		Use:   "status [PIPELINE…]",
		Short: "Show how running pipelines are",
		Long: "Status asks the host that uses the data directory. It prints a sentence for each pipeline,\n" +
			"then the account. With --wait delivered it first waits until everything that was received\n" +
			"before is delivered.\n\n" +
			"Exit codes: 0 if the host answered, and with --wait if all is delivered; 69 if no host is\n" +
			"running, or it ended without an answer; 75 if not all is delivered in time, or before the\n" +
			"pipeline ended.",
		Example: "  pipelined status\n  pipelined status --wait delivered --timeout 10m stand\n  pipelined status --json | jq '.pipelines[].state'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	o.registerDataDir(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print everything as JSON")
	cmd.Flags().StringVar(&o.wait, "wait", "", "wait until the pipelines have done this: delivered")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait at most")
	return cmd
}

func (o *statusOptions) check(cmd *cobra.Command) error {
	switch {
	case o.wait != "" && o.wait != status.WaitDelivered:
		return usage(fmt.Errorf("--wait %s: only %q can be waited for", o.wait, status.WaitDelivered))
	case o.wait == "" && cmd.Flags().Changed("timeout"):
		return usage(errors.New("--timeout is for --wait"))
	case o.timeout <= 0:
		return usage(fmt.Errorf("--timeout %s: waiting takes some time", o.timeout))
	}
	return nil
}

func (o *statusOptions) run(ctx context.Context, out io.Writer, names []string) error {
	dataDir, err := o.resolveDataDir()
	if err != nil {
		return err
	}
	client := status.NewClient(dataDir)
	defer client.Close()
	report, outcome, err := o.ask(ctx, client, names)
	if err != nil {
		if errors.Is(err, status.ErrNotRunning) && !o.json {
			printLeft(out, dataDir, names)
		}
		return statusError(err)
	}
	if o.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return err
		}
	} else {
		printReport(out, report)
	}
	return outcome
}

// ask returns the report, and what to end with after it was printed.
func (o *statusOptions) ask(ctx context.Context, client *status.Client, names []string) (r status.Report, outcome, err error) {
	if o.wait == "" {
		r, err = askNow(ctx, client, names)
		return r, nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	r, err = client.Wait(waiting, names...)
	switch {
	case err == nil && r.Delivered != nil && *r.Delivered:
		return r, nil, nil
	case err == nil:
		return r, &exitError{exitPending, errors.New("ended, and not everything was delivered")}, nil
	case waiting.Err() == nil || ctx.Err() != nil:
		return r, nil, err
	}
	r, err = askNow(ctx, client, names)
	return r, &exitError{exitPending, fmt.Errorf("not everything is delivered after %s", o.timeout)}, err
}

func askNow(ctx context.Context, client *status.Client, names []string) (status.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return client.Report(ctx, names...)
}

// statusError gives an error its exit code.
func statusError(err error) error {
	switch {
	case errors.Is(err, status.ErrUnknownPipeline):
		return usage(err)
	case errors.Is(err, status.ErrNotRunning), errors.Is(err, status.ErrGone), errors.Is(err, context.DeadlineExceeded):
		return &exitError{exitUnavailable, err}
	}
	return err
}
