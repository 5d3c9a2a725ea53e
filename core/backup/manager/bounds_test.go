package manager

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/vfs"
)

// With a long sync delay and fast sources the memory would be full long before the
// sync, and the sources would wait for it.
func TestMuchThatIsNotDurableIsSyncedBeforeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openBench(t, vfs.NewMemory(0), testOptions(), Settings{
			Queue: channel.Size{Messages: 1000, Bytes: 4000}, Sync: Sync{Mode: Within, Longest: time.Hour},
		}).run()
		first := x.batch(5)
		require.NoError(t, x.m.Push(t.Context(), first))
		synctest.Wait()
		assert.Zero(t, first.safe.Load(), "there is time")
		for range 10 {
			require.NoError(t, x.m.Push(t.Context(), x.batch(5)))
			synctest.Wait()
		}
		assert.EqualValues(t, 1, first.safe.Load())
		assert.LessOrEqual(t, x.m.State().Unsynced.Bytes, 1000)
		x.m.CloseQueue()
		require.NoError(t, <-x.ran)
		require.NoError(t, x.b.Close())
	})
}
