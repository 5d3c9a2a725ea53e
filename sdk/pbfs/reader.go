package pbfs

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
)

// DefaultMaxChunk is the limit in bytes for the body of a chunk, if none is
// given.
const DefaultMaxChunk = 64 << 20

// hardMaxChunk is the highest limit that can be set.
const hardMaxChunk = 1 << 30

// Limits bound what is read. The zero value means the defaults.
type Limits struct {
	// MaxChunk is the longest body of a chunk in bytes. 0 or less means
	// DefaultMaxChunk, and more than 1 GiB means 1 GiB. A reader never holds more
	// than 5/4 of it, or 64 KiB, and less than twice that while its buffer grows.
	MaxChunk int

	// MaxMessage is the longest message in bytes. 0 or less means that MaxChunk
	// is the only limit.
	MaxMessage int
}

func (l Limits) maxChunk() int {
	if l.MaxChunk <= 0 {
		return DefaultMaxChunk
	}
	return min(l.MaxChunk, hardMaxChunk)
}

func (l Limits) maxMessage() uint32 {
	if l.MaxMessage <= 0 || uint64(l.MaxMessage) > math.MaxUint32 {
		return math.MaxUint32
	}
	return uint32(l.MaxMessage)
}

// Chunk is a chunk that was read and found right: its checksum, and the lengths
// of its messages.
type Chunk struct {
	Offset int64  // of its first byte, that of the header, in the file
	Body   []byte // see Messages; valid until the next call of Next
	Count  int    // messages in Body
	CRC    uint32 // the checksum in its header
}

// End returns the offset of the byte behind the chunk.
func (c Chunk) End() int64 { return c.Offset + HeaderSize + int64(len(c.Body)) }

// Reader reads the chunks of a stream in order.
type Reader struct {
	win        window
	maxChunk   int
	maxMessage uint32
	skip       int   // bytes of the window that the last call used up
	err        error // that ended the stream
}

// NewReader returns a reader of a file's bytes from its first one on. It reads
// in large pieces, so src needs no buffer of its own. It may read further than
// the chunk that it returns.
func NewReader(src io.Reader, limits Limits) *Reader {
	return &Reader{win: newWindow(src), maxChunk: limits.maxChunk(), maxMessage: limits.maxMessage()}
}

// Next returns the next chunk. Its body lies in a buffer that the next call
// uses again.
//
// At the end of the stream, if that is the end of a chunk, the error is io.EOF.
// What is wrong with a chunk is an *Error. After kinds Malformed and
// LargeMessage, the next call goes on behind that chunk, since its checksum
// vouches for its length; no message of it is returned. All other errors are
// final: the next call returns the same one.
func (r *Reader) Next() (Chunk, error) {
	if r.err != nil {
		return Chunk{}, r.err
	}
	r.win.advance(r.skip)
	r.skip = 0
	size, err := r.frame()
	if err != nil {
		r.err = err
		return Chunk{}, err
	}
	r.skip = size
	c, wrong := openChunk(r.win.bytes()[:size], r.win.off, r.maxMessage)
	if wrong != nil {
		return Chunk{}, wrong
	}
	return c, nil
}

// frame brings the next chunk into the window and checks its checksum. It
// returns the size of the chunk.
func (r *Reader) frame() (size int, err error) {
	if err := r.need(HeaderSize); err != nil {
		return 0, err
	}
	length := binary.LittleEndian.Uint64(r.win.bytes()[crcSize:])
	if length > uint64(r.maxChunk) {
		return 0, absurdLength(r.win.off, length, uint64(r.maxChunk))
	}
	size = HeaderSize + int(length)
	if err := r.need(size); err != nil {
		return 0, err
	}
	chunk := r.win.bytes()[:size]
	if sum := crc32.ChecksumIEEE(chunk[crcSize:]); sum != storedCRC(chunk) {
		return 0, badChecksum(r.win.off, sum, storedCRC(chunk))
	}
	return size, nil
}

// need brings n bytes of a chunk into the window.
func (r *Reader) need(n int) error {
	err := r.win.need(n)
	if have := len(r.win.bytes()); err == io.EOF && have > 0 {
		return tornTail(r.win.off, int64(have), n)
	}
	return err
}

// openChunk makes a Chunk of the bytes of one at offset off, whose checksum is
// right. It fails if the lengths of its messages are wrong.
func openChunk(chunk []byte, off int64, maxMessage uint32) (Chunk, *Error) {
	body := chunk[HeaderSize:len(chunk):len(chunk)]
	count, wrong := checkBody(body, maxMessage)
	if wrong != nil {
		wrong.Offset = off
		wrong.At += off + HeaderSize
		return Chunk{}, wrong
	}
	return Chunk{Offset: off, Body: body, Count: count, CRC: storedCRC(chunk)}, nil
}

func storedCRC(chunk []byte) uint32 { return binary.LittleEndian.Uint32(chunk) }

func tornTail(off, have int64, want int) *Error {
	return &Error{Kind: TornTail, Offset: off, At: off + have, Got: uint64(have), Want: uint64(want)}
}

func absurdLength(off int64, length, most uint64) *Error {
	return &Error{Kind: AbsurdLength, Offset: off, At: off + crcSize, Got: length, Want: most}
}

func badChecksum(off int64, sum, stored uint32) *Error {
	return &Error{Kind: BadChecksum, Offset: off, At: off, Got: uint64(sum), Want: uint64(stored)}
}
