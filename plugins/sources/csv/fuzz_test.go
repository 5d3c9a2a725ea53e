package csv

import (
	"bytes"
	stdcsv "encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// checkFile reads a file of any content: it ends, every row is emitted or refused
// (run checks that), and going on from the middle gives the rest.
func checkFile(t *testing.T, name string, content []byte, set func(*Config)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	c := fast(path)
	set(&c)
	c.Speed, c.MaxGap = sdk.NumberOr{Number: 1e12}, new(early/2)
	b := newSource(t, c, "")
	b.settings.Gather = 0 // each row is a batch
	h := newHost(t, nil)
	if err := b.run(t, h); err != nil {
		require.Empty(t, h.batches, "a file is usable or not: %v", err)
		return
	}
	if len(h.batches) == 0 {
		return
	}
	all, middle := short(h.rows()), len(h.batches)/2
	rest := newHost(t, h.batches[middle].position)
	require.NoError(t, newSource(t, c, "").run(t, rest))
	require.Equal(t, all[middle+1:], append([]string{}, short(rest.rows())...))
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"", "t,a,b\n0,1,x\n1,2.5,y\n", "t,a\r\n0,\"x\ny\"\r\n1,\"\"\n", "t,a\n0,1\nx,2\n1,2,3\n\x00\n2,\"open\n3,4\n", "t;a\n1;2\n",
		"\xef\xbb\xbft,a\n1e3,NaN\n-1,inf\n", "t,t\n", "\xff\xfe", "t,a\n" + strings.Repeat("0,1\n", 100),
	} {
		f.Add([]byte(s), true, byte(','))
		f.Add([]byte("t,a\n"+s), true, byte(','))
	}
	f.Fuzz(func(t *testing.T, content []byte, header bool, delimiter byte) {
		if len(content) > 1<<16 {
			t.Skip("long inputs only make it slow")
		}
		if delimiter < ' ' && delimiter != '\t' || delimiter >= 0x7f || delimiter == '"' {
			delimiter = ','
		}
		checkFile(t, "f.csv", content, func(c *Config) {
			c.Header, c.Delimiter = header, new(string(delimiter))
			if !header {
				c.Time.Column = new("column_1")
			}
		})
	})
}

func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{
		"", `{"t":0,"a":{"b":1},"c":[1,{"d":2}],"e":null,"f":"x"}` + "\n{bad}\n" + `{"t":1,"a":null,"f":true}`,
		`{"t":"5","a":"\ud83d\ude00"}`, `{"t":0,"a":NaN}` + "\r\n\r\n" + `{"t":1,"a.b":1,"a":{"b":2}}`, "{\n\"t\": 1\n}",
		`{"t":1,"":2}` + "\n" + `{"t":2,"":{"":3}}`,
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, declared bool) {
		if len(content) > 1<<16 {
			t.Skip("long inputs only make it slow")
		}
		checkFile(t, "f.ndjson", content, func(c *Config) {
			if declared {
				c.OnlyDeclared = true
				c.Columns = []ColumnConfig{{Name: "a.b"}, {Name: "c[1].d", Type: new("int32")}, {Name: "f", Type: new("string")}}
			}
		})
	})
}

// FuzzWritten: what a CSV writer writes comes back as it was.
func FuzzWritten(f *testing.F) {
	f.Add("x", "a \"b\", c\r\nd", " e")
	f.Add("", "\n", "\"")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, text := range []*string{&a, &b, &c} {
			*text = strings.ToValidUTF8(strings.ReplaceAll(*text, "\x00", ""), "")
			*text = (*text)[:min(len(*text), 1000)]
			*text = strings.ToValidUTF8(*text, "")
		}
		var buf bytes.Buffer
		w := stdcsv.NewWriter(&buf)
		require.NoError(t, w.WriteAll([][]string{{"t", "a", "b"}, {"0", a, b}, {"1", b, c}, {"2", c, a}}))
		path := filepath.Join(t.TempDir(), "f.csv")
		require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o600))
		config := fast(path)
		config.Null = []string{}
		config.Columns = []ColumnConfig{{Name: "a", Type: new("string")}, {Name: "b", Type: new("string")}}
		h, _ := replay(t, config)
		var want []emitted
		for i, row := range [][]string{{a, b}, {b, c}, {c, a}} {
			want = append(want, emitted{"f", int64(i) * 1e9, map[string]any{"a": row[0], "b": row[1]}})
		}
		require.Equal(t, want, h.rows())
	})
}
