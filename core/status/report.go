package status

import (
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the version of the JSON form of a Report.
const Schema = 1

// Report is how a host is at one moment.
type Report struct {
	Schema    int        `json:"schema"`
	Version   string     `json:"version"` // of the program
	PID       int        `json:"pid"`
	DataDir   string     `json:"data_dir"`
	Time      time.Time  `json:"time"`
	Delivered *bool      `json:"delivered,omitempty"` // the answer to Wait
	Pipelines []Pipeline `json:"pipelines"`
}

// State is how a pipeline is, in one word.
type State string

// The states.
const (
	Starting   State = "starting"
	Delivering State = "delivering"
	Waiting    State = "waiting"   // for a destination to answer, before anything can be sent
	Retrying   State = "retrying"  // the last stream failed
	Behind     State = "behind"    // older messages are pending than a checkpoint explains
	Stuck      State = "stuck"     // a destination refuses for good, until somebody changes something
	Finishing  State = "finishing" // the sources have ended; the rest is being delivered
	Finished   State = "finished"
	Failed     State = "failed"
)

// States returns all states.
func States() []State {
	return []State{Starting, Delivering, Waiting, Retrying, Behind, Stuck, Finishing, Finished, Failed}
}

// Seconds is a time span; in JSON it is a number of seconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Seconds())
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var f float64
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("seconds: %w", err)
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}

// Pipeline is one pipeline of a Report.
type Pipeline struct {
	Name        string    `json:"name"`
	State       State     `json:"state"`
	Sentence    string    `json:"sentence"`        // for people; State in words
	Error       string    `json:"error,omitempty"` // why it failed
	Started     time.Time `json:"started,omitzero"`
	Elapsed     Seconds   `json:"elapsed_seconds"` // since then
	AtRisk      AtRisk    `json:"at_risk"`
	Memory      Memory    `json:"memory"`
	Unaccounted uint64    `json:"unaccounted_messages"`
	Flows       []Flow    `json:"flows"`
	Tracks      []Track   `json:"tracks"`
	Backup      *Backup   `json:"backup,omitempty"` // nil: there is none

	phase string // what the pipeline itself says it is doing
}

// AtRisk is what was received and not yet accepted.
type AtRisk struct {
	Messages uint64  `json:"messages"`
	Oldest   Seconds `json:"oldest_seconds"`
}

// Memory is the payload that a pipeline holds.
type Memory struct {
	Used  int `json:"used_bytes"`
	Limit int `json:"limit_bytes"`
}

// Flow is the account of a flow. A Report has at most MaxFlows of a pipeline by
// name; the others are summed up as OtherFlows.
type Flow struct {
	Name      string            `json:"name"`
	Asset     string            `json:"asset,omitempty"`      // of a flow that brought its own
	ClientKey string            `json:"client_key,omitempty"` // the same
	Run       string            `json:"run,omitempty"`        // the same
	Received  uint64            `json:"received"`
	Accepted  uint64            `json:"accepted"`
	Refused   map[string]uint64 `json:"refused,omitempty"` // by reason
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // lost by the source, by reason
	Tracks    []FlowTrack       `json:"tracks"`            // in the order of the pipeline's
}

// MaxFlows bounds the flows of a pipeline in a Report; OtherFlows stands for those
// beyond it.
const (
	MaxFlows   = 10_000
	OtherFlows = "other"
)

// FlowTrack is the account of a flow on one track, in messages.
type FlowTrack struct {
	Track     string            `json:"track"`
	Delivered uint64            `json:"delivered"`
	Filtered  uint64            `json:"filtered,omitempty"` // not meant for this destination
	Pending   uint64            `json:"pending"`
	Lost      map[string]uint64 `json:"lost,omitempty"` // by reason
}

