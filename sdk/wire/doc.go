// Package wire is the plugin contract over gRPC, host side and plugin side: it
// converts, calls, maps errors and keeps account of credit. It decides nothing.
//
// The host side (Describe, Validate, Configure, OpenControl, OpenSource,
// OpenEncoder, OpenDeliver, …) is used by core and by the conformance kit. It
// trusts nothing that a plugin says: lengths, numbers, order and the promise of
// one answer for each batch are checked here, and what breaks the contract is an
// error that wraps ErrContract and says what the plugin did. The plugin side is
// Server, which drives an sdk.Source, sdk.Encoder or sdk.Transport; package serve
// puts it into a process.
//
// # Payloads
//
// A payload travels in a slot of a shared memory region, or inline if it is small,
// does not fit, or there is no region. Both give the same results. The host copies
// a plugin's payload once, into a Buffer, and gives the slot back at once.
//
// # Ownership and goroutines
//
// A stream of the host side starts no goroutine. Its Recv is called from one
// goroutine, all the time: releases and credit arrive there, so a Send that waits
// for room waits until Recv has read them. Recv never waits for such a Send. A stream
// ends when its context does; every stream must be read to its end or cancelled.
// A region serves one stream at a time, and is free for the next one only after
// Recv has returned io.EOF.
//
// A Buffer has a count of its users: whoever got it calls Release once, whoever
// passes it on calls Retain first. Slices given to a Send are not kept after it
// returns.
package wire
