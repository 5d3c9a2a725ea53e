package sidebyside

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

const (
	storedFlow = "stored"
	backlog    = 1 << 30 // bytes of rows that are stored while the server is away
	liveRate   = 10_000  // rows/s
	calm       = 10 * time.Second
	// settling is how long live rows may wait behind those of the outage, which are in
	// the queue when the server is back and go first.
	settling = 500 * time.Millisecond
)

// epoch is the stamp of the first stored row.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// BenchmarkDrain stores a gigabyte while the server is away, and measures how fast
// it is sent once the server is back, and how late live rows come meanwhile.
func BenchmarkDrain(b *testing.B) {
	n := rounds(b)
	for _, channels := range []int{10, 100} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			var t table
			t.add("", "backlog MB", "MB/s", "rows/s", "sent again", "first 0.5 s: max ms", "then live p50 ms", "p99 ms", "max ms", "without: p50 ms", "p99 ms", "max ms", "cpu s")
			for i := range n {
				drain(b, i, channels, &t)
			}
			t.print(b, fmt.Sprintf("drain, %d channels", channels))
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func drain(b *testing.B, round, channels int, t *table) {
	var r reading
	server := sifttest.New(b, sifttest.Options{Default: sifttest.TakeEach(r.take)})
	rowBytes := 60 + 11*channels
	rows := rowsOr(backlog / rowBytes)
	dir := b.TempDir()
	p := pipeline(b, dir, fmt.Sprintf(`pipeline "bench" {
  asset = "bench"
  source "generator" "stored" {
    flow = %q
    rate = "max"
    rows = %d
    start = %q
    channels = %d
  }
  source "generator" "live" {
    flow = "live"
    rate = %d
    channels = 10
  }
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri = %q
    api_key = secret::env(%q)
  }
  backup { dir = "${data_dir}/backup" }
  checkpoint { interval = "10s" }
  retry { max = "500ms" }
}
`, storedFlow, rows, epoch.Format(time.RFC3339), channels, liveRate, server.URI(), apiKey))

	// The server goes as soon as it knows the flows.
	waitFor(b, "rows of both flows come", p, time.Minute, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stored.distinct > 0 && len(r.live) > 0
	})
	server.Stop()
	before, since := int64(0), time.Now()
	waitFor(b, "the backlog is stored", p, 5*time.Minute, func() bool {
		if time.Since(since) < 2*time.Second {
			return false
		}
		size := sizeOf(filepath.Join(dir, "data", "backup"))
		grown := size - before
		before, since = size, time.Now()
		return size > int64(rows*rowBytes)*9/10 && grown < 2*2*liveRate*200
	})

	r.mu.Lock()
	r.counted, r.live = true, r.live[:0]
	had := r.stored.distinct
	r.mu.Unlock()
	require.NoError(b, server.Start())
	back := time.Now()
	waitFor(b, "all is delivered", p, 5*time.Minute, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stored.distinct == rows
	})
	drained := time.Now()
	alone := time.After(calm) // live rows only
	waitFor(b, "the calm time passes", p, 2*calm, func() bool {
		select {
		case <-alone:
			return true
		default:
			return false
		}
	})
	require.NoError(b, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(b, p.wait(b, time.Minute), "%s", &p.output)

	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.stored
	took := s.last.Sub(s.first).Seconds()
	// While the transport backed off, live rows waited too: that is not looked at.
	begin := latencies(r.live, s.first, s.first.Add(settling))
	during := latencies(r.live, s.first.Add(settling), s.last)
	after := latencies(r.live, drained.Add(time.Second), drained.Add(calm-time.Second))
	t.add(fmt.Sprintf("round %d", round+1), fmt.Sprintf("%.0f", float64(before)/1e6), fmt.Sprintf("%.0f", float64(s.bytes)/1e6/took),
		fmt.Sprintf("%.0f", float64(s.rows)/took), fmt.Sprint(s.rows-(rows-had)),
		ms(begin, 1), ms(during, .5), ms(during, .99), ms(during, 1), ms(after, .5), ms(after, .99), ms(after, 1),
		fmt.Sprintf("%.1f", p.cpu().Seconds()))
	b.Logf("stored rows sent in %.1f s, the first %.2f s after the server was back; %d live rows meanwhile\n%s",
		took, s.first.Sub(back).Seconds(), len(during), &p.output)
}

// latencies returns those of the live rows whose stamps are in a time, sorted.
func latencies(live []arrival, from, to time.Time) []time.Duration {
	var out []time.Duration
	for _, a := range live {
		if !a.stamp.Before(from) && a.stamp.Before(to) {
			out = append(out, a.latency)
		}
	}
	slices.Sort(out)
	return out
}

func ms(sorted []time.Duration, part float64) string {
	return fmt.Sprintf("%.1f", milliseconds(percentile(sorted, part)))
}

// sizeOf returns the bytes of the files below a directory.
func sizeOf(dir string) (size int64) {
	// A file may go meanwhile, and then its size is not of interest.
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}
