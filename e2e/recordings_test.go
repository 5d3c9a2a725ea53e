package e2e

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/pyvenv"
)

// recording is a set of files that become flows of one pipeline.
type recording struct {
	asset string
	plain bool // the server sees the names of channels without that of the flow
	flows []recordedFlow
}

// recordedFlow is a file of a recording and what its flow must hold.
type recordedFlow struct {
	name  string
	file  string // below the recording's directory
	time  string // column, or path in JSON lines
	unit  string // "s" or "ms"
	start string // RFC 3339; empty: times count from 1970

	columns map[string]string // channel -> its type in Parquet
	paths   map[string]string // channel -> path in JSON lines, if it is not its name
	hcl     string            // further settings of the file
}

const (
	double  = "DOUBLE"
	integer = "INT(64,true)"
	boolean = "BOOLEAN"
	text    = "STRING"
)

// columnsOf returns columns that are all of one type.
func columnsOf(typ string, names ...string) map[string]string {
	columns := map[string]string{}
	for _, name := range names {
		columns[name] = typ
	}
	return columns
}

func with(columns map[string]string, typ string, names ...string) map[string]string {
	for _, name := range names {
		columns[name] = typ
	}
	return columns
}

// Four files of one flight computer with unlike rates: 100 Hz and at most 5 Hz.
func TestRocketHedy(t *testing.T) {
	t.Parallel()
	const start = "2025-10-12T10:00:00Z"
	testRecording(t, "rocket-hedy", recording{"hedy", false, []recordedFlow{
		{
			name: "imu", file: "imu.csv", time: "ts", unit: "s", start: start,
			columns: with(columnsOf(double, "Ax", "Ay", "Az", "Gx", "Gy", "Gz"), text, "id"),
		},
		{
			name: "baro", file: "baro.csv", time: "ts", unit: "s", start: start,
			columns: map[string]string{"id": text, "T": double, "P": integer},
		},
		{
			name: "flight", file: "flightInfo.csv", time: "ts", unit: "s", start: start,
			columns: columnsOf(double, "height", "velocity", "acceleration"),
		},
		{
			name: "gnss", file: "gnssInfo.csv", time: "ts", unit: "s", start: start,
			columns: with(columnsOf(double, "latitude", "longitude"), integer, "satellites"),
		},
	}})
}

// JSON lines, with a step back in time in one of them.
func TestSpacexF9(t *testing.T) {
	t.Parallel()
	flow := func(name, start string) recordedFlow {
		f := recordedFlow{
			name: name, file: name + ".jsonl", time: "time", unit: "s", start: start,
			columns: columnsOf(double, "velocity", "altitude"),
		}
		if strings.HasSuffix(name, "analysed") {
			with(f.columns, double, "velocity_y", "velocity_x", "acceleration", "downrange_distance", "angle", "q")
		}
		return f
	}
	const crs12, ses11, iridium3 = "2017-08-14T16:31:37Z", "2017-10-11T22:53:00Z", "2017-10-09T12:37:01.25Z"
	testRecording(t, "spacex-f9", recording{"falcon-9", false, []recordedFlow{
		flow("crs12_stage1", crs12), flow("crs12_stage2", crs12), flow("crs12_analysed", crs12),
		flow("ses11_stage1", ses11), flow("ses11_stage2", ses11), flow("ses11_analysed", ses11),
		flow("iridium3_stage1", iridium3), flow("iridium3_analysed", iridium3),
	}})
}

// Stamps with all digits to the nanosecond.
func TestCanRav4(t *testing.T) {
	t.Parallel()
	flow := func(name string, columns ...string) recordedFlow {
		return recordedFlow{
			name: name, file: name + ".csv", time: "boot_s", unit: "s", start: "2018-08-02T03:21:19.646Z",
			columns: columnsOf(double, columns...),
		}
	}
	gnss := []string{"lat_deg", "lon_deg", "speed_m_s", "utc_ms", "alt_m", "bearing_deg"}
	testRecording(t, "can-rav4", recording{"rav4", false, []recordedFlow{
		flow("wheel_speed", "fl_m_s", "fr_m_s", "rl_m_s", "rr_m_s"),
		flow("imu_accel", "forward_m_s2", "right_m_s2", "down_m_s2"),
		flow("imu_gyro", "forward_rad_s", "right_rad_s", "down_rad_s"),
		flow("imu_mag", "forward_uT", "right_uT", "down_uT"),
		flow("gnss_ublox", gnss...), flow("gnss_qcom", gnss...),
	}})
}

