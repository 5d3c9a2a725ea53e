package pipeline

import (
	"time"

	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
)

// Status is a pipeline at one moment.
type Status struct {
	Name        string
	Phase       Phase
	Err         error     // why it failed; nil: it did not
	Started     time.Time // when it began to run; zero: not yet
	Flows       []telemetry.FlowTotals
	Tracks      []TrackStatus
	AtRisk      AtRisk
	Memory      Memory
	Unaccounted uint64        // messages by which account and census differ; must be 0
	Backup      *BackupStatus // nil: there is none
}

// AtRisk is what was received and is not yet accepted: a power loss now would lose it
// unless its source can be read again.
type AtRisk struct {
	Rows   uint64
	Oldest time.Duration // how long the oldest of them has been here
}

// Memory is the payload that a pipeline holds, in bytes.
type Memory struct {
	Used, Limit int
}

// TrackStatus is a track at one moment.
type TrackStatus struct {
	Name    string
	Pending uint64 // counted batch by batch
	Waiting string // why the destination cannot be told of the flows; empty: it was
	delivery.State

	Interval      time.Duration     // between checkpoints
	Timeout       time.Duration     // of a checkpoint
	PendingBytes  uint64            // of all pending messages; estimated where only the store has them
	OnDisk        uint64            // pending messages that only the store has
	OldestPending time.Duration     // how long the oldest pending message has been here
	QueueMessages int               // waiting to be sent live
	QueueBytes    int               // of those
	Evicted       uint64            // messages that left the queue of live ones for the store
	Live, Again   LaneStatus        // sent as they come; sent from the store
	Unbound       []string          // flows that wait for the destination, with what it says
	StuckSince    time.Time         // when a permanent error stopped it; zero: it is not stuck
	StuckReason   string            // that error
	Streams       map[string]uint64 // ended streams by the name of their gRPC status code
}

// LaneStatus is one way to a destination: live, or from the store.
type LaneStatus struct {
	Messages    uint64 // sent; each time that they were sent
	Bytes       uint64 // of those
	Checkpoints uint64 // asked for: of these Timed by the interval, the others by what happened
	Timed       uint64
	Confirmed   uint64 // answered OK
	Late        uint64 // of these, after the timeout
	Failures    uint64 // streams that ended without a confirmation
	Retries     uint64 // streams that failed since the last one that was confirmed
	Unanswered  int    // ended streams that wait for their answer

	Stream         StreamStatus        // the open one
	CheckpointTime telemetry.Durations // from the end of a stream to its answer
}

// StreamStatus is an open stream. The zero value: there is none.
type StreamStatus struct {
	Since    time.Time
	Messages uint64 // sent on it
	Bytes    uint64
}

// BackupStatus is the store of a pipeline on disk.
type BackupStatus struct {
	Dir         string
	Files       int    // data files
	Unconfirmed int    // of these, with messages that some track has not confirmed
	Kept        int    // of these, confirmed and kept because of `retain`
	Finished    uint64 // files whose messages were all confirmed, since the start
	Bytes       int64  // of all files
	ActiveBytes int64  // of the file that is being written
	Rotations   uint64
	Messages    uint64 // written since the start
	Written     uint64 // bytes of those
	Again       uint64 // messages that had to be written again after a failed sync
	Skipped     uint64 // messages that all tracks had confirmed before they were written

	NextID      uint64
	DurableID   uint64 // all messages up to it are durable
	CommittedID uint64 // all messages up to it are confirmed by every track

	WaitingMessages int // for the disk
	WaitingBytes    int
	OldestWaiting   time.Duration
	Unjournaled     uint64 // confirmed messages whose confirmation is not durable yet
	Sync            telemetry.Durations
	FailedSyncs     uint64

	Lagging      bool   // more waits for the disk than may
	Full         bool   // the disk, or what the backup may use of it
	Trouble      string // what keeps it from writing; empty: nothing does
	TroubleSince time.Time
	Dropped      uint64 // messages that were deleted or not stored for want of room
	DeadLetters  uint64 // messages that a destination refused for good
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
