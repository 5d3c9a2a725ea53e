package status

import (
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/telemetry"
)

const (
	sampleEvery = 5 * time.Second
	rateWindow  = time.Minute
	// steadyWindow is the shortest window that says whether a backlog gets less.
	steadyWindow = 30 * time.Second
)

// history knows the counters of the last minute.
type history struct {
	mu struct {
		sync.Mutex
		samples []sample // the oldest first
	}
}

type sample struct {
	at     time.Time
	tracks map[trackKey]counters
}

type trackKey struct{ pipeline, track string }

// counters only go up.
type counters struct {
	delivered, taken, bytes uint64
}

// add notes how the pipelines are, and forgets what is older than the window.
func (h *history) add(at time.Time, pipelines []Pipeline) {
	s := sample{at: at, tracks: map[trackKey]counters{}}
	for _, p := range pipelines {
		for i, t := range p.Tracks {
			s.tracks[trackKey{p.Name, t.Name}] = count(p, i)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.samples = append(h.mu.samples, s)
	for len(h.mu.samples) > 1 && at.Sub(h.mu.samples[0].at) > rateWindow {
		h.mu.samples = h.mu.samples[1:]
	}
}

// rates returns the rates of a track since the oldest sample; nil: it is too new.
func (h *history) rates(now time.Time, p Pipeline, track int) *Rates {
	key := trackKey{p.Name, p.Tracks[track].Name}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.mu.samples {
		before, known := s.tracks[key]
		if !known {
			continue
		}
		return ratesBetween(before, count(p, track), now.Sub(s.at))
	}
	return nil
}

func ratesBetween(before, after counters, passed time.Duration) *Rates {
	if passed < sampleEvery/2 || after.delivered < before.delivered || after.taken < before.taken || after.bytes < before.bytes {
		return nil
	}
	per := func(before, after uint64) float64 { return float64(after-before) / passed.Seconds() }
	return &Rates{
		Window:    Seconds(passed),
		Delivered: per(before.delivered, after.delivered),
		Taken:     per(before.taken, after.taken),
		Bytes:     per(before.bytes, after.bytes),
	}
}

// count reads the counters of a track. What was stored before the start is no intake.
func count(p Pipeline, track int) counters {
	t := p.Tracks[track]
	c := counters{delivered: t.Delivered, bytes: t.Live.Bytes + t.Again.Bytes}
	for _, f := range p.Flows {
		if f.Name != telemetry.StoredBefore {
			account := f.Tracks[track]
			c.taken += account.Delivered + account.Pending + telemetry.Sum(account.Lost)
		}
	}
	return c
}

// drain says how long a backlog lasts at these rates; nil: nobody knows, or for ever.
func drain(pending uint64, r *Rates) *Seconds {
	if pending == 0 {
		return new(Seconds)
	}
	if r == nil || r.Delivered <= r.Taken {
		return nil
	}
	const longest = float64(1000 * 24 * time.Hour)
	s := Seconds(min(longest, float64(pending)/(r.Delivered-r.Taken)*float64(time.Second)))
	return &s
}
