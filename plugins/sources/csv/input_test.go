package csv

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// TestInput: what is in the file, and what becomes of it.
func TestInput(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	column := func(name, typ string) ColumnConfig { return ColumnConfig{Name: name, Type: &typ} }
	for _, tc := range []struct {
		name, in string
		file     string // default f.csv
		set      func(c *Config)
		want     []string
		refused  map[string]uint64
		log      []string // parts of it
	}{
		{
			name: "types", in: "t,i,u,d,b,s\n0,1,18446744073709551615,1.5,true,x\n1,-2,0,2,FALSE,7 \n",
			want: []string{"0s b=true d=1.5 i=1 s=x u=18446744073709551615", "1s b=false d=2 i=-2 s=7  u=0"},
		},
		{
			name: "ragged rows", in: "t,a,b\n0,1,2\n1,1\n2,1,2,3\n3,4,5\n",
			want: []string{"0s a=1 b=2", "3s a=4 b=5"},
			refused: map[string]uint64{
				"row has fewer fields than the header": 1, "row has more fields than the header": 1,
			},
			log: []string{`line=3 reason="row has fewer fields than the header" found="2 instead of 3"`, "line=4"},
		},
		{
			name: "bad numbers", in: "t,a,b\n0,1,1.5\n1,x,2\n2,2,y\n3,3,0x10\n4,4,1_0\n5,5,2\n",
			set: func(c *Config) {
				c.Columns = []ColumnConfig{column("a", "int64"), column("b", "double")}
			},
			want:    []string{"0s a=1 b=1.5", "5s a=5 b=2"},
			refused: map[string]uint64{`column "a" is not an integer`: 1, `column "b" is not a number`: 3},
			log:     []string{`line=3 reason="column \"a\" is not an integer" found="\"x\""`},
		},
		{
			name: "a later misfit", in: "t,a\n" + rowsOf(1000, "%d,%d\n") + "1000,1.5\n1001,5\n",
			want: append(rowsAs(1000, "%v a=%d"), "16m41s a=5"), refused: map[string]uint64{`column "a" is not an integer`: 1},
			log: []string{"line=1002"},
		},
		{
			name: "NaN and infinities", in: "t,a\n0,NaN\n1,-nan\n2,inf\n3,-Infinity\n4,+INF\n5,1e-3\n",
			want: []string{"0s a=NaN", "1s a=NaN", "2s a=+Inf", "3s a=-Inf", "4s a=+Inf", "5s a=0.001"},
		},
		{
			name: "out of range", in: "t,d,f,i,j,u,v\n0,1,1,1,1,1,1\n" +
				"1,1e999,1,1,1,1,1\n2,1,1e39,1,1,1,1\n3,1,1,2147483648,1,1,1\n4,1,1,1,9223372036854775808,1,1\n" +
				"5,1,1,1,1,4294967296,1\n6,1,1,1,1,-1,1\n7,1,1,1,1,1,18446744073709551616\n8,1,1,1,1,1,+1\n",
			set: func(c *Config) {
				c.Columns = []ColumnConfig{
					column("d", "double"), column("f", "float"), column("i", "int32"), column("j", "int64"), column("u", "uint32"), column("v", "uint64"),
				}
			},
			want: []string{"0s d=1 f=1 i=1 j=1 u=1 v=1", "8s d=1 f=1 i=1 j=1 u=1 v=1"},
			refused: map[string]uint64{
				`column "d" is out of range`: 1, `column "f" is out of range`: 1, `column "i" is out of range`: 1,
				`column "j" is out of range`: 1, `column "u" is out of range`: 2, `column "v" is out of range`: 1,
			},
		},
		{
			name: "time goes back", in: "t,a\n5,1\n3,2\n4,3\n1,4\n",
			want: []string{"5s a=1", "3s a=2", "4s a=3", "1s a=4"},
			log:  []string{`"event time goes back; rows stay in the order of the file"`, "line=3 seconds=2", "time_steps_back=2"},
		},
		{
			name: "bad times", in: "t,a\n0,1\n,2\nx,3\n1e400,4\nNaN,5\n2,6\n",
			want:    []string{"0s a=1", "2s a=6"},
			refused: map[string]uint64{"row has no event time": 1, "time is not a number": 2, "time is outside the years 1678 to 2261": 1},
		},
		{name: "no rows", in: "t,a\n", want: nil, log: []string{`"the file has no rows"`}},
		{
			name: "no rows, declared", in: "t,a\n", want: nil, log: []string{`"the file has no rows"`},
			set: func(c *Config) { c.Columns = []ColumnConfig{column("a", "double")} },
		},
		{name: "empty, no header", in: "", set: func(c *Config) { c.Header = false }, log: []string{`"the file has no rows"`}},
		{name: "empty NDJSON", in: "", file: "f.ndjson", log: []string{`"the file has no rows"`}},
		{
			name: "line too long", in: "t,a\n0,x\n1," + long + "\n2,y\n",
			want: []string{"0s a=x", "2s a=y"}, refused: map[string]uint64{"line is longer than 1 MiB": 1}, log: []string{"line=3"},
		},
		{
			name: "junk between rows", in: "t,a\n0,1\n\x00\x01\xff\xfe,,,\n\x7fELF\x02\n1,2\n",
			want:    []string{"0s a=1", "1s a=2"},
			refused: map[string]uint64{"line has a NUL byte": 1, "row has fewer fields than the header": 1},
		},
		{
			name: "not UTF-8", in: "t,a,b\n0,1,x\n1,2,\xff\n2,3,y\n", want: []string{"0s a=1 b=x", "2s a=3 b=y"},
			refused: map[string]uint64{`column "b" is not UTF-8`: 1},
		},
		{
			name: "bytes may be anything", in: "t,b\n0,\xff\n",
			set:  func(c *Config) { c.Columns = []ColumnConfig{column("b", "bytes")} },
			want: []string{"0s b=[255]"},
		},
		{name: "CRLF, byte order mark, no line end at the end", in: "\xef\xbb\xbft,a\r\n0,1\r\n1,2", want: []string{"0s a=1", "1s a=2"}},
		{name: "quotes", in: "\"t\",\"a b\"\n0,\"x,\"\"y\"\"\nz\"\n1,\"\"\n", want: []string{"0s a b=x,\"y\"\nz", "1s"}},
		{
			name: "quote open at the end", in: "t,a\n0,x\n1,\"y\n2,z\n", want: []string{"0s a=x", "2s a=z"},
			refused: map[string]uint64{"quote is not closed": 1}, log: []string{"line=3"},
		},
		{name: "spaces", in: " t , a \n 0 , 1 \n1,\t2\n", want: []string{"0s a=1", "1s a=2"}},
		{name: "no value", in: "t,a,b\n0,,x\n1,2,\n2, ,\n", want: []string{"0s b=x", "1s a=2", "2s"}},
		{
			name: "texts for no value", in: "t,a,b\n0,-,x\n1,2,n/a\n2,,\n", set: func(c *Config) { c.Null = []string{"-", "n/a"} },
			want: []string{"0s b=x", "1s a=2", "2s a= b="},
		},
		{
			name: "no names, skipped lines", in: "some \"instrument\n\n0,5,x\n1,6,y\n",
			set:  func(c *Config) { c.Header, c.SkipLines, c.Time.Column = false, 2, new("column_1") },
			want: []string{"0s column_2=5 column_3=x", "1s column_2=6 column_3=y"},
		},
		{
			name: "skipped lines before a header", in: "Instrument 5\nt,a\n0,1\n", set: func(c *Config) { c.SkipLines = 1 },
			want: []string{"0s a=1"},
		},
		{
			name: "columns without a name", in: "t,,a,\n0,1,2,3\n", want: []string{"0s a=2"},
			log: []string{"columns are left out", "column 2, column 4"},
		},
		{
			name: "declared", in: "t,a,b,c,state\n0,1,2,3,ON\n1,4,5,6,0\n2,4,5,6,BROKEN\n3,4,5,6,7\n",
			set: func(c *Config) {
				c.OnlyDeclared = true
				b := column("b", "float")
				b.Channel = new("bee")
				state := column("state", "enum")
				state.Values = map[string]uint32{"OFF": 0, "ON": 1}
				c.Columns = []ColumnConfig{b, state, {Name: "t"}}
			},
			want:    []string{"0s bee=2 state=1 t=0", "1s bee=5 state=0 t=1"},
			refused: map[string]uint64{`column "state" is not a name of the enum`: 2},
		},
		{
			name: "ignored", in: "t,a,b\n0,1,2\n", set: func(c *Config) { c.Columns = []ColumnConfig{{Name: "a", Ignore: true}} },
			want: []string{"0s b=2"},
		},
		{
			name: "columns without values", in: "t,a,b\n0,,1\n1,,2\n", want: []string{"0s b=1", "1s b=2"},
			log: []string{"columns have no value in the first rows", "columns=a"},
		},
		{name: "tabs", file: "f.tsv", in: "t\ta,b\n0\t1\n", want: []string{"0s a,b=1"}},
		{name: "semicolons", in: "t;a\n0;1,5\n", set: func(c *Config) { c.Delimiter = new(";") }, want: []string{"0s a=1,5"}},
		{
			name: "text times", in: "t,a\n1970-01-01 00:00:05,1\n", want: []string{"5s a=1"},
			set: func(c *Config) { c.Time.Unit, c.Time.Zone = new("rfc3339"), new("UTC") },
		},
		{
			name: "relative times", in: "t,a\n-0.756,1\n", want: []string{"16m39.244s a=1"},
			set: func(c *Config) { c.Time.Start = new(time.Unix(1000, 0)) },
		},

		{
			name: "NDJSON", file: "f.jsonl",
			in:   `{"t":0,"a":{"b":1,"c":"x"},"d":true}` + "\n\n" + `{"d":null,"t":1,"a":{"b":2.5}}` + "\r\n" + `{"t":2,"a":null}`,
			want: []string{"0s a.b=1 a.c=x d=true", "1s a.b=2.5", "2s"},
		},
		{
			name: "bad NDJSON", file: "f.ndjson", in: `{"t":0,"a":1}` + "\n{\"t\":1,\n[1]\n{\"t\":2,\"a\":\"x\"}\n{\"a\":1}\n{\"t\":\"x\",\"a\":1}\n\xff\n" + `{"t":3,"a":2}`,
			set:  func(c *Config) { c.Columns = []ColumnConfig{column("a", "int64")} },
			want: []string{"0s a=1", "3s a=2"},
			refused: map[string]uint64{
				"line is not JSON": 1, "line is not a JSON object": 2, `column "a" is not an integer`: 1, "row has no event time": 1,
				"time is not a number": 1,
			},
			log: []string{"line=3 reason=\"line is not a JSON object\""},
		},
		{
			name: "NDJSON paths", file: "f.json", in: `{"h":{"t":5},"c":[{"d":1},{"d":[7,8]}],"x.y":2,"o":{"p":1}}`,
			set: func(c *Config) {
				c.Time.Column = new("h.t")
				c.OnlyDeclared = true
				c.Columns = []ColumnConfig{
					{Name: "c[0].d"},
					{Name: "last", Path: new("c[1].d[1]")},
					{Name: "xy", Path: new(`["x.y"]`)},
					{Name: "o", Type: new("string")},
					{Name: "list", Path: new("c[1]")},
				}
			},
			want: []string{`5s c[0].d=1 last=8 list={"d":[7,8]} o={"p":1} xy=2`},
		},
		{
			name: "NDJSON numbers", file: "f.json", in: `{"t":0,"a":NaN,"b":9007199254740993}` + "\n" + `{"t":1,"a":-Infinity,"b":5}`,
			want: []string{"0s a=NaN b=9007199254740993", "1s a=-Inf b=5"},
		},
		{
			name: "NDJSON arrays and nulls", file: "f.json", in: `{"t":0,"a":[1,2],"n":null,"o":{},"p":null,"v":1}` + "\n" + `{"t":1,"p":{"q":2}}`,
			want: []string{"0s v=1", "1s p.q=2"},
			log:  []string{"columns are left out", "columns=\"a, o\"", "columns have no value in the first rows", "columns=n"},
		},
		{
			name: "NDJSON mixed", file: "f.json", in: `{"t":0,"a":[1,2],"b":1,"c":true}` + "\n" + `{"t":1,"a":"x","b":"y","c":2}`,
			want: []string{"0s a=[1,2] b=1 c=true", "1s a=x b=y c=2"},
		},
		{
			name: "NDJSON later keys", file: "f.json", in: rowsOf(1000, `{"t":%d,"a":%d}`+"\n") + `{"t":1000,"a":1,"z":2}` + "\n" + `{"t":1001,"z":3,"y":[1]}` + "\n",
			want: append(rowsAs(1000, "%v a=%d"), "16m40s a=1", "16m41s"),
			log:  []string{"a key is not in the first rows and is left out", "line=1001 key=z", "line=1002 key=y"},
		},
		{
			name: "NDJSON, many later keys", file: "f.json", in: `{"t":0,"a":1}` + "\n" + strings.Repeat("\n", 1) + rowsOf(999, `{"t":%d,"a":%d}`+"\n") +
				rowsOf(20, `{"t":5,"new_%d":%d}`+"\n"),
			want: append(append([]string{"0s a=1"}, rowsAs(999, "%v a=%d")...), slices.Repeat([]string{"5s"}, 20)...),
			log:  []string{"key=new_9", "further keys that are not in the first rows are left out without notice"},
		},
		{name: "NDJSON, ignored", file: "f.json", in: `{"t":0,"a":1,"b":{"c":2},"d":3}`, set: func(c *Config) {
			c.Columns = []ColumnConfig{{Name: "a", Ignore: true}, {Name: "b", Ignore: true}}
		}, want: []string{"0s d=3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.file == "" {
				tc.file = "f.csv"
			}
			plain := fast(write(t, tc.file, tc.in))
			packed := fast(write(t, tc.file+".gz", string(zip(t, tc.in))))
			for _, c := range []Config{plain, packed} {
				if tc.set != nil {
					tc.set(&c)
				}
				h, b := replay(t, c)
				assert.Equal(t, tc.want, short(h.rows()))
				if tc.refused == nil {
					tc.refused = map[string]uint64{}
				}
				assert.Equal(t, tc.refused, h.refused())
				for _, part := range tc.log {
					assert.Contains(t, b.logs.String(), part)
				}
				if len(h.flows) > 0 {
					assert.Equal(t, map[string]int64{"f": math.MaxInt64}, h.progress)
				}
			}
		})
	}
}

