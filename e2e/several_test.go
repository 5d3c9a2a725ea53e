package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// One pipeline of several fails: the run ends, what the others had read is delivered,
// and both accounts are there.
func TestOnePipelineFails(t *testing.T) {
	t.Parallel()
	one := sifttest.New(t, sifttest.Options{})
	other := sifttest.New(t, sifttest.Options{})
	endless := load{uri: one.URI(), interval: "1h"}.hcl()
	failing := strings.NewReplacer(`"load" {`, `"failing" {`, `asset = "stand"`, `asset = "other"`).Replace(load{uri: other.URI()}.hcl())
	h := start(t, options{}, "run", writeFile(t, "both.hcl", endless+failing))
	one.Stream(t, 0).WaitCount(t, 100)
	other.Stream(t, 0).WaitCount(t, 100)
	for _, p := range h.plugins() { // one of the two encoders, whichever
		if strings.HasSuffix(p.command, "encoder ingestion_config") {
			require.NoError(t, syscall.Kill(p.pid, syscall.SIGKILL))
			break
		}
	}
	h.requireExit(exitUnavailable)
	ok, broken := "load", "failing"
	if strings.Contains(h.stderr.String(), `pipeline "load": encoder`) {
		ok, broken = broken, ok
	}
	assert.Contains(t, lastLine(h.stderr.String()), fmt.Sprintf("pipeline %q: encoder ingestion_config", broken))
	assert.NotZero(t, h.requireBalanced(ok))
	assert.NotEmpty(t, h.account(broken))
}

// A sender that fails ends the receiver that waits for it, in order.
func TestSenderFails(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	h := start(t, options{}, "run", writeFile(t, "both.hcl", load{uri: "http://" + address}.hcl()+fmt.Sprintf(`
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    until  = pipeline.load
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, address)))
	dir := filepath.Join(h.dataDir, "parquet", "stand", "load")
	eventually(t, "nothing arrives", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "*.parquet"))
		return len(files) > 0
	})
	require.NoError(t, syscall.Kill(h.plugin("source", "generator").pid, syscall.SIGKILL))
	h.requireExit(exitUnavailable)
	received := h.requireBalanced("receiver")
	assert.GreaterOrEqual(t, received, h.account("load")["load"].accepted)
	assert.Equal(t, received, uint64(len(readTable(t, dir).rows)))
}

// As many rows as this machine can move, through both pipelines: none is missing,
// none is there twice, all are in order.
func TestSaturation(t *testing.T) {
	t.Parallel()
	const rows = 300_000
	address := freeAddress(t)
	h := run(t, options{}, "run", writeFile(t, "both.hcl", fmt.Sprintf(`
pipeline "sender" {
  asset = "stand"
  source "generator" "load" {
    flow = "load"
    rate = "max"
    rows = %d
    channel "n" {
      type = "uint64"
      wave = "counter"
    }
    channel "noise" {
      wave = "noise"
    }
    channel "now_and_then" {
      type  = "string"
      every = 7
    }
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri           = "http://%s"
    channel_names = "plain"
  }
}
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    until  = pipeline.sender
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, rows, address, address)))
	h.requireExit(exitOK)
	assert.Equal(t, uint64(rows), h.requireBalanced("sender"))
	assert.Equal(t, uint64(rows), h.requireBalanced("receiver"))
	table := readTable(t, filepath.Join(h.dataDir, "parquet", "stand", "load"))
	require.Len(t, table.rows, rows)
	for i, row := range table.rows {
		if row[0] != value(uint64(i)) || (row[2] != nil) != (i%7 == 0) {
			require.FailNow(t, "wrong row", "%d: %v", i, row)
		}
	}
}

