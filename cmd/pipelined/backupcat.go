package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipelined/pipelined/internal/pbfsview"
)

const catHelp = `Cat prints the messages of files in their order. PBFS has no names of channels: values
stand at the positions of the flow's channels, counted from 0.

JSON: one object for each message on a line of its own:

  {"flow":"f","timestamp":"2026-05-01T12:00:00.000000002Z","ingestion_config_id":"c",
   "run_id":"r","values":[1.5,null]}

A double is a number, a string a string, a bool a bool; null is a channel without a value.
All other values are objects with their type as the key, so that nothing is lost:
{"float":1.5}, {"int32":1}, {"uint32":1}, {"enum":1}, {"int64":"1"}, {"uint64":"1"};
{"bytes":"…"} and {"bit_field":"…"} in base64; {"double":"NaN"}, "Infinity", "-Infinity";
{} is a value of a type that is not known. A timestamp that RFC 3339 cannot tell is
{"seconds":"…","nanos":…}, a missing one null.

CSV: one line for each value, with the columns flow, time, position, type, value; one
line with nothing behind the time for a message without values. Control characters are
as they are, except on a terminal.

What is damaged is told on standard error; all that is left is printed.`

// catOptions are the flags of backup cat.
type catOptions struct {
	format   string
	flows    []string
	from, to string
}

func newBackupCat() *cobra.Command {
	o := &catOptions{}
	cmd := &cobra.Command{
		Use:   "cat FILE…",
		Short: "Print the messages in backup files as JSON or CSV",
		Long:  catHelp + backupHelp,
		Example: "  pipelined backup cat --flow engine --from 2026-05-01T12:00:00Z FILE | head\n" +
			"  pipelined backup cat --format csv FILE > engine.csv",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := o.filter()
			if err != nil {
				return err
			}
			return runBackup(cmd, func(ctx context.Context, j *backupJob) error {
				writer, err := o.writer(j.out, cmd.OutOrStdout())
				if err != nil {
					return err
				}
				return j.cat(ctx, args, filter, writer)
			})
		},
	}
	cmd.Flags().StringVar(&o.format, "format", "json", "json (lines) or csv")
	cmd.Flags().StringArrayVar(&o.flows, "flow", nil, "only messages of this flow (may be repeated)")
	cmd.Flags().StringVar(&o.from, "from", "", "only messages at or after this time, such as 2026-05-01T12:00:00Z or 2026-05-01")
	cmd.Flags().StringVar(&o.to, "to", "", "only messages before this time")
	// Where --to is a transport they are called so.
	for name, value := range map[string]*string{"since": &o.from, "until": &o.to} {
		cmd.Flags().StringVar(value, name, "", "")
		_ = cmd.Flags().MarkHidden(name) // it is there
	}
	return cmd
}

// catFilter says which messages are printed.
type catFilter struct {
	flows    []string  // empty: all
	from, to time.Time // zero: no limit
}

func (f *catFilter) takes(m *pbfsview.Message) bool {
	if len(f.flows) > 0 && !slices.Contains(f.flows, m.Flow()) {
		return false
	}
	if f.from.IsZero() && f.to.IsZero() {
		return true
	}
	t, ok := m.Time()
	return ok && !t.Before(f.from) && (f.to.IsZero() || t.Before(f.to))
}

// filter checks all flags.
func (o *catOptions) filter() (f *catFilter, err error) {
	f = &catFilter{flows: o.flows}
	if o.format != "json" && o.format != "csv" {
		return nil, usage(fmt.Errorf("--format %s: want json or csv", o.format))
	}
	if f.from, err = parseTime("--from", o.from); err != nil {
		return nil, err
	}
	if f.to, err = parseTime("--to", o.to); err != nil {
		return nil, err
	}
	if !f.to.IsZero() && !f.from.Before(f.to) {
		return nil, usage(fmt.Errorf("--from %s is not before --to %s", o.from, o.to))
	}
	return f, nil
}

// parseTime accepts RFC 3339 and dates, which begin at midnight UTC.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage(fmt.Errorf("%s %s: want a time such as 2026-05-01T12:00:00Z or 2026-05-01", flag, text))
}

// messageWriter prints messages. What it has printed may stay in a buffer.
type messageWriter interface {
	Write(*pbfsview.Message) error
	Flush() error
}

func (o *catOptions) writer(buffer *bufio.Writer, out io.Writer) (messageWriter, error) {
	if o.format == "json" {
		return pbfsview.NewJSON(buffer), nil
	}
	f, ok := out.(*os.File)
	return pbfsview.NewCSV(buffer, ok && term.IsTerminal(int(f.Fd())))
}

func (j *backupJob) cat(ctx context.Context, paths []string, filter *catFilter, writer messageWriter) error {
	for _, path := range paths {
		list := damageList{print: func(problem error) error {
			return j.complain(exitDamaged, path, problem)
		}}
		_, _, err := j.read(ctx, path, visitor{
			message: func(m *pbfsview.Message) error {
				if !filter.takes(m) {
					return nil
				}
				return writer.Write(m)
			},
			damage: list.add,
		})
		if err != nil {
			return err
		}
		if err := list.finish(); err != nil {
			return err
		}
	}
	return writer.Flush()
}
