package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Indexes and journals are sequences of records:
//
//	offset  size  content
//	0       4     CRC-32C of bytes 4 to 15
//	4       4     n, the length of the payload
//	8       4     kind
//	12      4     CRC-32C of the payload
//	16      n     payload
//
// Each begins at a multiple of recordAlign, with zeros before it. So the next
// record is found behind damage, and what a disk tears does not reach into its
// neighbours. All integers are little-endian.
const (
	recordAlign  = 64
	recordHeader = 16
	maxPayload   = 1 << 20

	// kindDamage is a range without valid records; it is never written.
	kindDamage = 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record, padded to the next border. dst ends at one.
func appendRecord(dst []byte, kind uint32, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	h := dst[at:]
	binary.LittleEndian.PutUint32(h[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(h[8:], kind)
	binary.LittleEndian.PutUint32(h[12:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint32(h, crc32.Checksum(h[4:recordHeader], castagnoli))
	dst = append(dst, payload...)
	return append(dst, make([]byte, padding(len(dst)-at))...)
}

// padding returns the zeros behind n bytes up to the next border.
func padding(n int) int { return -n & (recordAlign - 1) }

// record is one that was read, or damage.
type record struct {
	kind     uint32
	from, to int64  // bytes of the file, with padding
	payload  []byte // valid until the next one is read
}

// recordReader reads the records of a file. Its work is linear in the size, and
// its memory a payload.
type recordReader struct {
	src  *bufio.Reader
	off  int64
	size int64
	buf  []byte
	next *record // was read behind damage
}

func newRecordReader(src io.ReaderAt, size int64) *recordReader {
	return &recordReader{src: bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 64<<10), size: size}
}

// read returns the next record, or a range of damage as a record of kind
// kindDamage. The error is io.EOF at the end; others are those of the source.
func (r *recordReader) read() (record, error) {
	if r.next != nil {
		rec := *r.next
		r.next = nil
		return rec, nil
	}
	damage := record{kind: kindDamage, from: r.off}
	for r.off < r.size {
		rec, ok, err := r.try()
		if err != nil {
			return record{}, err
		}
		if !ok {
			continue
		}
		if damage.from == rec.from {
			return rec, nil
		}
		r.next = &rec
		damage.to = rec.from
		return damage, nil
	}
	if damage.from < r.size {
		damage.to = r.size
		return damage, nil
	}
	return record{}, io.EOF
}

// try reads the record at the offset. If there is none it moves to where the next
// one may be.
func (r *recordReader) try() (record, bool, error) {
	h, err := r.src.Peek(recordHeader)
	if errors.Is(err, io.EOF) {
		r.off = r.size
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	n := binary.LittleEndian.Uint32(h[4:])
	kind := binary.LittleEndian.Uint32(h[8:])
	sum := binary.LittleEndian.Uint32(h[12:])
	if crc32.Checksum(h[4:], castagnoli) != binary.LittleEndian.Uint32(h) || n > maxPayload || kind == kindDamage {
		return record{}, false, r.skip(recordAlign)
	}
	from, length := r.off, recordHeader+int(n)
	length += padding(length)
	if from+int64(length) > r.size {
		// Torn, or the length is a lie: the header is small enough to be both.
		return record{}, false, r.skip(recordAlign)
	}
	if cap(r.buf) < length {
		r.buf = make([]byte, length)
	}
	if _, err := io.ReadFull(r.src, r.buf[:length]); err != nil {
		return record{}, false, err
	}
	r.off += int64(length)
	payload := r.buf[recordHeader : recordHeader+int(n)]
	if crc32.Checksum(payload, castagnoli) != sum {
		return record{}, false, nil // the header vouches for the length
	}
	return record{kind: kind, from: from, to: r.off, payload: payload}, true, nil
}

func (r *recordReader) skip(n int) error {
	skipped, err := r.src.Discard(n)
	r.off += int64(skipped)
	if errors.Is(err, io.EOF) {
		r.off = r.size
		return nil
	}
	return err
}

// fields takes a payload apart. After the first thing that is missing, everything
// is zero and bad is set.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.rest) {
		f.bad = true
		return make([]byte, min(n, 8))
	}
	p := f.rest[:n]
	f.rest = f.rest[n:]
	return p
}

func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

// text takes a length and as many bytes, which it copies.
func (f *fields) text() []byte {
	n := f.u32()
	if f.bad || uint64(n) > uint64(len(f.rest)) {
		f.bad = true
		return nil
	}
	return append([]byte(nil), f.take(int(n))...)
}

// end reports whether the payload was taken apart exactly.
func (f *fields) end() bool { return !f.bad && len(f.rest) == 0 }

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
