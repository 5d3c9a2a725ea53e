package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/vfs"
)

const forgetHelp = `A pipeline's backup keeps what a transport has not confirmed, also when the transport is
taken out of the pipeline file. Forget gives that up, so that the disk is freed; it cannot
be undone. TRACK is PLUGIN.LABEL of the transport, or PIPELINE/PLUGIN.LABEL.

Without --yes it only says what would be given up. The pipeline must not be running.`

// forgetOptions are the flags of backup forget.
type forgetOptions struct {
	*globals
	loadOptions
	yes bool
}

func newBackupForget(g *globals) *cobra.Command {
	o := &forgetOptions{globals: g}
	cmd := &cobra.Command{
		Use:     "forget CONFIG TRACK",
		Short:   "Give up what a removed transport has not confirmed",
		Long:    forgetHelp,
		Example: "  pipelined backup forget stand.hcl sift.old --yes",
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "give it up")
	return cmd
}

func (o *forgetOptions) run(cmd *cobra.Command, path, track string) error {
	l, err := o.open(cmd, o.globals, path, true)
	if err != nil {
		return err
	}
	defer l.plugins.close()
	p, track, err := backupOf(l.config, track)
	if err != nil {
		return err
	}
	place, ok := pipeline.PlaceOfBackup(p, l.dataDir)
	if !ok {
		return usage(fmt.Errorf("pipeline %q has no backup block", p.Name))
	}
	if slices.Contains(place.Tracks, track) {
		return usage(fmt.Errorf("%s is a transport of pipeline %q; take it out of the pipeline file first", track, p.Name))
	}
	owed, found := owedTo(place, track)
	if found != nil {
		return usage(found)
	}
	if !o.yes {
		fmt.Fprintf(cmd.OutOrStdout(), "%s has not confirmed %s of pipeline %q; forget them with --yes\n",
			track, messageCount(owed.Count()), p.Name)
		return nil
	}
	return o.forget(cmd, place, p, track)
}

func messageCount(n uint64) string { return count64(int64(n), "message") }

// backupOf finds the pipeline that is meant by [PIPELINE/]TRACK.
func backupOf(c *config.Config, name string) (*config.Pipeline, string, error) {
	var with []*config.Pipeline
	for _, p := range c.Pipelines {
		if track, ok := cutPipeline(name, p.Name); ok {
			return p, track, nil
		}
		if p.Backup != nil {
			with = append(with, p)
		}
	}
	switch len(with) {
	case 0:
		return nil, "", usage(errors.New("no pipeline has a backup block"))
	case 1:
		return with[0], name, nil
	}
	return nil, "", usage(fmt.Errorf("several pipelines have a backup: write PIPELINE/%s", name))
}

func cutPipeline(name, pipeline string) (string, bool) {
	if len(name) > len(pipeline) && name[:len(pipeline)] == pipeline && name[len(pipeline)] == '/' {
		return name[len(pipeline)+1:], true
	}
	return "", false
}

// owedTo counts what a track has not confirmed of what the indexes tell, without
// changing anything.
func owedTo(place pipeline.BackupPlace, track string) (checkpoint.Set, error) {
	journal := backup.ReadJournal(vfs.OS{}, place.StateDir)
	confirmed, known := journal.Confirmed[track]
	if !known {
		names := slices.Sorted(maps.Keys(journal.Confirmed))
		return checkpoint.Set{}, fmt.Errorf("the backup knows no confirmations of %s; it knows those of %v", track, names)
	}
	var owed checkpoint.Set
	for path, problem := range indexesBelow(place.StateDir) {
		if problem != nil {
			return owed, problem
		}
		_, err := backup.ReadIndex(vfs.OS{}, path, func(e backup.Entry) error {
			owed.Add(e.Ids)
			return nil
		})
		if err != nil {
			return owed, err
		}
	}
	owed.RemoveSet(confirmed)
	owed.RemoveSet(journal.Lost)
	return owed, nil
}

// forget opens the backup as its pipeline does.
func (o *forgetOptions) forget(cmd *cobra.Command, place pipeline.BackupPlace, p *config.Pipeline, track string) error {
	b, recovered, err := backup.Open(vfs.OS{}, place.Dir, backup.Options{
		StateDir: place.StateDir, Name: place.Name, Tracks: place.Tracks, Retain: p.Backup.Retain,
	})
	if errors.Is(err, vfs.ErrLocked) {
		return &exitError{exitIO, fmt.Errorf("pipeline %q is running; stop it first", p.Name)}
	}
	if err != nil {
		return &exitError{exitIO, err}
	}
	owed := recovered.Strangers[track]
	before := b.Stats().Bytes
	err = b.ForgetTrack(track)
	freed := before - b.Stats().Bytes
	if err = errors.Join(err, b.Close()); err != nil {
		return &exitError{exitIO, err}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "gave up %s that %s had not confirmed; %s freed\n",
		messageCount(owed.Count()), track, humanize.IBytes(uint64(max(freed, 0))))
	return nil
}
