package plugin

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// logBuffer is a log that tests look into.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

type line struct {
	text  string
	whole bool
}

func split(limit int, writes ...string) (lines []line) {
	s := lineSplitter{limit: limit, line: func(text []byte, whole bool) { lines = append(lines, line{string(text), whole}) }}
	for _, w := range writes {
		s.write([]byte(w))
	}
	s.close()
	return lines
}

func TestLineSplitter(t *testing.T) {
	assert.Equal(t, []line{{"ab", true}, {"cd", true}}, split(4, "a", "b\nc", "d\n"))
	assert.Equal(t, []line{{"abcd", true}}, split(4, "abcd\n"))
	assert.Equal(t, []line{{"abcd", false}, {"x", true}}, split(4, "abcde", "fgh", "\nx"))
	assert.Equal(t, []line{{"ab", true}}, split(4, "ab\r\n\n\n"))
	assert.Empty(t, split(4))
}

// However the bytes arrive, the lines are the same, and none is over the limit.
func TestLineSplitterPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab\n\r")), 0, 60, -1).Draw(t, "text")
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		var pieces []string
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		whole := split(limit, text)
		assert.Equal(t, whole, split(limit, pieces...))
		for _, l := range whole {
			assert.LessOrEqual(t, len(l.text), limit)
		}
	})
}

func TestLineSplitterMemory(t *testing.T) {
	s := lineSplitter{limit: maxLine, line: func([]byte, bool) {}}
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for range 64 {
		s.write(chunk)
	}
	assert.LessOrEqual(t, cap(s.buf), 2*maxLine)
}

func TestScrub(t *testing.T) {
	s := newScrubber([]string{"hunter2", "hunter2-long", "with \"quotes\" & more", "line one\nline two\nxy", ""})
	for _, tc := range []struct{ in, want string }{
		{"key=hunter2!", "key=(secret)!"},
		{"hunter2-long hunter2", "(secret) (secret)"},
		{`quoted with \"quotes\" & more`, "quoted (secret)"},
		{`json with \"quotes\" \u0026 more`, "json (secret)"},
		{"url with+%22quotes%22+%26+more", "url (secret)"},
		{"only line two of it, xy", "only (secret) of it, xy"},
		{"nothing", "nothing"},
	} {
		assert.Equal(t, tc.want, s.text(tc.in))
	}
	assert.Equal(t, "a (secret)", s.cut("a hunter2-long"))
	assert.Equal(t, "a ", s.cut("a hunter"))
	assert.Equal(t, "a (secret)", s.cut("a hunter2"))
	assert.Equal(t, "a b", newScrubber(nil).cut("a b"))
}

// No part of a secret longer than chance survives a cut at any place.
func TestScrubCutAnywhere(t *testing.T) {
	const secret = "0123456789abcdef"
	s := newScrubber([]string{secret})
	text := "before " + secret + " after"
	for n := range len(text) + 1 {
		got := s.cut(text[:n])
		assert.NotContains(t, got, "0", "cut at %d", n)
		assert.NotContains(t, got, "abc", "cut at %d", n)
	}
}

