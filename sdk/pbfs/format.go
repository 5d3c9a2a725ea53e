package pbfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
)

const (
	// HeaderSize is the number of bytes in front of a chunk's body.
	HeaderSize = 12

	// PrefixSize is the number of bytes in front of a message.
	PrefixSize = 4

	crcSize = 4 // the checksum at the start of a header, which does not cover itself
)

// ChunkHeader returns the header of a chunk with this body. The caller writes
// it in front of the body. The body is not validated; see [CheckBody].
func ChunkHeader(body []byte) [HeaderSize]byte {
	length := uint64(len(body))
	sum := crc32.Update(lengthSum(length), crc32.IEEETable, body)
	var h [HeaderSize]byte
	binary.LittleEndian.PutUint32(h[:], sum)
	binary.LittleEndian.PutUint64(h[crcSize:], length)
	return h
}

// lengthSum returns the checksum of the 8 bytes of a length. Given to
// crc32.Update, they would have to lie on the heap.
func lengthSum(length uint64) uint32 {
	sum := ^uint32(0)
	for range 8 {
		sum = crc32.IEEETable[byte(sum)^byte(length)] ^ sum>>8
		length >>= 8
	}
	return ^sum
}

// AppendChunk appends a chunk with this body to dst and returns the extended
// slice. The body may be empty and may hold many messages; it is not validated,
// see [CheckBody]. It must not overlap the spare capacity of dst.
//
// A body over DefaultMaxChunk bytes is written as it is, but readers with
// default limits refuse it.
func AppendChunk(dst, body []byte) []byte {
	h := ChunkHeader(body)
	dst = append(dst, h[:]...)
	return append(dst, body...)
}

// AppendMessage appends a message with its length to a body and returns the
// extended slice. The message may be empty. One of 4 GiB or more cannot be
// expressed in the format: AppendMessage panics then.
func AppendMessage(body, msg []byte) []byte {
	body = binary.LittleEndian.AppendUint32(body, messageLength(len(msg)))
	return append(body, msg...)
}

// messageLength converts the length of a message to what is stored.
func messageLength(n int) uint32 {
	if uint64(n) > math.MaxUint32 {
		panic(fmt.Sprintf("pbfs: message of %d bytes, the format takes at most %d", n, uint32(math.MaxUint32)))
	}
	return uint32(n)
}

// CheckBody walks the lengths of a body once, and returns the number of
// messages. If they do not fill the body exactly, it returns an *Error of kind
// Malformed and the number of messages in front of it. It allocates nothing
// unless it fails.
func CheckBody(body []byte) (count int, err error) {
	count, wrong := checkBody(body, math.MaxUint32)
	if wrong != nil {
		return count, wrong
	}
	return count, nil
}

// checkBody is CheckBody with a limit in bytes for each message.
func checkBody(body []byte, maxMessage uint32) (count int, wrong *Error) {
	rest := body
	for len(rest) > 0 {
		n, ok := cutLength(rest)
		if !ok {
			return count, malformed(body, rest)
		}
		if n > maxMessage {
			at := int64(len(body) - len(rest))
			return count, &Error{Kind: LargeMessage, Offset: -1, At: at, Got: uint64(n), Want: uint64(maxMessage)}
		}
		rest = rest[PrefixSize+int(n):]
		count++
	}
	return count, nil
}

// Messages iterates over the messages of a body, in order, without copying
// them. If the lengths do not fill the body exactly, the last element is an
// *Error of kind Malformed; for a body that passed [CheckBody], and for that of
// a [Chunk], it is always nil.
func Messages(body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { walk(body, yield) }
}

// walk is apart from Messages so that the latter can be inlined: the closure
// then stays on the stack of the caller.
func walk(body []byte, yield func([]byte, error) bool) {
	rest := body
	for len(rest) > 0 {
		n, ok := cutLength(rest)
		if !ok {
			yield(nil, malformed(body, rest))
			return
		}
		end := PrefixSize + int(n)
		if !yield(rest[PrefixSize:end:end], nil) {
			return
		}
		rest = rest[end:]
	}
}

// cutLength reads the length in front of rest. It is false if that many bytes
// do not follow.
func cutLength(rest []byte) (n uint32, ok bool) {
	if len(rest) < PrefixSize {
		return 0, false
	}
	n = binary.LittleEndian.Uint32(rest)
	return n, uint64(n) <= uint64(len(rest)-PrefixSize)
}

// malformed describes the length in front of rest, the end of body.
func malformed(body, rest []byte) *Error {
	e := &Error{Kind: Malformed, Offset: -1, At: int64(len(body) - len(rest)), Want: uint64(len(rest))}
	if len(rest) >= PrefixSize {
		e.Got = uint64(binary.LittleEndian.Uint32(rest))
		e.Want -= PrefixSize
	}
	return e
}
