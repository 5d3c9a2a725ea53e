// Package sift is the transport to Sift and to services compatible with it. It
// takes encoded batches of ingestion messages and sends them as they are.
//
// Register makes asset, ingestion config, flows and run known by unary calls,
// each with a deadline; repeating it changes nothing that is there already. A
// flow that the destination has with other content is a conflict and keeps no
// other flow back.
//
// A stream is one call of the ingest method, many messages packed into each
// write. Finish confirms it only by the answer OK that comes after the
// destination has shown, by answering a PING behind the last message, that it
// had everything and still held the stream open, and after the stream was
// half-closed: see docs/adr/0005-packed-send.md. Whatever else ends a stream
// confirms nothing. Errors carry the gRPC code, the wait that the destination
// asked for, and a class.
//
// Streams of one Deliver call of the host share a connection; each is used by one
// goroutine at a time. Other calls have connections of their own, so rows that are
// delivered again hold no live rows up: neither while they wait for the
// destination to read them, nor while their connection is made. The transport owns its connections and their goroutines and joins them in
// Shutdown. Nothing is retried here: the host does that.
package sift
