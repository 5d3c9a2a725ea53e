// Package outfile writes files that appear whole or not at all, for transports
// whose destination is a directory.
//
// A [Dir] is a destination directory. What is not finished lies in a directory of
// its own in there, named .pipelined-<16 hexadecimal digits>.tmp, which is locked
// as long as its process lives. Several processes may thus write below one
// directory. Whoever opens it removes what processes that are gone have left
// behind: in directories with such a name, and only files that have the names
// that this package gives.
//
// A [Set] holds the files of one delivery stream. Publish gives all of them their
// final names, or none: it writes everything to disk, then renames, then writes
// the directories to disk. An existing file is never replaced; the caller offers
// another name. Should Publish fail half way, what already has its final name is
// removed again. So a file under its final name is complete, and its stream was
// confirmed unless the process died in that moment.
//
// A [File] is written to disk every 32 MiB, so that no confirmation waits for
// more than that. After its first error it takes nothing more.
//
// A Set belongs to one goroutine at a time; only Abort may come from another. A
// Dir may be used from many. Close of a Dir aborts what is left.
package outfile
