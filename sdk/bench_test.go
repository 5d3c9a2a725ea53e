package sdk_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// shape is a batch of doubles to measure with.
type shape struct {
	name           string
	channels, rows int
	every          int // one channel in so many has values
}

func shapes() []shape {
	return []shape{
		{"10 doubles, 3000 rows", 10, 3000, 1},
		{"100 doubles, 500 rows", 100, 500, 1},
		{"10 doubles, 1 row", 10, 1, 1},
		{"1000 doubles, 1 row", 1000, 1, 1},
		{"1 of 1000 doubles, 1 row", 1000, 1, 1000},
		{"1 of 1000 doubles, 200 rows", 1000, 200, 1000},
	}
}

func (s shape) flow() *sdk.Flow {
	flow := &sdk.Flow{Name: "engine"}
	for i := range s.channels {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: fmt.Sprintf("channel_%d", i), Type: sdk.Double})
	}
	return flow
}

func (s shape) fill(b *sdk.Builder) {
	for row := range s.rows {
		b.Row(int64(row))
		for i := 0; i < s.channels; i += s.every {
			b.Double(i, float64(row))
		}
	}
}

// BenchmarkBuilder is what a source pays: set all values, write the batch.
func BenchmarkBuilder(b *testing.B) {
	for _, s := range shapes() {
		b.Run(s.name, func(b *testing.B) {
			rows := sdk.NewBuilder(s.flow())
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				rows.Reset()
				s.fill(rows)
				dst = rows.Append(dst[:0])
			}
			b.SetBytes(int64(len(dst)))
			reportRow(b, s.rows)
		})
	}
}

// BenchmarkParse is what each receiver pays: check the batch, read all values.
func BenchmarkParse(b *testing.B) {
	for _, s := range shapes() {
		b.Run(s.name, func(b *testing.B) {
			flow := s.flow()
			rows := sdk.NewBuilder(flow)
			s.fill(rows)
			raw := rows.Append(nil)
			var batch sdk.Batch
			sum := 0.0
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if err := batch.Parse(flow, raw); err != nil {
					b.Fatal(err)
				}
				for i := 0; i < s.channels; i += s.every {
					for _, v := range batch.Column(i).Doubles() {
						sum += v
					}
				}
			}
			reportRow(b, s.rows)
		})
	}
}

func BenchmarkCopyRow(b *testing.B) {
	s := shapes()[0]
	flow := s.flow()
	rows := sdk.NewBuilder(flow)
	s.fill(rows)
	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	require.NoError(b, err)
	to := sdk.NewBuilder(flow)
	b.ReportAllocs()
	for b.Loop() {
		to.Reset()
		for row := range batch.Rows() {
			if err := to.CopyRow(batch, row); err != nil {
				b.Fatal(err)
			}
		}
	}
	reportRow(b, s.rows)
}

// reportRow shows the time for one row.
func reportRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}
