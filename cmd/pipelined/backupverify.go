package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/internal/pbfsview"
)

func newBackupVerify() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "verify PATH…",
		Short: "Check backup files for damage",
		Long: "Verify reads files, also those below directories, and checks every length and checksum,\n" +
			"and that each message can be decoded. It prints a line for each range of bytes that cannot\n" +
			"be read, then a line for the file, and at the end how many files are of which kind.\n\n" +
			"A torn tail is what a crash while writing leaves behind; all in front of it is intact.\n" +
			"A file of a pipeline's own backup is held against its index, too." + backupHelp,
		Example: "  pipelined backup verify /var/lib/pipelined/backup",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBackup(cmd, func(ctx context.Context, j *backupJob) error {
				return j.verify(ctx, args, &indexes{stateDir: stateDir})
			})
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "", stateDirHelp)
	return cmd
}

func (j *backupJob) verify(ctx context.Context, paths []string, found *indexes) error {
	intact, damaged := 0, 0
	err := j.walk(paths, func(path string) error {
		s, ok, err := j.verifyFile(ctx, path)
		agrees := true
		if err == nil && ok {
			if index := found.find(path); index != nil {
				agrees, err = j.verifyIndex(path, index)
			}
		}
		switch {
		case err != nil || !ok:
		case s.Intact() && agrees:
			intact++
		default:
			damaged++
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.out, "%s: %d intact, %d damaged, %d unreadable\n",
		plural(intact+damaged+j.unreadable, "file"), intact, damaged, j.unreadable)
	return err
}

func (j *backupJob) verifyFile(ctx context.Context, path string) (s pbfsview.Summary, ok bool, err error) {
	shown := printableLine(path)
	list := damageList{print: func(problem error) error {
		_, err := fmt.Fprintf(j.out, "%s: %s\n", shown, printableLine(problem.Error()))
		return err
	}}
	s, ok, err = j.read(ctx, path, visitor{damage: list.add})
	if err != nil || !ok {
		return s, ok, err
	}
	if err := list.finish(); err != nil {
		return s, ok, err
	}
	switch {
	case s.Foreign: // that was said
	case s.Intact():
		fmt.Fprintf(j.out, "%s: intact: %s\n", shown, contents(&s))
	default:
		fmt.Fprintf(j.out, "%s: damaged: %s\n", shown, contents(&s))
	}
	return s, true, j.out.Flush()
}

// contents says what of a file can be read.
func contents(s *pbfsview.Summary) string {
	return fmt.Sprintf("%s in %s, %s of %s bytes", plural(int(s.Messages), "message"),
		plural(int(s.Chunks), "chunk"), humanize.Comma(s.Bytes-s.LostBytes), humanize.Comma(s.Bytes))
}

// verifyIndex holds a file against its index, and says where they differ.
func (j *backupJob) verifyIndex(path string, index *segmentIndex) (agrees bool, err error) {
	f, problem := pbfsview.Open(path)
	if problem != nil {
		return false, j.complain(exitIO, path, problem)
	}
	defer f.Close() // it was only read
	shown := printableLine(path)
	list := damageList{print: func(problem error) error {
		_, err := fmt.Fprintf(j.out, "%s: %s\n", shown, printableLine(problem.Error()))
		return err
	}}
	check := indexCheck{file: f, report: list.add}
	found, problem := backup.ReadIndex(vfs.OS{}, index.path, check.entry)
	if problem == nil && check.err == nil {
		check.end(found.Damage)
	}
	if check.err != nil {
		return false, check.err
	}
	if problem != nil {
		return false, j.complain(exitDamaged, index.path, problem)
	}
	if err := list.finish(); err != nil {
		return false, err
	}
	if check.problems > 0 {
		j.code = max(j.code, exitDamaged)
		return false, nil
	}
	_, err = fmt.Fprintf(j.out, "%s: its index agrees: %s\n", shown, plural(check.chunks, "chunk"))
	return true, err
}
