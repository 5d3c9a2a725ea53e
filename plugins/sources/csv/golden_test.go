package csv

import (
	stdcsv "encoding/csv"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// recordings returns the folder of a set of real recordings, which is not part of
// this repository.
func recordings(t testing.TB, set string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("recordings are left out of short runs")
	}
	root, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		require.NotEqual(t, "/", root, "no go.mod above")
		root = filepath.Dir(root)
	}
	dir := filepath.Join(root, "..", "shared", "data", set)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the recordings %s are not here: %v", set, err)
	}
	return dir
}

// nanoseconds multiplies a decimal number exactly and rounds to the nearest.
func nanoseconds(t testing.TB, text string, unit time.Duration) int64 {
	t.Helper()
	exact, ok := new(big.Rat).SetString(text)
	require.True(t, ok, text)
	exact.Mul(exact, new(big.Rat).SetInt64(int64(unit)))
	exact.Add(exact, big.NewRat(int64(exact.Sign()), 2))
	return new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
}

// expectCSV reads a file with encoding/csv, as numbers where all values of a
// column are some.
func expectCSV(t testing.TB, path, flow, timeColumn string, start time.Time) []emitted {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	all, err := stdcsv.NewReader(file).ReadAll()
	require.NoError(t, err)
	header, records := all[0], all[1:]
	var out []emitted
	for _, rec := range records {
		e := emitted{Flow: flow, Values: map[string]any{}}
		for i, text := range rec {
			if header[i] == timeColumn {
				e.At = start.UnixNano() + nanoseconds(t, text, time.Second)
				continue
			}
			e.Values[strings.TrimSpace(header[i])] = text
		}
		out = append(out, e)
	}
	for i, name := range header {
		if name != timeColumn {
			numbers(records, i, strings.TrimSpace(name), out)
		}
	}
	return out
}

// numbers turns a column of text into int64 or double if all values are.
func numbers(records [][]string, column int, name string, rows []emitted) {
	integers, floats := true, true
	for _, rec := range records {
		_, err := strconv.ParseInt(rec[column], 10, 64)
		integers = integers && err == nil
		_, err = strconv.ParseFloat(rec[column], 64)
		floats = floats && err == nil
	}
	for i, rec := range records {
		switch {
		case integers:
			rows[i].Values[name], _ = strconv.ParseInt(rec[column], 10, 64)
		case floats:
			rows[i].Values[name], _ = strconv.ParseFloat(rec[column], 64)
		}
	}
}

// TestRocketHedy: four files of one device at unlike rates, merged.
func TestRocketHedy(t *testing.T) {
	dir := recordings(t, "rocket-hedy")
	start := time.Date(2025, 10, 12, 10, 0, 0, 0, time.UTC)
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("ts"), Start: &start}
	files := []string{"imu", "baro", "flightInfo", "gnssInfo"}
	want := map[string][]emitted{}
	for _, name := range files {
		path := filepath.Join(dir, name+".csv")
		c.Files = append(c.Files, FileConfig{Flow: name, Path: path})
		want[name] = expectCSV(t, path, name, "ts", start)
	}
	h, _ := replay(t, c)
	assert.Empty(t, h.dropped)
	checkFlows(t, h.rows(), want)
	checkMerged(t, h, files)
	assert.Equal(t, []string{"latitude double", "longitude double", "satellites int64"}, h.channels(3))
}

// checkFlows compares the rows of each flow, in their order.
func checkFlows(t *testing.T, rows []emitted, want map[string][]emitted) {
	t.Helper()
	got := map[string][]emitted{}
	for _, r := range rows {
		got[r.Flow] = append(got[r.Flow], r)
	}
	require.Len(t, got, len(want))
	for flow := range want {
		require.Equal(t, len(want[flow]), len(got[flow]), flow)
		for i := range want[flow] {
			if !assert.ObjectsAreEqual(want[flow][i], got[flow][i]) {
				require.Equal(t, want[flow][i], got[flow][i], "row %d of %s", i, flow)
			}
		}
	}
}

// checkMerged: all flows reach about the same event time with each position; no
// flow is more than a batch ahead of another.
func checkMerged(t *testing.T, h *host, flows []string) {
	t.Helper()
	newest := map[string]int64{}
	for _, b := range h.batches {
		for _, r := range b.rows {
			newest[r.Flow] = r.At
		}
		if b.position == nil || len(newest) < len(flows) {
			continue
		}
		for _, f := range flows {
			if at := newest[f]; at < b.rows[0].At-int64(5*time.Second) {
				t.Errorf("%s is at %v, %s already at %v", f, time.Duration(at), b.rows[0].Flow, time.Duration(b.rows[0].At))
			}
		}
	}
}

