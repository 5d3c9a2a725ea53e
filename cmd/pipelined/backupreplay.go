package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/replay"
	"github.com/pipelined/pipelined/core/vfs"
)

const replayHelp = `Replay delivers the messages of backup files (PBFS) of any writer through a transport of
a pipeline file. Messages are sent as they are, with the ids that they carry; they are
not registered.

Progress is kept in the data directory, by the content of the files: a second call goes
on where the first one ended, however that was, and sends nothing again that was
confirmed, also if files were moved or have grown. Files are only read.

While the destination is away, replay waits and tries on. On Ctrl-C it finishes what it
is sending, then ends with exit code 75; a second one ends it at once.

What is damaged is skipped, and told with its byte range. What lies behind damage is sent
if the damaged chunk still says where it ends. If it does not, what is found by searching
is sent only with --resync: it may be the content of a message that looks like a chunk.

A directory stands for all files below it. Files of a pipeline that is running are left
out: it delivers them itself.

Exit codes: 0 all is delivered; 65 something could not be read; 69 the destination refuses
the key, or the transport cannot be started; 74 a file could not be read, or is in use;
75 stopped, or messages carry placeholders; 1 the destination refused messages.`

// Limits of a stream of a replay.
const (
	replayBytes    = 64 << 20
	replayInterval = 10 * time.Second
	// replayPatience is how many timeouts of a checkpoint a transport may show no sign
	// of life.
	replayPatience = 3
)

// replayOptions are the flags of backup replay.
type replayOptions struct {
	*globals
	loadOptions
	filterOptions
	to     string
	dryRun bool
	again  bool
	resync bool

	stateDir string
}

// filterOptions are the flags that choose messages.
type filterOptions struct {
	flows        []string
	since, until string
}

func (o *filterOptions) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.flows, "flow", nil, "only messages of this flow (may be repeated)")
	cmd.Flags().StringVar(&o.since, "since", "", "only messages whose time is this or later, such as 2026-05-01T12:00:00Z or 2026-05-01")
	cmd.Flags().StringVar(&o.until, "until", "", "only messages whose time is before this")
}

func (o *filterOptions) filter() (f replay.Filter, err error) {
	f.Flows = o.flows
	if f.Since, err = parseTime("--since", o.since); err != nil {
		return f, err
	}
	if f.Until, err = parseTime("--until", o.until); err != nil {
		return f, err
	}
	if !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return f, usage(fmt.Errorf("--since %s is not before --until %s", o.since, o.until))
	}
	return f, nil
}

func newBackupReplay(g *globals) *cobra.Command {
	o := &replayOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "replay CONFIG FILE|DIR…",
		Short: "Deliver backup files of any writer",
		Long:  replayHelp,
		Example: "  pipelined backup replay --dry-run stand.hcl /media/usb/backups\n" +
			"  pipelined backup replay --to sift.live stand.hcl /media/usb/backups",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, args[0], args[1:])
		},
	}
	o.loadOptions.register(cmd)
	o.filterOptions.register(cmd)
	cmd.Flags().StringVar(&o.to, "to", "", "the transport, as PLUGIN.LABEL or PIPELINE/PLUGIN.LABEL; needed if CONFIG has several")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would be sent, and what cannot be read")
	cmd.Flags().BoolVar(&o.again, "again", false, "send what was confirmed before, too")
	cmd.Flags().BoolVar(&o.resync, "resync", false, "send what was found by searching behind damage, too")
	cmd.Flags().StringVar(&o.stateDir, "state-dir", "", stateDirHelp)
	return cmd
}

func (o *replayOptions) run(cmd *cobra.Command, path string, files []string) error {
	filter, err := o.filter()
	if err != nil {
		return err
	}
	l, err := o.open(cmd, o.globals, path, o.dryRun)
	if err != nil {
		return err
	}
	defer l.plugins.close()
	logger, dataDir, plugins, c := l.logger, l.dataDir, l.plugins, l.config
	target, err := findTarget(c, o.to)
	if err != nil {
		return err
	}
	store, err := openProgress(dataDir, target)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, problem := range store.Unreadable {
		logger.Warn("progress cannot be read; what it was about is sent again", "reason", problem)
	}
	connector := &connector{target: target, plugins: plugins, dataDir: dataDir, logger: logger}
	found := &indexes{stateDir: o.stateDir}
	binder := newBinder(connector, found)
	defer binder.close()
	replayer := replay.New(replay.Settings{
		Connect: connector.connect, Binder: binder, Store: store, Filter: filter, Again: o.again, Resync: o.resync,
		CheckpointBytes: replayBytes, Interval: replayInterval,
		Patience:   replayPatience * target.transport.Checkpoint.Timeout,
		MaxMessage: target.transport.Description.Transport.MaxMessageBytes,
		Retry:      backoff.Policy(target.transport.Retry),
		Logger:     logger,
		Progress:   replayProgress(logger),
	})
	defer replayer.Close()
	job := &replayJob{
		backupJob: &backupJob{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), errs: cmd.ErrOrStderr()},
		replayer:  replayer, target: target, logger: logger, indexes: found,
	}
	for _, p := range c.Pipelines {
		if place, ok := pipeline.PlaceOfBackup(p, dataDir); ok {
			job.places = append(job.places, place)
		}
	}
	err = o.work(cmd.Context(), job, files)
	if flush := job.out.Flush(); flush != nil && err == nil && !errors.Is(flush, syscall.EPIPE) {
		err = &exitError{exitIO, fmt.Errorf("write output: %w", flush)}
	}
	if err == nil && job.code != exitOK {
		err = &exitError{code: job.code} // the reasons were printed
	}
	return err
}

