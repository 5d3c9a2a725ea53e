package status

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// usualAge is how old a pending message may be when all is well and the intervals of
// the track are not known.
const usualAge = 70 * time.Second

// convert takes over what a pipeline says of itself. Rates and sentence are missing.
func convert(s pipeline.Status, now time.Time) Pipeline {
	p := Pipeline{
		Name: s.Name, phase: string(s.Phase), Started: s.Started, Elapsed: since(s.Started, now), Unaccounted: s.Unaccounted,
		AtRisk: AtRisk{Messages: s.AtRisk.Rows, Oldest: Seconds(s.AtRisk.Oldest)},
		Memory: Memory{Used: s.Memory.Used, Limit: s.Memory.Limit},
		Flows:  convertFlows(s.Flows),
		Tracks: []Track{},
		Backup: convertBackup(s.Backup),
	}
	if s.Err != nil {
		p.Error = s.Err.Error()
	}
	for i, t := range s.Tracks {
		track := convertTrack(t, now)
		for _, f := range p.Flows {
			track.Delivered += f.Tracks[i].Delivered
			track.Lost += telemetry.Sum(f.Tracks[i].Lost)
		}
		if p.storedBefore(i) > 0 { // it came at an unknown time before the start
			track.OldestPending = max(track.OldestPending, p.Elapsed)
		}
		p.Tracks = append(p.Tracks, track)
	}
	return p
}

func convertFlows(totals []telemetry.FlowTotals) []Flow {
	flows := make([]Flow, 0, min(len(totals), MaxFlows+1))
	for i, t := range totals {
		f := convertFlow(t)
		switch {
		case i < MaxFlows:
			flows = append(flows, f)
		case i == MaxFlows:
			f.Name, f.Asset, f.ClientKey, f.Run = OtherFlows, "", "", ""
			flows = append(flows, f)
		default:
			flows[MaxFlows].add(f)
		}
	}
	return flows
}

func convertFlow(t telemetry.FlowTotals) Flow {
	f := Flow{
		Name: t.Name, Asset: t.Origin.Asset, ClientKey: t.Origin.ClientKey, Run: t.Origin.Run,
		Received: t.Received, Accepted: t.Accepted, Refused: t.Refused, Dropped: t.Dropped,
		Tracks: []FlowTrack{},
	}
	for _, track := range t.Tracks {
		f.Tracks = append(f.Tracks, FlowTrack{
			Track: track.Track, Delivered: track.Delivered, Filtered: track.Filtered, Pending: track.Pending, Lost: track.Lost,
		})
	}
	return f
}

// add adds the account of another flow of the same pipeline.
func (f *Flow) add(other Flow) {
	f.Received += other.Received
	f.Accepted += other.Accepted
	f.Refused = sumOf(f.Refused, other.Refused)
	f.Dropped = sumOf(f.Dropped, other.Dropped)
	for i, t := range other.Tracks {
		f.Tracks[i].Delivered += t.Delivered
		f.Tracks[i].Filtered += t.Filtered
		f.Tracks[i].Pending += t.Pending
		f.Tracks[i].Lost = sumOf(f.Tracks[i].Lost, t.Lost)
	}
}

// sumOf adds up counts by reason. Beyond a bound, reasons are not told apart; those of
// a, which is a sum already, stay.
func sumOf(a, b map[string]uint64) map[string]uint64 {
	const maxReasons = 100
	sum := map[string]uint64{}
	maps.Copy(sum, a)
	for _, reason := range slices.Sorted(maps.Keys(b)) {
		n := b[reason]
		if _, known := sum[reason]; !known && len(sum) >= maxReasons {
			reason = "other"
		}
		sum[reason] += n
	}
	return sum
}

func convertTrack(t pipeline.TrackStatus, now time.Time) Track {
	track := Track{
		Name: t.Name, Pending: t.Pending, PendingBytes: t.PendingBytes, OnDisk: t.OnDisk,
		OldestPending: Seconds(t.OldestPending),
		QueueMessages: t.Queue.Messages, QueueBytes: t.Queue.Bytes, Evicted: t.Evicted,
		Live: convertLane(t.Live, now), Again: convertLane(t.Again, now),
		Waiting: t.Waiting, StuckSince: t.StuckSince, StuckReason: t.StuckReason,
		Unbound: t.Unbound, Streams: convertStreams(t.Streams), Paths: t.Paths, FileCount: t.FileCount,
		usual: t.Interval + t.Timeout,
	}
	if track.usual == 0 {
		track.usual = usualAge
	}
	if t.LastError != nil {
		track.LastError = t.LastError.Text()
	}
	return track
}

func convertLane(l delivery.LaneState, now time.Time) Lane {
	return Lane{
		Messages: l.Messages, Bytes: l.Bytes,
		Checkpoints: l.Checkpoints, Timed: l.Timed, Confirmed: l.Confirmed, Late: l.Late,
		Failures: l.Failures, Retries: l.Retries, Unanswered: l.Unanswered,
		StreamElapsed: since(l.Stream.Since, now), StreamMessages: l.Stream.Messages, StreamBytes: l.Stream.Bytes,
		Checkpoint: convertDurations(l.CheckpointTime),
	}
}

// convertStreams gives the codes the names of the specification of gRPC, such as
// "UNAVAILABLE", also where its library's, such as "Unavailable", were used.
func convertStreams(counts map[string]uint64) map[string]uint64 {
	names := map[string]string{}
	for code := range codes.Unauthenticated + 1 {
		names[code.String()] = sdk.StatusName(uint32(code))
	}
	out := map[string]uint64{}
	for name, n := range counts {
		if known, ok := names[name]; ok {
			name = known
		}
		out[name] += n
	}
	return out
}

// since returns the time from t to now; 0 if t is not set.
func since(t, now time.Time) Seconds {
	if t.IsZero() {
		return 0
	}
	return Seconds(max(0, now.Sub(t)))
}

func convertDurations(d telemetry.Durations) Durations {
	out := Durations{
		Count: d.Count(), Sum: Seconds(d.Sum), Last: Seconds(d.Last), Max: Seconds(d.Max), Counts: d.Counts,
	}
	for _, bound := range d.Bounds {
		out.Bounds = append(out.Bounds, Seconds(bound))
	}
	return out
}

func convertBackup(b *pipeline.BackupStatus) *Backup {
	if b == nil {
		return nil
	}
	return &Backup{
		Dir: b.Dir, Files: b.Files, Unconfirmed: b.Unconfirmed, Kept: b.Kept, Damaged: b.Damaged, Finished: b.Finished,
		Bytes: b.Bytes, ActiveBytes: b.ActiveBytes, Rotations: b.Rotations, Messages: b.Messages, Written: b.Written,
		NextID: b.NextID, DurableID: b.DurableID, CommittedID: b.CommittedID,
		WaitingMessages: b.WaitingMessages, WaitingBytes: b.WaitingBytes, OldestWaiting: Seconds(b.OldestWaiting),
		Unjournaled: b.Unjournaled, Sync: convertDurations(b.Sync),
		FailedSyncs: b.FailedSyncs, Again: b.Again, Skipped: b.Skipped,
		Lagging: b.Lagging, Full: b.Full, Trouble: b.Trouble, TroubleSince: b.TroubleSince,
		Dropped: b.Dropped, DeadLetters: b.DeadLetters,
	}
}
