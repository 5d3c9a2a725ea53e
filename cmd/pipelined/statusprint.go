package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/status"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// printReport prints a sentence for each pipeline, and then its account.
func printReport(out io.Writer, r status.Report) {
	if len(r.Pipelines) == 0 {
		fmt.Fprintln(out, "there are no pipelines")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range r.Pipelines {
		fmt.Fprintf(table, "%s\t%s\n", p.Name, printableLine(p.Sentence))
	}
	_ = table.Flush() // nobody to tell if the output is gone
	for _, p := range r.Pipelines {
		fmt.Fprintf(out, "\npipeline %s\n", p.Name)
		s := asStatus(p)
		printFlows(out, s)
		printReasons(out, s)
		for _, t := range p.Tracks {
			fmt.Fprintf(out, "  -> %s: %s\n", t.Name, trackLine(t))
			for _, flow := range t.Unbound {
				fmt.Fprintf(out, "     waits: %s\n", printableLine(flow))
			}
		}
		if p.Backup != nil {
			fmt.Fprintf(out, "  backup %s: %s\n", printableLine(p.Backup.Dir), backupLine(*p.Backup))
		}
		for _, t := range s.Tracks {
			printPaths(out, t)
		}
	}
}

// asStatus returns a pipeline as the tables of the account take it.
func asStatus(p status.Pipeline) pipeline.Status {
	s := pipeline.Status{Name: p.Name}
	for _, f := range p.Flows {
		flow := telemetry.FlowTotals{
			Name: f.Name, Origin: sdk.Origin{Asset: f.Asset, ClientKey: f.ClientKey, Run: f.Run},
			Received: f.Received, Accepted: f.Accepted, Refused: f.Refused, Dropped: f.Dropped,
		}
		for _, t := range f.Tracks {
			flow.Tracks = append(flow.Tracks, telemetry.TrackTotals{
				Track: t.Track, Delivered: t.Delivered, Filtered: t.Filtered, Pending: t.Pending, Lost: t.Lost,
			})
		}
		s.Flows = append(s.Flows, flow)
	}
	for _, t := range p.Tracks {
		s.Tracks = append(s.Tracks, pipeline.TrackStatus{Name: t.Name, State: delivery.State{Paths: t.Paths, FileCount: t.FileCount}})
	}
	return s
}

func trackLine(t status.Track) string {
	parts := []string{count(t.Pending) + " pending"}
	if t.Pending > 0 && t.OldestPending > 0 {
		parts = append(parts, "the oldest for "+time.Duration(t.OldestPending).Round(time.Second).String())
	}
	if t.OnDisk > 0 {
		parts = append(parts, count(t.OnDisk)+" of them only in the backup")
	}
	if t.Rates != nil {
		parts = append(parts, fmt.Sprintf("%s/s delivered", count(uint64(t.Rates.Delivered))))
	}
	parts = append(parts, fmt.Sprintf("%s confirmed, %d failed",
		plural(int(t.Live.Confirmed+t.Again.Confirmed), "checkpoint"), t.Live.Failures+t.Again.Failures))
	return strings.Join(parts, ", ")
}

func backupLine(b status.Backup) string {
	text := plural(b.Files, "file")
	if b.Kept > 0 {
		text += fmt.Sprintf(", %d of them kept", b.Kept)
	}
	text += ", " + humanize.IBytes(uint64(max(0, b.Bytes)))
	if b.WaitingMessages > 0 {
		text += fmt.Sprintf(", %s wait for the disk", plural(b.WaitingMessages, "message"))
	}
	if b.DeadLetters > 0 {
		text += fmt.Sprintf(", %s", plural(int(b.DeadLetters), "dead letter"))
	}
	return text
}
