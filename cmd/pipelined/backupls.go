package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/internal/pbfsview"
)

func newBackupLs() *cobra.Command {
	var flows bool
	var stateDir string
	cmd := &cobra.Command{
		Use:   "ls PATH…",
		Short: "List backup files and what is in them",
		Long: "Ls prints a line for each file, also for those below directories: its size in bytes, its\n" +
			"chunks, messages and flows, the least and greatest time of its messages, and its damage.\n" +
			"Directories of files that are being written (.pipelined-*.tmp) are left out. Below a file of\n" +
			"a pipeline's own backup stand the ids of its messages, and how many of them each transport\n" +
			"has not confirmed." + backupHelp,
		Example: "  pipelined backup ls --flows /var/lib/pipelined/backup",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBackup(cmd, func(ctx context.Context, j *backupJob) error {
				return j.list(ctx, args, flows, &indexes{stateDir: stateDir})
			})
		},
	}
	cmd.Flags().BoolVar(&flows, "flows", false, "print the names of the flows too, each with its messages")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", stateDirHelp)
	return cmd
}

// listFormat has fixed widths, so that lines appear as files are read. Paths, which
// may be long, come last.
const listFormat = "%15s %9s %12s %7s  %-30s  %-30s  %-14s  %s\n"

func (j *backupJob) list(ctx context.Context, paths []string, flows bool, found *indexes) error {
	fmt.Fprintf(j.out, listFormat, "BYTES", "CHUNKS", "MESSAGES", "FLOWS", "FROM", "TO", "DAMAGE", "FILE")
	return j.walk(paths, func(path string) error {
		s, ok, err := j.read(ctx, path, visitor{})
		if err != nil || !ok {
			return err
		}
		from, to := "-", "-"
		if s.Timed > 0 {
			from, to = s.From.Format(time.RFC3339Nano), s.To.Format(time.RFC3339Nano)
		}
		fmt.Fprintf(j.out, listFormat, humanize.Comma(s.Bytes), humanize.Comma(s.Chunks), humanize.Comma(s.Messages),
			flowCount(&s), from, to, damageText(&s), printableLine(path))
		if index := found.find(path); index != nil {
			j.listIndex(index)
		}
		if flows {
			j.listFlows(&s)
		}
		return j.out.Flush()
	})
}

// stateDirHelp is the help of the flag that says where indexes are.
const stateDirHelp = "where the indexes of a pipeline's own backup are, if not in its data directory"

// listIndex prints what the index and the journal say of a file.
func (j *backupJob) listIndex(index *segmentIndex) {
	ids, missing, err := index.ids()
	if err != nil {
		fmt.Fprintf(j.out, "%15s index: %s\n", "", printableLine(err.Error()))
		return
	}
	text := "no ids"
	if !ids.Empty() {
		text = fmt.Sprintf("ids %d to %d", ids.First(), ids.Last())
	}
	for _, track := range slices.Sorted(maps.Keys(missing)) {
		state := "has confirmed all"
		if n := missing[track]; n > 0 {
			state = "has not confirmed " + humanize.Comma(int64(n))
		}
		text += fmt.Sprintf("; %s %s", printable(track), state)
	}
	fmt.Fprintf(j.out, "%15s %s\n", "", text)
}

func flowCount(s *pbfsview.Summary) string {
	n := humanize.Comma(int64(len(s.Flows)))
	if s.MoreFlows {
		n += "+"
	}
	return n
}

// listFlows prints messages and names below the columns of messages and flows.
func (j *backupJob) listFlows(s *pbfsview.Summary) {
	const format = "%38s %7s  %s\n"
	for _, name := range slices.Sorted(maps.Keys(s.Flows)) {
		fmt.Fprintf(j.out, format, humanize.Comma(s.Flows[name]), "", printable(name))
	}
	if s.MoreFlows {
		fmt.Fprintf(j.out, format, "", "", "and more")
	}
}

// damageText says in a few words what is wrong with a file.
func damageText(s *pbfsview.Summary) string {
	if s.Foreign {
		return "not PBFS"
	}
	var parts []string
	if s.Holes > 0 {
		parts = append(parts, plural(int(s.Holes), "hole"))
	}
	if s.Undecodable > 0 {
		parts = append(parts, fmt.Sprintf("%d undecodable", s.Undecodable))
	}
	if s.TornTail {
		parts = append(parts, "torn tail")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
