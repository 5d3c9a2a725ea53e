package status

import (
	"math"
	"time"

	"github.com/pipelined/pipelined/core/telemetry"
)

// The metrics that the reference client has too keep its words; docs/metrics.md
// shows which are which.

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

func buildInfo() description {
	return description{"pipelined_build_info", gauge, []string{"version"}, "Always 1."}
}

func stateMetric() description {
	return description{"pipelined_state", gauge, []string{"pipeline", "state"}, "1 for the state that the pipeline is in, 0 for the others."}
}

func streamsMetric() description {
	return description{
		"pipelined_grpc_status_counts_total", counter,
		[]string{"pipeline", "track", "status"},
		"Streams that have ended, by gRPC status.",
	}
}

func lostMetric() description {
	return description{
		"pipelined_messages_lost_by_reason_total", counter,
		[]string{"pipeline", "track", "reason"},
		"The same of all flows, by reason; at most 100 reasons, then other.",
	}
}

func checkpointTime() description {
	return description{
		"pipelined_checkpoint_duration_seconds", histogram,
		[]string{"pipeline", "track", "lane"},
		"Time from the end of a stream to its answer.",
	}
}

func syncTime() description {
	return description{"pipelined_backups_sync_duration_seconds", histogram, []string{"pipeline"}, "Time that a sync of the backup took."}
}

func pipelineMetrics() []metric[Pipeline] {
	m := func(name, kind, help string, value func(Pipeline) float64) metric[Pipeline] {
		return metric[Pipeline]{description{"pipelined_" + name, kind, []string{"pipeline"}, help}, value}
	}
	return []metric[Pipeline]{
		m("elapsed_seconds", gauge, "Time since the pipeline began to run.", func(p Pipeline) float64 { return seconds(p.Elapsed) }),
		m("loaded_flows", gauge, "Flows that are known.", func(p Pipeline) float64 { return float64(len(p.Flows)) }),
		m("unique_flows_received", gauge, "Flows of which messages were received.", func(p Pipeline) float64 {
			n := 0
			for _, f := range p.Flows {
				if f.Received > 0 {
					n++
				}
			}
			return float64(n)
		}),
		m("at_risk_messages", gauge, "Messages that were received and are not yet accepted.", func(p Pipeline) float64 { return float64(p.AtRisk.Messages) }),
		m("at_risk_oldest_seconds", gauge, "Time that the oldest of them has been here.", func(p Pipeline) float64 { return seconds(p.AtRisk.Oldest) }),
		m("memory_used_bytes", gauge, "Payload in memory.", func(p Pipeline) float64 { return float64(p.Memory.Used) }),
		m("memory_limit_bytes", gauge, "Payload that may be in memory.", func(p Pipeline) float64 { return float64(p.Memory.Limit) }),
		m("unaccounted_messages", gauge, "Messages by which the account differs from what is there. 0 when nothing moves.", func(p Pipeline) float64 { return float64(p.Unaccounted) }),
	}
}

func flowMetrics() []metric[Flow] {
	m := func(name, kind, help string, value func(Flow) uint64) metric[Flow] {
		return metric[Flow]{
			description{"pipelined_" + name, kind, []string{"pipeline", "flow"}, help},
			func(f Flow) float64 { return float64(value(f)) },
		}
	}
	return []metric[Flow]{
		m("messages_received_total", counter, "Messages that came from the source.", func(f Flow) uint64 { return f.Received }),
		m("messages_accepted_total", counter, "Messages that are safe and were acknowledged to the source.", func(f Flow) uint64 { return f.Accepted }),
		m("messages_refused_total", counter, "Messages that were wrong.", func(f Flow) uint64 { return telemetry.Sum(f.Refused) }),
		m("messages_dropped_by_source_total", counter, "Messages that the source lost itself.", func(f Flow) uint64 { return telemetry.Sum(f.Dropped) }),
	}
}

func accountMetrics() []metric[FlowTrack] {
	m := func(name, kind, help string, value func(FlowTrack) uint64) metric[FlowTrack] {
		return metric[FlowTrack]{
			description{"pipelined_" + name, kind, []string{"pipeline", "track", "flow"}, help},
			func(t FlowTrack) float64 { return float64(value(t)) },
		}
	}
	return []metric[FlowTrack]{
		m("messages_delivered_total", counter, "Messages that the destination has confirmed.", func(t FlowTrack) uint64 { return t.Delivered }),
		m("messages_pending", gauge, "Messages that it has not confirmed.", func(t FlowTrack) uint64 { return t.Pending }),
		m("messages_filtered_total", counter, "Messages that are not meant for it.", func(t FlowTrack) uint64 { return t.Filtered }),
		m("messages_lost_total", counter, "Messages that it will never get.", func(t FlowTrack) uint64 { return telemetry.Sum(t.Lost) }),
	}
}

