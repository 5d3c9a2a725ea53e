package sidebyside

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// peerTotal is what the peer's server writes when it ends.
var peerTotal = regexp.MustCompile(`server: total (\d+) cpu`)

// BenchmarkReference sends the same number of rows with backups to the peer's
// counting server, with the reference client and with the program in turn. Times and
// processor time are those of whole runs, start and end included.
func BenchmarkReference(b *testing.B) {
	n := rounds(b)
	peer := filepath.Join(*flagPeers, "release", "sift_stream_peer")
	if _, err := os.Stat(peer); *flagPeers == "" || err != nil {
		b.Skip("the reference client is not built: see -peers and make bench-reference")
	}
	for _, channels := range []int{10, 100} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			rows := rowsOr(4_000_000 * 10 / channels)
			var reference, ours results
			for i := range n {
				variants := []func(){
					func() { reference.add(referenceRun(b, peer, rows, channels)) },
					func() { ours.add(ownRun(b, peer, rows, channels)) },
				}
				if i%2 == 1 { // neither is always the first
					variants[0], variants[1] = variants[1], variants[0]
				}
				variants[0]()
				variants[1]()
			}
			var t table
			t.add("", "rows/s", "µs/row", "arrived when success was reported", "exit codes")
			t.add(reference.columns("reference")...)
			t.add(ours.columns("pipelined")...)
			rate, cpu := ratios(ours.rate, reference.rate), ratios(ours.cpu, reference.cpu)
			t.add("ratio", rate.text("%.2f"), cpu.text("%.2f"))
			t.print(b, fmt.Sprintf("live with backups, %d rows of %d channels", rows, channels))
			b.ReportMetric(rate.median, "rate-ratio")
			b.ReportMetric(cpu.median, "cpu-ratio")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

// result is that of one run.
type result struct {
	rows, arrived int
	took, cpu     time.Duration
	code          int
}

type results struct {
	rate  []float64 // rows/s
	cpu   []float64 // µs for each row
	share []float64 // of the rows, %
	codes []int
}

func (r *results) add(one result) {
	r.rate = append(r.rate, float64(one.rows)/one.took.Seconds())
	r.cpu = append(r.cpu, one.cpu.Seconds()*1e6/float64(one.rows))
	r.share = append(r.share, 100*float64(one.arrived)/float64(one.rows))
	r.codes = append(r.codes, one.code)
}

func (r *results) columns(name string) []string {
	return []string{
		name, spreadOf(r.rate).text("%.0f"), spreadOf(r.cpu).text("%.2f"), spreadOf(r.share).text("%.1f") + " %", fmt.Sprint(r.codes),
	}
}

// ratios compares runs of the same rounds.
func ratios(of, to []float64) spread {
	var out []float64
	for i := range of {
		out = append(out, of[i]/to[i])
	}
	return spreadOf(out)
}

func referenceRun(b *testing.B, peer string, rows, channels int) result {
	b.Helper()
	port, stop := peerServer(b, peer)
	cmd := exec.Command(peer, "backups", strconv.Itoa(rows), strconv.Itoa(channels))
	cmd.Env = append(os.Environ(), "PORT="+port)
	p := launch(b, cmd)
	code := p.wait(b, 5*time.Minute)
	r := result{rows: rows, arrived: stop(), took: p.took, cpu: p.cpu(), code: code}
	require.Zero(b, code, "%s", &p.output)
	b.Logf("%s", &p.output)
	return r
}

func ownRun(b *testing.B, peer string, rows, channels int) result {
	b.Helper()
	port, stop := peerServer(b, peer)
	p := pipeline(b, b.TempDir(), fmt.Sprintf(`pipeline "bench" {
  asset = "bench"
  source "generator" "load" {
    rate = "max"
    rows = %d
    channels = %d
  }
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri = "http://127.0.0.1:%s"
    api_key = secret::env(%q)
  }
  backup {
    dir = "${data_dir}/backup"
    sync = "1s"
  }
  checkpoint { interval = "10s" }
}
`, rows, channels, port, apiKey))
	code := p.wait(b, 5*time.Minute)
	r := result{rows: rows, arrived: stop(), took: p.took, cpu: p.cpu(), code: code}
	require.Contains(b, []int{0, exitPending}, code, "%s", &p.output)
	b.Logf("%s", &p.output)
	return r
}

// peerServer starts the peer's counting server. Stop ends it at once and returns how
// many rows it has had.
func peerServer(b *testing.B, peer string) (port string, stop func() int) {
	b.Helper()
	port = freePort(b)
	cmd := exec.Command(peer, "server")
	cmd.Env = append(os.Environ(), "PORT="+port)
	p := launch(b, cmd)
	waitFor(b, "the peer's server listens", p, time.Minute, func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return port, func() int {
		require.NoError(b, cmd.Process.Signal(syscall.SIGTERM))
		p.wait(b, time.Minute)
		found := peerTotal.FindStringSubmatch(p.output.String())
		require.NotNil(b, found, "%s", &p.output)
		total, err := strconv.Atoi(found[1])
		require.NoError(b, err)
		return total
	}
}

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(b, err)
	require.NoError(b, l.Close())
	return port
}
