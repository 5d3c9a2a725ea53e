package csv

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
)

// position says where a source goes on, for each flow.
//
// Its bytes: a version; a shift of event times (zigzag varint) behind a flag that
// says whether there is one; the number of files; for each file the hash of its
// flow's name (u64), the length of its head (uvarint) and its sum (u32), and of the
// mark the offset, line and length (uvarints), sum (u32), and how far SingleUntil
// is beyond the offset (uvarint). Fixed numbers are little-endian. A file takes at
// most 48 bytes.
type position struct {
	shift   int64 // added to event times, ns
	shifted bool
	places  map[uint64]place
}

const positionVersion = 1

func flowKey(flow string) uint64 {
	sum := fnv.New64a()
	sum.Write([]byte(flow))
	return sum.Sum64()
}

func appendShift(dst []byte, shift int64, shifted bool, files int) []byte {
	flag := byte(0)
	if shifted {
		flag = 1
	}
	dst = append(dst, positionVersion, flag)
	dst = binary.AppendVarint(dst, shift)
	return binary.AppendUvarint(dst, uint64(files))
}

func appendPlace(dst []byte, key uint64, p place) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, key)
	dst = binary.AppendUvarint(dst, uint64(p.head.length))
	dst = binary.LittleEndian.AppendUint32(dst, p.head.sum)
	dst = binary.AppendUvarint(dst, uint64(p.mark.Offset))
	dst = binary.AppendUvarint(dst, uint64(p.mark.Line))
	dst = binary.AppendUvarint(dst, uint64(p.mark.Length))
	dst = binary.LittleEndian.AppendUint32(dst, p.mark.Sum)
	return binary.AppendUvarint(dst, uint64(max(0, p.mark.SingleUntil-p.mark.Offset)))
}

var errPosition = errors.New("the saved position is not one of this source")

// parsePosition reads a position; no bytes are the beginning.
func parsePosition(raw []byte) (position, error) {
	p := position{places: map[uint64]place{}}
	if len(raw) == 0 {
		return p, nil
	}
	d := decoder{raw: raw}
	if d.byte() != positionVersion {
		return position{}, errPosition
	}
	p.shifted = d.byte() == 1
	p.shift = d.varint()
	files := d.uvarint()
	if files > maxFiles {
		return position{}, errPosition
	}
	for range files {
		key := d.uint64()
		at := place{head: head{length: d.uvarint(), sum: d.uint32()}}
		at.mark = record.Mark{Offset: d.uvarint(), Line: d.uvarint(), Length: d.uvarint(), Sum: d.uint32()}
		if beyond := d.uvarint(); beyond > 0 {
			at.mark.SingleUntil = at.mark.Offset + beyond
		}
		if at.head.length > headBytes || at.mark.Length > record.Limit || at.mark.Length > at.mark.Offset {
			return position{}, errPosition
		}
		p.places[key] = at
	}
	if d.failed || len(d.raw) > 0 {
		return position{}, errPosition
	}
	return p, nil
}

// decoder reads numbers; after a failure it returns zeros.
type decoder struct {
	raw    []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if n <= 0 || n > len(d.raw) {
		d.failed, d.raw = true, nil
		return make([]byte, 8)
	}
	out := d.raw[:n]
	d.raw = d.raw[n:]
	return out
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.raw)
	d.take(n)
	return v
}

// uvarint reads a number that is not negative as int64.
func (d *decoder) uvarint() int64 {
	v, n := binary.Uvarint(d.raw)
	d.take(n)
	if int64(v) < 0 {
		d.failed = true
		return 0
	}
	return int64(v)
}
