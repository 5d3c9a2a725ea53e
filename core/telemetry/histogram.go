package telemetry

import (
	"slices"
	"sync"
	"time"
)

// Histogram counts durations by how long they were.
type Histogram struct {
	bounds []time.Duration

	mu struct {
		sync.Mutex
		counts    []uint64
		sum       time.Duration
		last, max time.Duration
	}
}

// NewHistogram returns an empty histogram whose buckets end at these bounds, which
// ascend; what is longer than the last bound has a bucket of its own.
func NewHistogram(bounds ...time.Duration) *Histogram {
	h := &Histogram{bounds: slices.Clone(bounds)}
	h.mu.counts = make([]uint64, len(bounds)+1)
	return h
}

// DiskBounds are bucket bounds for calls that wait for a disk: 100 µs to 30 s.
func DiskBounds() []time.Duration {
	return []time.Duration{
		100 * time.Microsecond, 300 * time.Microsecond,
		time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
		100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second,
	}
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d) // a bound belongs to the bucket that it ends
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.counts[i]++
	h.mu.sum += d
	h.mu.last = d
	h.mu.max = max(h.mu.max, d)
}

// Durations is what a Histogram has counted. The zero value has counted nothing.
type Durations struct {
	Bounds    []time.Duration // where the buckets end, inclusive, ascending
	Counts    []uint64        // in each bucket alone; one more than Bounds, for what is longer
	Sum       time.Duration
	Last, Max time.Duration
}

// Durations returns a copy of what was counted.
func (h *Histogram) Durations() Durations {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Durations{
		Bounds: slices.Clone(h.bounds), Counts: slices.Clone(h.mu.counts),
		Sum: h.mu.sum, Last: h.mu.last, Max: h.mu.max,
	}
}

// Count returns how many durations were counted.
func (d Durations) Count() uint64 {
	n := uint64(0)
	for _, c := range d.Counts {
		n += c
	}
	return n
}
