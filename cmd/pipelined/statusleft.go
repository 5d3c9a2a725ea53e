package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// maxLeftIndex bounds the indexes that status reads for one pipeline, in bytes.
const maxLeftIndex = 256 << 20

// printLeft says what the backups of a data directory hold that nobody uses.
func printLeft(out io.Writer, dataDir string, names []string) {
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		return // the error that follows says what the user needs to know
	}
	for _, e := range entries {
		if !e.IsDir() || len(names) > 0 && !slices.Contains(names, e.Name()) {
			continue
		}
		if text := left(filepath.Join(dataDir, e.Name(), "state", "backup")); text != "" {
			fmt.Fprintf(out, "%s  not running; %s\n", printable(e.Name()), text)
		}
	}
}

// left says what waits in a backup; empty: nothing, or there is none.
func left(stateDir string) string {
	var stored checkpoint.Set
	files, size := 0, int64(0)
	for path, err := range indexesBelow(stateDir) {
		if err != nil {
			return ""
		}
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
		files++
		if size > maxLeftIndex {
			continue
		}
		_, _ = backup.ReadIndex(vfs.OS{}, path, func(e backup.Entry) error {
			stored.Add(e.Ids)
			return nil
		}) // what cannot be read is not counted; `backup verify` says more
	}
	if size > maxLeftIndex {
		return plural(files, "backup file") + " on disk"
	}
	journal := backup.ReadJournal(vfs.OS{}, stateDir)
	most := uint64(0)
	for _, confirmed := range journal.Confirmed {
		waiting := stored.Clone()
		waiting.RemoveSet(confirmed)
		waiting.RemoveSet(journal.Lost)
		most = max(most, waiting.Count())
	}
	switch most {
	case 0:
		return ""
	case 1:
		return "1 message waits on disk"
	}
	return count(most) + " messages wait on disk"
}
