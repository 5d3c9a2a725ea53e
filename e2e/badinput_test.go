package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// csvPipeline reads a file into Parquet, without a network.
func csvPipeline(path, settings string) string {
	return fmt.Sprintf(`
pipeline "files" {
  source "csv" "file" {
    path  = %q
    flow  = "flow"
    speed = "max"
    time {
      column = "t"
      start  = "2026-01-01T00:00:00Z"
    }
    %s
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, path, settings)
}

const newYear = int64(1_767_225_600_000_000_000) // 2026-01-01, ns

// Bad rows are refused one by one and named, and the others get through; a file
// that cannot be read at all ends the run with its name and what to do.
func TestBadCSV(t *testing.T) {
	t.Parallel()
	junk := make([]byte, 64<<10)
	for i := range junk {
		junk[i] = byte(rand.New(rand.NewPCG(1, uint64(i))).Uint32())
	}
	for _, tc := range []struct {
		name     string
		content  string
		settings string
		code     int
		rows     []value // of column v; nil with an error
		refused  map[string]int
		says     []string
	}{
		{
			name: "good", content: "t,v\n0,1.5\n1,2.5\n",
			rows: []value{1.5, 2.5},
		},
		{
			name: "ragged rows", content: "t,v,w\n0,1,1\n1,2\n2,3,3,3\n\n3,4,4\n",
			rows:    []value{int64(1), int64(4)},
			refused: map[string]int{"row has fewer fields than the header": 1, "row has more fields than the header": 1},
			says:    []string{"line=3", "line=4"},
		},
		{
			name: "bad numbers", content: "t,v\n0,1.5\n1,nonsense\n2,1e999\n3,0x10\n4,2.5\n",
			settings: "column \"v\" {\n type = \"double\"\n }",
			rows:     []value{1.5, 2.5},
			refused:  map[string]int{`column "v" is not a number`: 2, `column "v" is out of range`: 1},
			says:     []string{"nonsense", "1e999"},
		},
		{
			name: "a number turns into text after the types were found", content: "t,v\n" + strings.Repeat("0,7\n", 1001) + "1,late\n2,8\n",
			rows:    append(anyRepeat(int64(7), 1001), int64(8)),
			refused: map[string]int{`column "v" is not an integer`: 1},
			says:    []string{"line=1003"},
		},
		{
			name: "NaN, infinities and nothing", content: "t,v\n0,NaN\n1,-inf\n2,+Infinity\n3,\n4,-0.0\n5,4.9e-324\n",
			rows: []value{math.NaN(), math.Inf(-1), math.Inf(1), nil, math.Copysign(0, -1), 4.9e-324},
		},
		{
			name: "time goes back", content: "t,v\n5,1\n3,2\n4,3\n4,4\n",
			rows: []value{int64(1), int64(2), int64(3), int64(4)},
			says: []string{"event time goes back", "line=3"},
		},
		{
			name: "bad times", content: "t,v\n0,1\nlate,2\n,3\nNaN,4\n1e30,5\n1,6\n",
			rows:    []value{int64(1), int64(6)},
			refused: map[string]int{"row has no event time": 1},
			says:    []string{"late", "1e30"},
		},
		{
			name: "quotes, long and not UTF-8", content: "t,v\n0,\"a \"\"quoted\"\", text\nof two lines\"\n1,\"x\" y\n2,\xff\xfe\n3,z\n",
			rows: []value{"a \"quoted\", text\nof two lines", "z"},
			says: []string{"text follows a closing quote", "is not UTF-8"},
		},
		{
			name: "missing column", content: "t,w\n0,1\n", settings: "column \"v\" {}",
			code: exitUnavailable, says: []string{`no column "v"`, `"w"`},
		},
		{
			name: "missing time column", content: "time,v\n0,1\n",
			code: exitUnavailable, says: []string{`no column "t"`, `"time"`},
		},
		{
			name: "duplicate header", content: "t,v,v\n0,1,2\n",
			code: exitUnavailable, says: []string{`"v" twice`, "positions 2 and 3"},
		},
		{
			name: "empty file", content: "",
			code: exitUnavailable, says: []string{"before its header"},
		},
		{name: "header alone", content: "t,v\n", rows: []value{}, says: []string{"the file has no rows"}},
		{
			name: "binary junk", content: string(junk),
			code: exitUnavailable, says: []string{"flow.csv"},
		},
		{
			name: "binary junk behind good rows", content: "t,v\n0,1\n" + string(junk) + "\n1,2\n",
			rows: []value{int64(1), int64(2)}, says: []string{"row refused"},
		},
		{
			name: "CR alone", content: "t,v\r0,1\r1,2\r",
			code: exitUnavailable, says: []string{"CR alone"},
		},
		{
			name: "CR LF, byte order mark, no line end", content: "\ufefft,v\r\n0,1\r\n1,2",
			rows: []value{int64(1), int64(2)},
		},
		{
			name: "gzip that breaks off", content: truncatedGzip("t,v\n" + strings.Repeat("0,1\n", 100_000)),
			code: exitUnavailable, says: []string{"flow.csv"},
		},
		{
			name: "all rows are bad", content: "t,v\nx,1\ny,2\n",
			code: exitUnavailable, says: []string{"none of the first 2 rows", `not a number: "x"`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "flow.csv", tc.content)
			h := run(t, options{}, "run", writeFile(t, "files.hcl", csvPipeline(path, tc.settings)))
			h.requireExit(tc.code)
			for _, text := range tc.says {
				assert.Contains(t, strings.ReplaceAll(h.stderr.String(), `\"`, `"`), text)
			}
			if tc.code != exitOK {
				assert.Contains(t, lastLine(h.stderr.String()), path, "the error names the file")
				assert.Contains(t, h.stderr.String(), "source csv.file", "the error names the block")
				return
			}
			h.requireBalanced("files")
			assert.NotContains(t, h.stdout.String(), "no known flow")
			refused := uint64(0)
			for reason, n := range tc.refused {
				assert.Contains(t, h.stdout.String(), fmt.Sprintf("%s: %s\n", plural(n, "row"), reason))
				refused += uint64(n)
			}
			if tc.refused != nil && tc.name != "bad times" {
				assert.Equal(t, refused, h.account("files")["flow"].refused)
			}
			h.assertColumn(t, tc.rows)
		})
	}
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func anyRepeat(v value, n int) []value {
	out := make([]value, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func truncatedGzip(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a buffer takes everything
	_ = w.Close()
	return b.String()[:b.Len()/2]
}

// assertColumn checks the values of the column v of the flow, bit by bit.
func (h *host) assertColumn(t *testing.T, want []value) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dataDir, "parquet", "flow", "*.parquet"))
	require.NoError(t, err)
	if len(want) == 0 {
		assert.Empty(t, files, "no rows, no files")
		return
	}
	table := readTable(t, filepath.Join(h.dataDir, "parquet", "flow"))
	got := table.column(t, "v")
	require.Len(t, got, len(want))
	for i := range want {
		g, double := got[i].(float64)
		w, _ := want[i].(float64)
		if double && math.Float64bits(g) == math.Float64bits(w) || double && g != g && w != w {
			continue
		}
		assert.Equal(t, want[i], got[i], "row %d", i)
	}
}

// A line of 100 MB is refused, with bounded memory; the lines around it get through.
func TestLineOf100MB(t *testing.T) {
	t.Parallel()
	const megabyte = 1 << 20
	for _, name := range []string{"flow.csv", "flow.ndjson"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), name)
			f, err := os.Create(path)
			require.NoError(t, err)
			write := func(text []byte) {
				_, err := f.Write(text)
				require.NoError(t, err)
			}
			before, open, end, after := "t,v\n0,first\n", "1,", "\n", "2,last\n"
			if name == "flow.ndjson" {
				before, open, end, after = `{"t":0,"v":"first"}`+"\n", `{"t":1,"v":"`, "\"}\n", `{"t":2,"v":"last"}`+"\n"
			}
			write([]byte(before + open))
			block := bytes.Repeat([]byte("x"), megabyte)
			for range 100 {
				write(block)
			}
			write([]byte(end + after))
			require.NoError(t, f.Close())
			h := start(t, options{}, "run", writeFile(t, "files.hcl", csvPipeline(path, "")))
			most := h.watchMemory()
			h.requireExit(exitOK)
			assert.Contains(t, h.stdout.String(), "1 row: line is longer than 1 MiB")
			h.assertColumn(t, []value{"first", "last"})
			assert.Less(t, most, 80*megabyte, "of the largest process")
		})
	}
}

