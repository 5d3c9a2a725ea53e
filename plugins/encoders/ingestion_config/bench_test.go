package ingestionconfig

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// boundIDs has ids of the usual length.
func boundIDs() sdk.Binding {
	return sdk.Binding{
		ConfigID: "01234567-89ab-cdef-0123-456789abcdef",
		RunID:    "fedcba98-7654-3210-fedc-ba9876543210",
	}
}

func numbered(t sdk.ChannelType, n int) []sdk.Channel {
	channels := make([]sdk.Channel, n)
	for i := range channels {
		channels[i] = sdk.Channel{Name: fmt.Sprintf("channel_%d", i), Type: t}
	}
	return channels
}

// filled returns a batch in which set gives each row its values.
func filled(tb testing.TB, channels []sdk.Channel, rows int, set func(b *sdk.Builder, row int)) *sdk.Batch {
	tb.Helper()
	flow := &sdk.Flow{Name: "engine", Channels: channels}
	b := sdk.NewBuilder(flow)
	for row := range rows {
		b.Row(1_760_000_000_123_456_789 + int64(row)*1_000_000)
		set(b, row)
	}
	batch, err := sdk.ParseBatch(flow, b.Append(nil))
	require.NoError(tb, err)
	return batch
}

func doublesBatch(tb testing.TB, channels, rows int) *sdk.Batch {
	return filled(tb, numbered(sdk.Double, channels), rows, func(b *sdk.Builder, row int) {
		for i := range channels {
			b.Double(i, float64(row)+0.1*float64(i))
		}
	})
}

// mixedBatch has one channel of each type but bytes, and no nulls.
func mixedBatch(tb testing.TB, rows int) *sdk.Batch {
	channels := make([]sdk.Channel, 0, 10)
	for _, t := range sdk.ChannelTypes()[:10] {
		channels = append(channels, sdk.Channel{Name: t.String(), Type: t})
	}
	return filled(tb, channels, rows, func(b *sdk.Builder, row int) {
		b.Double(0, float64(row))
		b.String(1, "nominal")
		b.Uint32(2, uint32(row%5))
		require.NoError(tb, b.BitField(3, []byte{byte(row), 1}))
		b.Bool(4, row%2 == 0)
		b.Float(5, float32(row))
		b.Int32(6, int32(-row))
		b.Uint32(7, uint32(row))
		b.Int64(8, int64(row)*1_000_000)
		b.Uint64(9, uint64(row))
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, bc := range []struct {
		name  string
		batch *sdk.Batch
	}{
		{"10 doubles, 4096 rows", doublesBatch(b, 10, 4096)},
		{"10 doubles, 32 rows", doublesBatch(b, 10, 32)},
		{"10 doubles, 1 row", doublesBatch(b, 10, 1)},
		{"100 doubles, 400 rows", doublesBatch(b, 100, 400)},
		{"1000 doubles, 1 row", doublesBatch(b, 1000, 1)},
		{"10 types, 4096 rows", mixedBatch(b, 4096)},
		{"1 of 1000 doubles, 200 rows", filled(b, numbered(sdk.Double, 1000), 200,
			func(b *sdk.Builder, row int) { b.Double(500, float64(row)) })},
		{"10 doubles with nulls, 4096 rows", filled(b, numbered(sdk.Double, 10), 4096,
			func(b *sdk.Builder, row int) {
				for i := range 10 {
					if (row+i)%3 > 0 {
						b.Double(i, float64(row))
					}
				}
			})},
	} {
		b.Run(bc.name, func(b *testing.B) {
			e, dst := new(encoder), []byte(nil)
			b.ReportAllocs()
			for b.Loop() {
				out, err := e.Encode(dst[:0], bc.batch, boundIDs())
				if err != nil || out.Count != bc.batch.Rows() {
					b.Fatal(out.Count, err)
				}
				dst = out.Body
			}
			b.SetBytes(int64(len(dst)))
			reportRow(b, bc.batch.Rows())
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, bc := range []struct {
		name  string
		batch *sdk.Batch
	}{
		{"10 doubles, 4096 rows", doublesBatch(b, 10, 4096)},
		{"10 types, 4096 rows", mixedBatch(b, 4096)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			e := new(encoder)
			out, err := e.Encode(nil, bc.batch, boundIDs())
			require.NoError(b, err)
			rows := sdk.NewBuilder(bc.batch.Flow())
			b.ReportAllocs()
			b.SetBytes(int64(len(out.Body)))
			for b.Loop() {
				rows.Reset()
				if err := e.Decode(rows, out.Body); err != nil {
					b.Fatal(err)
				}
			}
			reportRow(b, out.Count)
		})
	}
}

func BenchmarkRebind(b *testing.B) {
	e := new(encoder)
	out, err := e.Encode(nil, doublesBatch(b, 10, 4096), boundIDs())
	require.NoError(b, err)
	from, to := boundIDs(), sdk.Unbound()
	b.ReportAllocs()
	b.SetBytes(int64(len(out.Body)))
	for b.Loop() {
		if err := e.Rebind(out.Body, from, to); err != nil {
			b.Fatal(err)
		}
		from, to = to, from
	}
	reportRow(b, out.Count)
}

// reportRow shows the time for one row, which is what is promised.
func reportRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}