// rowsOf repeats a line with its number.
func rowsOf(n int, format string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i, i)
	}
	return out.String()
}

// rowsAs is what short makes of rowsOf.
func rowsAs(n int, format string) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, time.Duration(i)*time.Second, i))
	}
	return out
}

func zip(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// TestUnusable: files that cannot be used at all end with a clear error, in
// Discover and in Run.
func TestUnusable(t *testing.T) {
	packed := string(zip(t, "t,a\n"+rowsOf(2000, "%d,%d\n")))
	for _, tc := range []struct {
		name, in string
		file     string
		set      func(c *Config)
		want     string
	}{
		{name: "empty", in: "", want: "f.csv ends before its header; without a header set header to false"},
		{name: "only line ends", in: "\n\r\n\n", want: "f.csv ends before its header; without a header set header to false"},
		{name: "no header behind skipped lines", in: "x\n", set: func(c *Config) { c.SkipLines = 3 }, want: "f.csv ends before its header"},
		{
			name: "duplicate header", in: "t,a,b,a\n0,1,2,3\n",
			want: `f.csv:1: the header has the column "a" twice, at positions 2 and 4; rename one, or set header to false and skip_lines to 1`,
		},
		{name: "missing time column", in: "time,a\n0,1\n", want: `f.csv has no column "t"; it has ["time" "a"]`},
		{
			name: "missing column", in: "t,a\n0,1\n", set: func(c *Config) { c.Columns = []ColumnConfig{{Name: "b"}} },
			want: `f.csv has no column "b"; it has ["t" "a"]`,
		},
		{
			name: "missing column of many", in: "t," + strings.Repeat("x", 5) + strings.ReplaceAll(rowsOf(30, ",c%[1]d"), "\n", "") + "\n0\n",
			set: func(c *Config) { c.Columns = []ColumnConfig{{Name: "b"}} }, want: `"c17"] and 12 more`,
		},
		{name: "only a time column", in: "t\n0\n", want: "f.csv has no columns beside the event time; declare those that are wanted"},
		{name: "header too long", in: strings.Repeat("x,", 1<<20), want: "f.csv:1: the header cannot be read: line is longer than 1 MiB"},
		{name: "header with an open quote", in: "t,\"a\n0,1\n", want: "f.csv:1: the header cannot be read: quote is not closed"},
		{name: "header with NUL", in: "t,\x00\n0,1\n", want: "f.csv:1: the header cannot be read: line has a NUL byte"},
		{name: "header is not UTF-8", in: "t,\xe4\n0,1\n", want: `f.csv: flow "f": channel 0: name "\xe4" is not UTF-8`},
		{name: "CR alone", in: "t,a\r0,1\r1,2\r", want: "f.csv:1: the lines end with CR alone; convert them to LF"},
		{name: "UTF-16", in: "\xff\xfet\x00,\x00a\x00\n\x00", want: "f.csv is UTF-16; convert it to UTF-8"},
		{
			name: "wrong unit", in: "t,a\n" + strings.Repeat("2013-07-04 00:00:00,1\n", 2000),
			want: `f.csv: none of the first 1000 rows can be read; line 2: time is not a number: "2013-07-04 00:00:00"`,
		},
		{
			name: "binary junk", in: "\x7fELF\x02\x01\x01\n" + strings.Repeat("\x00\x01\x02\xff\n", 100),
			want: `f.csv has no column "t"`,
		},
		{
			name: "binary junk, no header", in: strings.Repeat("\x00\x01\x02\xff\n", 100), set: func(c *Config) { c.Header = false },
			want: `f.csv: none of the first 100 rows can be read; line 1: line has a NUL byte: "\x00\x01\x02\xff"`,
		},
		{
			name: "one JSON document", file: "f.json", in: "{\n  \"t\": 1,\n  \"a\": 2\n}\n",
			want: "f.json: none of the first 4 rows can be read; line 1: line is not JSON: byte 2 of \"{\"",
		},
		{name: "NDJSON without time", file: "f.json", in: `{"a":1}`, want: "f.json: none of the first 1 rows can be read; line 1: row has no event time"},
		{
			name: "channel twice", in: "t,a,b\n0,1,2\n", set: func(c *Config) { c.Columns = []ColumnConfig{{Name: "a", Channel: new("b")}} },
			want: `f.csv: flow "f" has two channels "b"`,
		},
		{name: "not gzip", file: "f.csv.gz", in: "t,a\n0,1\n", want: "f.csv.gz is not a gzip file, although its name ends in .gz"},
		{name: "broken gzip", file: "f.csv.gz", in: packed[:5], want: "f.csv.gz: gzip: unexpected EOF"},
		{name: "gzip cut off", file: "f.csv.gz", in: packed[:12], want: "f.csv.gz: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.file == "" {
				tc.file = "f.csv"
			}
			c := fast(write(t, tc.file, tc.in))
			if tc.set != nil {
				tc.set(&c)
			}
			b := newSource(t, c, "")
			_, err := b.Discover(t.Context())
			require.ErrorContains(t, err, tc.want)
			h := newHost(t, nil)
			require.ErrorContains(t, b.run(t, h), tc.want)
			assert.Empty(t, h.batches)
		})
	}
}

