package record_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
)

// row is a record that outlives its reader.
type row struct {
	Line    int64
	Problem record.Problem
	Fields  []string
	Offset  int64
	End     record.Mark
}

func keep(rec *record.Record, end record.Mark) row {
	out := row{Line: rec.Line, Problem: rec.Problem, Offset: rec.Offset, End: end}
	if rec.Problem == "" && rec.Fields == nil {
		out.Fields = []string{string(rec.Text)}
	}
	for _, f := range rec.Fields {
		out.Fields = append(out.Fields, string(f))
	}
	return out
}

func readAll(t testing.TB, r *record.Reader) []row {
	t.Helper()
	var out []row
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, keep(rec, r.Mark()))
	}
}

func read(t testing.TB, text string, delimiter byte) []row {
	t.Helper()
	return readAll(t, record.NewReader(strings.NewReader(text), delimiter, record.Start(), true))
}

// short writes rows as text: "3: a|b" or "3: quote is not closed".
func short(rows []row) []string {
	var out []string
	for _, r := range rows {
		text := strings.Join(r.Fields, "|")
		if r.Problem != "" {
			text = string(r.Problem)
		}
		out = append(out, fmt.Sprintf("%d: %s", r.Line, text))
	}
	return out
}

func TestCSV(t *testing.T) {
	long := strings.Repeat("x", record.Limit)
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"plain", "a,b\nc,d\n", []string{"1: a|b", "2: c|d"}},
		{"no line end at the end", "a,b\nc,d", []string{"1: a|b", "2: c|d"}},
		{"CRLF", "a,b\r\nc,d\r\n", []string{"1: a|b", "2: c|d"}},
		{"CR at the end", "a,b\r", []string{"1: a|b"}},
		{"CR inside", "a\rb,c\n", []string{"1: a\rb|c"}},
		{"blank lines", "\n\na\n\r\n\nb\n\n", []string{"3: a", "6: b"}},
		{"spaces are text", " a , b \n  \n", []string{"1:  a | b ", "2:   "}},
		{"empty fields", ",\n,,\n", []string{"1: |", "2: ||"}},
		{"byte order mark", "\xef\xbb\xbfa,b\n", []string{"1: a|b"}},
		{"byte order mark before a quote", "\xef\xbb\xbf\"a\",b\n", []string{"1: a|b"}},
		{"only a byte order mark", "\xef\xbb\xbf", nil},
		{"byte order mark inside is text", "a\n\xef\xbb\xbfb\n", []string{"1: a", "2: \ufeffb"}},

		{"quoted", `"a","b,c"` + "\n", []string{"1: a|b,c"}},
		{"quoted empty", `"",""` + "\n", []string{"1: |"}},
		{"quoted, CRLF", "\"a\",\"b\"\r\nc,d\r\n", []string{"1: a|b", "2: c|d"}},
		{"doubled quotes", `"a ""b"" c","""",""""""` + "\n", []string{`1: a "b" c|"|""`}},
		{"quoted line end", "\"a\nb\",c\nd,e\n", []string{"1: a\nb|c", "3: d|e"}},
		{"quoted CRLF is kept", "\"a\r\nb\",c\r\n", []string{"1: a\r\nb|c"}},
		{"quoted, no line end", `a,"b"`, []string{"1: a|b"}},
		{"delimiter at the end", "\"a\",\nb,", []string{"1: a|", "2: b|"}},
		{"quote inside a field is text", "5\" pipe,a\"b\"\n", []string{`1: 5" pipe|a"b"`}},
		{"space before a quote is text", "a, \"b\"\n", []string{`1: a| "b"`}},
		{"text after a quote", "a\n\"b\"c,d\ne\n", []string{"1: a", "2: text follows a closing quote", "3: e"}},
		{"space after a quote", "\"a\" ,b\n", []string{"1: text follows a closing quote"}},
		{"open quote at the end", "a,b\nc,\"d\ne,f\ng,h", []string{"1: a|b", "2: quote is not closed", "3: e|f", "4: g|h"}},
		{"open quote alone", `"`, []string{"1: quote is not closed"}},
		{
			"stray quote, closed by a good one", "a,\"b\nc,d\n\"x\ny\",z\n",
			[]string{"1: text follows a closing quote", "2: c|d", "3: x\ny|z"},
		},
		{
			"quote over too many lines", "\"a\n" + strings.Repeat("b\n", record.MaxLines) + "\"\nc\n",
			append(append([]string{"1: quote is not closed"}, numbered(2, record.MaxLines, "b")...),
				fmt.Sprintf("%d: quote is not closed", record.MaxLines+2), fmt.Sprintf("%d: c", record.MaxLines+3)),
		},
		{"NUL", "a\nb\x00\n\"\x00\"\nc\n", []string{"1: a", "2: line has a NUL byte", "3: line has a NUL byte", "4: c"}},
		{"longest line", "a\n" + long[1:] + "\nb\n", []string{"1: a", "2: " + long[1:], "3: b"}},
		{"line too long", "a\n" + long + "\nb\n", []string{"1: a", "2: line is longer than 1 MiB", "3: b"}},
		{"last line too long", "a\n" + long + "x", []string{"1: a", "2: line is longer than 1 MiB"}},
		{"quoted line too long", "\"" + long + "\nb\n", []string{"1: line is longer than 1 MiB", "2: b"}},
		{
			"quote over too many bytes", "a,\"b\n" + long[:record.Limit/2] + "\n" + long[:record.Limit/2] + "\nc\n",
			[]string{"1: quote is not closed", "2: " + long[:record.Limit/2], "3: " + long[:record.Limit/2], "4: c"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows := read(t, tc.in, ',')
			assert.Equal(t, tc.want, short(rows))
			slow := record.NewReader(iotest.OneByteReader(strings.NewReader(tc.in)), ',', record.Start(), true)
			assert.Equal(t, rows, readAll(t, slow), "byte by byte")
		})
	}
}