// Several destinations, each with the flows that it wants.
func TestFlowsOfTransports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, flow := range []string{"engine", "engine_slow", "cabin"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, flow+".csv"), []byte("t,v\n0,1\n1,2\n"), 0o600))
	}
	server := sifttest.New(t, sifttest.Options{})
	h := run(t, options{}, "run", writeFile(t, "flows.hcl", fmt.Sprintf(`
locals {
  dir = %q
}
pipeline "flows" {
  asset = "stand"
  source "csv" "files" {
    speed = "max"
    time {
      column = "t"
    }
    file "engine" {
      path = "${local.dir}/engine.csv"
    }
    file "engine_slow" {
      path = "${local.dir}/engine_slow.csv"
    }
    file "cabin" {
      path = "${local.dir}/cabin.csv"
    }
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri   = %q
    flows = ["engine*"]
  }
  transport "parquet" "lake" {
    dir   = "${data_dir}/parquet"
    flows = ["cabin", "engine"]
  }
}
`, dir, server.URI())))
	h.requireExit(exitOK)
	assert.Len(t, server.Acknowledged(), 4)
	assert.Len(t, server.Flows(server.Configs()[0].GetIngestionConfigId()), 2)
	for _, flow := range []string{"engine", "cabin"} {
		assert.Len(t, readTable(t, filepath.Join(h.dataDir, "parquet", flow)).rows, 2)
	}
	assert.NoDirExists(t, filepath.Join(h.dataDir, "parquet", "engine_slow"))
	for flow, a := range h.account("flows") {
		assert.Equal(t, uint64(2), a.accepted, flow)
		for track, delivered := range a.tracks {
			wanted := track == "sift.live" && flow != "cabin" || track == "parquet.lake" && flow != "engine_slow"
			assert.Equal(t, wanted, delivered.delivered == 2, "%s to %s: %+v", flow, track, delivered)
			assert.Zero(t, delivered.pending+delivered.lost)
		}
	}
}

// A growing file is followed; the run ends when nothing comes any more.
func TestFollowedFile(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "flow.csv", "t,v\n0,1\n")
	text := strings.Replace(csvPipeline(path, "follow = true\n    poll = \"10ms\"\n    idle_exit = \"1s\""), `speed = "max"`, "", 1)
	h := start(t, options{}, "run", writeFile(t, "follow.hcl", strings.Replace(text, `dir = "${data_dir}/parquet"`, `dir = "${data_dir}/parquet"
    checkpoint {
      interval = "20ms"
    }`, 1)))
	table := filepath.Join(h.dataDir, "parquet", "flow")
	files := func() int {
		found, _ := filepath.Glob(filepath.Join(table, "*.parquet"))
		return len(found)
	}
	eventually(t, "the first line is not delivered", func() bool { return files() > 0 })
	for i := range 5 {
		before := files()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = fmt.Fprintf(f, "%d,%d\n", i+1, i+2)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		eventually(t, "a line that was added is not delivered", func() bool { return files() > before })
	}
	h.requireExit(exitOK)
	assert.Equal(t, uint64(6), h.requireBalanced("files"))
	h.assertColumn(t, []value{1.0, 2.0, 3.0, 4.0, 5.0, 6.0})
}

// What is not delivered and cannot be read again is gone; the exit code says so.
func TestRowsThatAreGone(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Default: sifttest.NeverAnswer})
	h := start(t, options{}, "run", writeFile(t, "host.hcl", fmt.Sprintf(`
pipeline "machine" {
  asset         = "machine"
  drain_timeout = "1s"
  source "host" "self" {
    groups = ["memory"]
    period = "50ms"
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri = %q
  }
}
`, server.URI())))
	server.Stream(t, 0).WaitCount(t, 3)
	h.interrupt()
	h.requireExit(exitFailure)
	a := h.account("machine")["memory"]
	assert.GreaterOrEqual(t, a.read, uint64(3))
	assert.Zero(t, a.accepted)
	assert.Equal(t, a.read, a.tracks["sift.live"].pending)
	assert.Contains(t, lastLine(h.stderr.String()), fmt.Sprintf("%d rows", a.read))
}
