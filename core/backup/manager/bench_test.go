package manager

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// BenchmarkPush pushes batches of 100 messages to the disk of the machine until they
// are durable. Every 100th is confirmed with all before it.
func BenchmarkPush(b *testing.B) {
	for name, s := range map[string]Settings{"within": within(100 * time.Millisecond), "always": always(), "rotate": rotate()} {
		b.Run(name, func(b *testing.B) {
			opts := testOptions()
			opts.StateDir, opts.MaxFileSize = filepath.Join(b.TempDir(), "state"), 64<<20
			x := openBenchAt(b, vfs.OS{}, filepath.Join(b.TempDir(), "backups"), opts, s).run()
			body := bodyOf(checkpoint.Range{First: 1, Last: 100})
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for i := range b.N {
				ids, err := x.m.NextIDs(100)
				require.NoError(b, err)
				batch := &testBatch{t: b, meta: metaOf(ids), body: body}
				batch.refs.Store(1)
				require.NoError(b, x.m.Push(context.Background(), batch))
				if i%100 == 99 {
					all := checkpoint.SetOf(checkpoint.Range{First: 1, Last: ids.Last})
					x.m.Confirm("a", all)
					x.m.Confirm("b", all)
				}
			}
			x.close()
		})
	}
}