// Nested objects, values that are missing, rows in the order of their arrival.
func TestLorawanFTD(t *testing.T) {
	t.Parallel()
	testRecording(t, "lorawan-ftd", recording{"FTD_20CA0", true, []recordedFlow{{
		name: "ftd", file: "uplinks.ndjson", time: "reported_at", unit: "ms",
		columns: with(with(with(
			columnsOf(integer, "fcnt", "rssi", "hold_time", "battery_mv", "satellites", "temperature", "_timestamp"),
			double, "snr", "latitude", "longitude"),
			boolean, "button1"),
			text, "gateway", "dev_eui"),
		paths: map[string]string{
			"rssi": "hotspots[0].rssi", "snr": "hotspots[0].snr", "hold_time": "hotspots[0].hold_time", "gateway": "hotspots[0].id",
			"battery_mv": "decoded.payload.batteryVoltage", "satellites": "decoded.payload.satellites",
			"temperature": "decoded.payload.temperature", "button1": "decoded.payload.button1Trigger",
			"latitude": "decoded.payload.latitude", "longitude": "decoded.payload.longitude",
		},
		hcl: "only_declared = true",
	}}})
}

// testRecording sends a recording through two pipelines of one host, from its files
// over the ingestion API to Parquet, and compares every value.
func testRecording(t *testing.T, name string, r recording) {
	dir := sharedData(t, name)
	pipelines := writeFile(t, "pipelines.hcl", r.pipelines(dir, freeAddress(t)))
	h := run(t, options{}, "run", pipelines)
	h.requireExit(exitOK)

	wanted := uint64(0)
	for _, f := range r.flows {
		rows := f.records(t, dir)
		wanted += uint64(len(rows))
		got := readTable(t, r.tables(h, f))
		for i, column := range got.columns[1:] {
			name, ok := strings.CutPrefix(column, r.prefix(f))
			require.True(t, ok, column)
			got.columns[i+1] = name
		}
		f.compare(t, rows, got)
		assert.Equal(t, uint64(len(rows)), h.account("replay")[f.name].accepted, "flow %s", f.name)
		assert.Equal(t, uint64(len(rows)), h.account("receiver")[r.asset+"/"+f.name].accepted, "flow %s", f.name)
	}
	assert.Equal(t, wanted, h.requireBalanced("replay"))
	assert.Equal(t, wanted, h.requireBalanced("receiver"))
	t.Run("python", func(t *testing.T) { r.compareInPython(t, h, dir) })
}

// prefix begins the names of a flow's channels at the server.
func (r *recording) prefix(f recordedFlow) string {
	if r.plain {
		return ""
	}
	return f.name + "."
}

// tables returns the directory of a flow's Parquet files.
func (r *recording) tables(h *host, f recordedFlow) string {
	return filepath.Join(h.dataDir, "parquet", r.asset, f.name)
}

