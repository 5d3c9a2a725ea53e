package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/internal/pbfsview"
)

// backupCodes is the part of the help that all backup commands share.
const backupCodes = `All files are read, whatever is found in one of them. The exit code is then 74 if a file
could not be read, else 65 if damage was found, else 0.`

func newBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Look into backup files (PBFS) of any writer",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBackupLs())
	return cmd
}

// backupJob reads files one after the other. What is wrong with one of them does
// not keep it from the others.
type backupJob struct {
	out  *bufio.Writer
	errs io.Writer
	code int // the worst so far
}

// outputError is one of standard output. It ends a job.
type outputError struct{ cause error }

func (e *outputError) Error() string { return fmt.Sprintf("write output: %v", e.cause) }
func (e *outputError) Unwrap() error { return e.cause }

// runBackup runs a job and turns what it found into an exit code.
func runBackup(cmd *cobra.Command, job func(*backupJob) error) error {
	j := &backupJob{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), errs: cmd.ErrOrStderr()}
	err := job(j)
	if err == nil {
		err = j.flush()
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) { // a reader such as head has enough
		return &exitError{code: exitIO, cause: err}
	}
	if j.code != exitOK {
		return &exitError{code: j.code} // the reasons were printed
	}
	return nil
}

func (j *backupJob) flush() error {
	if err := j.out.Flush(); err != nil {
		return &outputError{err}
	}
	return nil
}

// complain prints a problem, behind the output that came before it.
func (j *backupJob) complain(code int, path string, err error) error {
	j.code = max(j.code, code)
	if err := j.flush(); err != nil {
		return err
	}
	text := err.Error()
	if !strings.Contains(text, path) {
		text = path + ": " + text
	}
	fmt.Fprintf(j.errs, "pipelined: %s\n", printablePath(text))
	return nil
}

// visitor is told what is in a file. Its errors end the reading of the file.
type visitor struct {
	message func(*pbfsview.Message) error
	damage  func(*pbfsview.Damage) error
}

// read reads one file from front to back. The error is one of the file or of the
// visitor.
func (j *backupJob) read(ctx context.Context, path string, v visitor) (pbfsview.Summary, error) {
	f, err := pbfsview.Open(path)
	if err != nil {
		return pbfsview.Summary{}, err
	}
	defer f.Close() // it was only read
	r := pbfsview.NewReader(f, f.Size)
	for {
		m, err := r.Next()
		if err == io.EOF {
			return r.Summary(), nil
		}
		if d, ok := errors.AsType[*pbfsview.Damage](err); ok {
			j.code = max(j.code, exitDamaged)
			err = v.damage(d)
		} else if err == nil {
			err = v.message(m)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return r.Summary(), err
		}
	}
}