func numbered(from, n int, text string) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%d: %s", from+i, text))
	}
	return out
}

func TestDelimiters(t *testing.T) {
	assert.Equal(t, []string{"1: a|b,c|d;e"}, short(read(t, "a\tb,c\t\"d;e\"\n", '\t')))
	assert.Equal(t, []string{"1: a|b,c|d;e"}, short(read(t, "a;b,c;\"d;e\"\n", ';')))
}

func TestLines(t *testing.T) {
	in := "\xef\xbb\xbf{\"a\": \"b,c\"}\r\n  \t\n\"x\n\x00\nend"
	assert.Equal(t, []string{`1: {"a": "b,c"}`, `3: "x`, "4: line has a NUL byte", "5: end"}, short(read(t, in, 0)))
}

func TestSkipLine(t *testing.T) {
	r := record.NewReader(strings.NewReader("one \"\ntwo\n\nthree\n"), ',', record.Start(), true)
	require.NoError(t, r.SkipLine())
	assert.Equal(t, int64(2), r.Mark().Line)
	require.NoError(t, r.SkipLine())
	require.NoError(t, r.SkipLine())
	assert.Equal(t, []string{"4: three"}, short(readAll(t, r)))
	assert.ErrorIs(t, r.SkipLine(), io.EOF)
}

// TestReadError: what was complete before the error is still returned.
func TestReadError(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a,b\nc,"), iotest.ErrReader(errors.New("disk on fire")))
	r := record.NewReader(broken, ',', record.Start(), true)
	rec, err := r.Next()
	require.NoError(t, err)
	assert.Equal(t, "a,b", string(rec.Text))
	_, err = r.Next()
	require.EqualError(t, err, "disk on fire")
}

