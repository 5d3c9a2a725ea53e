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
		if p.AtRisk.Messages > 0 {
			fmt.Fprintf(out, "  at risk: %s\n", riskLine(p.AtRisk))
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

// riskLine says what a power loss would take now, unless its source can be read again.
func riskLine(r status.AtRisk) string {
	text := plural(int(r.Messages), "message") + " received and not yet safe"
	if r.Oldest > 0 {
		text += ", the oldest for " + time.Duration(r.Oldest).Round(time.Millisecond).String()
	}
	return text
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
	if b.Sync.Count > 0 {
		text += fmt.Sprintf(", the last sync took %s, the longest %s", short(b.Sync.Last), short(b.Sync.Max))
	}
	if b.FailedSyncs > 0 {
		text += fmt.Sprintf(", %s failed", plural(int(b.FailedSyncs), "sync"))
	}
	if b.Dropped > 0 {
		text += fmt.Sprintf(", %s dropped for want of room", plural(int(b.Dropped), "message"))
	}
	if b.DeadLetters > 0 {
		text += fmt.Sprintf(", %s", plural(int(b.DeadLetters), "dead letter"))
	}
	return text
}

// short is a duration with about two digits.
func short(d status.Seconds) string {
	t := time.Duration(d)
	switch {
	case t >= time.Second:
		return t.Round(100 * time.Millisecond).String()
	case t >= time.Millisecond:
		return t.Round(100 * time.Microsecond).String()
	}
	return t.Round(time.Microsecond).String()
}
