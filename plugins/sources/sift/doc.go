// Package siftserver is the bundled source sift: a server for the ingestion API
// of Sift. Clients that are made for Sift stream to it without a change.
//
// What it promises:
//
//   - An ingestion stream is answered with OK only when the host has acknowledged
//     every row of it that was not refused. The host is asked to when the client
//     half-closes, with 8 s for it. Clients wait for 10 s: after 9.5 s without an
//     acknowledgement the answer is UNAVAILABLE, and so it is at once when the host
//     goes; the client sends the rows again.
//   - Rows of one stream keep their order. Rows that were received are emitted
//     even if the client goes away. Delivery is at least once.
//   - A row that does not fit its ingestion config is refused, reported with the
//     reason, and counted; the stream goes on unless the row asks otherwise.
//   - A flow's origin is the name of the client's asset, the client key of its
//     config (the config's id if it has none), and the client key of the run (its
//     name if it has none).
//   - While the host gives no credit, streams are not read; HTTP/2 flow control
//     slows the clients down.
//
// The source serves the ping, ingestion config, run and asset services as far as
// clients use them to start (package registry), and IngestWithConfigDataStream.
// Every other call is answered with UNIMPLEMENTED.
//
// With keys, every call needs one of them as its bearer key; it is checked before
// anything else of the call is read. Without keys only this machine can connect.
//
// Memory is bounded by max_streams: for each stream one message, the rows that
// are being gathered (gatherBytes), memory for the flows it uses (laneBytes) and
// what HTTP/2 lets it send ahead (streamWindow). Connections are limited to twice
// that number, the calls on each to callsPerConnection. The definition of each
// flow in use is kept once, until the source ends; so is a small record of each
// origin.
//
// Who owns what: Run owns the server, the registry and all goroutines and joins
// them. A stream has a handler, which gives the answer, and a reader; both add
// rows to, and emit from, the stream's gathered rows under one lock. The pacer
// emits what streams have gathered, all streams in turn.
package siftserver
