package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// How much is generated: at a pace, for two lengths of time whose difference leaves
// out starting and stopping; at saturation, two numbers of rows.
const (
	shortTime, longTime = 2, 6 // seconds
	fewRows, manyRows   = 200_000, 1_200_000
)

// BenchmarkWholeWay measures the real binary with real processes, from the generator
// to a server and to files. Each figure is what a longer run costs beyond a shorter
// one: rows a second, and processor time of all our processes for each row. The
// server of the test is not one of them, but uses the same processors.
//
//	go test ./e2e -run '^$' -bench WholeWay -benchtime 1x
func BenchmarkWholeWay(b *testing.B) {
	for _, destination := range []string{"sift", "file"} {
		for _, channels := range []int{10, 100} {
			for _, rate := range []int{1_000, 10_000, 100_000, 0} {
				name := fmt.Sprintf("to=%s/channels=%d/rate=%d", destination, channels, rate)
				if rate == 0 {
					name = fmt.Sprintf("to=%s/channels=%d/rate=max", destination, channels)
				}
				b.Run(name, func(b *testing.B) { measureWholeWay(b, destination, channels, rate) })
			}
		}
	}
}

func measureWholeWay(b *testing.B, destination string, channels, rate int) {
	few, many := rate*shortTime, rate*longTime
	if rate == 0 {
		few, many = fewRows*10/channels, manyRows*10/channels
	}
	var rows int
	var wall, cpu time.Duration
	for b.Loop() {
		shortWall, shortCPU := generate(b, destination, channels, rate, few)
		longWall, longCPU := generate(b, destination, channels, rate, many)
		rows += many - few
		wall += longWall - shortWall
		cpu += longCPU - shortCPU
	}
	b.ReportMetric(float64(rows)/wall.Seconds(), "rows/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(rows), "cpu-µs/row")
	b.ReportMetric(0, "ns/op") // says nothing here
}

// generate runs a pipeline to its end and returns how long that took and what all
// its processes used.
func generate(b *testing.B, destination string, channels, rate, rows int) (wall, cpu time.Duration) {
	b.Helper()
	pace := `"max"`
	if rate > 0 {
		pace = fmt.Sprint(rate)
	}
	block := `transport "file" "out" { dir = "${data_dir}/files" }`
	if destination == "sift" {
		server := sifttest.New(b, sifttest.Options{Discard: true})
		block = fmt.Sprintf("transport \"sift\" \"out\" {\n uri = %q\n api_key = secret::env(%q)\n}", server.URI(), apiKey)
	}
	dir := b.TempDir()
	file := filepath.Join(dir, "bench.hcl")
	text := fmt.Sprintf("pipeline \"bench\" {\n asset = \"bench\"\n source \"generator\" \"load\" {\n"+
		" rate = %s\n rows = %d\n channels = %d\n }\n encoder \"ingestion_config\" {}\n %s\n}\n", pace, rows, channels, block)
	require.NoError(b, os.WriteFile(file, []byte(text), 0o600))

	cmd := exec.Command(binary(), "run", "--data-dir", filepath.Join(dir, "data"), file)
	cmd.Env = append(os.Environ(), apiKey+"=a-key")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	began := time.Now()
	require.NoError(b, cmd.Run(), "%s", &output)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage) // with the plugins, which the host waits for
	return time.Since(began), time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
