package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
)

// How often progress is shown on a terminal and in plain lines.
const (
	liveInterval  = 500 * time.Millisecond
	plainInterval = 5 * time.Second
)

// screen is where people read: lines that stay, and on a terminal a live block
// below them that is drawn again and again.
type screen struct {
	out      io.Writer
	terminal bool

	mu struct {
		sync.Mutex
		live  string // what the live block shows
		lines int    // lines that it takes on the terminal
	}
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		s.terminal = term.IsTerminal(int(f.Fd()))
	}
	return s
}

// Write prints lines that stay, above the live block.
func (s *screen) Write(text []byte) (int, error) { return s.above(s.out, text) }

func (s *screen) above(out io.Writer, text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := out.Write(text)
	s.draw()
	return n, err
}

// logWriter returns a writer for log lines that keeps the live block intact.
func (s *screen) logWriter(out io.Writer) io.Writer {
	if !s.terminal {
		return out
	}
	return writerFunc(func(text []byte) (int, error) { return s.above(out, text) })
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(text []byte) (int, error) { return f(text) }

// show replaces the live block; without a terminal it prints the text.
func (s *screen) show(text string) {
	if !s.terminal {
		_, _ = io.WriteString(s, text) // nobody to tell if the output is gone
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.mu.live = text
	s.draw()
}

// finish leaves the last live block away.
func (s *screen) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.mu.live = ""
}

func (s *screen) erase() {
	if s.mu.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.mu.lines)
		s.mu.lines = 0
	}
}

func (s *screen) draw() {
	if s.mu.live == "" {
		return
	}
	text := s.fit(s.mu.live)
	_, _ = io.WriteString(s.out, text)
	s.mu.lines = strings.Count(text, "\n")
}

// fit cuts lines to the terminal's width, so that each takes one line.
func (s *screen) fit(text string) string {
	width := 80
	if f, ok := s.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if runes := []rune(strings.TrimSuffix(line, "\n")); len(runes) >= width {
			lines[i] = string(runes[:width-1]) + "\n"
		}
	}
	return strings.Join(lines, "")
}

// progress shows how the pipelines do.
type progress struct {
	host   *pipeline.Host
	screen *screen
	ticker *time.Ticker
	last   time.Time
	before map[string]uint64 // rows that each pipeline had read at last
}

func newProgress(host *pipeline.Host, screen *screen) *progress {
	interval := plainInterval
	if screen.terminal {
		interval = liveInterval
	}
	return &progress{
		host: host, screen: screen, ticker: time.NewTicker(interval), last: time.Now(), before: map[string]uint64{},
	}
}

func (p *progress) tick() <-chan time.Time { return p.ticker.C }

func (p *progress) stop() { p.ticker.Stop() }

func (p *progress) show() {
	now := time.Now()
	var text bytes.Buffer
	for _, one := range p.host.Pipelines() {
		p.pipeline(&text, one.Status(), now.Sub(p.last))
	}
	p.last = now
	p.screen.show(text.String())
}

// pipeline prints one line for a pipeline and one for each of its tracks.
func (p *progress) pipeline(text io.Writer, s pipeline.Status, passed time.Duration) {
	var received, refused uint64
	for _, f := range s.Flows {
		received += f.Received
		refused += telemetry.Sum(f.Refused)
	}
	fmt.Fprintf(text, "%-16s %-9s %s rows read in %s, %s rows/s", s.Name, s.Phase, count(received),
		plural(len(s.Flows), "flow"), rateOf(p.before[s.Name], received, passed))
	p.before[s.Name] = received
	if refused > 0 {
		fmt.Fprintf(text, ", %s refused", count(refused))
	}
	fmt.Fprintln(text)
	for i, t := range s.Tracks {
		var delivered uint64
		for _, f := range s.Flows {
			delivered += f.Tracks[i].Delivered
		}
		fmt.Fprintf(text, "  -> %-20s %s delivered, %s pending%s\n", t.Name, count(delivered), count(t.Pending), trouble(t))
	}
}

// trouble says in words what keeps a track from delivering, if anything does.
func trouble(t pipeline.TrackStatus) string {
	if t.Waiting != "" {
		return ", waiting: " + printable(t.Waiting)
	}
	if t.LastError == nil {
		return ""
	}
	return ", retrying: " + printable(t.LastError.Text())
}

func rateOf(before, now uint64, passed time.Duration) string {
	if passed <= 0 {
		return "0"
	}
	return count(uint64(float64(now-before) / passed.Seconds()))
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
