package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// Diagnostic is one problem of a configuration.
type Diagnostic struct {
	Severity sdk.Severity
	Summary  string // a few words
	Detail   string // sentences: what is wrong, what is allowed, what to do
	// Subject is the place, always set. A problem that is in no file, such as a
	// wrong -var option, has a range in a made-up file named after the option.
	Subject hcl.Range
	Snippet Snippet
	// Unavailable: not the file is wrong; a plugin could not be asked.
	Unavailable bool
}

// Snippet is the source line that a diagnostic points at, with secrets masked.
type Snippet struct {
	Text       string // without line ending; empty = no source
	Start, End int    // marked part, as byte offsets in Text
}

// Diagnostics are problems in the order of files and positions.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them is an error.
func (d Diagnostics) HasErrors() bool { return d.errors() > 0 }

// Unavailable reports whether there are errors, and all of them are plugins that
// could not be asked.
func (d Diagnostics) Unavailable() bool {
	for _, one := range d {
		if one.Severity == sdk.SeverityError && !one.Unavailable {
			return false
		}
	}
	return d.HasErrors()
}

func (d Diagnostics) errors() int {
	n := 0
	for _, one := range d {
		if one.Severity == sdk.SeverityError {
			n++
		}
	}
	return n
}

// Limits of what is reported: a broken file must not become a flood.
const (
	maxDiagnostics  = 50     // shown
	maxCollected    = 10_000 // sorted, so that those shown are the first
	maxSummaryBytes = 300
	maxDetailBytes  = 4_000
	maxSnippetBytes = 400
)

// report collects diagnostics while files are loaded.
type report struct {
	sources map[string][]byte // by file name
	masks   []hcl.Range       // source text that is never quoted
	found   Diagnostics
	failed  int // number of errors, also of those not kept
}

func (r *report) error(at hcl.Range, summary, detail string, args ...any) {
	r.add(sdk.SeverityError, at, summary, fmt.Sprintf(detail, args...))
}

// unavailable reports that a plugin could not be asked, and why.
func (r *report) unavailable(at hcl.Range, summary, detail string, err error) {
	detail += ": " + err.Error()
	if !strings.Contains(detail, "\n") { // otherwise it ends with what the plugin wrote
		detail += "."
	}
	n := len(r.found)
	r.add(sdk.SeverityError, at, summary, detail)
	if len(r.found) > n {
		r.found[n].Unavailable = true
	}
}

func (r *report) warning(at hcl.Range, summary, detail string, args ...any) {
	r.add(sdk.SeverityWarning, at, summary, fmt.Sprintf(detail, args...))
}

func (r *report) add(severity sdk.Severity, at hcl.Range, summary, detail string) {
	if severity == sdk.SeverityError {
		r.failed++
	}
	if len(r.found) >= maxCollected {
		return
	}
	r.found = append(r.found, Diagnostic{
		Severity: severity, Subject: at,
		Summary: cut(summary, maxSummaryBytes), Detail: cut(detail, maxDetailBytes),
	})
}

// errors returns how many errors there are, for finding out whether a step had
// any.
func (r *report) errors() int { return r.failed }

// fromHCL takes over problems that the parser or an evaluation without secrets
// found; at is the place of those that have none.
func (r *report) fromHCL(problems hcl.Diagnostics, at hcl.Range) {
	for _, p := range problems {
		severity := sdk.SeverityError
		if p.Severity == hcl.DiagWarning {
			severity = sdk.SeverityWarning
		}
		place := at
		if p.Subject != nil && p.Subject.Filename != "" {
			place = *p.Subject
		}
		r.add(severity, place, p.Summary, p.Detail)
	}
}

// maskLiterals keeps the texts and numbers of an expression out of snippets, but
// not the names of secrets in calls of functions that read one.
func (r *report) maskLiterals(expr hclsyntax.Expression) {
	_ = hclsyntax.Walk(expr, &masker{report: r})
}

type masker struct {
	*report
	calls int // of functions that read a secret, around the current node
}

// Enter is called by hclsyntax.Walk.
func (m *masker) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.FunctionCallExpr:
		if strings.HasPrefix(n.Name, secretNamespace) {
			m.calls++
		}
	case *hclsyntax.LiteralValueExpr:
		if m.calls == 0 {
			m.masks = append(m.masks, n.SrcRange)
		}
	}
	return nil
}

// Exit is called by hclsyntax.Walk.
func (m *masker) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && strings.HasPrefix(call.Name, secretNamespace) {
		m.calls--
	}
	return nil
}

