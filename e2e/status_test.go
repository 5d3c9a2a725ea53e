package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/status"
	"github.com/pipelined/pipelined/internal/sifttest"
)

// status asks a running host; ok is false while it does not listen.
func (h *host) status(pipelines ...string) (r status.Report, ok bool) {
	h.t.Helper()
	client := status.NewClient(h.dataDir)
	defer client.Close()
	r, err := client.Report(limited(h.t), pipelines...)
	return r, err == nil
}

// awaitStatus waits until a pipeline is as it should be.
func (h *host) awaitStatus(what string, is func(status.Pipeline) bool) status.Pipeline {
	h.t.Helper()
	var last status.Pipeline
	require.Eventually(h.t, func() bool {
		if r, ok := h.status(); ok && len(r.Pipelines) == 1 {
			last = r.Pipelines[0]
		}
		return is(last)
	}, patience, pollInterval, "%s; it is %+v", what, &last)
	return last
}

// command runs another command on the data directory of h.
func (h *host) command(args ...string) *host {
	h.t.Helper()
	return run(h.t, options{}, append(args, "--data-dir", h.dataDir)...)
}

// scrape returns the metrics at a TCP address, by name.
func scrape(t *testing.T, address string) map[string]*dto.MetricFamily {
	t.Helper()
	request, err := http.NewRequestWithContext(limited(t), http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(body))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	require.NoError(t, err)
	return families
}

