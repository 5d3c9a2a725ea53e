// Package pbfs reads and writes PBFS, the file format of backups. It is that of
// Sift's client library, called the reference here. The package deals in bytes:
// chunks and the length-prefixed messages in them. What a message means is not
// its business.
//
// A file is a plain concatenation of chunks, without magic, version, index or
// footer. All integers are little-endian:
//
//	offset  size  content
//	0       4     CRC-32 (IEEE) of all that follows in the chunk
//	4       8     L, the length of the body in bytes
//	12      L     the body: any number of (4-byte length, message)
//
// A body is the same thing as the body of an encoded batch, so a batch becomes
// a chunk by putting twelve bytes in front of it.
//
// # Writing
//
// [AppendMessage] builds a body, [CheckBody] validates one of foreign origin,
// [AppendChunk] copies it behind its header, and [ChunkHeader] gives the header
// alone, for callers that write header and body by themselves. The package
// opens, syncs and names nothing on its own; [Path] says where a file of the
// reference client would lie.
//
// # Reading
//
// [Reader] reads a stream from front to back and stops at the first damage that
// makes chunk borders uncertain. [Scanner] reads a file and goes on behind
// damage, at the next offset where a chunk with a right checksum begins.
// [Verify] counts what a Scanner finds.
//
// Both check everything before they hand it out: the checksum, and that the
// lengths of the messages fill the body exactly. Both treat their input as
// hostile. No length is believed before that many bytes have arrived, memory is
// bounded by [Limits], and the work of a Scanner is linear in the size of the
// file, whatever it holds.
//
// # Ownership
//
// Readers and scanners reuse one buffer. A [Chunk] and the messages in it are
// valid until the next call of Next; whoever keeps them makes a copy. Functions
// of this package never keep what they are given. A Reader or Scanner is for
// one goroutine at a time. None of them closes its source. To cancel one, let
// its source return an error.
package pbfs
