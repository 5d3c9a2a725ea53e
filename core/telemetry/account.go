package telemetry

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pipelined/pipelined/sdk"
)

// StoredBefore is the name of the flow that stands for all messages that a store
// held when the pipeline started. No source can use it.
const StoredBefore = "(stored before this start)"

// Account is the account of one pipeline.
type Account struct {
	tracks []string

	mu struct {
		sync.Mutex
		flows []*Flow
	}
}

// NewAccount returns an empty account for a pipeline with these tracks.
func NewAccount(tracks []string) *Account { return &Account{tracks: tracks} }

// Tracks returns the names of the tracks in order.
func (a *Account) Tracks() []string { return a.tracks }

// Flow opens the account of a flow.
func (a *Account) Flow(origin sdk.Origin, name string) *Flow {
	f := &Flow{Origin: origin, Name: name, Tracks: make([]Track, len(a.tracks))}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.flows = append(a.mu.flows, f)
	return f
}

// Flow is the account of one flow, in rows.
type Flow struct {
	Origin sdk.Origin
	Name   string

	Received atomic.Uint64 // came from the source
	Accepted atomic.Uint64 // safe, and acknowledged to the source
	Refused  Reasons       // wrong, by reason; never given an id
	Dropped  Reasons       // what the source says it lost itself
	Tracks   []Track
}

// Track is a flow's account on one track, in messages.
type Track struct {
	Taken     atomic.Uint64 // handed to the track
	Delivered atomic.Uint64
	Filtered  atomic.Uint64 // passed by: the track does not take the flow
	Lost      Reasons
}

// Reasons counts by reason. The number of reasons is bounded; further ones count
// as "other".
type Reasons struct {
	mu struct {
		sync.Mutex
		counts map[string]uint64
	}
}

const maxReasons = 100

// Add counts n for a reason.
func (r *Reasons) Add(reason string, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.counts == nil {
		r.mu.counts = map[string]uint64{}
	}
	if _, known := r.mu.counts[reason]; !known && len(r.mu.counts) >= maxReasons {
		reason = "other"
	}
	r.mu.counts[reason] += n
}

// Counts returns a copy of the counts.
func (r *Reasons) Counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.mu.counts)
}

// Total returns the sum of all counts.
func (r *Reasons) Total() uint64 {
	n := uint64(0)
	for _, c := range r.Counts() {
		n += c
	}
	return n
}

// FlowTotals is a flow's account at one moment.
type FlowTotals struct {
	Origin   sdk.Origin
	Name     string
	Received uint64
	Accepted uint64
	Refused  map[string]uint64
	Dropped  map[string]uint64
	Tracks   []TrackTotals
}

// Open returns the rows that were received and are neither refused nor accepted.
func (t FlowTotals) Open() uint64 {
	// What leaves was counted before what came in, see totals.
	settled := t.Accepted + Sum(t.Refused)
	return max(t.Received, settled) - settled
}

// TrackTotals is a flow's account on one track at one moment.
type TrackTotals struct {
	Track     string
	Delivered uint64
	Filtered  uint64
	Pending   uint64 // taken, and neither delivered, filtered nor lost
	Lost      map[string]uint64
}

// Totals returns the account of every flow in the order in which they came.
func (a *Account) Totals() []FlowTotals {
	a.mu.Lock()
	flows := slices.Clone(a.mu.flows)
	a.mu.Unlock()
	out := make([]FlowTotals, 0, len(flows))
	for _, f := range flows {
		out = append(out, a.totals(f))
	}
	return out
}

func (a *Account) totals(f *Flow) FlowTotals {
	t := FlowTotals{
		Origin: f.Origin, Name: f.Name,
		Received: f.Received.Load(), Accepted: f.Accepted.Load(),
		Refused: f.Refused.Counts(), Dropped: f.Dropped.Counts(),
	}
	for i := range f.Tracks {
		track := &f.Tracks[i]
		// What leaves is read before what came in, so that pending is never negative.
		delivered, filtered, lost := track.Delivered.Load(), track.Filtered.Load(), track.Lost.Counts()
		pending := track.Taken.Load() - delivered - filtered - Sum(lost)
		t.Tracks = append(t.Tracks, TrackTotals{
			Track: a.tracks[i], Delivered: delivered, Filtered: filtered, Pending: pending, Lost: lost,
		})
	}
	return t
}

// Sum adds up counts by reason.
func Sum(counts map[string]uint64) uint64 {
	n := uint64(0)
	for _, c := range counts {
		n += c
	}
	return n
}
