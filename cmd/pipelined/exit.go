package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/vfs"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailure     = 1  // failure, or rows were lost
	exitUsage       = 64 // wrong command line
	exitDamaged     = 65 // damaged data found
	exitUnavailable = 69 // a plugin or destination is unavailable
	exitIO          = 74 // input, output or disk full
	exitPending     = 75 // stopped, data is safe but not delivered
	exitConfig      = 78 // wrong configuration
)

// exitError ends the command with a code. A nil cause was printed already.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// exitCode maps an error to the code that the process ends with.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	switch {
	case errors.Is(err, pipeline.ErrLocked), errors.Is(err, vfs.ErrLocked), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EIO),
		errors.Is(err, syscall.ENOTDIR):
		return exitIO
	}
	return exitFailure
}