func trackMetrics() []metric[Track] {
	m := func(name, kind, help string, value func(Track) float64) metric[Track] {
		return metric[Track]{description{"pipelined_" + name, kind, []string{"pipeline", "track"}, help}, value}
	}
	rate := func(of func(Rates) float64) func(Track) float64 {
		return func(t Track) float64 {
			if t.Rates == nil {
				return math.NaN()
			}
			return of(*t.Rates)
		}
	}
	return []metric[Track]{
		m("message_rate", gauge, "Messages delivered per second, over the last minute.", rate(func(r Rates) float64 { return r.Delivered })),
		m("byte_rate", gauge, "Bytes sent per second, over the last minute.", rate(func(r Rates) float64 { return r.Bytes })),
		m("oldest_pending_seconds", gauge, "Time that the oldest pending message has been here.", func(t Track) float64 { return seconds(t.OldestPending) }),
		m("pending_bytes", gauge, "Size of the pending messages; an estimate for those in the backup.", func(t Track) float64 { return float64(t.PendingBytes) }),
		m("pending_on_disk_messages", gauge, "Pending messages that only the backup has.", func(t Track) float64 { return float64(t.OnDisk) }),
		m("time_to_drain_seconds", gauge, "Time until nothing is pending, if delivery stays as fast and intake too. Missing: not known, or never.", func(t Track) float64 {
			if t.Drain == nil {
				return math.NaN()
			}
			return seconds(*t.Drain)
		}),
		m("ingestion_channel_depth", gauge, "Messages that wait to be sent live.", func(t Track) float64 { return float64(t.QueueMessages) }),
		m("ingestion_channel_bytes", gauge, "Size of those.", func(t Track) float64 { return float64(t.QueueBytes) }),
		m("old_messages_dropped_for_ingestion_total", counter, "Messages that left that queue for the backup and are sent from there.", func(t Track) float64 { return float64(t.Evicted) }),
		m("stuck", gauge, "1 when the destination refuses for good, until somebody changes something.", func(t Track) float64 { return truth(!t.StuckSince.IsZero()) }),
		m("unbound_flows", gauge, "Flows that wait because the destination does not take them as they are.", func(t Track) float64 { return float64(len(t.Unbound)) }),
		m("files_written_total", counter, "Files that the destination has finished.", func(t Track) float64 { return float64(t.FileCount) }),
	}
}

func laneMetrics() []metric[Lane] {
	m := func(name, kind, help string, value func(Lane) float64) metric[Lane] {
		return metric[Lane]{description{"pipelined_" + name, kind, []string{"pipeline", "track", "lane"}, help}, value}
	}
	return []metric[Lane]{
		m("messages_sent_total", counter, "Messages that were sent, each time that they were.", func(l Lane) float64 { return float64(l.Messages) }),
		m("bytes_sent_total", counter, "Size of those.", func(l Lane) float64 { return float64(l.Bytes) }),
		m("cur_retry_count", gauge, "Streams that failed since the last one that was confirmed.", func(l Lane) float64 { return float64(l.Retries) }),
		m("checkpoint_count_total", counter, "Checkpoints that were begun.", func(l Lane) float64 { return float64(l.Checkpoints) }),
		m("checkpoint_confirmed_count_total", counter, "Checkpoints that were answered OK.", func(l Lane) float64 { return float64(l.Confirmed) }),
		m("checkpoint_late_count_total", counter, "Of these, those answered after the timeout.", func(l Lane) float64 { return float64(l.Late) }),
		m("checkpoint_failed_count_total", counter, "Streams that ended without a confirmation.", func(l Lane) float64 { return float64(l.Failures) }),
		m("checkpoint_timer_reached_count_total", counter, "Checkpoints that the interval began.", func(l Lane) float64 { return float64(l.Timed) }),
		m("checkpoint_manually_reached_count_total", counter, "Checkpoints that something else began.", func(l Lane) float64 { return float64(l.Checkpoints - min(l.Timed, l.Checkpoints)) }),
		m("checkpoint_cur_elapsed_seconds", gauge, "Age of the open stream.", func(l Lane) float64 { return seconds(l.StreamElapsed) }),
		m("checkpoint_cur_messages_sent", gauge, "Messages sent on it.", func(l Lane) float64 { return float64(l.StreamMessages) }),
		m("checkpoint_cur_bytes_sent", gauge, "Size of those.", func(l Lane) float64 { return float64(l.StreamBytes) }),
		m("queued_checkpoints", gauge, "Ended streams that wait for their answer.", func(l Lane) float64 { return float64(l.Unanswered) }),
	}
}