func TestOutputRecords(t *testing.T) {
	var log logBuffer
	o := newOutput(log.logger().With("plugin", "source/x"), []string{"hunter2"})
	for _, text := range []string{
		`{"@level":"warn","@message":"row refused","@timestamp":"2026-01-01T00:00:00Z","@module":"m","line":7,"cell":"a\u001b[2J","ok":true}`,
		`{"@level":"debug","@message":"key is hunter2","key":"hunter2","nested":{"k":["\u0068unter2"]}}`,
		`{"@level":"trace","@message":"t"}`,
		`{"@level":"error","@message":"e"}`,
		`{"@level":3,"@message":"not a record"}`,
		`{"level":"info","msg":"of another kind"}`,
		`{broken`,
		"plain \x1b[31mred hunter2",
	} {
		o.line(streamStderr, []byte(text), true)
	}
	o.line(streamStdout, []byte("printed"), true)
	o.line(streamStderr, []byte("long hunt"), false)
	assert.Equal(t, strings.TrimLeft(`
level=WARN msg="row refused" plugin=source/x cell="a�[2J" line=7 ok=true
level=DEBUG msg="key is (secret)" plugin=source/x key=(secret) nested="{\"k\":[\"(secret)\"]}"
level=DEBUG msg=t plugin=source/x
level=ERROR msg=e plugin=source/x
level=WARN msg="{\"@level\":3,\"@message\":\"not a record\"}" plugin=source/x stream=stderr
level=WARN msg="{\"level\":\"info\",\"msg\":\"of another kind\"}" plugin=source/x stream=stderr
level=WARN msg={broken plugin=source/x stream=stderr
level=WARN msg="plain �[31mred (secret)" plugin=source/x stream=stderr
level=INFO msg=printed plugin=source/x stream=stdout
level=WARN msg="long  … (cut)" plugin=source/x stream=stderr
`, "\n"), log.String())
	assert.Equal(t, "row refused cell=a�[2J line=7 ok=true", newOutputLines(t, `{"@level":"warn","@message":"row refused","line":7,"cell":"a\u001b[2J","ok":true}`)[0])
}

func newOutputLines(t *testing.T, lines ...string) []string {
	t.Helper()
	o := newOutput(slog.New(slog.DiscardHandler), nil)
	for _, l := range lines {
		o.line(streamStderr, []byte(l), true)
	}
	return o.last()
}

func TestOutputKeepsTheLastLines(t *testing.T) {
	var lines []string
	for i := range 20 {
		lines = append(lines, strings.Repeat("x", i))
	}
	assert.Equal(t, lines[12:], newOutputLines(t, lines...))

	crash := append([]string{"panic: oh no"}, lines...)
	assert.Equal(t, append([]string{"panic: oh no", "…"}, lines[12:]...), newOutputLines(t, crash...))

	long := newOutputLines(t, strings.Repeat("ä", 1000))
	assert.LessOrEqual(t, len(long[0]), maxKeptBytes+len("…"))
}

func TestOutputFlood(t *testing.T) {
	var log logBuffer
	o := newOutput(log.logger(), nil)
	now := time.Unix(0, 0)
	o.now = func() time.Time { return now }
	for range maxLinesPerSecond + 42 {
		o.line(streamStderr, []byte("x"), true)
	}
	assert.Equal(t, maxLinesPerSecond, strings.Count(log.String(), "msg=x"))
	now = now.Add(time.Second)
	o.line(streamStderr, []byte("y"), true)
	assert.Contains(t, log.String(), "lines were left out\" lines=42\nlevel=WARN msg=y")
	for range maxLinesPerSecond {
		o.line(streamStderr, []byte("x"), true)
	}
	o.end()
	assert.True(t, strings.HasSuffix(log.String(), "lines=1\n"))
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"@level":"info","@message":"m","k":{"a":1}}`))
	f.Add([]byte("plain\x00\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		handler := &collect{}
		o := newOutput(slog.New(handler), []string{"hunter2"})
		o.line(streamStderr, text, true)
		require.Len(t, handler.texts, 1, "one line in, one record out")
		for _, out := range append(handler.texts, o.last()...) {
			assert.NotContains(t, out, "hunter2")
			assert.NotContains(t, out, "\x1b")
			assert.NotContains(t, out, "\n")
		}
	})
}

// collect keeps the text of records.
type collect struct{ texts []string }

func (c *collect) Enabled(context.Context, slog.Level) bool { return true }
func (c *collect) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *collect) WithGroup(string) slog.Handler            { return c }

func (c *collect) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.Key + "=" + a.Value.String()
		return true
	})
	c.texts = append(c.texts, text)
	return nil
}
