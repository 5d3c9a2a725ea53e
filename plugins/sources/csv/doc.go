// Package csv is the bundled source csv: it replays CSV and NDJSON files, or
// follows files that grow.
//
// # What it promises
//
// Every row that is read is either emitted or reported as refused, with its file
// and line in the log. Rows of one file keep their order; rows of several files
// are merged by event time. A row's stamp is the event time of the file to the
// nanosecond, unless it is shifted to now. The source is replayable: a position
// tells for each file where to go on, and is only accepted for a file with the
// same content before that place. What was read and not emitted when a run is
// stopped comes again after it. Memory is bounded whatever a file holds: a line may
// have 1 MiB.
//
// A replay keeps its pace from its first row on, after a restart from the first row
// that is left. Event times that are shifted to now (rebase) keep their shift.
//
// # Types
//
// A column that is not declared gets its type from the first 1,000 rows: bool
// (true, false), int64, uint64 for integers beyond int64, double, else string. A
// column without any value in them is a string. A later value that does not fit
// refuses its row. In files that are followed numbers are doubles, because a few
// rows say little; what was found is kept in the state directory, so that a
// restart finds the same.
//
// Numbers are decimal. "NaN", "inf" and "infinity", with or without a sign and in
// any case, are doubles like others; a number beyond its type's range refuses the
// row. An empty field is no value (see null).
//
// # Ownership
//
// Discover may run before Run, not at the same time. Run owns its files and one
// goroutine, and joins it.
package csv
