// Package replay delivers the messages of PBFS files of any writer to a transport.
//
// A [Replayer] reads a file from front to back, gathers messages into batches
// without changing their order within a flow, and hands them to delivery streams of
// a [Session]. Messages are sent as they are. A stream is finished after
// Settings.CheckpointBytes or Settings.Interval; what its answer confirms is noted
// in a [Store] before the next stream begins, so that another run goes on behind it,
// whatever ended this one. Delivery is at least once: what a stream carried whose
// answer was not noted is sent again.
//
// Damage is skipped and reported by byte ranges. What lies behind damage is sent
// only where its place is certain: the length in the header of the damaged chunk, or
// an index, leads to it. What was found by searching is counted, and sent only with
// Settings.Resync.
//
// A Store knows files by their content, not by their name: a record is the SHA-256
// of the bytes up to where everything is confirmed. A file that was moved, copied, or
// that has grown is recognised.
//
// Memory is bounded, whatever is in a file: that of a pbfs.Scanner, at most 8 MiB of
// batches, and the names of the flows that were announced. Files are never written
// to. A Session of package wire has one goroutine, which its Close joins; nothing
// else in this package starts any.
package replay
