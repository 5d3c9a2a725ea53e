// Package backup is the log of a pipeline: encoded batches on disk until every
// destination has confirmed them.
//
// It writes segments, which are PBFS files, and keeps beside them, in a directory
// of its own, an index for each segment and the state journal: leases of ids,
// confirmed sets, seals, deletions, cursors. Docs: adr/0008-backup-on-disk.md.
//
// It promises, whatever the disk does:
//   - What Sync called durable is there after any crash until every track has
//     confirmed it, or until it was returned as lost.
//   - An id is given out once. A confirmation is never invented.
//   - No file that was there before a start is written to, and nothing is truncated.
//   - Doubt gives duplicates: what may not have been confirmed is missing.
//   - Damage never stops a start. It is reported, by id and time where they are
//     known, and everything readable behind it is used.
//
// A Backup starts no goroutine and reads no clock: when to sync, what to do while
// the disk is full, and when to probe again is its owner's business. Its methods
// are safe for concurrent use. Those that write segments wait for each other, but
// Append goes on during a Sync. Those that write the journal (Confirm) wait for each
// other, and not for segments. Stats, Missing, Unconfirmed, Cursors and Advance wait
// for no disk. A Backup keeps nothing that it is given but definitions, and what a
// Reader returns is valid until the next call.
package backup
