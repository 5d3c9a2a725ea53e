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

// suggest returns the known name that is most like name: at most a third of its
// letters may differ.
func suggest(name string, known []string) string {
	if len(name) > maxQuote {
		return ""
	}
	best, least := "", max(1, min(3, len(name)/3))+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.Distance(name, k, nil); d < least {
			best, least = k, d
		}
	}
	return best
}

// nameList lists names in a sentence, sorted; conjunction stands before the last.
func nameList(names []string, conjunction string) string {
	const most = 40
	sorted := slices.Sorted(slices.Values(names))
	if len(sorted) > most {
		return strings.Join(sorted[:most], ", ") + fmt.Sprintf(" and %d more", len(sorted)-most)
	}
	if len(sorted) < 2 {
		return strings.Join(sorted, "")
	}
	last := len(sorted) - 1
	return strings.Join(sorted[:last], ", ") + " " + conjunction + " " + sorted[last]
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
