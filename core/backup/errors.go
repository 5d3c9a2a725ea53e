package backup

import (
	"errors"
	"fmt"

	"github.com/pipelined/pipelined/core/checkpoint"
)

var (
	// ErrFull is returned when there is no room and OnFull is Block, or when
	// nothing is left to drop.
	ErrFull = errors.New("backup is full")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("backup is closed")
)

// SuspectError says that a Sync of files failed. What it names must be appended
// again, from memory, to a new segment: it may be on the disk or not.
type SuspectError struct {
	Ids  checkpoint.Set // appended since the last successful Sync
	File string
	Err  error
}

// Error names the file and the cause.
func (e *SuspectError) Error() string {
	return fmt.Sprintf("backup: sync %s: %v; %d messages must be written again", e.File, e.Err, e.Ids.Count())
}

// Unwrap returns the cause.
func (e *SuspectError) Unwrap() error { return e.Err }
