package sidebyside

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// BenchmarkCheckpoint compares a checkpoint every second with one at the end: in
// processor time of all our processes for each row, and in the pauses that the server
// sees.
func BenchmarkCheckpoint(b *testing.B) {
	n := rounds(b)
	for _, backup := range []string{"", "  backup { dir = \"${data_dir}/backup\" }\n"} {
		for _, rate := range []int{0, 100_000} {
			name := "live"
			if backup != "" {
				name = "backup"
			}
			b.Run(fmt.Sprintf("%s/rate=%s", name, pace(rate)), func(b *testing.B) { checkpoints(b, n, backup, rate) })
		}
	}
}

func checkpoints(b *testing.B, n int, backup string, rate int) {
	var ratios []float64
	often, once := newPauses(), newPauses()
	for i := range n {
		variants := []struct {
			interval string
			*pauses
		}{{"1s", often}, {"1h", once}}
		if i%2 == 1 { // neither is always the first
			variants[0], variants[1] = variants[1], variants[0]
		}
		for _, v := range variants {
			v.add(streamed(b, v.interval, backup, rate))
		}
		ratios = append(ratios, often.cpu[i]/once.cpu[i])
	}
	var t table
	t.add("", "µs/row", "rows/s", "checkpoints", "longest pause ms", "pauses > 50 ms")
	t.add(often.columns("every second")...)
	t.add(once.columns("at the end")...)
	t.print(b, fmt.Sprintf("%s: processor time %s", b.Name(), spreadOf(ratios).text("%.3f")))
	b.ReportMetric(spreadOf(ratios).median, "ratio")
	b.ReportMetric(0, "ns/op") // says nothing here
}

// pauses are the results of one variant.
type pauses struct {
	cpu     []float64 // µs for each row
	rate    []float64
	streams []float64
	longest []float64 // ms
	long    int       // pauses of more than 50 ms, of all runs
}

func newPauses() *pauses { return new(pauses) }

func (p *pauses) add(r run) {
	p.cpu = append(p.cpu, r.cpu.Seconds()*1e6/float64(r.rows))
	p.rate = append(p.rate, float64(r.rows)/r.last.Sub(r.first).Seconds())
	p.streams = append(p.streams, float64(r.streams))
	p.longest = append(p.longest, milliseconds(r.longest))
	p.long += len(r.gaps)
}

func (p *pauses) columns(name string) []string {
	return []string{
		name, spreadOf(p.cpu).text("%.3f"), spreadOf(p.rate).text("%.0f"), fmt.Sprintf("%.0f", spreadOf(p.streams).median),
		spreadOf(p.longest).text("%.0f"), fmt.Sprintf("%d in %d runs", p.long, len(p.cpu)),
	}
}

// run is what was measured of one run.
type run struct {
	*meter
	cpu     time.Duration
	streams int
}

// streamed runs a pipeline from the generator to the server, to its end.
func streamed(b *testing.B, interval, backup string, rate int) run {
	var m meter
	server := sifttest.New(b, sifttest.Options{Default: sifttest.TakeEach(m.take)})
	rows := rowsOr(5_000_000)
	if rate > 0 {
		rows = 5 * rate
	}
	p := pipeline(b, b.TempDir(), fmt.Sprintf(`pipeline "bench" {
  asset = "bench"
  source "generator" "load" {
    rate = %s
    rows = %d
    channels = 10
  }
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri = %q
    api_key = secret::env(%q)
  }
%s  checkpoint { interval = %q }
}
`, pace(rate), rows, server.URI(), apiKey, backup, interval))
	require.Zero(b, p.wait(b, 5*time.Minute), "%s", &p.output)
	streams := len(server.Streams())
	server.Stop()
	require.GreaterOrEqual(b, m.rows, rows)
	return run{meter: &m, cpu: p.cpu(), streams: streams}
}

// pace writes the generator's rate; 0 stands for as fast as it goes.
func pace(rate int) string {
	if rate == 0 {
		return `"max"`
	}
	return fmt.Sprint(rate)
}
