package torture

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// cell is a place of the matrix.
type cell struct {
	victim string
	phase  Phase
}

// outcome is what was seen in a cell.
type outcome struct {
	kills      int
	lost       int
	duplicated int
	recoveries []time.Duration
}

// result is what a scenario, or all of them, have seen.
type result struct {
	plans    []plan
	cells    map[cell]*outcome
	orderly  int // stops
	locked   int // starts too soon after a kill
	problems int
	rows     int
}

func newResult(plans ...plan) result {
	r := result{plans: plans, cells: map[cell]*outcome{}}
	for _, p := range plans {
		r.rows += p.rows
	}
	return r
}

func (r *result) at(c cell) *outcome {
	c.victim = kindOf(c.victim)
	if r.cells[c] == nil {
		r.cells[c] = &outcome{}
	}
	return r.cells[c]
}

func (r *result) killed(c cell)            { r.at(c).kills++ }
func (r *result) lost(c cell, n int)       { r.at(c).lost += n }
func (r *result) duplicated(c cell, n int) { r.at(c).duplicated += n }
func (r *result) recovered(c cell, d time.Duration) {
	if c.victim != "" { // after the first start there is nothing to recover
		r.at(c).recoveries = append(r.at(c).recoveries, d)
	}
}

func (r *result) kills() (n int) {
	for _, o := range r.cells {
		n += o.kills
	}
	return n
}

// total collects the results of scenarios.
type total struct {
	mu sync.Mutex
	result
	began time.Time
}

func newTotal() *total { return &total{result: newResult(), began: time.Now()} }

func (t *total) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plans = append(t.plans, r.plans...)
	t.orderly += r.orderly
	t.locked += r.locked
	t.problems += r.problems
	t.rows += r.rows
	for c, o := range r.cells {
		sum := t.at(c)
		sum.kills += o.kills
		sum.lost += o.lost
		sum.duplicated += o.duplicated
		sum.recoveries = append(sum.recoveries, o.recoveries...)
	}
}

func (t *total) killed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kills()
}

func (t *total) failed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.problems
}

// text is the matrix in Markdown.
func (t *total) text() string {
	var b strings.Builder
	t.print(&b)
	return b.String()
}

func (t *total) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lost, duplicated := 0, 0
	for _, o := range t.cells {
		lost += o.lost
		duplicated += o.duplicated
	}
	fmt.Fprintf(out, "%d scenarios, %d kills, %d orderly stops, %d rows, %d lost, %d duplicated, in %s.\n\n",
		len(t.plans), t.kills(), t.orderly, t.rows, lost, duplicated, time.Since(t.began).Round(time.Second))
	if t.locked > 0 {
		fmt.Fprintf(out, "%d starts found the data directory in use, because a process of the killed host was not gone yet.\n\n", t.locked)
	}
	fmt.Fprintln(out, "| Killed | Phase | Kills | Lost rows | Duplicated rows | Time until rows arrive again: median | longest |")
	fmt.Fprintln(out, "|---|---|---:|---:|---:|---:|---:|")
	cells := make([]cell, 0, len(t.cells))
	for c := range t.cells {
		if c.victim != "" {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b cell) int {
		return strings.Compare(rank(a)+string(a.phase), rank(b)+string(b.phase))
	})
	for _, c := range cells {
		o := t.cells[c]
		slices.Sort(o.recoveries)
		median, longest := "–", "–"
		if n := len(o.recoveries); n > 0 {
			median, longest = seconds(o.recoveries[n/2]), seconds(o.recoveries[n-1])
		}
		fmt.Fprintf(out, "| %s | %s | %d | %d | %d | %s | %s |\n", c.victim, c.phase, o.kills, o.lost, o.duplicated, median, longest)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// kindOf leaves out the plugin's name.
func kindOf(victim string) string {
	kind, _, _ := strings.Cut(victim, " ")
	return kind
}

// rank puts the host first, and the phases in the order of a run.
func rank(c cell) string {
	kinds := []string{"host", "source", "encoder", "transport"}
	phases := []Phase{phaseStart, phaseHealthy, phaseOutage, phaseReingest, phaseRotation, phaseCheckpoint, phaseShutdown, phaseFull}
	return fmt.Sprint(slices.Index(kinds, c.victim), slices.Index(phases, c.phase)+1)
}