func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir + "/none.csv": "none.csv: no such file or directory",
		dir:               "is not a regular file",
		"/dev/zero":       "/dev/zero is not a regular file",
	} {
		c := fast(path)
		c.Format = new("csv")
		_, err := newSource(t, c, "").Discover(t.Context())
		require.ErrorContains(t, err, want)
		require.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
	}
}

// TestCutOffGzip: the rows before the end are emitted, then the error is told.
func TestCutOffGzip(t *testing.T) {
	whole := zip(t, "t,a\n"+rowsOf(200_000, "%d,%d\n"))
	c := fast(write(t, "f.csv.gz", string(whole[:len(whole)/2])))
	b := newSource(t, c, "")
	h := newHost(t, nil)
	err := b.run(t, h)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "f.csv.gz behind line ")
	assert.Greater(t, len(h.rows()), 10_000)
}

// TestHugeLine reads over 100 MB without a line end in little memory.
func TestHugeLine(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200 MB")
	}
	for _, name := range []string{"f.csv", "f.ndjson"} {
		head, row := "t,a\n0,1\n", "1,2\n"
		if name == "f.ndjson" {
			head, row = `{"t":0,"a":1}`+"\n", `{"t":1,"a":2}`+"\n"
		}
		path := write(t, name, head)
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		chunk := bytes.Repeat([]byte("0123456789,\""), 1<<16)
		for n := 0; n < 100<<20; n += len(chunk) {
			_, err := file.Write(chunk)
			require.NoError(t, err)
		}
		_, err = file.WriteString("\n" + row)
		require.NoError(t, err)
		require.NoError(t, file.Close())

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h, _ := replay(t, fast(path))
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		assert.Equal(t, []string{"0s a=1", "1s a=2"}, short(h.rows()))
		assert.Equal(t, map[string]uint64{"line is longer than 1 MiB": 1}, h.refused())
	}
}