func TestReaderThatGivesNothing(t *testing.T) {
	r := record.NewReader(nothing{}, ',', record.Start(), true)
	_, err := r.Next()
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// TestStrayQuotesTakeLinearTime: each of these lines opens a quote that none
// closes, so that a careless reader looks through the rest for each.
func TestStrayQuotesTakeLinearTime(t *testing.T) {
	const lines = 100_000
	rows := read(t, strings.Repeat("x\",\"z\n", lines), ',')
	assert.Len(t, rows, lines)
}

// growing is a stream that ends again and again.
type growing struct {
	text []byte
	step int
}

func (g *growing) Read(p []byte) (int, error) {
	if g.step == 0 || len(g.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.text[:min(g.step, len(g.text))])
	g.text, g.step = g.text[n:], g.step-n
	return n, nil
}

// readGrowing reads text that grows by steps of n bytes.
func readGrowing(t testing.TB, text string, delimiter byte, n int) []row {
	t.Helper()
	g := &growing{text: []byte(text)}
	r := record.NewReader(g, delimiter, record.Start(), false)
	var out []row
	for len(g.text) > 0 {
		g.step = n
		out = append(out, readAll(t, r)...)
	}
	r.Final()
	return append(out, readAll(t, r)...)
}

func TestGrowing(t *testing.T) {
	text := "a,b\n\"c\nd\",e\n" + strings.Repeat("y", record.Limit+5) + "\nf,\"g\nh\n"
	want := read(t, text, ',')
	assert.Equal(t, want, readGrowing(t, text, ',', 40_000))
	assert.Equal(t, read(t, text[:40], ','), readGrowing(t, text[:40], ',', 1))
}

// TestPartialLineWaits: nothing is returned of a line that is not written yet.
func TestPartialLineWaits(t *testing.T) {
	g := &growing{text: []byte("1,2\n3,4\n"), step: 5}
	r := record.NewReader(g, ',', record.Start(), false)
	assert.Equal(t, []string{"1: 1|2"}, short(readAll(t, r)))
	assert.Equal(t, int64(4), r.Mark().Offset)
	assert.Equal(t, int64(5), r.Fetched())
	g.step = 3
	assert.Equal(t, []string{"2: 3|4"}, short(readAll(t, r)))
}

// checkTiling wants every byte of the text in one record or a blank line.
func checkTiling(t testing.TB, text string, rows []row, delimiter byte) {
	t.Helper()
	at := int64(0)
	for i, r := range rows {
		require.GreaterOrEqual(t, r.Offset, at, "record %d overlaps", i)
		checkBlank(t, text[at:r.Offset], delimiter)
		require.Greater(t, r.End.Offset, r.Offset)
		at = r.End.Offset
		lines := int64(strings.Count(text[:r.Offset], "\n")) + 1
		require.Equal(t, lines, r.Line, "line of record %d", i)
	}
	checkBlank(t, text[at:], delimiter)
}

func checkBlank(t testing.TB, between string, delimiter byte) {
	t.Helper()
	set := "\r\n\ufeff"
	if delimiter == 0 {
		set += " \t"
	}
	require.Empty(t, strings.Trim(between, set), "bytes in no record")
}

// checkMarks goes on from every mark and wants the rest, exactly.
func checkMarks(t testing.TB, text string, rows []row, delimiter byte) {
	t.Helper()
	for i, r := range rows {
		m := r.End
		if m.Length > 0 {
			require.Equal(t, m.Sum, record.Sum([]byte(text[m.Offset-m.Length:m.Offset])))
		}
		rest := readAll(t, record.NewReader(strings.NewReader(text[m.Offset:]), delimiter, m, true))
		require.Equal(t, len(rows)-i-1, len(rest), "rest after record %d", i)
		if len(rest) > 0 {
			require.Equal(t, rows[i+1:], rest)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"", "a,b\n", "a,\"b\nc,d\n\"x\ny\",z\n", "\"a\"\"b\",c\r\n\r\n", "\xef\xbb\xbf1,2\n\x00\n", "\"\"\"\n\"\n\"x\"y\n",
		"x\",\"z\nx\",\"z\nx\",\"z\n",
	} {
		f.Add(s, byte(','), uint16(3))
		f.Add(s, byte(0), uint16(1))
	}
	f.Fuzz(func(t *testing.T, text string, delimiter byte, step uint16) {
		if delimiter == '"' || delimiter == '\n' || delimiter == '\r' || len(text) > 4096 {
			t.Skip("no delimiter, or too long to be quick")
		}
		rows := read(t, text, delimiter)
		checkTiling(t, text, rows, delimiter)
		if len(rows) < 100 {
			checkMarks(t, text, rows, delimiter)
		}
		require.Equal(t, rows, readGrowing(t, text, delimiter, max(1, int(step))), "as it grows")
	})
}

// FuzzRoundTrip reads what a CSV writer writes.
func FuzzRoundTrip(f *testing.F) {
	f.Add("a", "b c", "1.5", ";", uint8(2))
	f.Add("", "\"", "\n", " x", uint8(3))
	f.Add("a\r\nb", "\r", "\"\"", ",\"", uint8(1))
	f.Fuzz(func(t *testing.T, a, b, c, d string, width uint8) {
		fields := []string{a, b, c, d, b + a, d + c, c + b, a + a}
		n := int(width)%4 + 1
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		var want [][]string
		for ; len(fields) >= n; fields = fields[n:] {
			require.NoError(t, w.Write(fields[:n]))
			if n > 1 || fields[0] != "" { // a blank line is no row
				want = append(want, fields[:n])
			}
		}
		w.Flush()
		text := buf.String()
		if strings.Contains(text, "\x00") || strings.HasPrefix(text, "\ufeff") || len(text) > 10_000 {
			t.Skip("not what a writer of CSV makes, or too long to be quick")
		}
		var got [][]string
		for _, r := range read(t, text, ',') {
			require.Empty(t, r.Problem)
			got = append(got, r.Fields)
		}
		require.Equal(t, want, got)
	})
}

func BenchmarkReader(b *testing.B) {
	line := "46408.580034294,1.074371337890625,-0.12921142578125,-9.544967651367188,1,2,3,4,5,6\n"
	for name, text := range map[string]string{
		"plain":  strings.Repeat(line, 10_000),
		"quoted": strings.Repeat("\"x\","+line, 10_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r := record.NewReader(strings.NewReader(text), ',', record.Start(), true)
				for {
					if _, err := r.Next(); err != nil {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/row")
		})
	}
}
