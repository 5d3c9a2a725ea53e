package main

import (
	"strings"
	"unicode"
)

// maxShown bounds a foreign name on the terminal, in runes.
const maxShown = 200

// printable makes a foreign name safe for a terminal: one short line without
// characters that do something.
func printable(name string) string {
	n := 0
	for i := range name {
		if n++; n > maxShown {
			return printableLine(name[:i]) + "…"
		}
	}
	return printableLine(name)
}

// printableLine is printable without the limit, for paths and errors.
func printableLine(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, line)
}

// printableText is printableLine for text of several lines.
func printableText(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printableLine(line)
	}
	return strings.Join(lines, "\n")
}
