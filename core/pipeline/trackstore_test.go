package pipeline

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/backup/manager"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// storeOf returns a store with one track, and a flow in it. Its manager does not run.
func storeOf(t *testing.T, settings manager.Settings) (*trackStore, *delivery.Flow, *telemetry.Account) {
	b, _, err := backup.Open(vfs.NewMemory(0), "/data", backup.Options{StateDir: "/state", Name: "p", Tracks: []string{"a"}})
	require.NoError(t, err)
	t.Cleanup(func() { b.Close() })
	s := &store{backup: b, manager: manager.New(b, settings), tracks: []string{"a"}, firstID: 1}
	s.mu.numbers, s.mu.flows = map[*delivery.Flow]uint32{}, map[uint32]*delivery.Flow{}
	s.mu.bindings, s.mu.unsafe = map[sdk.Binding]uint32{}, map[*stored]struct{}{}
	s.mu.confirmed = make([]checkpoint.Set, 1)
	account := telemetry.NewAccount(s.tracks)
	flow := delivery.NewFlow(numbers, account.Flow(sdk.Origin{}, numbers.Name), 1)
	return &trackStore{store: s, name: "a", track: &track{block: &config.Transport{}}}, flow, account
}

// pushNumber gives a store a batch with the next id. The result is closed when its
// memory is given back.
func pushNumber(t *testing.T, s *store, flow *delivery.Flow, claim func(*delivery.Batch)) (freed chan struct{}) {
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
	claim(b)
	require.NoError(t, s.push(t.Context(), batch))
	return freed
}

func unclaimed(*delivery.Batch) {}

// A backlog may take hours. If its reader kept what was in memory when it began,
// sources would wait for that memory all the time.
func TestAReaderOfABacklogHoldsNoMemory(t *testing.T) {
	s, flow, _ := storeOf(t, manager.Settings{})
	store := func() {
		s.manager.CloseQueue()
		require.NoError(t, s.manager.Run(context.Background()))
	}
	pushNumber(t, s.store, flow, unclaimed)
	store()

	s.manager = manager.New(s.backup, manager.Settings{})
	freed := pushNumber(t, s.store, flow, unclaimed)
	missing := s.Missing()
	require.EqualValues(t, 2, missing.Count())
	reader := s.Read(missing)
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
	_, err := reader.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

// What was written when the time was over, and not synced, may be on the disk: the next
// start finds it there. What was not even written is nowhere.
func TestTheAccountAtAnEndWithoutASync(t *testing.T) {
	for name, written := range map[string]bool{"written": true, "not written": false} {
		t.Run(name, func(t *testing.T) {
			s, flow, account := storeOf(t, manager.Settings{Sync: manager.Sync{Mode: manager.Within, Longest: time.Hour}})
			tr := delivery.NewStoredTrack(delivery.Settings{
				Name: "a", Bus: control.NewBus(8), Logger: slog.New(slog.DiscardHandler),
				Sendable: func(*delivery.Batch) bool { return false },
			}, s, nil, nil)
			var pushed *delivery.Batch
			pushNumber(t, s.store, flow, func(b *delivery.Batch) { tr.Claim(b); pushed = b })
			require.NoError(t, tr.Push(t.Context(), pushed))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			if !written {
				cancel()
			}
			go func() { done <- s.manager.Run(ctx) }()
			if written {
				require.Eventually(t, func() bool { return s.manager.State().Unsynced.Messages == 1 }, 10*time.Second, time.Millisecond)
			}
			cancel()
			require.Error(t, <-done)
			s.leave([]*track{{delivery: tr}})
			assert.Equal(t, tr.Pending(), account.Totals()[0].Tracks[0].Pending, "account and census agree")
			assert.Equal(t, written, tr.Pending() == 1)
		})
	}
}
