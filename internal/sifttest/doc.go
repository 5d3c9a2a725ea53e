// Package sifttest is a stand-in for the ingestion service, for tests: a real
// gRPC server on loopback, in the test's process, that other processes may
// connect to as well. It keeps assets, configs, flows and runs in memory, and
// the messages of every ingest stream together with what became of the stream.
//
// Tests make it misbehave: a Behaviour decides how one ingest stream is read and
// answered, Options.Intercept how a unary call is, and Freeze, Reset, SetReadRate,
// Stop, Drain and Start what happens to connections. Nothing here sleeps unless it
// is asked to: a test waits for what the server has seen.
//
// For many rows, Options.Discard keeps no messages and Options.Ledger says which
// numbered rows came and which were confirmed.
//
// The Server owns its goroutines and joins them at the end of the test.
package sifttest
