package plugin

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	scrubbed = "(secret)"
	// minSecretLine is the length in bytes from which a line of a secret that has
	// several is a secret of its own.
	minSecretLine = 4
)

// scrubber takes secret values out of text that a plugin wrote: as they are, and
// in the forms that they take inside quotes and addresses. It cannot know other
// forms, such as base64 of several values.
type scrubber struct {
	forms    []string
	replacer *strings.Replacer
}

func newScrubber(secrets []string) *scrubber {
	s := &scrubber{}
	for _, secret := range secrets {
		for _, value := range append(secretLines(secret), secret) {
			s.add(value)
			s.add(unquoted(strconv.Quote(value)))
			if quoted, err := json.Marshal(value); err == nil {
				s.add(unquoted(string(quoted)))
			}
			s.add(url.QueryEscape(value))
			s.add(url.PathEscape(value))
		}
	}
	// A secret that begins another one must not be found first.
	slices.SortFunc(s.forms, func(a, b string) int { return len(b) - len(a) })
	s.forms = slices.Compact(s.forms)
	pairs := make([]string, 0, 2*len(s.forms))
	for _, form := range s.forms {
		pairs = append(pairs, form, scrubbed)
	}
	s.replacer = strings.NewReplacer(pairs...)
	return s
}

func unquoted(text string) string { return text[1 : len(text)-1] }

func (s *scrubber) add(form string) {
	if form != "" && !slices.Contains(s.forms, form) {
		s.forms = append(s.forms, form)
	}
}

// secretLines returns the lines of a secret that has several, a key for example:
// output is looked at line by line.
func secretLines(secret string) []string {
	lines := strings.FieldsFunc(secret, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) < 2 {
		return nil
	}
	return slices.DeleteFunc(lines, func(line string) bool { return len(line) < minSecretLine })
}

// text returns text without secrets.
func (s *scrubber) text(text string) string { return s.replacer.Replace(text) }

// cut returns the beginning of a longer text without secrets, also without the
// beginning of one that was cut off.
func (s *scrubber) cut(text string) string {
	text = s.text(text)
	longest := 0
	for _, form := range s.forms {
		for n := min(len(form)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, form[:n]) {
				longest = n
			}
		}
	}
	return text[:len(text)-longest]
}

// printable replaces what a terminal would act upon, and makes one line of it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(text, string(unicode.ReplacementChar)))
}
