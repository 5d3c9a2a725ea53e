package backup

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// rows is a batch of 256 messages of 160 bytes, as ten columns are.
func rows() []byte {
	var body []byte
	for range 256 {
		body = pbfs.AppendMessage(body, bytes.Repeat([]byte{7}, 160))
	}
	return body
}

func benchOptions(b *testing.B) Options {
	opts := testOptions()
	opts.StateDir, opts.MaxFileSize, opts.Lease, opts.JournalSize = b.TempDir(), 500<<20, 0, 0
	return opts
}

func BenchmarkAppend(b *testing.B) {
	opts := benchOptions(b)
	opts.MaxDisk, opts.OnFull, opts.MaxFileSize = 600<<20, DropOldest, 128<<20
	log, _, err := Open(vfs.OS{}, b.TempDir(), opts)
	require.NoError(b, err)
	defer log.Close()
	require.NoError(b, log.DefineFlow(1, []byte("flow")))
	body := rows()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		ids, err := log.Reserve(256)
		require.NoError(b, err)
		_, err = log.Append(metaOf(ids), body)
		require.NoError(b, err)
	}
}

// withBacklog returns a backup with a backlog of 1 GB in segments of 4 MB.
func withBacklog(b *testing.B) *Backup {
	opts := benchOptions(b)
	opts.MaxFileSize = 4 << 20
	log, _, err := Open(vfs.NewMemory(0), testDir, opts)
	require.NoError(b, err)
	require.NoError(b, log.DefineFlow(1, []byte("flow")))
	for body := rows(); log.Stats().Bytes < 1<<30; {
		ids, err := log.Reserve(256)
		require.NoError(b, err)
		_, err = log.Append(metaOf(ids), body)
		require.NoError(b, err)
	}
	return log
}

// BenchmarkBacklog is what a track does all the time, with 250 segments on disk (in
// memory: without its syncs). In the fragmented case every second batch is confirmed.
func BenchmarkBacklog(b *testing.B) {
	log := withBacklog(b)
	last := log.Stats().NextID - 1
	for _, fragmented := range []bool{false, true} {
		if fragmented {
			var half checkpoint.Set
			for id := uint64(1); id < last; id += 512 {
				half.Add(span(id, id+255))
			}
			require.NoError(b, log.Confirm("a", half))
		}
		name := fmt.Sprintf("fragmented=%v/", fragmented)
		b.Run(name+"missing", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Missing("a")
			}
		})
		b.Run(name+"unconfirmed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Unconfirmed("a", span(last/2, last/2+1000))
			}
		})
		b.Run(name+"stats", func(b *testing.B) {
			for b.Loop() {
				log.Stats()
			}
		})
	}
	b.Run("confirm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ids, err := log.Reserve(256)
			require.NoError(b, err)
			require.NoError(b, log.Confirm("b", checkpoint.SetOf(ids)))
		}
	})
}
