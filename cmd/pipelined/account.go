package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
)

// maxPaths bounds the paths that are printed for a track.
const maxPaths = 20

func count(n uint64) string { return humanize.Comma(int64(n)) }

// printAccount prints what became of every row, flow by flow, and what was written.
func printAccount(out io.Writer, pipelines []*pipeline.Pipeline) {
	for _, p := range pipelines {
		s := p.Status()
		fmt.Fprintf(out, "\npipeline %s\n", s.Name)
		printFlows(out, s)
		printReasons(out, s)
		for _, t := range s.Tracks {
			printPaths(out, t)
		}
	}
}

func printFlows(out io.Writer, s pipeline.Status) {
	if len(s.Flows) == 0 {
		fmt.Fprintln(out, "  no flows came in")
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "  flow\tread\trefused\taccepted\tdestination\tdelivered\tpending\tlost\t")
	for _, f := range s.Flows {
		row := fmt.Sprintf("  %s\t%s\t%s\t%s\t", flowName(f), count(f.Received), count(telemetry.Sum(f.Refused)), count(f.Accepted))
		for _, t := range f.Tracks {
			fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\t\n", row, t.Track, count(t.Delivered), count(t.Pending), count(telemetry.Sum(t.Lost)))
			row = "  \t\t\t\t"
		}
	}
	_ = table.Flush() // nobody to tell if the output is gone
}

func flowName(f telemetry.FlowTotals) string {
	name := f.Name
	if f.Origin.Asset != "" {
		name = f.Origin.Asset + "/" + name
	}
	return printable(name)
}

// printReasons says why rows were refused or lost.
func printReasons(out io.Writer, s pipeline.Status) {
	for _, f := range s.Flows {
		list := func(what string, reasons map[string]uint64) {
			for _, reason := range slices.Sorted(maps.Keys(reasons)) {
				fmt.Fprintf(out, "  %s of %s: %s: %s\n", what, flowName(f), plural(int(reasons[reason]), "row"), printable(reason))
			}
		}
		list("refused", f.Refused)
		list("lost by the source", f.Dropped)
		for _, t := range f.Tracks {
			list("lost on "+t.Track, t.Lost)
		}
	}
}

func printPaths(out io.Writer, t pipeline.TrackStatus) {
	if t.FileCount == 0 {
		return
	}
	fmt.Fprintf(out, "  %s wrote %s:\n", t.Name, plural(int(t.FileCount), "file"))
	shown := t.Paths[max(0, len(t.Paths)-maxPaths):]
	if hidden := t.FileCount - uint64(len(shown)); hidden > 0 {
		fmt.Fprintf(out, "    … %d before these\n", hidden)
	}
	for _, path := range shown {
		fmt.Fprintf(out, "    %s\n", printableLine(path))
	}
}