// replayProgress says now and then how far a file is.
func replayProgress(logger *slog.Logger) func(*replay.Source, replay.Outcome) {
	last := time.Now()
	return func(src *replay.Source, o replay.Outcome) {
		if now := time.Now(); now.Sub(last) >= replayInterval {
			last = now
			logger.Info("delivering", "file", src.Path, "messages", o.Sent,
				"percent", 100*o.Position.Through/max(src.Identity.Size, 1))
		}
	}
}

// openProgress opens the directory with the progress of replays to a destination.
func openProgress(dataDir string, t *target) (*replay.Store, error) {
	dir := filepath.Join(dataDir, t.pipeline.Name, "replay", t.key())
	store, err := replay.OpenStore(vfs.OS{}, dir)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, &exitError{exitIO, fmt.Errorf("another replay to %s is running", t.name())}
	}
	if err != nil {
		return nil, &exitError{exitIO, fmt.Errorf("directory of progress: %w", err)}
	}
	return store, nil
}

// work runs the job until it ends or is stopped.
func (o *replayOptions) work(ctx context.Context, job *replayJob, files []string) error {
	if o.dryRun {
		return job.survey(ctx, files)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	brokenPipes := make(chan os.Signal, 1) // output that nobody reads must not end it
	signal.Notify(brokenPipes, syscall.SIGPIPE)
	defer signal.Stop(brokenPipes)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	stop := make(chan struct{})
	result := make(chan error, 1)
	go func() { result <- job.deliver(ctx, stop, files) }()
	stopping := false
	for {
		select {
		case err := <-result:
			return err
		case <-signals:
			if stopping {
				cancel()
				continue
			}
			stopping = true
			close(stop)
			fmt.Fprintln(job.errs, "stopping; what is being sent is finished (once more to stop at once)")
			timer := time.AfterFunc(stopTimeout, cancel)
			defer timer.Stop()
		}
	}
}

// stopTimeout is how long a replay goes on after it was told to stop.
const stopTimeout = 60 * time.Second

// replayJob delivers files one after the other.
type replayJob struct {
	*backupJob
	replayer *replay.Replayer
	target   *target
	logger   *slog.Logger
	indexes  *indexes
	places   []pipeline.BackupPlace // of the pipelines' own backups
	warned   bool

	files        int // that were looked at
	sent, before int64
	left, rest   int64 // messages left out; bytes that are still to be read
	unbound      int   // files
}

// deliver delivers all files. An error ends it.
func (j *replayJob) deliver(ctx context.Context, stop <-chan struct{}, paths []string) error {
	var end error
	err := j.sources(paths, func(src *replay.Source) error {
		if end != nil {
			j.rest += src.Identity.Size
			return nil
		}
		j.warnOwn(src.Path)
		outcome, err := j.replayer.Deliver(ctx, stop, src)
		end = j.conclude(src, &outcome, err)
		return nil
	})
	if err == nil {
		err = end
	}
	if err == nil && j.unbound > 0 {
		j.code = exitPending
	}
	j.total()
	return err
}

// warnOwn says that a pipeline will deliver a file again.
func (j *replayJob) warnOwn(path string) {
	for _, place := range j.places {
		if filepath.Dir(path) == place.Dir && !j.warned {
			j.warned = true
			j.logger.Warn("these files are the backup of a pipeline: what it has not confirmed itself, it delivers again",
				"dir", place.Dir, "pipeline", place.Name)
		}
	}
}

// conclude prints what became of a file. The error is one that ends the replay.
func (j *replayJob) conclude(src *replay.Source, o *replay.Outcome, err error) error {
	j.files++
	j.sent, j.before, j.left = j.sent+o.Sent, j.before+o.Before, j.left+o.Left
	if !o.End {
		j.rest += src.Identity.Size - o.Position.Through
	}
	j.damage(src.Path, &o.Damage)
	text := fmt.Sprintf("%s: %s delivered", printableLine(src.Path), count64(o.Sent, "message"))
	if o.Before > 0 {
		text += fmt.Sprintf(", %s before", humanize.Comma(o.Before))
	}
	if o.Left > 0 {
		text += fmt.Sprintf(", %s left out", humanize.Comma(o.Left))
	}
	fmt.Fprintln(j.out, text)
	_, unavailable := errors.AsType[*replay.UnavailableError](err)
	_, source := errors.AsType[*replay.SourceError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replay.ErrStopped):
		return &exitError{exitPending, errors.New("stopped; the next call goes on from here")}
	case unavailable:
		return &exitError{exitUnavailable, fmt.Errorf("%s: %w", j.target.name(), err)}
	case source:
		j.report(exitIO, src.Path, err)
	case errors.Is(err, replay.ErrUnbound):
		j.unbound++
		j.report(exitOK, src.Path, err)
	case errors.Is(err, replay.ErrRefusing):
		j.report(exitFailure, src.Path, fmt.Errorf("%w; what is left of the file is not sent", err))
	default:
		return &exitError{exitIO, err}
	}
	return nil
}

