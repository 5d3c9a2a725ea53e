// Package ingestionconfig is the bundled encoder ingestion_config: flow batches
// to the messages of the ingestion stream of Sift and of services compatible
// with it, and back.
//
// A row becomes one sift.ingest.v1.IngestWithConfigDataStreamRequest behind its
// length (u32 little-endian), with its fields in this order:
//
//	1  ingestion_config_id  left out where the binding has none
//	2  flow                 the flow's name
//	3  timestamp            seconds rounded down, nanos from 0 to 999,999,999
//	4  channel_values       one for each channel of the flow, in its order; empty
//	                        where the row has no value
//	5  run_id               left out where the binding has none
//
// A value that is there is written even if it is 0, false or "". Everything is
// written in the one canonical form, so the same batch and binding always give
// the same bytes. Stamps are ns in an int64 (1677 to 2262): they always fit the
// message's timestamp.
//
// A row is refused, with the channel's name, if one of its strings is not UTF-8
// or if its message would be longer than MaxMessageBytes. The other rows of the
// batch are not affected.
//
// Decode is the inverse: it takes what Encode writes, for the builder's flow,
// and nothing else. Its input, and that of Rebind, may come from anywhere.
//
// The encoder starts nothing and owns nothing but scratch memory; its methods
// may be called from several goroutines.
package ingestionconfig
