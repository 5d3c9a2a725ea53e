package backup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// OnFull is what happens to a batch for which there is no room.
type OnFull uint8

const (
	// Block: Append fails with ErrFull; the owner tries again.
	Block OnFull = iota
	// DropOldest: the oldest segment is deleted, and returned as lost.
	DropOldest
	// DropNewest: the batch is returned as lost.
	DropNewest
)

// Options are the settings of a backup.
type Options struct {
	StateDir string   // for indexes and journal; not the directory of the segments, nor in it, nor around it
	Name     string   // how names of segments begin; letters, digits, '-' and '_'
	Tracks   []string // that must confirm a segment before it is deleted; without any, none is
	Retain   bool     // keep segments that are confirmed

	MaxFileSize  int64 // bytes at which a segment is finished; 0: 500 MiB
	MaxFileCount int   // segments at which Append says so; 0: no limit
	MaxDisk      int64 // bytes of all segments and indexes, give or take one batch and the definitions of a new index; 0: no limit
	MinFree      int64 // bytes that stay free on the file system of the segments
	OnFull       OnFull

	Lease       uint64 // ids that are leased at once; 0: 16 Mi
	JournalSize int64  // bytes after which the journal is written anew; 0: 1 MiB
	Reserve     int64  // bytes that are given up so that the journal can be written; 0: 1 MiB
}

func (o Options) withDefaults() Options {
	set := func(n *int64, standard int64) {
		if *n == 0 {
			*n = standard
		}
	}
	set(&o.MaxFileSize, 500<<20)
	set(&o.JournalSize, 1<<20)
	set(&o.Reserve, 1<<20)
	if o.Lease == 0 {
		o.Lease = 16 << 20
	}
	return o
}

func (o Options) check(dir string) error {
	if o.StateDir == "" || dir == "" {
		return errors.New("backup: it needs a directory for segments and one for its state")
	}
	if nested(dir, o.StateDir) || nested(o.StateDir, dir) {
		return fmt.Errorf("backup: %s and %s: one is in the other, they must be apart", dir, o.StateDir)
	}
	if o.Name == "" || strings.Trim(o.Name, nameLetters) != "" {
		return fmt.Errorf("backup: name %q: only letters, digits, '-' and '_' are allowed", o.Name)
	}
	if o.MaxFileSize < 0 || o.MaxFileCount < 0 || o.MaxDisk < 0 || o.MinFree < 0 || o.JournalSize < 0 ||
		o.Reserve < 0 || o.Lease > checkpoint.MaxID {
		return errors.New("backup: limits cannot be negative")
	}
	return nil
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// nested reports whether inner is outer or in it.
func nested(outer, inner string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// maxBody is the longest body of a chunk in bytes; readers refuse longer ones.
const maxBody = pbfs.DefaultMaxChunk