// report is complain. Output that fails is no reason to stop; it is seen at the end.
func (j *replayJob) report(code int, path string, problem error) {
	_ = j.complain(code, path, problem)
}

// damage prints what of a file is not delivered.
func (j *replayJob) damage(path string, l *replay.DamageList) {
	for i, d := range l.Ranges {
		if i == maxDamage {
			break
		}
		code := exitDamaged
		if d.Kind == replay.Refused {
			code = exitFailure
		}
		text := fmt.Sprintf("%s: bytes %d to %d (%s): %s", d.Kind, d.From, d.To, count64(d.Size(), "byte"), d.Reason)
		if d.Kind == replay.Searched {
			text = fmt.Sprintf("%s: %s in bytes %d to %d: %s; --resync sends them", d.Kind,
				count64(d.Messages, "message"), d.From, d.To, d.Reason)
		}
		j.report(code, path, errors.New(text))
	}
	if more := l.Count() - int64(min(len(l.Ranges), maxDamage)); more > 0 {
		j.report(exitDamaged, path, fmt.Errorf("and %s", count64(more, "more problem")))
	}
}

// total prints one line for all files.
func (j *replayJob) total() {
	text := fmt.Sprintf("%s from %s delivered to %s", count64(j.sent, "message"), plural(j.files, "file"), j.target.name())
	if j.before > 0 {
		text += fmt.Sprintf("; %s had been before", humanize.Comma(j.before))
	}
	if j.left > 0 {
		text += fmt.Sprintf("; %s left out", humanize.Comma(j.left))
	}
	if j.rest > 0 {
		text += fmt.Sprintf("; %s are not delivered", count64(j.rest, "byte"))
	}
	fmt.Fprintln(j.out, text)
}

// count64 is plural for numbers that may be large.
func count64(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return humanize.Comma(n) + " " + unit + "s"
}

// survey says what would be sent.
func (j *replayJob) survey(ctx context.Context, paths []string) error {
	var messages int64
	err := j.sources(paths, func(src *replay.Source) error {
		s, err := j.replayer.Survey(ctx, src)
		if err != nil {
			if _, ok := errors.AsType[*replay.SourceError](err); ok {
				return j.complain(exitIO, src.Path, err)
			}
			return err
		}
		j.files++
		bindable := s.Unbound > 0 && j.indexes.find(src.Path) != nil
		sendable := s.Messages
		if !bindable {
			sendable -= s.Unbound
		}
		messages += sendable
		j.printSurvey(src, &s, sendable)
		return j.out.Flush()
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.out, "%s from %s would be sent to %s\n", count64(messages, "message"), plural(j.files, "file"), j.target.name())
	return err
}

func (j *replayJob) printSurvey(src *replay.Source, s *replay.Survey, sendable int64) {
	j.damage(src.Path, &s.Damage)
	text := fmt.Sprintf("%s: %s to be sent", printableLine(src.Path), count64(sendable, "message"))
	if s.Before > 0 {
		text += fmt.Sprintf(", %s delivered before", humanize.Comma(s.Before))
	}
	if s.Left > 0 {
		text += fmt.Sprintf(", %s left out", humanize.Comma(s.Left))
	}
	switch {
	case s.Unbound > 0 && sendable == s.Messages:
		text += fmt.Sprintf(", %s of them after they were given ids", humanize.Comma(s.Unbound))
	case s.Unbound > 0:
		text += fmt.Sprintf(", %s that have placeholders instead of ids are not", humanize.Comma(s.Unbound))
	}
	fmt.Fprintln(j.out, text)
	for _, g := range s.Groups {
		printGroup(j.out, &g)
	}
	if s.MoreGroups {
		fmt.Fprintln(j.out, "  and more flows")
	}
}

func printGroup(out io.Writer, g *replay.Group) {
	config, run := "config "+printable(g.Config), "no run"
	if g.Run != "" {
		run = "run " + printable(g.Run)
	}
	if g.Unbound {
		config, run = "not bound", "placeholders"
	}
	span := "no time"
	if g.Timed > 0 {
		span = g.From.Format(time.RFC3339Nano) + " to " + g.To.Format(time.RFC3339Nano)
	}
	fmt.Fprintf(out, "  %s: %s, %s, %s, %s\n", printable(g.Flow), count64(g.Messages, "message"), config, run, span)
}

// target is where a replay goes to.
type target struct {
	pipeline  *config.Pipeline
	transport *config.Transport
}

// name is how people call the transport.
func (t *target) name() string {
	return fmt.Sprintf("%s/%s.%s", t.pipeline.Name, t.transport.Plugin, t.transport.Label)
}
