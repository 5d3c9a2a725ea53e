package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/internal/pbfsview"
)

// backupHelp is the part of the help that all backup commands share.
const backupHelp = "\n\nAll files are read, whatever is wrong with one of them. Then the exit code is 74 if a\n" +
	"file could not be read, else 65 if damage was found, else 0."

func newBackup(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Look into backup files (PBFS) of any writer",
		Long: "The commands below read backup files (PBFS), also those of other programs, and change none\n" +
			"of them; only forget deletes. Of a file that is damaged they read all that is left.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBackupLs(), newBackupCat(), newBackupVerify(), newBackupReplay(g), newBackupExport(g), newBackupForget(g))
	return cmd
}

// backupJob reads files one after the other. What is wrong with one of them does
// not keep it from the others. Errors of its methods are those of its output, and
// end it.
type backupJob struct {
	out  *bufio.Writer
	errs io.Writer
	code int // the worst so far

	unreadable int // files and directories that could not be read
}

// runBackup runs a job and turns what it found into an exit code.
func runBackup(cmd *cobra.Command, job func(context.Context, *backupJob) error) error {
	j := &backupJob{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), errs: cmd.ErrOrStderr()}
	err := job(cmd.Context(), j)
	if err == nil {
		err = j.out.Flush()
	}
	switch {
	case errors.Is(err, syscall.EPIPE): // the reader has enough
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return &exitError{exitIO, fmt.Errorf("write output: %w", err)}
	}
	if j.code != exitOK {
		return &exitError{code: j.code} // the reasons were printed
	}
	return nil
}

// complain prints what is wrong with a file, behind the output that came before it.
func (j *backupJob) complain(code int, path string, problem error) error {
	j.code = max(j.code, code)
	if err := j.out.Flush(); err != nil {
		return err
	}
	if code == exitIO {
		j.unreadable++
	}
	if e, ok := errors.AsType[*fs.PathError](problem); ok {
		path, problem = e.Path, e.Err
	}
	fmt.Fprintf(j.errs, "pipelined: %s: %s\n", printableLine(path), printableLine(problem.Error()))
	return nil
}

// walk visits all files that the paths lead to.
func (j *backupJob) walk(paths []string, visit func(path string) error) error {
	for _, root := range paths {
		found := false
		for path, problem := range pbfsview.Walk(root) {
			found = true
			var err error
			if problem != nil {
				err = j.complain(exitIO, path, problem)
			} else {
				err = visit(path)
			}
			if err != nil {
				return err
			}
		}
		if !found {
			fmt.Fprintf(j.errs, "pipelined: %s: no files in this directory\n", printableLine(root))
		}
	}
	return nil
}

// visitor is told what is in a file. It may leave functions out.
type visitor struct {
	message func(*pbfsview.Message) error
	damage  func(error) error
}

// read reads one file from front to back. If the file cannot be read to its end,
// it says so and returns false.
func (j *backupJob) read(ctx context.Context, path string, v visitor) (s pbfsview.Summary, ok bool, err error) {
	f, problem := pbfsview.Open(path)
	if problem != nil {
		return s, false, j.complain(exitIO, path, problem)
	}
	defer f.Close() // it was only read
	r := pbfsview.NewReader(f, f.Size)
	for ctx.Err() == nil {
		m, problem := r.Next()
		damage, damaged := errors.AsType[*pbfsview.Damage](problem)
		switch {
		case problem == io.EOF:
			return r.Summary(), true, nil
		case damaged:
			j.code = max(j.code, exitDamaged)
			if v.damage != nil {
				err = v.damage(damage)
			}
		case problem != nil:
			return r.Summary(), false, j.complain(exitIO, path, problem)
		case v.message != nil:
			err = v.message(m)
		}
		if err != nil {
			return r.Summary(), false, err
		}
	}
	return r.Summary(), false, ctx.Err()
}

// maxDamage is the number of damaged ranges of one file that are printed.
const maxDamage = 100

// damageList prints the damage of a file up to a limit.
type damageList struct {
	print func(error) error
	more  int
	shown int
}

func (l *damageList) add(d error) error {
	if l.shown == maxDamage {
		l.more++
		return nil
	}
	l.shown++
	return l.print(d)
}

// finish says how many were not printed.
func (l *damageList) finish() error {
	if l.more == 0 {
		return nil
	}
	return l.print(fmt.Errorf("and %s", plural(l.more, "more problem")))
}