// sum adds up all series of a metric.
func sum(families map[string]*dto.MetricFamily, name string) float64 {
	total := 0.0
	for _, m := range families[name].GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

// A run that is well: status, metrics and account tell the same.
func TestStatusOfARun(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	h := start(t, options{}, "run", "--metrics", address, writeFile(t, "rows.hcl", fmt.Sprintf(`
pipeline "rows" {
  source "generator" "counter" {
    flow = "load"
    rate = 5000
    channel "n" {
      type = "uint64"
      wave = "counter"
    }
  }
  encoder "ingestion_config" {
    client_key = "rows-v1"
  }
  transport "file" "out" {
    dir = %q
    checkpoint {
      interval = "200ms"
    }
  }
  asset = "stand"
}
`, t.TempDir())))
	h.awaitStatus("rows are delivered", func(p status.Pipeline) bool {
		return p.State == status.Delivering && len(p.Tracks) == 1 && p.Tracks[0].Delivered > 1000
	})
	info, err := os.Lstat(filepath.Join(h.dataDir, status.SocketName))
	require.NoError(t, err)
	assert.Equal(t, os.ModeSocket|0o600, info.Mode())

	shown := h.command("status")
	shown.requireExit(exitOK)
	assert.Regexp(t, `^rows  delivering\n\npipeline rows\n`, shown.stdout.String())
	flows, problem := parseAccount(shown.stdout.String(), "rows")
	require.Empty(t, problem, shown.stdout.String())
	assert.GreaterOrEqual(t, flows["load"].tracks["file.out"].delivered, uint64(1000))

	families := scrape(t, address)
	assert.GreaterOrEqual(t, sum(families, "pipelined_messages_received_total"), sum(families, "pipelined_messages_accepted_total"))
	assert.GreaterOrEqual(t, sum(families, "pipelined_messages_delivered_total"), 1000.0)
	assert.GreaterOrEqual(t, sum(families, "pipelined_messages_sent_total"), sum(families, "pipelined_messages_delivered_total"))
	assert.Positive(t, sum(families, "pipelined_checkpoint_confirmed_count_total"))
	assert.Positive(t, sum(families, "pipelined_grpc_status_counts_total"))
	assert.Zero(t, sum(families, "pipelined_messages_lost_total"))

	waited := h.command("status", "--wait", "delivered", "--json")
	waited.requireExit(exitOK)
	assert.Contains(t, waited.stdout.String(), `"delivered": true`)
	h.command("status", "rows", "row").requireExit(exitUsage)

	h.interrupt()
	h.requireExit(exitOK)
	h.requireBalanced("rows")
	gone := h.command("status")
	gone.requireExit(exitUnavailable)
	assert.Contains(t, gone.stderr.String(), "nobody is running here: no pipelined uses "+h.dataDir)
	assert.NoFileExists(t, filepath.Join(h.dataDir, status.SocketName))
}

// Somebody who waits for a run that ends is answered.
func TestWaitForARun(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	server.Stop()
	h := load{uri: server.URI(), rows: faultRows, pipeline: backupBlock}.start(t)
	h.awaitStatus("rows are pending", func(p status.Pipeline) bool {
		return len(p.Tracks) == 1 && p.Tracks[0].Pending > 0
	})
	early := h.command("status", "--wait", "delivered", "--timeout", "100ms")
	early.requireExit(exitPending)
	assert.Contains(t, early.stderr.String(), "not everything is delivered after 100ms")
	waiter := start(t, options{}, "status", "--wait", "delivered", "--data-dir", h.dataDir)
	require.NoError(t, server.Start())
	waiter.requireExit(exitOK)
	h.requireDelivered(server, faultRows)
}

const backupBlock = `
  backup {
    dir  = "${data_dir}/${pipeline.name}/backups"
    sync = "100ms"
  }
`

// A destination that is away: the sentence says so, and after the end status says
// what waits on the disk.
func TestStatusOfAnOutage(t *testing.T) {
	t.Parallel()
	h := load{uri: "http://" + freeAddress(t), rate: "1000", pipeline: backupBlock + `drain_timeout = "1s"`}.start(t)
	p := h.awaitStatus("the outage is seen", func(p status.Pipeline) bool {
		return p.State == status.Waiting && len(p.Tracks) == 1 && p.Tracks[0].Pending > 0 && p.Backup != nil && p.Backup.DurableID > 0
	})
	assert.Contains(t, p.Sentence, "sift.live")
	assert.Contains(t, p.Sentence, "connection refused")
	shown := h.command("status")
	shown.requireExit(exitOK)
	assert.Contains(t, shown.stdout.String(), "  backup "+filepath.Join(h.dataDir, "load", "backups")+": ")

	h.interrupt()
	h.requireExit(exitPending)
	pending := regexp.MustCompile(`([0-9,]+) messages wait on disk`)
	gone := h.command("status")
	gone.requireExit(exitUnavailable)
	found := pending.FindStringSubmatch(gone.stdout.String())
	require.Len(t, found, 2, "%s%s", gone.stdout, gone.stderr)
	account := h.account("load")["load"]
	assert.Equal(t, fmt.Sprint(account.tracks["sift.live"].pending), strings.ReplaceAll(found[1], ",", ""))
}

// Who waits for delivery waits for what an earlier run has left, too, however new the
// rows are that come meanwhile.
func TestWaitForWhatWasLeft(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	server.Stop()
	file := writeFile(t, "load.hcl", load{uri: server.URI(), rate: "1000", pipeline: backupBlock}.hcl())
	killed := start(t, options{}, "run", file)
	killed.awaitStatus("rows are durable", func(p status.Pipeline) bool { return p.Backup != nil && p.Backup.DurableID > 500 })
	require.NoError(t, killed.cmd.Process.Kill())
	killed.wait()

	h := start(t, options{dataDir: killed.dataDir}, "run", file)
	eventually(t, "it cannot be asked", func() bool {
		_, ok := h.status()
		return ok
	})
	waiter := start(t, options{}, "status", "--wait", "delivered", "--data-dir", h.dataDir)
	left := func(p status.Pipeline) uint64 {
		for _, f := range p.Flows {
			if f.Name == storedBefore {
				return f.Tracks[0].Pending
			}
		}
		return 0
	}
	p := h.awaitStatus("new rows come to those that were left", func(p status.Pipeline) bool {
		return left(p) > 500 && len(p.Tracks) == 1 && p.Tracks[0].Pending > left(p)+500
	})
	require.False(t, waiter.hasEnded(), "nothing is delivered: %s", clip(waiter.all.String()))
	assert.Positive(t, p.Backup.Unconfirmed)
	assert.Zero(t, p.Backup.Finished)

	require.NoError(t, server.Start())
	waiter.requireExit(exitOK)
	p = h.awaitStatus("files go", func(p status.Pipeline) bool { return p.Backup.Finished > 0 })
	assert.Zero(t, left(p))
	h.interrupt()
	h.requireExit(exitOK)
}

// storedBefore is the flow that stands for what an earlier run has left.
const storedBefore = "(stored before this start)"

// A host that was killed leaves its socket; the next one takes its place.
func TestSocketOfADeadHost(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "load.hcl", load{uri: "http://" + freeAddress(t)}.hcl())
	dataDir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	h := start(t, options{dataDir: dataDir}, "run", file)
	h.awaitStatus("it is asked", func(p status.Pipeline) bool { return p.Name == "load" })
	require.NoError(t, h.cmd.Process.Kill())
	h.wait()
	assert.FileExists(t, filepath.Join(dataDir, status.SocketName))
	h.command("status").requireExit(exitUnavailable)

	h = start(t, options{dataDir: dataDir}, "run", "--for", "1s", file)
	h.awaitStatus("it is asked again", func(p status.Pipeline) bool { return p.Name == "load" })
	h.interrupt()
	h.wait()
	assert.NoFileExists(t, filepath.Join(dataDir, status.SocketName))
}

// The address for metrics was asked for: without it nothing runs.
func TestMetricsAddressInUse(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	h := run(t, options{}, "run", "--metrics", server.Address(), writeFile(t, "load.hcl", load{uri: server.URI(), rows: 10}.hcl()))
	h.requireExit(exitIO)
	assert.Contains(t, h.stderr.String(), "address already in use")
}
