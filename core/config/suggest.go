package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// didYouMean returns a sentence with the known name that is most like name, or
// nothing.
func didYouMean(name string, known []string) string {
	if best := suggest(name, known); best != "" {
		return fmt.Sprintf(" Did you mean %s?", quote(best))
	}
	return ""
}

// suggest returns the known name that is most like name, if few letters differ.
func suggest(name string, known []string) string {
	most := 3
	switch {
	case len(name) > maxQuote:
		return ""
	case len(name) < 3:
		most = 1
	case len(name) < 7:
		most = 2
	}
	best, least := "", most+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.Distance(name, k, nil); d < least {
			best, least = k, d
		}
	}
	return best
}

// nameList lists names, sorted.
func nameList(names []string) string {
	const most = 80
	sorted := slices.Sorted(slices.Values(names))
	if len(sorted) > most {
		return strings.Join(sorted[:most], ", ") + fmt.Sprintf(" and %d more", len(sorted)-most)
	}
	return strings.Join(sorted, ", ")
}

// quotedList lists texts of which one may be chosen.
func quotedList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = quote(text)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// listed is a sentence such as "Known: a, b."; empty says that there are none.
func listed(what string, names []string, empty string) string {
	if len(names) == 0 {
		return empty
	}
	return fmt.Sprintf("%s: %s.", what, nameList(names))
}

// maxQuote is the number of bytes of a name or value that a message shows.
const maxQuote = 120

// quote shows text of a user in a message: escaped and not too long.
func quote(text string) string {
	if len(text) <= maxQuote {
		return strconv.Quote(text)
	}
	short := strings.ToValidUTF8(text[:maxQuote], "")
	return strconv.Quote(short) + fmt.Sprintf("… (%d bytes)", len(text))
}