// Track is one destination of a pipeline.
type Track struct {
	Name          string            `json:"name"`
	Delivered     uint64            `json:"delivered"`
	Pending       uint64            `json:"pending"`
	Lost          uint64            `json:"lost"`
	PendingBytes  uint64            `json:"pending_bytes"`
	OnDisk        uint64            `json:"on_disk"` // pending messages that only the backup has
	OldestPending Seconds           `json:"oldest_pending_seconds"`
	Drain         *Seconds          `json:"drain_seconds,omitempty"` // until nothing is pending, at the rate of the last minute; nil: not known, or never
	Rates         *Rates            `json:"rates,omitempty"`         // nil: not known yet
	QueueMessages int               `json:"queue_messages"`
	QueueBytes    int               `json:"queue_bytes"`
	Evicted       uint64            `json:"evicted"`
	Live          Lane              `json:"live"`
	Again         Lane              `json:"again"`
	Waiting       string            `json:"waiting,omitempty"` // why the destination cannot be told of flows
	LastError     string            `json:"last_error,omitempty"`
	StuckSince    time.Time         `json:"stuck_since,omitzero"`
	StuckReason   string            `json:"stuck_reason,omitempty"`
	Unbound       []string          `json:"unbound,omitempty"` // flows that wait, with what the destination says
	Streams       map[string]uint64 `json:"streams,omitempty"` // ended streams by gRPC status
	Paths         []string          `json:"paths,omitempty"`   // files that it wrote, the newest
	FileCount     uint64            `json:"file_count"`

	usual time.Duration // how old a pending message may be when all is well
}

// Rates are those of about the last minute.
type Rates struct {
	Window    Seconds `json:"window_seconds"`
	Delivered float64 `json:"delivered_per_second"`
	Taken     float64 `json:"taken_per_second"`
	Bytes     float64 `json:"bytes_per_second"` // sent
}

// Lane is one way to a destination: live, or again from the backup.
type Lane struct {
	Messages       uint64    `json:"messages"` // each time that they were sent
	Bytes          uint64    `json:"bytes"`
	Checkpoints    uint64    `json:"checkpoints"`
	Timed          uint64    `json:"checkpoints_timed"`
	Confirmed      uint64    `json:"checkpoints_confirmed"`
	Late           uint64    `json:"checkpoints_late"`
	Failures       uint64    `json:"failures"`
	Retries        uint64    `json:"retries"`
	Unanswered     int       `json:"unanswered"`
	StreamElapsed  Seconds   `json:"stream_elapsed_seconds"` // of the open stream; 0: there is none
	StreamMessages uint64    `json:"stream_messages"`
	StreamBytes    uint64    `json:"stream_bytes"`
	Checkpoint     Durations `json:"checkpoint_time"`
}

// Durations counts durations by length.
type Durations struct {
	Count  uint64    `json:"count"`
	Sum    Seconds   `json:"sum_seconds"`
	Last   Seconds   `json:"last_seconds"`
	Max    Seconds   `json:"max_seconds"`
	Bounds []Seconds `json:"bounds_seconds,omitempty"` // where the buckets end
	Counts []uint64  `json:"counts,omitempty"`         // one more than Bounds
}

// Backup is the store of a pipeline on disk.
type Backup struct {
	Dir             string    `json:"dir"`
	Files           int       `json:"files"`
	Unconfirmed     int       `json:"files_unconfirmed"`
	Kept            int       `json:"files_kept"`
	Damaged         int       `json:"files_damaged"`
	Finished        uint64    `json:"files_finished"`
	Bytes           int64     `json:"bytes"`
	ActiveBytes     int64     `json:"active_bytes"`
	Rotations       uint64    `json:"rotations"`
	Messages        uint64    `json:"messages_written"`
	Written         uint64    `json:"bytes_written"`
	NextID          uint64    `json:"next_id"`
	DurableID       uint64    `json:"durable_id"`
	CommittedID     uint64    `json:"committed_id"`
	WaitingMessages int       `json:"waiting_messages"`
	WaitingBytes    int       `json:"waiting_bytes"`
	OldestWaiting   Seconds   `json:"oldest_waiting_seconds"`
	Unjournaled     uint64    `json:"unjournaled_confirmations"`
	Sync            Durations `json:"sync"`
	FailedSyncs     uint64    `json:"failed_syncs"`
	Again           uint64    `json:"written_again"`
	Skipped         uint64    `json:"skipped"`
	Lagging         bool      `json:"lagging"`
	Full            bool      `json:"full"`
	Trouble         string    `json:"trouble,omitempty"`
	TroubleSince    time.Time `json:"trouble_since,omitzero"`
	Dropped         uint64    `json:"dropped"`
	DeadLetters     uint64    `json:"dead_letters"`
}
