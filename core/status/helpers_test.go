package status

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what a server under test tells.
type world struct {
	mu       sync.Mutex
	statuses []pipeline.Status
}

func (w *world) set(statuses ...pipeline.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statuses = statuses
}

func (w *world) get() []pipeline.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.statuses
}

// startServer starts a server in a new data directory, and a client of it.
func startServer(t *testing.T, w *world, change func(*Config)) (*Server, *Client) {
	t.Helper()
	c := Config{DataDir: shortDir(t), Version: "1.2.3", Pipelines: w.get, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	s, err := Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	client := NewClient(c.DataDir)
	t.Cleanup(client.Close)
	return s, client
}

// shortDir returns a directory whose path leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "status-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// limited returns a context for what must come soon.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// full is a status in which everything has a value of its own.
func full() pipeline.Status {
	h := telemetry.NewHistogram(time.Millisecond, time.Second)
	h.Observe(time.Microsecond)
	h.Observe(time.Minute)
	lane := func(base uint64) delivery.LaneState {
		return delivery.LaneState{
			Messages: base + 1, Bytes: base + 2, Checkpoints: base + 20, Timed: base + 3, Confirmed: base + 4,
			Late: base + 5, Failures: base + 6, Retries: base + 7, Unanswered: 2,
			Stream:         delivery.StreamState{Since: time.Now().Add(-time.Minute), Messages: base + 8, Bytes: base + 9},
			CheckpointTime: h.Durations(),
		}
	}
	s := pipeline.Status{
		Name: "stand", Phase: pipeline.Running, Started: time.Now().Add(-time.Hour), Unaccounted: 3,
		AtRisk: pipeline.AtRisk{Rows: 13, Oldest: 2 * time.Second},
		Memory: pipeline.Memory{Used: 1000, Limit: 2000},
		Flows: []telemetry.FlowTotals{
			{
				Name: "imu", Received: 100, Accepted: 80, Refused: map[string]uint64{"too long": 7}, Dropped: map[string]uint64{"overrun": 1},
				Tracks: []telemetry.TrackTotals{{Track: "sift.main", Delivered: 60, Filtered: 1, Pending: 18, Lost: map[string]uint64{"poison": 2}}},
			},
			{
				Name: "gps", Origin: sdk.Origin{Asset: "car", ClientKey: "car-1", Run: "r"}, Received: 5, Accepted: 5,
				Tracks: []telemetry.TrackTotals{{Track: "sift.main", Delivered: 5}},
			},
		},
		Tracks: []pipeline.TrackStatus{{
			Name: "sift.main", Pending: 18, Interval: time.Second, Timeout: time.Second, PendingBytes: 1800, OnDisk: 10, OldestPending: 5 * time.Minute,
			Unbound:     []string{"gps: other type"},
			StuckReason: "PERMISSION_DENIED: no",
			State: delivery.State{
				Evicted: 4, Queue: channel.Size{Messages: 8, Bytes: 800}, Live: lane(100), Again: lane(200),
				StuckSince: time.Now().Add(-time.Minute),
				LastError:  sdk.AsError(errors.New("connection refused")),
				Streams:    map[string]uint64{"OK": 9, "UNAVAILABLE": 4, "DeadlineExceeded": 2, "NEW": 1},
				Paths:      []string{"/lake/a"}, FileCount: 12,
			},
		}},
		Backup: &pipeline.BackupStatus{
			Dir: "/data/stand/backups", Files: 4, Unconfirmed: 2, Kept: 1, Damaged: 5, Finished: 30, Bytes: 5000, ActiveBytes: 500, Rotations: 33,
			Messages: 90, Written: 9000, NextID: 1000, DurableID: 990, CommittedID: 950,
			WaitingMessages: 9, WaitingBytes: 900, OldestWaiting: 3 * time.Second, Unjournaled: 11, Sync: h.Durations(),
			Lagging: true, Full: true, Trouble: "no space left on device", TroubleSince: time.Now().Add(-time.Minute),
			FailedSyncs: 6, Again: 7, Skipped: 8, Dropped: 2, DeadLetters: 1,
		},
	}
	return s
}

// calm is a status of a pipeline that has delivered everything.
func calm(name string) pipeline.Status {
	return pipeline.Status{
		Name: name, Phase: pipeline.Running, Started: time.Now(),
		Flows: []telemetry.FlowTotals{{
			Name: "imu", Received: 10, Accepted: 10, Tracks: []telemetry.TrackTotals{{Track: "file.out", Delivered: 10}},
		}},
		Tracks: []pipeline.TrackStatus{{Name: "file.out"}},
	}
}

func repoFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	require.NoError(t, err)
	return string(text)
}
