package pipeline

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/backup/manager"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// pushNumber gives a store a batch with the next id. The result is closed when its
// memory is given back.
func pushNumber(t *testing.T, s *store, flow *delivery.Flow) (freed chan struct{}) {
	ids, err := s.manager.NextIDs(1)
	require.NoError(t, err)
	freed = make(chan struct{})
	b := &delivery.Batch{
		Ids: ids, Flow: flow, Encoded: wire.BufferOf(pbfs.AppendMessage(nil, []byte("message"))),
		Freed: func(int) { close(freed) },
	}
	b.Open(1, func(*delivery.Batch) {})
	defer b.Release()
	batch, err := s.wrap(b, nil)
	require.NoError(t, err)
	require.NoError(t, s.push(t.Context(), batch))
	return freed
}

// A backlog may take hours. If its reader kept what was in memory when it began,
// sources would wait for that memory all the time.
func TestAReaderOfABacklogHoldsNoMemory(t *testing.T) {
	b, _, err := backup.Open(vfs.NewMemory(0), "/data", backup.Options{StateDir: "/state", Name: "p", Tracks: []string{"a"}})
	require.NoError(t, err)
	defer b.Close()
	s := &store{backup: b, tracks: []string{"a"}, firstID: 1}
	s.mu.numbers, s.mu.flows = map[*delivery.Flow]uint32{}, map[uint32]*delivery.Flow{}
	s.mu.bindings, s.mu.unsafe = map[sdk.Binding]uint32{}, map[*stored]struct{}{}
	s.mu.confirmed = make([]checkpoint.Set, 1)
	flow := delivery.NewFlow(numbers, telemetry.NewAccount(s.tracks).Flow(sdk.Origin{}, numbers.Name), 1)
	store := func() {
		s.manager.CloseQueue()
		require.NoError(t, s.manager.Run(context.Background()))
	}
	s.manager = manager.New(b, manager.Settings{})
	pushNumber(t, s, flow)
	store()

	s.manager = manager.New(b, manager.Settings{})
	freed := pushNumber(t, s, flow)
	track := &trackStore{store: s, name: "a", track: &track{block: &config.Transport{}}}
	missing := track.Missing()
	require.EqualValues(t, 2, missing.Count())
	reader := track.Read(missing)
	defer reader.Close()
	next := func() checkpoint.Range {
		batch, err := reader.Next(t.Context())
		require.NoError(t, err)
		defer batch.Release()
		return batch.Ids
	}
	ranges := []checkpoint.Range{next()}
	store()
	select {
	case <-freed:
	default:
		t.Fatal("what is on the disk is still in memory")
	}
	ranges = append(ranges, next())
	assert.Equal(t, missing, checkpoint.SetOf(ranges...))
	_, err = reader.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}
