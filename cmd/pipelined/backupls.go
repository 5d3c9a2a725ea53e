package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/internal/pbfsview"
)

func newBackupLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls PATH…",
		Short: "List backup files and what is in them",
		Long: "Ls reads backup files, those of directories with all below them, and prints a line for\n" +
			"each: its size in bytes, its chunks, messages and flows, the least and greatest time of\n" +
			"its messages, and damage.\n\n" + backupCodes,
		Example: "  pipelined backup ls /var/lib/pipelined/backup",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBackup(cmd, func(j *backupJob) error { return j.list(cmd, args) })
		},
	}
}

// listFormat has fixed widths, so that lines appear as files are read. The names,
// which may be long, come last.
const listFormat = "%15s %9s %12s %7s  %-30s  %-30s  %-8s  %s\n"

func (j *backupJob) list(cmd *cobra.Command, paths []string) error {
	fmt.Fprintf(j.out, listFormat, "BYTES", "CHUNKS", "MESSAGES", "FLOWS", "FROM", "TO", "DAMAGE", "FILE")
	ignore := visitor{
		message: func(*pbfsview.Message) error { return nil },
		damage:  func(*pbfsview.Damage) error { return nil },
	}
	for path, err := range pbfsview.Walk(paths) {
		var s pbfsview.Summary
		if err == nil {
			s, err = j.read(cmd.Context(), path, ignore)
		}
		if err != nil {
			if err := j.complain(exitIO, path, err); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(j.out, listFormat, humanize.Comma(s.Bytes), humanize.Comma(s.Chunks), humanize.Comma(s.Messages),
			flowCount(s), timeText(s.First), timeText(s.Last), damageText(s), printablePath(path))
		if err := j.flush(); err != nil {
			return err
		}
	}
	return cmd.Context().Err()
}

func flowCount(s pbfsview.Summary) string {
	n, exact := s.Flows()
	if !exact {
		return humanize.Comma(int64(n)) + "+"
	}
	return humanize.Comma(int64(n))
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(pbfsview.TimeFormat)
}

// damageText says in a few words what is wrong with a file.
func damageText(s pbfsview.Summary) string {
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
	if s.TornBytes > 0 {
		parts = append(parts, "torn tail")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
