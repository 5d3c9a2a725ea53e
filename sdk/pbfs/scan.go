package pbfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// emptyCRC is the checksum in the header of a chunk without messages.
const emptyCRC = 0x6522df69

// Hole is a range of a file that belongs to no valid chunk. Scanner.Next
// returns it as an error.
type Hole struct {
	From, To int64  // byte offsets: it begins at From and ends before To
	Cause    *Error // what was found at From
}

// Error names the range and the cause.
func (h *Hole) Error() string {
	return fmt.Sprintf("pbfs: bytes %d to %d are not readable: %s", h.From, h.To, h.Cause.detail())
}

// Unwrap returns the cause.
func (h *Hole) Unwrap() error { return h.Cause }

// Size returns the number of bytes in the hole.
func (h *Hole) Size() int64 { return h.To - h.From }

// Scanner reads a file that may be damaged. It returns chunks and holes in the
// order of the file; together they cover each byte once. Behind damage it goes
// on at the next offset where a chunk begins whose checksum is right, at
// whatever offset that is.
//
// A range with a right checksum and wrong lengths inside, or a message over the
// limit, is one hole as a whole: it was written so.
//
// What it may take for a chunk wrongly: behind damage nothing tells a chunk from
// a message that has the bytes of a chunk inside, such as a backup file in a
// channel of type bytes; and a checksum is right by accident once in 2^32
// candidates. What it finds behind a hole is thus good to look at and to export,
// and less certain than what a Reader returns.
//
// What it may miss: an intact chunk that overlaps such a wrong one, or any other
// range with a right checksum; and chunks over Limits.MaxChunk, which are holes.
// All other intact chunks are found, whatever lies before them.
//
// The work is linear in the size of the file, whatever is in it: each byte is
// read once and checksummed once; and each offset that could be the start of a
// chunk judging by its length field alone costs a checksum over at most 512
// bytes, and arithmetic of constant cost. Memory is as with a Reader, and a
// sixteenth more.
type Scanner struct {
	win        window
	sums       rangeSum
	size       int64
	maxChunk   int
	maxMessage uint32
	skip       int   // bytes of the window that the last call used up
	err        error // that ended the scan
}

// NewScanner returns a scanner of the first size bytes of src.
func NewScanner(src io.ReaderAt, size int64, limits Limits) *Scanner {
	size = max(size, 0)
	return &Scanner{
		win:        newWindow(io.NewSectionReader(src, 0, size)),
		sums:       rangeSum{stride: defaultStride},
		size:       size,
		maxChunk:   limits.maxChunk(),
		maxMessage: limits.maxMessage(),
	}
}

// Next returns the next chunk. Its body lies in a buffer that the next call
// uses again.
//
// A hole is returned as an error of type *Hole; the next call goes on behind
// it. A file that is torn at its end has a last hole with the cause TornTail.
// At the end of the file the error is io.EOF. All other errors are those of the
// source and final: the next call returns the same one. To go on behind bytes
// that the source cannot read, scan from there with a new Scanner.
func (s *Scanner) Next() (Chunk, error) {
	if s.err != nil {
		return Chunk{}, s.err
	}
	s.win.advance(s.skip)
	s.skip = 0
	c, hole, err := s.next()
	if err != nil {
		s.err = err
		return Chunk{}, err
	}
	if hole != nil {
		return Chunk{}, hole
	}
	return c, nil
}

func (s *Scanner) next() (Chunk, *Hole, error) {
	from := s.win.off
	if from == s.size {
		return Chunk{}, nil, io.EOF
	}
	size, cause, err := s.frame()
	if err != nil {
		return Chunk{}, nil, err
	}
	if cause != nil {
		hole, err := s.resync(cause)
		return Chunk{}, hole, err
	}
	s.skip = size
	c, cause := openChunk(s.win.bytes()[:size], from, s.maxMessage)
	if cause != nil {
		return Chunk{}, &Hole{From: from, To: from + int64(size), Cause: cause}, nil
	}
	return c, nil, nil
}