func TestCanRav4(t *testing.T) {
	dir := recordings(t, "can-rav4")
	boot := time.Date(2018, 8, 2, 3, 21, 19, 646_000_000, time.UTC)
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("boot_s"), Start: &boot}
	want := map[string][]emitted{}
	for _, name := range []string{"wheel_speed", "imu_accel", "imu_gyro", "imu_mag", "gnss_ublox", "gnss_qcom"} {
		path := filepath.Join(dir, name+".csv")
		c.Files = append(c.Files, FileConfig{Flow: name, Path: path})
		want[name] = expectCSV(t, path, name, "boot_s", boot)
	}
	h, _ := replay(t, c)
	assert.Empty(t, h.dropped)
	checkFlows(t, h.rows(), want)
}

// TestDroneQuad4IMU: names with spaces around them, a column that is named twice
// in no file.
func TestDroneQuad4IMU(t *testing.T) {
	dir := recordings(t, "drone-quad4imu")
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("time")}
	want := map[string][]emitted{}
	for _, name := range []string{"GT", "IMU_1", "IMU_2", "IMU_3", "IMU_4"} {
		path := filepath.Join(dir, name+".csv")
		c.Files = append(c.Files, FileConfig{Flow: name, Path: path})
		want[name] = expectCSV(t, path, name, "time", time.Unix(0, 0))
	}
	h, _ := replay(t, c)
	assert.Empty(t, h.dropped)
	checkFlows(t, h.rows(), want)
	assert.Contains(t, h.channels(0), "compass_heading(degrees) double")
}

// expectJSON reads a file with encoding/json. Pick returns the row of a line.
func expectJSON(t testing.TB, path string, pick func(line map[string]any) emitted) []emitted {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var out []emitted
	for line := range strings.Lines(string(raw)) {
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		var object map[string]any
		require.NoError(t, decoder.Decode(&object))
		out = append(out, pick(object))
	}
	return out
}

func float(t testing.TB, v any) float64 {
	t.Helper()
	f, err := v.(json.Number).Float64()
	require.NoError(t, err)
	return f
}

// TestSpaceX: stages of a launch, with gaps, one step back, and two files where a
// stream ends before the other begins.
func TestSpaceX(t *testing.T) {
	dir := recordings(t, "spacex-f9")
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("time")}
	want := map[string][]emitted{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, paths, 8)
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		c.Files = append(c.Files, FileConfig{Flow: name, Path: path})
		want[name] = expectJSON(t, path, func(line map[string]any) emitted {
			e := emitted{Flow: name, Values: map[string]any{}}
			for k, v := range line {
				if k == "time" {
					e.At = nanoseconds(t, v.(json.Number).String(), time.Second)
				} else {
					e.Values[k] = float(t, v)
				}
			}
			return e
		})
	}
	h, b := replay(t, c)
	assert.Empty(t, h.dropped)
	checkFlows(t, h.rows(), want)
	assert.Equal(t, 1, strings.Count(b.logs.String(), "event time goes back"))
	assert.Contains(t, b.logs.String(), "iridium3_stage1.jsonl line=2 seconds=0.966")
}

