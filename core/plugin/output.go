package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxLine = 16 << 10 // bytes of a line of output; the rest is left out

	// Lines that are kept for error texts, and the bytes of each.
	keptLines    = 8
	maxKeptBytes = 300

	// A plugin that writes faster than this has lines left out, counted.
	maxLinesPerSecond = 500
)

// The streams of a process's output.
const (
	streamStdout = "stdout"
	streamStderr = "stderr"
)

// output turns the lines that a process writes into log records, and keeps the
// last ones for error texts, all without secrets.
type output struct {
	log   *slog.Logger
	scrub *scrubber
	now   func() time.Time

	mu struct {
		sync.Mutex
		crash   string   // first line of a Go crash: the lines after it are many
		kept    []string // last lines, oldest first
		rate    rate
		leftOut int
	}
}

// rate counts events in each second.
type rate struct {
	second time.Time // when it began
	events int
}

// admit counts an event and reports whether it is within the limit.
func (r *rate) admit(now time.Time, perSecond int) bool {
	if now.Sub(r.second) >= time.Second {
		r.second, r.events = now, 0
	}
	r.events++
	return r.events <= perSecond
}

func newOutput(log *slog.Logger, secrets []string) *output {
	return &output{log: log, scrub: newScrubber(secrets), now: time.Now}
}

// line takes one line; whole is false for the beginning of one that is too long.
func (o *output) line(stream string, text []byte, whole bool) {
	clean := o.scrub.text
	if !whole {
		clean = func(text string) string { return o.scrub.cut(text) + " … (cut)" }
	}
	if record, ok := parseRecord(text, o.scrub.text); ok && whole {
		o.keep(record.String())
		o.emit(record.level, record.message, record.attrs...)
		return
	}
	line := printable(clean(string(text)))
	o.keep(line)
	level := slog.LevelInfo
	if stream == streamStderr {
		level = slog.LevelWarn
	}
	o.emit(level, line, slog.String("stream", stream))
}

func (o *output) keep(line string) {
	if len(line) > maxKeptBytes {
		line = strings.ToValidUTF8(line[:maxKeptBytes], "") + "…"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.crash == "" && (strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")) {
		o.mu.crash = line
	}
	if len(o.mu.kept) == keptLines {
		o.mu.kept = o.mu.kept[1:]
	}
	o.mu.kept = append(o.mu.kept, line)
}

// last returns the last lines, after the one that says why a Go program crashed.
func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := slices.Clone(o.mu.kept)
	if o.mu.crash != "" && !slices.Contains(lines, o.mu.crash) {
		lines = slices.Insert(lines, 0, o.mu.crash, "…")
	}
	return lines
}

func (o *output) emit(level slog.Level, message string, attrs ...slog.Attr) {
	leftOut, ok := o.admit()
	if !ok {
		return
	}
	o.reportLeftOut(leftOut)
	o.log.LogAttrs(context.Background(), level, message, attrs...)
}

func (o *output) reportLeftOut(lines int) {
	if lines > 0 {
		o.log.Warn("the plugin wrote too much; lines were left out", "lines", lines)
	}
}

// admit counts a line. It returns how many lines were left out before, once, and
// whether this one goes out.
func (o *output) admit() (leftOut int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.mu.rate.admit(o.now(), maxLinesPerSecond) {
		o.mu.leftOut++
		return 0, false
	}
	leftOut, o.mu.leftOut = o.mu.leftOut, 0
	return leftOut, true
}

// end reports what was left out last.
func (o *output) end() {
	o.mu.Lock()
	leftOut := o.mu.leftOut
	o.mu.leftOut = 0
	o.mu.Unlock()
	o.reportLeftOut(leftOut)
}

// record is a structured log line, as go-plugin's plugins write it.
type record struct {
	level   slog.Level
	message string
	attrs   []slog.Attr
}

// String returns message and attributes in one line.
func (r record) String() string {
	var b strings.Builder
	b.WriteString(r.message)
	for _, a := range r.attrs {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
	}
	return b.String()
}

// parseRecord reads a line of JSON with the members @level and @message; clean is
// applied to all text in it.
func parseRecord(line []byte, clean func(string) string) (record, bool) {
	if !bytes.HasPrefix(line, []byte{'{'}) {
		return record{}, false
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return record{}, false
	}
	var level, message string
	if json.Unmarshal(members["@message"], &message) != nil || json.Unmarshal(members["@level"], &level) != nil {
		return record{}, false
	}
	r := record{level: levelOf(level), message: printable(clean(message))}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !strings.HasPrefix(key, "@") {
			r.attrs = append(r.attrs, attrOf(printable(clean(key)), members[key], clean))
		}
	}
	return r, true
}

func attrOf(key string, raw json.RawMessage, clean func(string) string) slog.Attr {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return slog.String(key, printable(clean(string(raw))))
	}
	if text, ok := value.(string); ok {
		return slog.String(key, printable(clean(text)))
	}
	// Written again, so that a secret in it has the form that clean knows.
	if written, err := json.Marshal(value); err == nil {
		raw = written
	}
	return slog.String(key, printable(clean(string(raw))))
}

func levelOf(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}
