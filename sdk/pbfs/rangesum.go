package pbfs

import "hash/crc32"

// defaultStride is the distance in bytes of the marks of a rangeSum.
const defaultStride = 256

// rangeSum computes the CRC-32 of many, also overlapping, ranges of a stream in
// a time that does not depend on their lengths. A scanner needs that: any eight
// bytes may look like the length of a chunk, and a file can be made so that
// millions of them claim many megabytes each.
//
// It computes the checksum of the stream once, from some start on, and notes it
// at regular marks. The checksum of a range follows from those at its ends,
// because appending n bytes to a stream multiplies the old checksum, read as a
// polynomial over GF(2), by x to the power 8n, and adds the checksum of the new
// bytes.
//
// Ranges must be asked for in ascending order of their starts.
type rangeSum struct {
	stride int64
	origin int64    // offset of marks[0] in the stream
	marks  []uint32 // marks[i]: checksum of all from the start up to origin + i*stride
	powers [4][256]uint32
}

// sum returns the checksum of data, the bytes of the stream from offset at on.
// They must be more than stride and fewer than 2^32.
func (r *rangeSum) sum(at int64, data []byte) uint32 {
	r.restart(at)
	end := at + int64(len(data))
	for covered := r.covered(); covered+r.stride <= end; covered += r.stride {
		piece := data[covered-at : covered-at+r.stride]
		r.marks = append(r.marks, crc32.Update(r.marks[len(r.marks)-1], crc32.IEEETable, piece))
	}

	first := (at - r.origin + r.stride - 1) / r.stride // the first mark in the range
	last := (end - r.origin) / r.stride                // the last one
	mark := r.origin + first*r.stride
	head := crc32.ChecksumIEEE(data[:mark-at])
	// At the end of data, the stream without data has this checksum: what stood
	// at the start of data, moved on by its length.
	before := r.shift(r.marks[first]^head, end-mark)
	return before ^ crc32.Update(r.marks[last], crc32.IEEETable, data[r.origin+last*r.stride-at:])
}

// restart prepares for ranges that begin at offset at, or later.
func (r *rangeSum) restart(at int64) {
	if len(r.marks) == 0 || at > r.covered() {
		r.origin, r.marks = at, append(r.marks[:0], 0)
		return
	}
	// Forget the marks before at, once these are most of them.
	if done := (at - r.origin) / r.stride; done > int64(len(r.marks)/2) {
		r.marks = r.marks[:copy(r.marks, r.marks[done:])]
		r.origin += done * r.stride
	}
}

// covered returns the offset of the last mark.
func (r *rangeSum) covered() int64 { return r.origin + int64(len(r.marks)-1)*r.stride }

// shift returns sum times x^(8n), n < 2^32: what remains of the checksum of a
// stream in the checksum of that stream and n more bytes.
func (r *rangeSum) shift(sum uint32, n int64) uint32 {
	if r.powers[0][0] == 0 {
		r.fillPowers()
	}
	for digit := 0; n > 0; digit, n = digit+1, n>>8 {
		if b := n & 0xff; b != 0 {
			sum = multiply(sum, r.powers[digit][b])
		}
	}
	return sum
}

// fillPowers sets powers[d][b] to x^(8·b·256^d).
func (r *rangeSum) fillPowers() {
	step := uint32(1) << (31 - 8) // x^8
	for d := range r.powers {
		power := uint32(1) << 31 // x^0
		for b := range r.powers[d] {
			r.powers[d][b] = power
			power = multiply(power, step)
		}
		step = power
	}
}

// multiply returns the product of two polynomials modulo that of CRC-32. Bit
// 31-i is the coefficient of x^i.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)    // this coefficient of a is the topmost bit
		b = b>>1 ^ crc32.IEEE&-(b&1) // b times x
	}
	return product
}
