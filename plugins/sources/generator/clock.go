package generator

import (
	"math"
	"math/bits"
	"time"
)

// Rates are whole numbers of rows in rateUnit seconds, so that all arithmetic
// with them is exact.
const (
	rateUnit = 1_000_000
	unitNs   = rateUnit * 1_000_000_000
)

// clock gives rows their stamps.
type clock struct {
	start int64  // stamp of row 0, ns since the Unix epoch
	rate  uint64 // rows in rateUnit seconds, at most one for each ns
}

// after returns how long after the first one a row is, rounded down to ns, and
// what is left over in ns/rate. It is not ok beyond 292 years.
func (c clock) after(row uint64) (ns, rest uint64, ok bool) {
	hi, lo := bits.Mul64(row, unitNs)
	if hi >= c.rate {
		return 0, 0, false
	}
	ns, rest = bits.Div64(hi, lo, c.rate)
	return ns, rest, ns <= math.MaxInt64
}

// stamp returns the stamp of a row. It is not ok beyond what a stamp can say.
func (c clock) stamp(row uint64) (int64, bool) {
	ns, _, ok := c.after(row)
	at := c.start + int64(ns)
	return at, ok && at >= c.start
}

// due returns how many rows have their time within d after the first one.
func (c clock) due(d time.Duration) uint64 {
	if d < 0 {
		return 0
	}
	// Row i is due at floor(i * unitNs / rate) <= d, so i < (d+1) * rate / unitNs.
	hi, lo := bits.Mul64(uint64(d)+1, c.rate)
	if hi >= unitNs {
		return math.MaxUint64
	}
	q, r := bits.Div64(hi, lo, unitNs)
	if r > 0 {
		q++
	}
	return q
}

// ticks walks from row to row. It gives the same stamps as the clock, without a
// division for each.
type ticks struct {
	at         int64
	rest       uint64
	step, part uint64 // between two rows: ns and ns/rate
	rate       uint64
}

func (c clock) ticks(row uint64) ticks {
	ns, rest, _ := c.after(row)
	return ticks{at: c.start + int64(ns), rest: rest, step: unitNs / c.rate, part: unitNs % c.rate, rate: c.rate}
}

func (t *ticks) next() {
	t.at += int64(t.step)
	if t.rest += t.part; t.rest >= t.rate {
		t.rest -= t.rate
		t.at++
	}
}