func (r *recording) pipelines(dir, address string) string {
	var files strings.Builder
	for _, f := range r.flows {
		fmt.Fprintf(&files, "    file %q {\n      path = %q\n      %s\n", f.name, filepath.Join(dir, f.file), f.hcl)
		start := ""
		if f.start != "" {
			start = fmt.Sprintf("start = %q", f.start)
		}
		fmt.Fprintf(&files, "      time {\n        column = %q\n        unit = %q\n        %s\n      }\n", f.time, f.unit, start)
		for channel := range f.columns {
			switch path, nested := f.paths[channel]; {
			case nested:
				fmt.Fprintf(&files, "      column %q {\n        path = %q\n      }\n", channel, path)
			case f.hcl != "":
				fmt.Fprintf(&files, "      column %q {}\n", channel)
			}
		}
		files.WriteString("    }\n")
	}
	return fmt.Sprintf(`
pipeline "replay" {
  asset = %q
  source "csv" "files" {
    speed = "max"
%s  }
  encoder "ingestion_config" {
    client_key = "v1"
  }
  transport "sift" "live" {
    uri     = "http://%s"
    api_key = secret::env(%q)
    channel_names = %q
  }
}
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    keys   = [secret::env(%q)]
    until  = pipeline.replay
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, r.asset, files.String(), address, apiKey, map[bool]string{false: "qualified", true: "plain"}[r.plain], address, apiKey)
}

// record is a row of a recording: texts by channel. Channels without a value are
// left out.
type record struct {
	time   int64
	values map[string]string
}

// records reads a file of a recording, without the program under test.
func (f *recordedFlow) records(t *testing.T, dir string) []record {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, f.file))
	require.NoError(t, err)
	if filepath.Ext(f.file) == ".csv" {
		return f.csvRecords(t, content)
	}
	return f.lineRecords(t, content)
}

func (f *recordedFlow) csvRecords(t *testing.T, content []byte) []record {
	t.Helper()
	all, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
	require.NoError(t, err)
	var out []record
	for _, row := range all[1:] {
		r := record{values: map[string]string{}}
		for i, name := range all[0] {
			switch {
			case name == f.time:
				r.time = f.stamp(t, row[i])
			case row[i] != "":
				r.values[name] = row[i]
			}
		}
		out = append(out, r)
	}
	return out
}

func (f *recordedFlow) lineRecords(t *testing.T, content []byte) []record {
	t.Helper()
	var out []record
	lines := bufio.NewReader(bytes.NewReader(content))
	decoder := json.NewDecoder(lines)
	decoder.UseNumber()
	for {
		var line map[string]any
		err := decoder.Decode(&line)
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		at, ok := textAt(line, f.time)
		require.True(t, ok)
		r := record{time: f.stamp(t, at), values: map[string]string{}}
		for channel := range f.columns {
			path, nested := f.paths[channel]
			if !nested {
				path = channel
			}
			if text, ok := textAt(line, path); ok {
				r.values[channel] = text
			}
		}
		out = append(out, r)
	}
}

// steps splits a path such as a[0].b into keys and indexes.
func steps(path string) []any {
	var out []any
	for _, key := range strings.Split(path, ".") {
		key, index, indexed := strings.Cut(key, "[")
		out = append(out, key)
		if indexed {
			n, _ := strconv.Atoi(strings.TrimSuffix(index, "]"))
			out = append(out, n)
		}
	}
	return out
}

// textAt returns the value at a path as text.
func textAt(v any, path string) (string, bool) {
	for _, step := range steps(path) {
		switch step := step.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return "", false
			}
			v = list[step]
		}
	}
	if v == nil {
		return "", false
	}
	return fmt.Sprint(v), true
}

// stamp turns the text of an event time into ns since the Unix epoch.
func (f *recordedFlow) stamp(t *testing.T, text string) int64 {
	t.Helper()
	number, ok := new(big.Rat).SetString(text)
	require.True(t, ok, text)
	number.Mul(number, big.NewRat(map[string]int64{"s": 1e9, "ms": 1e6}[f.unit], 1))
	require.True(t, number.IsInt(), text)
	return number.Num().Int64() + f.startStamp(t)
}

func (f *recordedFlow) startStamp(t *testing.T) int64 {
	t.Helper()
	if f.start == "" {
		return 0
	}
	at, err := time.Parse(time.RFC3339, f.start)
	require.NoError(t, err)
	return at.UnixNano()
}

// compare checks that a table holds the rows, and nothing else, in their order.
func (f *recordedFlow) compare(t *testing.T, rows []record, got table) {
	t.Helper()
	require.Equal(t, len(rows), len(got.times), "rows of %s", f.name)
	columns := map[string]string{}
	for i, name := range got.columns[1:] {
		columns[name] = got.types[i+1]
	}
	require.Equal(t, f.columns, columns, "columns of %s", f.name)
	for i, row := range rows {
		require.Equal(t, row.time, got.times[i], "%s, row %d", f.name, i)
		for j, name := range got.columns[1:] {
			want, ok := row.values[name]
			if !sameValue(got.rows[i][j], want, ok) {
				require.FailNow(t, "values differ", "%s, row %d, %s: %v, not %q", f.name, i, name, got.rows[i][j], want)
			}
		}
	}
}

// sameValue compares a value with its text in the recording.
func sameValue(got value, want string, present bool) bool {
	switch got := got.(type) {
	case nil:
		return !present
	case float64:
		v, err := strconv.ParseFloat(want, 64)
		return present && err == nil && (v == got || math.IsNaN(v) && math.IsNaN(got))
	default:
		return present && fmt.Sprint(got) == want
	}
}

// comparison is an item of the manifest of testdata/compare.py.
type comparison struct {
	File    string         `json:"file"`
	Format  string         `json:"format"`
	Tables  string         `json:"tables"`
	Time    string         `json:"time"`
	Digits  int            `json:"digits"`
	Start   int64          `json:"start"`
	Columns map[string]any `json:"columns"`
}

// compareInPython compares again, with other programs than ours on both sides.
func (r *recording) compareInPython(t *testing.T, h *host, dir string) {
	python := pyvenv.Python(t, pyvenv.Parquet()...)
	var manifest []comparison
	for _, f := range r.flows {
		c := comparison{
			File: filepath.Join(dir, f.file), Format: "csv", Tables: r.tables(h, f), Time: f.time,
			Digits: map[string]int{"s": 9, "ms": 6}[f.unit], Start: f.startStamp(t), Columns: map[string]any{},
		}
		if filepath.Ext(f.file) != ".csv" {
			c.Format = "ndjson"
		}
		for channel := range f.columns {
			c.Columns[r.prefix(f)+channel] = channel
			if path, nested := f.paths[channel]; nested {
				c.Columns[r.prefix(f)+channel] = steps(path)
			}
		}
		manifest = append(manifest, c)
	}
	text, err := json.Marshal(manifest)
	require.NoError(t, err)
	out, err := exec.Command(python, absolute("testdata/compare.py"), writeFile(t, "manifest.json", string(text))).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Len(t, slices.Collect(bytes.Lines(out)), len(manifest), "%s", out)
}

// sharedData returns a directory of recordings beside the repository. They are read
// in place and not part of it.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	dir := absolute(filepath.Join(repo, "..", "shared", "data", name))
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the recording %s is not on this machine: %v", name, err)
	}
	return dir
}
