package parquet

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

// walk makes batches of readings such as sensors give: they wander, and have few
// digits.
func walk(b *testing.B, flow *sdk.Flow, batches, n int) []*sdk.Delivery {
	r := rand.New(rand.NewPCG(1, 2))
	level := make([]float64, len(flow.Channels))
	out := make([]*sdk.Delivery, batches)
	for k := range out {
		out[k] = delivery(b, flow, func(rows *sdk.Builder) {
			for i := range n {
				rows.Row(int64(k*n+i) * 1_000_000)
				for c := range level {
					level[c] += r.NormFloat64()
					rows.Double(c, math.Round(level[c]*100)/100)
				}
			}
		})
	}
	return out
}

// BenchmarkSend counts rows and bytes, with what is written at the end of a
// stream.
func BenchmarkSend(b *testing.B) {
	for _, compression := range []string{"zstd", "snappy", "none"} {
		for _, size := range []struct{ channels, rows int }{{10, 4096}, {10, 100}, {100, 1000}, {1000, 100}} {
			b.Run(fmt.Sprintf("%s/channels=%d/batch=%d", compression, size.channels, size.rows), func(b *testing.B) {
				c := defaultConfig()
				c.Dir, c.Compression = b.TempDir(), compression
				tr, err := open(sdk.Settings{Logger: slog.New(slog.DiscardHandler)}, c, outfile.OS{}, time.Now)
				require.NoError(b, err)
				batches := walk(b, doubles("f", size.channels), max(1, 40_000_000/8/size.channels/size.rows), size.rows)
				begin := func() sdk.Stream {
					s, err := tr.OpenStream(context.Background(), sdk.StreamOptions{})
					require.NoError(b, err)
					return s
				}
				b.ReportAllocs()
				b.ResetTimer()
				s, n, written := begin(), 0, int64(0)
				end := func() {
					for _, path := range finish(b, s) {
						info, err := os.Stat(path)
						require.NoError(b, err)
						written += info.Size()
					}
					require.NoError(b, os.RemoveAll(filepath.Join(c.Dir, "f")))
				}
				for b.Loop() {
					send(b, s, batches[n%len(batches)])
					if n++; n%(2_000_000/size.rows/(size.channels/10)) == 0 {
						end()
						s = begin()
					}
				}
				end()
				rows := float64(n * size.rows)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/rows, "ns/row")
				b.ReportMetric(float64(written)/rows, "bytes/row")
				require.NoError(b, tr.Shutdown(context.Background()))
			})
		}
	}
}