// TestLoRaWAN: nested objects and arrays, values that are missing in some lines,
// late and duplicate rows.
func TestLoRaWAN(t *testing.T) {
	path := filepath.Join(recordings(t, "lorawan-ftd"), "uplinks.ndjson")
	c := fast(path)
	c.Time = &TimeConfig{Column: new("reported_at"), Unit: new("ms")}
	c.OnlyDeclared = true
	c.Columns = []ColumnConfig{
		{Name: "fcnt", Type: new("uint32")},
		{Name: "rssi", Path: new("hotspots[0].rssi"), Type: new("double"), Unit: "dBm"},
		{Name: "snr", Path: new("hotspots[0].snr"), Unit: "dB"},
		{Name: "spreading", Path: new("hotspots[0].spreading")},
		{Name: "trigger", Path: new("decoded.payload.accelerometerTrigger")},
		{Name: "temperature", Path: new("decoded.payload.temperature"), Type: new("double"), Unit: "degC"},
		{Name: "satellites", Path: new("decoded.payload.satellites"), Type: new("int32")},
		{Name: "_timestamp", Type: new("int64")},
		{Name: "name"},
	}
	h, b := replay(t, c)
	assert.Empty(t, h.dropped)
	want := expectJSON(t, path, func(line map[string]any) emitted {
		hotspot := line["hotspots"].([]any)[0].(map[string]any)
		payload := line["decoded"].(map[string]any)["payload"].(map[string]any)
		integer := func(v any) int64 {
			n, err := v.(json.Number).Int64()
			require.NoError(t, err)
			return n
		}
		e := emitted{Flow: "f", At: integer(line["reported_at"]) * 1e6, Values: map[string]any{
			"fcnt": uint32(integer(line["fcnt"])), "rssi": float(t, hotspot["rssi"]), "snr": float(t, hotspot["snr"]),
			"spreading": hotspot["spreading"], "_timestamp": integer(line["_timestamp"]), "name": line["name"],
		}}
		for key, v := range map[string]any{
			"trigger": payload["accelerometerTrigger"], "temperature": payload["temperature"], "satellites": payload["satellites"],
		} {
			switch number, ok := v.(json.Number); {
			case v == nil:
			case !ok:
				e.Values[key] = v
			case key == "satellites":
				e.Values[key] = int32(integer(number))
			default:
				e.Values[key] = float(t, number)
			}
		}
		return e
	})
	checkFlows(t, h.rows(), map[string][]emitted{"f": want})
	assert.Contains(t, b.logs.String(), "event time goes back")
}

// TestLoRaWANUndeclared: without a declaration every value outside of arrays is
// there.
func TestLoRaWANUndeclared(t *testing.T) {
	path := filepath.Join(recordings(t, "lorawan-ftd"), "uplinks.ndjson")
	c := fast(path)
	c.Time = &TimeConfig{Column: new("reported_at"), Unit: new("ms")}
	h, _ := replay(t, c)
	assert.Empty(t, h.dropped)
	want := expectJSON(t, path, func(line map[string]any) emitted {
		at, err := line["reported_at"].(json.Number).Int64()
		require.NoError(t, err)
		delete(line, "reported_at")
		e := emitted{Flow: "f", At: at * 1e6, Values: map[string]any{}}
		leaves(t, &h.flows[0], "", line, e.Values)
		return e
	})
	checkFlows(t, h.rows(), map[string][]emitted{"f": want})
	assert.Contains(t, h.channels(0), "_devLocation.latitude double")
}

// leaves collects the values of nested objects in the types of the flow.
func leaves(t testing.TB, flow *sdk.Flow, name string, value any, out map[string]any) {
	t.Helper()
	switch v := value.(type) {
	case map[string]any:
		for k, item := range v {
			leaves(t, flow, strings.TrimPrefix(name+"."+k, "."), item, out)
		}
	case []any, nil:
	case json.Number:
		channel := flow.Channel(name)
		require.GreaterOrEqual(t, channel, 0, name)
		if flow.Channels[channel].Type == sdk.Double {
			out[name] = float(t, v)
			return
		}
		n, err := v.Int64()
		require.NoError(t, err)
		out[name] = n
	default:
		out[name] = v
	}
}

// TestNABMachine: times as text without a zone, with a step back.
func TestNABMachine(t *testing.T) {
	path := filepath.Join(recordings(t, "nab-machine"), "machine_temperature_system_failure.csv")
	for _, times := range []TimeConfig{
		{Unit: new("rfc3339"), Zone: new("UTC")},
		{Unit: new("layout"), Format: new("%Y-%m-%d %H:%M:%S")},
	} {
		c := fast(path)
		times.Column = new("timestamp")
		c.Time = &times
		h, _ := replay(t, c)
		assert.Empty(t, h.dropped)

		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		all, err := stdcsv.NewReader(strings.NewReader(string(raw))).ReadAll()
		require.NoError(t, err)
		var want []emitted
		for _, rec := range all[1:] {
			at, err := time.Parse(time.DateTime, rec[0])
			require.NoError(t, err)
			value, err := strconv.ParseFloat(rec[1], 64)
			require.NoError(t, err)
			want = append(want, emitted{"f", at.UnixNano(), map[string]any{"value": value}})
		}
		checkFlows(t, h.rows(), map[string][]emitted{"f": want})
	}
}
