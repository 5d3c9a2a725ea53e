package pipeline

import (
	"slices"
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

	Interval      time.Duration // between checkpoints
	Timeout       time.Duration // of a checkpoint
	PendingBytes  uint64        // of all pending messages; estimated where only the store has them
	OnDisk        uint64        // pending messages that only the store has
	OldestPending time.Duration // how long the oldest pending message has been here
	Unbound       []string      // flows that wait for the destination, with what it says
	StuckReason   string        // a permanent error that stopped it; empty: it is not stuck
}

// BackupStatus is the store of a pipeline on disk.
type BackupStatus struct {
	Dir         string
	Files       int    // data files
	Unconfirmed int    // of these, with messages that some track has not confirmed
	Kept        int    // of these, confirmed and kept because of `retain`
	Damaged     int    // of these, kept because something in them is not readable or not known
	Finished    uint64 // files whose messages were all confirmed: those kept, and those deleted since the start
	Bytes       int64  // of all files, with their indexes
	ActiveBytes int64  // of the file that is being written
	Rotations   uint64
	Messages    uint64 // written since the start
	Written     uint64 // bytes of those

	NextID      uint64
	DurableID   uint64 // all messages up to it are durable
	CommittedID uint64 // all messages up to it are confirmed by every track

	WaitingMessages int // for the disk
	WaitingBytes    int
	OldestWaiting   time.Duration
	Unjournaled     uint64 // confirmed messages whose confirmation is not durable yet
	Sync            telemetry.Durations

	Lagging      bool   // more waits for the disk than may
	Full         bool   // the disk, or what the backup may use of it
	Trouble      string // what keeps it from writing; empty: nothing does
	TroubleSince time.Time
	Again        uint64 // messages that had to be written again after a failed sync
	Skipped      uint64 // messages that all tracks had confirmed before they were written
	FailedSyncs  uint64
	Dropped      uint64 // messages that were deleted or not stored for want of room
	DeadLetters  uint64 // messages that a destination refused for good
}

// censusReadings is how often account and census are read until they agree. While data
// flows they are of different moments; what is wrong stays wrong.
const censusReadings = 10

// Status returns how the pipeline is.
func (p *Pipeline) Status() Status {
	p.mu.Lock()
	s := Status{Name: p.config.Name, Phase: p.mu.phase, Err: p.mu.err, Started: p.mu.started}
	tracks, sources, store := p.mu.tracks, p.mu.sources, p.mu.store
	p.mu.Unlock()
	for range censusReadings {
		s.Tracks = nil
		for _, t := range tracks {
			s.Tracks = append(s.Tracks, t.status())
		}
		s.Flows = p.account.Totals()
		if s.Unaccounted = unaccounted(s); s.Unaccounted == 0 {
			break
		}
	}
	s.AtRisk = atRisk(s.Flows, sources)
	s.Memory = Memory{Used: p.memory.Used(), Limit: p.memory.Limit()}
	if store != nil {
		s.Backup = store.status()
	}
	return s
}

func (t *track) status() TrackStatus {
	s := TrackStatus{
		Name: t.delivery.Name(), Pending: t.delivery.Pending(), State: t.delivery.State(),
		Interval: t.block.Checkpoint.Interval, Timeout: t.block.Checkpoint.Timeout,
		OnDisk: t.delivery.OnDisk(), OldestPending: t.delivery.OldestPending(),
	}
	if sent := s.Live.Messages + s.Again.Messages; sent > 0 {
		s.PendingBytes = uint64(float64(s.Pending) * float64(s.Live.Bytes+s.Again.Bytes) / float64(sent))
	}
	if reason := t.waiting.Load(); reason != nil {
		s.Waiting = *reason
	}
	if !s.StuckSince.IsZero() && s.LastError != nil {
		s.StuckReason = s.LastError.Text()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Unbound = slices.Clone(t.mu.unbound)
	return s
}

// atRisk returns what was received and is neither refused nor accepted.
func atRisk(flows []telemetry.FlowTotals, sources []*source) AtRisk {
	var risk AtRisk
	for _, f := range flows {
		risk.Rows += f.Open()
	}
	for _, src := range sources {
		if since := src.ledger.oldest(); !since.IsZero() {
			risk.Oldest = max(risk.Oldest, time.Since(since))
		}
	}
	return risk
}

// status returns how the store is.
func (s *store) status() *BackupStatus {
	stats, state := s.backup.Stats(), s.manager.State()
	out := &BackupStatus{
		Dir: s.dir, Files: stats.Segments, Unconfirmed: stats.Waiting, Kept: stats.Confirmed, Damaged: stats.Kept,
		Finished: stats.Done + uint64(stats.Confirmed),
		Bytes:    stats.Bytes, ActiveBytes: stats.Active, Rotations: stats.Finished,
		Messages: state.Messages, Written: state.Bytes,
		NextID: stats.NextID, DurableID: state.DurableID, CommittedID: s.committed(stats.NextID),
		WaitingMessages: state.Waiting.Messages, WaitingBytes: state.Waiting.Bytes,
		OldestWaiting: state.OldestWaiting, Unjournaled: state.Unjournaled, Sync: state.Sync,
		Lagging: state.Lagging, Full: state.Full, TroubleSince: state.TroubleSince,
		Again: state.Again, Skipped: state.Skipped, FailedSyncs: state.FailedSyncs,
		Dropped: state.Dropped, DeadLetters: s.letters.Count(),
	}
	if state.Trouble != nil {
		out.Trouble = state.Trouble.Error()
	}
	return out
}

// committed returns the id up to which every track has confirmed everything.
func (s *store) committed(next uint64) uint64 {
	committed := next - 1
	for _, track := range s.tracks {
		if missing := s.manager.Missing(track); !missing.Empty() {
			committed = min(committed, missing.First()-1)
		}
	}
	return committed
}

// Undelivered counts what a finished pipeline received and did not accept: by the
// flows whose source can be read again, and by all others.
func (p *Pipeline) Undelivered() (replayable, gone uint64) {
	for _, f := range p.account.Totals() {
		if p.isReplayable(f) {
			replayable += f.Open()
		} else {
			gone += f.Open()
		}
	}
	return replayable, gone
}

// Kept counts the messages that a finished pipeline has in its backup for the track
// that has most of them to come.
func (p *Pipeline) Kept() uint64 {
	if p.store == nil {
		return 0
	}
	most := uint64(0)
	for _, track := range p.store.tracks {
		missing := p.store.backup.Missing(track)
		most = max(most, missing.Count())
	}
	return most
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

// unaccounted returns how far, over all tracks, the pending messages of the account
// are from those that are found when every batch is looked at. While data flows the
// two are of different moments; at the end it must be 0.
func unaccounted(s Status) uint64 {
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
