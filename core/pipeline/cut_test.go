package pipeline

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// TestCut splits batches that are too large once encoded: every row is in exactly one
// part, in order, and each part is small enough; a row that is too large by itself is
// refused and counted.
func TestCut(t *testing.T) {
	flow := sdk.Flow{Name: "text", Channels: []sdk.Channel{{Name: "s", Type: sdk.String}}}
	for name, sizes := range map[string][]int{
		"many small rows":       make([]int, 4096),
		"rows of half a batch":  {600 << 10, 600 << 10, 600 << 10, 1, 1},
		"rows of several MiB":   {1 << 20, 1, 1 << 20, 800 << 10},
		"one row near to 4 MiB": {3 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			rows := sdk.NewBuilder(&flow)
			for i, size := range sizes {
				rows.Row(int64(i))
				rows.String(0, strings.Repeat("x", size))
			}
			account := telemetry.NewAccount(nil)
			table := newFlowTable(account)
			known, err := table.add(flow, true)
			require.NoError(t, err)
			jobs, err := cut(job{flow: known, rows: wire.BufferOf(rows.Append(nil)), count: len(sizes)})
			require.NoError(t, err)
			next := 0
			for _, j := range jobs {
				part, err := sdk.ParseBatch(&flow, j.rows.Bytes())
				require.NoError(t, err)
				require.Equal(t, j.count, part.Rows())
				require.LessOrEqual(t, part.WireBound(), sdk.MaxPayloadBytes)
				if part.Rows() > 1 {
					assert.LessOrEqual(t, part.WireBound(), 2*sdk.MaxBatchBytes)
				}
				for row, at := range part.Times() {
					require.Equal(t, int64(next), at)
					require.Len(t, part.Column(0).Bytes(row), sizes[next])
					next++
				}
				assert.Equal(t, part.Times()[0], j.minTime)
			}
			assert.Equal(t, len(sizes), next)
		})
	}
}