// frame brings the chunk at the start of the window into it and checks its
// checksum. It returns the size of the chunk, or what is wrong.
func (s *Scanner) frame() (size int, wrong *Error, err error) {
	left := s.size - s.win.off
	if err := s.need(int(min(left, HeaderSize))); err != nil {
		return 0, nil, err
	}
	if left < HeaderSize {
		return 0, tornTail(s.win.off, left, HeaderSize), nil
	}
	length := binary.LittleEndian.Uint64(s.win.bytes()[crcSize:])
	if length > uint64(s.maxChunk) {
		return 0, absurdLength(s.win.off, length, uint64(s.maxChunk)), nil
	}
	size = HeaderSize + int(length)
	if int64(size) > left {
		return 0, tornTail(s.win.off, left, size), nil
	}
	if err := s.need(size); err != nil {
		return 0, nil, err
	}
	if sum, stored := s.checksum(size), storedCRC(s.win.bytes()); sum != stored {
		return 0, badChecksum(s.win.off, sum, stored), nil
	}
	return size, nil, nil
}

// resync moves the window to the next chunk with a right checksum, or to the
// end, and returns the hole up to there.
func (s *Scanner) resync(cause *Error) (*Hole, error) {
	from := s.win.off
	for found := false; !found; {
		var err error
		if found, err = s.nextCandidate(); err != nil {
			return nil, err
		}
	}
	if cause.Kind == TornTail && s.win.off < s.size {
		// It is not the tail, so the length was wrong.
		length := cause.Want - HeaderSize
		cause = absurdLength(from, length, uint64(s.size-from)-HeaderSize)
	}
	return &Hole{From: from, To: s.win.off, Cause: cause}, nil
}

// nextCandidate moves the window to the next offset whose length field is
// possible, and reports whether the checksum is right there. The end of the
// file counts as found.
func (s *Scanner) nextCandidate() (found bool, err error) {
	s.win.advance(1)
	left := s.size - s.win.off
	if left < HeaderSize {
		return true, s.toEnd()
	}
	if err := s.need(HeaderSize); err != nil {
		return false, err
	}
	data := s.win.bytes()
	i := s.possible(data, left)
	if i > len(data)-HeaderSize {
		s.win.advance(i - 1) // the offset behind it comes next
		return false, nil
	}
	s.win.advance(i)
	size := HeaderSize + int(binary.LittleEndian.Uint64(data[i+crcSize:]))
	if err := s.need(size); err != nil {
		return false, err
	}
	return s.checksum(size) == storedCRC(s.win.bytes()), nil
}

// possible returns the first index in data, which begins left bytes before the
// end of the file, at which the length of a chunk is possible. If there is none
// it returns the first one at which there is no whole header.
func (s *Scanner) possible(data []byte, left int64) int {
	most := uint64(s.maxChunk)
	i := 0
	for ; i <= len(data)-HeaderSize; i++ {
		length := binary.LittleEndian.Uint64(data[i+crcSize:])
		if length == 0 && storedCRC(data[i:]) != emptyCRC {
			continue // fast over zeros, the commonest kind of damage
		}
		if length <= most && int64(length) <= left-int64(i)-HeaderSize {
			break
		}
	}
	return i
}

// toEnd moves the window to the end of the file, fewer than HeaderSize bytes
// ahead.
func (s *Scanner) toEnd() error {
	left := int(s.size - s.win.off)
	if err := s.need(left); err != nil {
		return err
	}
	s.win.advance(left)
	return nil
}

// checksum returns the right checksum for the chunk of this size at the start
// of the window.
func (s *Scanner) checksum(size int) uint32 {
	covered := s.win.bytes()[crcSize:size]
	if len(covered) <= 2*int(s.sums.stride) {
		return crc32.ChecksumIEEE(covered)
	}
	return s.sums.sum(s.win.off+crcSize, covered)
}

// need brings n bytes into the window that must be there.
func (s *Scanner) need(n int) error {
	err := s.win.need(n)
	if err == io.EOF {
		end := s.win.off + int64(len(s.win.bytes()))
		return fmt.Errorf("pbfs: file ends at byte %d, expected %d: %w", end, s.size, io.ErrUnexpectedEOF)
	}
	return err
}
