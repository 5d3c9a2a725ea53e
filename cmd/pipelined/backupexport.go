package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/replay"
)

const exportHelp = `Export writes the messages of backup files (PBFS) into one new file of the same format,
which other tools can read and send: all of them, or those of some flows or of a range of
time. Of damaged files it takes everything that can be read, also what was found by
searching behind damage. The files are only read.

Files that end in .unbound hold messages with placeholders: they were stored before a
destination had given ids. With --bind CONFIG they get those of the transport of that
pipeline file, which registers their flows; the index of the file is needed for that.
Otherwise they are left out, and it says so.

Exit codes: 0 everything was written; 65 something could not be read; 69 the destination
cannot be asked; 74 a file could not be read or written; 75 messages were left out because
they have no ids.`

// exportOptions are the flags of backup export.
type exportOptions struct {
	*globals
	loadOptions
	filterOptions
	out, bind, to, stateDir string
}

func newBackupExport(g *globals) *cobra.Command {
	o := &exportOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "export --out FILE FILE|DIR…",
		Short: "Write messages of backup files into a new one",
		Long:  exportHelp,
		Example: "  pipelined backup export --since 2026-05-01 --flow engine --out may.pbfs /media/usb/backups\n" +
			"  pipelined backup export --bind stand.hcl --out bound.pbfs backups/stand-0000000000000001.unbound",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.loadOptions.register(cmd)
	o.filterOptions.register(cmd)
	cmd.Flags().StringVarP(&o.out, "out", "o", "", "the file to write; it must not exist")
	cmd.Flags().StringVar(&o.bind, "bind", "", "pipeline file whose transport gives ids to messages with placeholders")
	cmd.Flags().StringVar(&o.to, "to", "", "the transport, with --bind, as PLUGIN.LABEL or PIPELINE/PLUGIN.LABEL")
	cmd.Flags().StringVar(&o.stateDir, "state-dir", "", stateDirHelp)
	return cmd
}

func (o *exportOptions) run(cmd *cobra.Command, paths []string) error {
	if o.out == "" {
		return usage(errors.New("--out says where to write"))
	}
	filter, err := o.filter()
	if err != nil {
		return err
	}
	found := &indexes{stateDir: o.stateDir}
	settings := replay.ExportSettings{Filter: filter}
	if o.bind != "" {
		b, closeAll, err := o.binder(cmd, found)
		if err != nil {
			return err
		}
		defer closeAll()
		settings.Binder = b
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	job := &exportJob{replayJob: replayJob{
		backupJob: &backupJob{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), errs: cmd.ErrOrStderr()}, indexes: found,
	}, settings: settings}
	err = job.write(ctx, o.out, paths)
	if flush := job.out.Flush(); flush != nil && err == nil && !errors.Is(flush, syscall.EPIPE) {
		err = &exitError{exitIO, fmt.Errorf("write output: %w", flush)}
	}
	if err == nil && job.code != exitOK {
		err = &exitError{code: job.code} // the reasons were printed
	}
	return err
}

// binder prepares --bind.
func (o *exportOptions) binder(cmd *cobra.Command, found *indexes) (b *binder, closeAll func(), err error) {
	l, err := o.open(cmd, o.globals, o.bind, false)
	if err != nil {
		return nil, nil, err
	}
	target, err := findTarget(l.config, o.to)
	if err != nil {
		l.plugins.close()
		return nil, nil, err
	}
	b = newBinder(&connector{target: target, plugins: l.plugins, dataDir: l.dataDir, logger: l.logger}, found)
	return b, func() { b.close(); l.plugins.close() }, nil
}

// exportJob writes one file.
type exportJob struct {
	replayJob
	settings replay.ExportSettings
	messages int64
	bound    int64
	missing  int64 // messages that cannot be bound
}

// write writes the file under another name first: what is there under its own name is
// whole.
func (j *exportJob) write(ctx context.Context, path string, sources []string) error {
	if _, err := os.Lstat(path); err == nil {
		return usage(fmt.Errorf("--out %s: it exists", path))
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &exitError{exitIO, fmt.Errorf("--out: %w", err)}
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = j.export(ctx, buffered, sources)
	if err == nil {
		err = ioFailure(buffered.Flush())
	}
	if err == nil {
		err = ioFailure(f.Sync())
	}
	if closed := f.Close(); err == nil {
		err = ioFailure(closed)
	}
	if err == nil {
		err = ioFailure(os.Rename(part, path))
	}
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	return ioFailure(syncDir(filepath.Dir(path)))
}

func ioFailure(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitIO, err}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (j *exportJob) export(ctx context.Context, out *bufio.Writer, sources []string) error {
	err := j.sources(sources, func(src *replay.Source) error {
		e, err := replay.Export(ctx, src, j.settings, out)
		j.files++
		j.messages, j.bound, j.left, j.missing = j.messages+e.Messages, j.bound+e.Bound, j.left+e.Left, j.missing+e.Unbound
		j.damage(src.Path, &e.Damage)
		if e.Unbound > 0 {
			j.report(exitPending, src.Path, fmt.Errorf("%s left out: %w", count64(e.Unbound, "message"), e.Why))
		}
		_, source := errors.AsType[*replay.SourceError](err)
		switch {
		case err == nil:
		case source:
			j.report(exitIO, src.Path, err)
		case ctx.Err() != nil:
			return &exitError{exitFailure, errors.New("stopped; nothing was written")}
		case j.settings.Binder != nil:
			return &exitError{exitUnavailable, err}
		default:
			return ioFailure(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s from %s written", count64(j.messages, "message"), plural(j.files, "file"))
	if j.bound > 0 {
		text += fmt.Sprintf("; %s got ids", humanize.Comma(j.bound))
	}
	if j.left > 0 {
		text += fmt.Sprintf("; %s left out", humanize.Comma(j.left))
	}
	if j.missing > 0 {
		text += fmt.Sprintf("; %s have no ids", humanize.Comma(j.missing))
	}
	_, err = fmt.Fprintln(j.out, text)
	return err
}
