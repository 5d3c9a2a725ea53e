package pipeline

import (
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
)

// Status is a pipeline at one moment.
type Status struct {
	Name   string
	Phase  Phase
	Err    error // why it failed; nil: it did not
	Flows  []telemetry.FlowTotals
	Tracks []TrackStatus
}

// TrackStatus is a track at one moment.
type TrackStatus struct {
	Name    string
	Pending uint64 // counted batch by batch
	Waiting string // why the destination cannot be told of the flows; empty: it was
	delivery.State
}

// Status returns how the pipeline is.
func (p *Pipeline) Status() Status {
	p.mu.Lock()
	s := Status{Name: p.config.Name, Phase: p.mu.phase, Err: p.mu.err}
	tracks := p.mu.tracks
	p.mu.Unlock()
	for _, t := range tracks {
		track := TrackStatus{Name: t.delivery.Name(), Pending: t.delivery.Pending(), State: t.delivery.State()}
		if reason := t.waiting.Load(); reason != nil {
			track.Waiting = *reason
		}
		s.Tracks = append(s.Tracks, track)
	}
	s.Flows = p.account.Totals()
	return s
}

// Undelivered counts what a finished pipeline received and did not deliver: by the
// flows whose source can be read again, and by all others.
func (p *Pipeline) Undelivered() (replayable, gone uint64) {
	for _, f := range p.account.Totals() {
		open := f.Received - f.Accepted - telemetry.Sum(f.Refused)
		if p.isReplayable(f) {
			replayable += open
		} else {
			gone += open
		}
	}
	return replayable, gone
}

// Lost counts the rows that sources lost and that destinations will never get.
func (p *Pipeline) Lost() uint64 {
	n := uint64(0)
	for _, f := range p.account.Totals() {
		n += telemetry.Sum(f.Dropped)
		for _, t := range f.Tracks {
			n += telemetry.Sum(t.Lost)
		}
	}
	return n
}

// Unaccounted returns how far, over all tracks, the pending messages of the account
// are from those that are found when every batch is looked at. It must be 0.
func (p *Pipeline) Unaccounted() uint64 {
	s := p.Status()
	n := uint64(0)
	for i, track := range s.Tracks {
		pending := uint64(0)
		for _, f := range s.Flows {
			pending += f.Tracks[i].Pending
		}
		n += max(pending, track.Pending) - min(pending, track.Pending)
	}
	return n
}

func (p *Pipeline) isReplayable(f telemetry.FlowTotals) bool {
	p.flows.mu.Lock()
	defer p.flows.mu.Unlock()
	known := p.flows.mu.flows[flowIdentity{f.Origin, f.Name}]
	return known != nil && known.replayable
}
