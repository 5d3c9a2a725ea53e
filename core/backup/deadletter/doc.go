// Package deadletter keeps the messages that a destination refuses for good.
//
// For each track a Store writes pairs of files, a new one after each start:
//
//	<track>-001.pbfs   the messages, a chunk for each, as every reader of PBFS takes them
//	<track>-001.jsonl  a line for each message: which one it was, why and when it was
//	                   refused, and the offset of its chunk; see Line
//
// It promises: when Put returns nil, message and line are durable; when it does not,
// the caller still has the message, which may be in a file nevertheless. So a message
// may be there twice, under the same track and id, and never not at all. Nothing is
// deleted, cut or written again. At the end of a file there may be parts of what a
// crash has interrupted: a line that is none, a chunk with a wrong checksum. Readers
// skip them; lines in front of them stand.
//
// The files are for people and their tools: they may be moved away or deleted at any
// time, also to make room.
//
// A Store is safe for concurrent use. One process uses a directory at a time.
package deadletter
