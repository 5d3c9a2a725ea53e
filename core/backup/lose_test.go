package backup

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// TestLostSuspectsAreNotAwaited fails a sync and gives up what it named.
func TestLostSuspectsAreNotAwaited(t *testing.T) {
	memory := vfs.NewMemory(0)
	failing := false
	fsys := vfs.NewFault(memory, func(op vfs.Op) *vfs.Failure {
		if failing && op.Kind == vfs.OpSync {
			failing = false
			return &vfs.Failure{Err: syscall.EIO}
		}
		return nil
	})
	b, _ := open(t, fsys, testOptions())
	ids := add(t, b, 3)
	failing = true
	_, err := b.Sync()
	require.ErrorAs(t, err, new(*SuspectError))
	assert.EqualValues(t, 3, b.Stats().Again)

	require.NoError(t, b.Lose(checkpoint.SetOf(ids)))
	assert.EqualValues(t, 0, b.Stats().Again)
	assert.True(t, b.Missing("a").Empty())
	require.NoError(t, b.Close())
	again, _ := open(t, memory, testOptions())
	assert.True(t, again.Missing("a").Empty())
}
