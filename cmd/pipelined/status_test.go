package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/status"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// tellStatus serves these statuses in a new data directory.
func tellStatus(t *testing.T, statuses ...pipeline.Status) (dataDir string) {
	t.Helper()
	dataDir = shortDir(t)
	s, err := status.Start(t.Context(), status.Config{
		DataDir: dataDir, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
		Pipelines: func() []pipeline.Status { return statuses },
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return dataDir
}

// shortDir returns a directory whose path is the same length in each run.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cli-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func statuses() []pipeline.Status {
	account := func(name string, received, delivered, pending uint64, lost map[string]uint64) telemetry.FlowTotals {
		return telemetry.FlowTotals{
			Name: name, Received: received, Accepted: received,
			Tracks: []telemetry.TrackTotals{{Track: "sift.main", Delivered: delivered, Pending: pending, Lost: lost}},
		}
	}
	return []pipeline.Status{
		{
			Name: "stand", Phase: pipeline.Running,
			Flows: []telemetry.FlowTotals{
				account("imu", 1_000_000, 900_000, 99_998, map[string]uint64{"rejected": 2}),
				{
					Name: "evil\x1b[2J", Origin: sdk.Origin{Asset: "car"}, Received: 5, Refused: map[string]uint64{"bad": 5},
					Tracks: []telemetry.TrackTotals{{Track: "sift.main"}},
				},
			},
			Tracks: []pipeline.TrackStatus{{
				Name: "sift.main", Pending: 99_998, OnDisk: 90_000, OldestPending: 12 * time.Minute, PendingBytes: 3_100_000_000,
				Unbound: []string{"evil\x1b[2J: another type"},
				State:   delivery.State{Live: delivery.LaneState{Confirmed: 7, Failures: 1}, Again: delivery.LaneState{Confirmed: 2}},
			}},
			AtRisk: pipeline.AtRisk{Rows: 40, Oldest: 1234567 * time.Microsecond},
			Backup: &pipeline.BackupStatus{
				Dir: "/data/stand/backups", Files: 9, Kept: 2, Bytes: 4 << 30, WaitingMessages: 12, FailedSyncs: 1, Dropped: 3, DeadLetters: 2,
				Sync: telemetry.Durations{Counts: []uint64{5}, Last: 1234567, Max: 2345 * time.Millisecond},
			},
		},
		{
			Name: "b", Phase: pipeline.Running,
			Flows: []telemetry.FlowTotals{account("x", 10, 10, 0, nil)},
			Tracks: []pipeline.TrackStatus{{
				Name: "sift.main", State: delivery.State{Paths: []string{"/out/a", "/out/b"}, FileCount: 2},
			}},
		},
		{Name: "c", Phase: pipeline.Starting},
	}
}

func TestStatus(t *testing.T) {
	dataDir := tellStatus(t, statuses()...)
	r := cli(t, "status", "--data-dir", dataDir)
	requireGolden(t, ".", "status", r.transcript("status"))
	r = cli(t, "status", "--data-dir", dataDir, "b")
	assert.True(t, strings.HasPrefix(r.stdout, "b  delivering\n\npipeline b\n"), r.stdout)
	assert.Equal(t, exitOK, r.code)
}

func TestStatusAsJSON(t *testing.T) {
	dataDir := tellStatus(t, statuses()...)
	r := cli(t, "status", "--json", "--data-dir", dataDir, "stand")
	require.Equal(t, exitOK, r.code, r.stderr)
	var report status.Report
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &report))
	require.Len(t, report.Pipelines, 1)
	assert.Equal(t, status.Behind, report.Pipelines[0].State)
	assert.Equal(t, dataDir, report.DataDir)
	assert.NotContains(t, r.stdout, "\x1b")
}

func TestStatusWithoutAHost(t *testing.T) {
	dataDir := shortDir(t)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"status", "stand"}, {"status", "--wait", "delivered"}} {
		r := cli(t, append(args, "--data-dir", dataDir)...)
		assert.Equal(t, exitUnavailable, r.code)
		assert.Empty(t, r.stdout)
		assert.Equal(t, "pipelined: nobody is running here: no pipelined uses "+dataDir+", nobody answers at "+
			filepath.Join(dataDir, status.SocketName)+"; 'pipelined run' starts one\n", r.stderr)
	}
	assert.Empty(t, readNames(t, dataDir), "it leaves nothing behind")
}

func readNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStatusUsage(t *testing.T) {
	dataDir := tellStatus(t, statuses()...)
	for problem, args := range map[string][]string{
		`unknown pipeline: there is no pipeline "d"; there are: stand, b, c`:    {"d"},
		`--wait godot: only "delivered" can be waited for`:                      {"--wait", "godot"},
		"--timeout is for --wait":                                               {"--timeout", "5s"},
		"--timeout 0s: waiting takes some time":                                 {"--wait", "delivered", "--timeout", "0s"},
		`invalid argument "x" for "--timeout" flag: time: invalid duration "x"`: {"--wait", "delivered", "--timeout", "x"},
	} {
		r := cli(t, append([]string{"status", "--data-dir", dataDir}, args...)...)
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.stderr, problem)
		assert.Empty(t, r.stdout)
	}
}

func TestStatusWait(t *testing.T) {
	ended := pipeline.Status{
		Name: "ended", Phase: pipeline.Finished,
		Tracks: []pipeline.TrackStatus{{Name: "sift.main", Pending: 3}},
	}
	dataDir := tellStatus(t, append(statuses(), ended)...)
	for _, c := range []struct {
		pipeline, timeout, problem string
		code                       int
	}{
		{"b", "1m", "", exitOK},
		{"stand", "50ms", "pipelined: not everything is delivered after 50ms\n", exitPending},
		{"c", "50ms", "pipelined: not everything is delivered after 50ms\n", exitPending},
		{"ended", "1m", "pipelined: ended, and not everything was delivered\n", exitPending},
	} {
		r := cli(t, "status", "--data-dir", dataDir, "--wait", "delivered", "--timeout", c.timeout, c.pipeline)
		assert.Equal(t, c.code, r.code, c.pipeline)
		assert.Equal(t, c.problem, r.stderr, c.pipeline)
		assert.Regexp(t, "^"+regexp.QuoteMeta(c.pipeline)+"  ", r.stdout)
	}
}

func TestMetricsAddress(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "p.hcl")
	writeFile(t, path, "")
	r := cli(t, "run", "--data-dir", dir, "--metrics", "9464", path)
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "--metrics 9464: want an address and a port, such as 127.0.0.1:9464")
}
