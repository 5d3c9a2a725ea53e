package config

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/pipelined/pipelined/sdk"
)

// Escape sequences of terminals.
const (
	styleReset   = "\x1b[0m"
	styleBold    = "\x1b[1m"
	styleError   = "\x1b[1;31m"
	styleWarning = "\x1b[1;33m"
	styleFrame   = "\x1b[34m"
)

// minRenderWidth is the narrowest text that is still laid out.
const minRenderWidth = 40

// Render writes the diagnostics for a person. Details are wrapped at width
// columns (0 = not at all); color adds escape sequences of terminals. Control
// characters of the text itself are never written.
func (d Diagnostics) Render(w io.Writer, width int, color bool) error {
	out := bufio.NewWriter(w)
	for i := range d {
		if i > 0 {
			fmt.Fprintln(out)
		}
		d[i].render(out, width, color)
	}
	return out.Flush()
}

func (d *Diagnostic) render(w io.Writer, width int, color bool) {
	style := func(code, text string) string {
		if !color {
			return text
		}
		return code + text + styleReset
	}
	severity := styleError
	if d.Severity == sdk.SeverityWarning {
		severity = styleWarning
	}
	fmt.Fprintf(w, "%s: %s: %s\n",
		d.place(), style(severity, severityName(d.Severity)), style(styleBold, printable(d.Summary)))

	if s := d.Snippet; s.Text != "" {
		number := fmt.Sprintf("%4d", d.Subject.Start.Line)
		if width >= minRenderWidth {
			s = s.window(width - len(number) - len(" | "))
		}
		before := printable(s.Text[:s.Start])
		marked := printable(s.Text[s.Start:s.End])
		after := printable(s.Text[s.End:])
		fmt.Fprintf(w, "%s %s\n", style(styleFrame, number+" |"), strings.TrimRight(before+marked+after, " "))
		fmt.Fprintf(w, "%s %s%s\n", style(styleFrame, "     |"),
			strings.Repeat(" ", columns(before)), style(severity, strings.Repeat("^", max(1, columns(marked)))))
	}
	for _, line := range wrap(d.Detail, width-2) {
		fmt.Fprintln(w, strings.TrimRight("  "+line, " "))
	}
}

// place is file:line:column of the subject.
func (d *Diagnostic) place() string {
	return fmt.Sprintf("%s:%d:%d", printable(d.Subject.Filename), d.Subject.Start.Line, d.Subject.Start.Column)
}

func severityName(s sdk.Severity) string {
	if s == sdk.SeverityWarning {
		return "warning"
	}
	return "error"
}

// printable replaces tabs by a space and other control characters by a sign, so
// that text from files and plugins cannot steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// columns is the number of columns that text takes on a terminal, near enough
// for putting a mark below it.
func columns(text string) int {
	n := 0
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) || r >= 0x1F300 && r < 0x1FAFF:
			n += 2
		default:
			n++
		}
	}
	return n
}

// wrap breaks text at spaces; line breaks in it stay.
func wrap(text string, width int) []string {
	if text == "" {
		return nil
	}
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		lines = append(lines, wrapLine(printable(paragraph), width)...)
	}
	return lines
}

func wrapLine(text string, width int) []string {
	if width < minRenderWidth {
		return []string{text}
	}
	var lines []string
	line, used := "", 0
	for word := range strings.SplitSeq(text, " ") {
		n := columns(word)
		if line != "" && used+1+n > width {
			lines = append(lines, line)
			line, used = "", 0
		}
		if line != "" {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	return append(lines, line)
}

// diagnosticJSON is the form of a diagnostic for programs. Columns count
// characters, bytes count from the start of the file.
type diagnosticJSON struct {
	Severity string    `json:"severity"`
	Summary  string    `json:"summary"`
	Detail   string    `json:"detail,omitempty"`
	File     string    `json:"file"`
	Start    placeJSON `json:"start"`
	End      placeJSON `json:"end"`
	Source   string    `json:"source,omitempty"`
}

type placeJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// RenderJSON writes one JSON object for each diagnostic, one a line.
func (d Diagnostics) RenderJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, one := range d {
		err := out.Encode(diagnosticJSON{
			Severity: severityName(one.Severity),
			Summary:  one.Summary,
			Detail:   one.Detail,
			File:     one.Subject.Filename,
			Start:    placeJSON(one.Subject.Start),
			End:      placeJSON(one.Subject.End),
			Source:   one.Snippet.Text,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