// TestManyRefusedRows: reports are gathered by reason, logs are limited.
func TestManyRefusedRows(t *testing.T) {
	in := "t,a\n" + rowsOf(10, "%d,%d\n")
	for i := range 5000 {
		in += fmt.Sprintf("%d,x\n", 10+i)
	}
	c := fast(write(t, "f.csv", in+"9999,1\n"))
	c.Columns = []ColumnConfig{{Name: "a", Type: new("int64")}}
	h, b := replay(t, c)
	require.Len(t, h.dropped, 1)
	assert.Equal(t, sdk.Dropped{
		Flow: 1, Rows: 5000, Reason: `column "a" is not an integer`, From: 10e9, To: 5009e9, Refused: true,
	}, h.dropped[0])
	assert.Equal(t, 10, strings.Count(b.logs.String(), `msg="row refused"`))
	assert.Equal(t, 2, strings.Count(b.logs.String(), `msg="rows refused"`), "at 100 and 1000")
	assert.Contains(t, b.logs.String(), "rows=5011 refused=5000 lines=5012")
}

// TestRefusedBeforePosition: a position never covers refused rows that were not
// reported.
func TestRefusedBeforePosition(t *testing.T) {
	var in strings.Builder
	in.WriteString("t,a\n0,0\n")
	for i := range 20_000 {
		fmt.Fprintf(&in, "%d,%d\n%d,x\n", i, i, i)
	}
	c := fast(write(t, "f.csv", in.String()))
	c.Columns = []ColumnConfig{{Name: "a", Type: new("int64")}}
	h, _ := replay(t, c)
	emitted, dropped := uint64(0), uint64(0)
	for _, e := range h.events {
		var n uint64
		if _, err := fmt.Sscanf(e, "emit f %d", &n); err == nil {
			emitted += n
			assert.GreaterOrEqual(t, dropped, emitted-2)
		}
		if _, err := fmt.Sscanf(e, "dropped f %d", &n); err == nil {
			dropped += n
		}
	}
	assert.Equal(t, uint64(20_001), emitted)
	assert.Equal(t, uint64(20_000), dropped)
}
