package csv

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// sink is an Output that writes batches to one buffer, as a connection does.
type sink struct {
	sdk.Output
	flows []sdk.Flow
	buf   []byte
	rows  int
}

func (s *sink) Resume() ([]byte, bool)               { return nil, false }
func (s *sink) Rewinds() <-chan sdk.Rewind           { return nil }
func (s *sink) Stopping() <-chan struct{}            { return nil }
func (s *sink) Progress(sdk.FlowNumber, int64) error { return nil }
func (s *sink) Dropped(sdk.Dropped) error            { return nil }

func (s *sink) Announce(flow sdk.Flow) (sdk.FlowNumber, error) {
	s.flows = append(s.flows, flow)
	return sdk.FlowNumber(len(s.flows)), nil
}

func (s *sink) Emit(_ context.Context, _ sdk.FlowNumber, rows *sdk.Builder, _ []byte) (uint64, error) {
	s.rows += rows.Rows()
	s.buf = rows.Append(s.buf[:0])
	rows.Reset()
	return 1, nil
}

const benchRows = 50_000

func benchmarkFile(b *testing.B, name, content string, set func(*Config)) {
	b.Helper()
	c := fast(write(b, name, content))
	c.Time = &TimeConfig{Column: new("t"), Unit: new("ms")}
	set(&c)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		made, err := open(sdk.Settings{Logger: slog.New(slog.DiscardHandler), Gather: sdk.DefaultGather}, c)
		if err != nil {
			b.Fatal(err)
		}
		out := &sink{}
		if err := made.Run(b.Context(), out); err != nil || out.rows != benchRows {
			b.Fatal(err, out.rows)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func benchCSV(columns int) string {
	var out strings.Builder
	out.WriteString("t")
	for i := range columns {
		fmt.Fprintf(&out, ",c%d", i)
	}
	out.WriteByte('\n')
	for row := range benchRows {
		fmt.Fprintf(&out, "%d", 1_700_000_000_000+row)
		for i := range columns {
			fmt.Fprintf(&out, ",%.6f", float64(row*i)*0.37+0.001)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func BenchmarkCSV(b *testing.B) {
	content := benchCSV(10)
	b.Run("10 doubles", func(b *testing.B) { benchmarkFile(b, "f.csv", content, func(*Config) {}) })
	b.Run("10 doubles, gzip", func(b *testing.B) { benchmarkFile(b, "f.csv.gz", string(zip(b, content)), func(*Config) {}) })
	b.Run("10 doubles, gathered", func(b *testing.B) {
		benchmarkFile(b, "f.csv", content, func(c *Config) {
			c.Speed, c.MaxGap = sdk.NumberOr{Number: 1e12}, new(time.Nanosecond)
		})
	})
	b.Run("10 doubles as text", func(b *testing.B) {
		benchmarkFile(b, "f.csv", content, func(c *Config) {
			for i := range 10 {
				c.Columns = append(c.Columns, ColumnConfig{Name: fmt.Sprintf("c%d", i), Type: new("string")})
			}
		})
	})
	wide := benchCSV(100)
	b.Run("100 doubles", func(b *testing.B) { benchmarkFile(b, "f.csv", wide, func(*Config) {}) })
}

func BenchmarkNDJSON(b *testing.B) {
	var content strings.Builder
	for row := range benchRows {
		fmt.Fprintf(&content, `{"t":%d`, 1_700_000_000_000+row)
		for i := range 10 {
			fmt.Fprintf(&content, `,"c%d":%.6f`, i, float64(row*i)*0.37+0.001)
		}
		content.WriteString("}\n")
	}
	benchmarkFile(b, "f.ndjson", content.String(), func(*Config) {})
}

// BenchmarkRecording replays the four files of a real flight.
func BenchmarkRecording(b *testing.B) {
	dir := recordings(b, "rocket-hedy")
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("ts")}
	bytes := int64(0)
	for _, name := range []string{"imu", "baro", "flightInfo", "gnssInfo"} {
		path := dir + "/" + name + ".csv"
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		bytes += info.Size()
		c.Files = append(c.Files, FileConfig{Flow: name, Path: path})
	}
	b.SetBytes(bytes)
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		made, err := open(sdk.Settings{Logger: slog.New(slog.DiscardHandler)}, c)
		if err != nil {
			b.Fatal(err)
		}
		out := &sink{}
		if err := made.Run(b.Context(), out); err != nil {
			b.Fatal(err)
		}
		rows = out.rows
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}
