// Package pbfsview looks into PBFS files of any writer for people: it reads their
// messages, says what is damaged, and renders messages as JSON and CSV.
//
// A [File] is read with a [Reader] from front to back. Messages that can be read
// are returned in the order of the file; every range of bytes that cannot is
// returned as [Damage], and reading goes on behind it. What package pbfs promises
// of its Scanner holds here too: hostile content costs linear time and bounded
// memory, about 500 MiB at most and some 30 MiB for files as they are. A message is
// decoded only if it has at most [MaxValues] values. Output is not bounded: CSV
// repeats the name of the flow for each value.
//
// [Walk] finds the files below directories. Nothing in this package starts
// goroutines, prints, or writes files.
package pbfsview