// finish returns the diagnostics sorted, each once, with their source lines.
func (r *report) finish() Diagnostics {
	slices.SortStableFunc(r.found, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Subject.Filename, b.Subject.Filename),
			cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte),
			cmp.Compare(a.Subject.End.Byte, b.Subject.End.Byte),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Summary, b.Summary),
			cmp.Compare(a.Detail, b.Detail),
		)
	})
	out := slices.Compact(r.found)
	if len(out) > maxDiagnostics {
		out = r.shorten(out)
	}
	for i := range out {
		out[i].Snippet = r.snippet(out[i].Subject)
	}
	return out
}

// shorten keeps the first problems and says that there are more. An error among
// the rest must not get lost, so the sentence itself is one then.
func (r *report) shorten(all Diagnostics) Diagnostics {
	kept, rest := all[:maxDiagnostics-1], all[maxDiagnostics-1:]
	number := fmt.Sprint(len(rest))
	if len(r.found) >= maxCollected {
		number = "thousands"
	}
	more := Diagnostic{
		Severity: sdk.SeverityWarning,
		Subject:  rest[0].Subject,
		Summary:  "Too many problems",
		Detail:   fmt.Sprintf("This is the first of %s more problems, which are not shown. Correct those above first.", number),
	}
	if r.failed > kept.errors() {
		more.Severity = sdk.SeverityError
	}
	return append(slices.Clone(kept), more)
}

// snippet returns the first line of a range.
func (r *report) snippet(at hcl.Range) Snippet {
	src, ok := r.sources[at.Filename]
	if !ok || at.Start.Byte > len(src) {
		return Snippet{}
	}
	first := bytes.LastIndexByte(src[:at.Start.Byte], '\n') + 1
	last := len(src)
	if n := bytes.IndexByte(src[at.Start.Byte:], '\n'); n >= 0 {
		last = at.Start.Byte + n
	}
	s := Snippet{
		Text:  strings.TrimSuffix(string(src[first:last]), "\r"),
		Start: at.Start.Byte - first,
		End:   min(at.End.Byte, last) - first,
	}
	s.End = min(max(s.End, s.Start), len(s.Text))
	s.Start = min(s.Start, s.End)
	for _, m := range r.masksBetween(at.Filename, first, first+len(s.Text)) {
		s = s.masked(m[0]-first, m[1]-first)
	}
	return s.window(maxSnippetBytes)
}

// masksBetween returns the masked parts of a line, last first, so that replacing
// one does not move those that follow.
func (r *report) masksBetween(file string, first, last int) [][2]int {
	var parts [][2]int
	for _, m := range r.masks {
		if m.Filename == file && m.Start.Byte < last && m.End.Byte > first {
			parts = append(parts, [2]int{max(m.Start.Byte, first), min(m.End.Byte, last)})
		}
	}
	slices.SortFunc(parts, func(a, b [2]int) int { return cmp.Compare(b[0], a[0]) })
	for i := 1; i < len(parts); i++ {
		parts[i][1] = min(parts[i][1], parts[i-1][0]) // they may overlap
	}
	return parts
}

// masked replaces a part of the text by a placeholder and moves the mark.
func (s Snippet) masked(from, to int) Snippet {
	const placeholder = "(secret)"
	if from >= to {
		return s
	}
	move := func(at, inside int) int {
		switch {
		case at <= from:
			return at
		case at < to:
			return from + inside
		}
		return at - (to - from) + len(placeholder)
	}
	return Snippet{
		Text:  s.Text[:from] + placeholder + s.Text[to:],
		Start: move(s.Start, 0),
		End:   move(s.End, len(placeholder)),
	}
}

// window cuts a long line down to what is near the mark.
func (s Snippet) window(most int) Snippet {
	const ellipsis = "…"
	if len(s.Text) <= most {
		return s
	}
	most -= 2 // columns of the ellipses
	from := max(0, min(s.Start-most/4, len(s.Text)-most))
	to := min(len(s.Text), from+most)
	for from > 0 && !startsRune(s.Text[from]) {
		from--
	}
	for to < len(s.Text) && !startsRune(s.Text[to]) {
		to--
	}
	out := Snippet{Text: s.Text[from:to], Start: s.Start - from, End: min(s.End, to) - from}
	if from > 0 {
		out.Text, out.Start, out.End = ellipsis+out.Text, out.Start+len(ellipsis), out.End+len(ellipsis)
	}
	if to < len(s.Text) {
		out.Text += ellipsis
	}
	return out
}

func startsRune(b byte) bool { return b < 0x80 || b >= 0xC0 }

// cut shortens text to a number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
