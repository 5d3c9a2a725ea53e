package sidebyside

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// median returns the value in the middle, and with it the least and the greatest.
type spread struct{ least, median, greatest float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

// text writes a spread with a printf verb for its numbers.
func (s spread) text(verb string) string {
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", s.median, s.least, s.greatest)
}

// percentile returns the value below which a part of the sorted values is.
func percentile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// table prints lines of columns, as soon as there is one.
type table struct{ lines [][]string }

func (t *table) add(columns ...string) { t.lines = append(t.lines, columns) }

func (t *table) print(b *testing.B, title string) {
	b.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s, %s, load %s\n", title, time.Now().Format(time.DateTime), load())
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, line := range t.lines {
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	_ = w.Flush() // to memory
	fmt.Fprintln(os.Stdout, out.String())
}

// load is that of the machine: its figures hold for that only.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}
