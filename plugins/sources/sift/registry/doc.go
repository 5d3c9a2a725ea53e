// Package registry keeps what clients of the ingestion API register: assets,
// ingestion configs with their flows, and runs. It implements the three services
// over one embedded database, a file that only its owner may read.
//
// A call that was answered with OK is on disk. Flows are kept exactly as they
// were sent, in their order, and never change. Ids are UUIDs in text form, 36
// bytes; those made later sort later. Nothing is ever removed.
//
// Bounded are the names (sdk.MaxNameBytes), the channels of a flow
// (sdk.MaxChannels), the flows of a config, the records of each kind, the bytes
// of a record and of a page, and the whole file.
//
// Lists take the filters of package filter. Their page tokens are bound to the
// request: with another filter or order they are refused.
//
// A Store may be used from many goroutines. Its methods do not take long, apart
// from waiting for the disk.
package registry