// JSON lines that are none.
func TestBadJSONLines(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "flow.ndjson", strings.Join([]string{
		`{"t":0,"v":1.5}`, `{"t":1,"v":`, `[1,2]`, `null`, `{"t":2,"v":{"deep":1}}`, `{"t":3,"v":"text"}`,
		strings.Repeat("[", 100_000), `{"t":4}`, `{"t":5,"v":null}`, `{"t":"6","v":2.5,"v":3.5}`, `{"v":1}`, `{"t":7,"v":4.5}`,
	}, "\n"))
	h := run(t, options{}, "run", writeFile(t, "files.hcl", csvPipeline(path, "column \"v\" {\n type = \"double\"\n }")))
	h.requireExit(exitOK)
	h.requireBalanced("files")
	a := h.account("files")["flow"]
	assert.Equal(t, uint64(12), a.read)
	table := readTable(t, filepath.Join(h.dataDir, "parquet", "flow"))
	assert.Equal(t, a.accepted, uint64(len(table.rows)))
	assert.Contains(t, table.column(t, "v"), value(4.5), "what follows bad lines is read")
	for _, line := range []string{"line=2", "line=3", "line=7", "line=11"} {
		assert.Contains(t, h.stderr.String(), line)
	}
}

// Values at the borders of every type, and what is missing, from a file over the
// ingestion API to Parquet.
func TestValuesOfAllTypes(t *testing.T) {
	t.Parallel()
	columns := []struct {
		typ    string
		texts  [3]string // nothing, least, greatest
		values [3]value
	}{
		{"double", [3]string{"", "NaN", "-1.7976931348623157e308"}, [3]value{nil, math.NaN(), -math.MaxFloat64}},
		{"float", [3]string{"", "-inf", "1e-45"}, [3]value{nil, float32(math.Inf(-1)), float32(math.SmallestNonzeroFloat32)}},
		{"int32", [3]string{"", "-2147483648", "2147483647"}, [3]value{nil, int64(math.MinInt32), int64(math.MaxInt32)}},
		{"uint32", [3]string{"", "0", "4294967295"}, [3]value{nil, uint64(0), uint64(math.MaxUint32)}},
		{"int64", [3]string{"", "-9223372036854775808", "9223372036854775807"}, [3]value{nil, int64(math.MinInt64), int64(math.MaxInt64)}},
		{"uint64", [3]string{"", "0", "18446744073709551615"}, [3]value{nil, uint64(0), uint64(math.MaxUint64)}},
		{"bool", [3]string{"", "false", "1"}, [3]value{nil, false, true}},
		{"string", [3]string{"", " ", "grüße 🚀"}, [3]value{nil, " ", "grüße 🚀"}},
		{"bytes", [3]string{"", "\x01\xff", "z"}, [3]value{nil, "\x01\xff", "z"}},
		{"enum", [3]string{"", "OFF", "4294967295"}, [3]value{nil, "OFF", "ON"}},
	}
	header, rows := "t", [3]string{"0", "1", "2.000000001"}
	var settings strings.Builder
	for _, c := range columns {
		header += "," + c.typ
		for i := range rows {
			rows[i] += "," + c.texts[i]
		}
		fmt.Fprintf(&settings, "column %q {\n type = %q\n unit = \"V\"\n", c.typ, c.typ)
		if c.typ == "enum" {
			settings.WriteString(" values = { OFF = 0, ON = 4294967295 }\n")
		}
		settings.WriteString("}\n")
	}
	path := writeFile(t, "flow.csv", header+"\n"+strings.Join(rows[:], "\n")+"\n")
	address := freeAddress(t)
	text := strings.Replace(csvPipeline(path, settings.String()), `  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, fmt.Sprintf(`  asset = "stand"
  encoder "ingestion_config" {
    client_key = "v1"
  }
  transport "sift" "live" {
    uri     = "http://%s"
    api_key = secret::env(%q)
    channel_names = "plain"
  }
}
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    until  = pipeline.files
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, address, apiKey, address), 1)
	h := run(t, options{}, "run", writeFile(t, "files.hcl", text))
	h.requireExit(exitOK)
	h.requireBalanced("files")
	table := readTable(t, filepath.Join(h.dataDir, "parquet", "stand", "flow"))
	assert.Equal(t, []int64{newYear, newYear + 1e9, newYear + 2e9 + 1}, table.times)
	for _, c := range columns {
		got := table.column(t, c.typ)
		require.Len(t, got, len(c.values))
		for i := range c.values {
			if number, ok := c.values[i].(float64); ok && math.IsNaN(number) {
				assert.True(t, math.IsNaN(got[i].(float64)), c.typ)
				continue
			}
			assert.Equal(t, c.values[i], got[i], "%s, row %d", c.typ, i)
		}
	}
	assert.Contains(t, table.metadata["pipelined.channels"], `"unit":"V"`)
}