func backupMetrics() []metric[Backup] {
	m := func(name, kind, help string, value func(Backup) float64) metric[Backup] {
		return metric[Backup]{description{"pipelined_" + name, kind, []string{"pipeline"}, help}, value}
	}
	return []metric[Backup]{
		m("backup_channel_depth", gauge, "Messages that wait for the disk.", func(b Backup) float64 { return float64(b.WaitingMessages) }),
		m("backup_channel_bytes", gauge, "Size of those.", func(b Backup) float64 { return float64(b.WaitingBytes) }),
		m("backup_channel_oldest_seconds", gauge, "Time since the oldest message came that is not durable.", func(b Backup) float64 { return seconds(b.OldestWaiting) }),
		m("messages_sent_to_backup_total", counter, "Messages that were written.", func(b Backup) float64 { return float64(b.Messages) }),
		m("old_messages_failed_adding_to_backup_total", counter, "Messages that were deleted or not stored for want of room.", func(b Backup) float64 { return float64(b.Dropped) }),
		m("backups_bytes_written_total", counter, "Size of the messages that were written.", func(b Backup) float64 { return float64(b.Written) }),
		m("backups_rotations_total", counter, "Files that were ended and followed by a new one.", func(b Backup) float64 { return float64(b.Rotations) }),
		m("backups_files", gauge, "Files on disk.", func(b Backup) float64 { return float64(b.Files) }),
		m("backups_files_kept", gauge, "Of these, those that are confirmed and kept (retain).", func(b Backup) float64 { return float64(b.Kept) }),
		m("backups_files_damaged", gauge, "Of these, those that are kept because something in them is not readable or not known.", func(b Backup) float64 { return float64(b.Damaged) }),
		m("backups_files_pending_ingestion", gauge, "Files with messages that a destination has not confirmed.", func(b Backup) float64 { return float64(b.Unconfirmed) }),
		m("backups_files_ingested_total", counter, "Files whose messages were all confirmed: those kept, and those deleted since the start.", func(b Backup) float64 { return float64(b.Finished) }),
		m("backups_bytes", gauge, "Size of all files on disk, with their indexes.", func(b Backup) float64 { return float64(b.Bytes) }),
		m("backups_cur_file_size_bytes", gauge, "Size of the file that is being written.", func(b Backup) float64 { return float64(b.ActiveBytes) }),
		m("backups_next_message_id", gauge, "Id behind those that may be in use.", func(b Backup) float64 { return float64(b.NextID) }),
		m("backups_durable_message_id", gauge, "Id up to which all messages are durable.", func(b Backup) float64 { return float64(b.DurableID) }),
		m("backups_committed_message_id", gauge, "Id up to which every destination has confirmed all messages.", func(b Backup) float64 { return float64(b.CommittedID) }),
		m("backups_unjournaled_confirmations", gauge, "Confirmed messages that would be sent again after a crash.", func(b Backup) float64 { return float64(b.Unjournaled) }),
		m("backups_sync_last_seconds", gauge, "Time that the last sync took.", func(b Backup) float64 { return seconds(b.Sync.Last) }),
		m("backups_sync_max_seconds", gauge, "Time that the longest sync took.", func(b Backup) float64 { return seconds(b.Sync.Max) }),
		m("backups_syncs_failed_total", counter, "Syncs that failed.", func(b Backup) float64 { return float64(b.FailedSyncs) }),
		m("backups_messages_written_again_total", counter, "Messages that had to be written again after a failed sync.", func(b Backup) float64 { return float64(b.Again) }),
		m("backups_messages_skipped_total", counter, "Messages that every destination had confirmed before they were written.", func(b Backup) float64 { return float64(b.Skipped) }),
		m("backups_lagging", gauge, "1 when more waits for the disk than may.", func(b Backup) float64 { return truth(b.Lagging) }),
		m("backups_full", gauge, "1 when the disk, or what the backup may use of it, is full.", func(b Backup) float64 { return truth(b.Full) }),
		m("backups_failing", gauge, "1 when the backup cannot write.", func(b Backup) float64 { return truth(b.Trouble != "") }),
		m("backups_dead_letters_total", counter, "Messages that a destination refused for good and that were put aside.", func(b Backup) float64 { return float64(b.DeadLetters) }),
	}
}

func seconds(s Seconds) float64 { return time.Duration(s).Seconds() }
