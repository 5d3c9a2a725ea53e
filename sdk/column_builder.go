package sdk

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// columnRest is more than a column takes in a batch besides its rows: its entry
// in the directory, one more offset, and padding behind each of its parts.
const columnRest = batchDirectory + 32

// columnBuilder collects the values of one channel.
type columnBuilder struct {
	typ      ChannelType
	used     bool // is in the builder's list
	width    int
	rows     int // rows that have a slot
	nulls    int
	validity []byte // meaningful if there are nulls
	data     []byte
	offsets  []int32 // the ends of texts
}

func (c *columnBuilder) reset() {
	c.used, c.rows, c.nulls, c.width = false, 0, 0, 0
	c.validity, c.data, c.offsets = c.validity[:0], c.data[:0], c.offsets[:0]
}

// dense adds a slot for a value in the last of n rows if the column has a value in
// all the others: nearly always, and little enough to be inlined.
func (c *columnBuilder) dense(t ChannelType, n int) bool {
	if c.typ != t || c.nulls > 0 || c.rows == 0 || c.rows != n-1 {
		return false
	}
	c.rows++
	return true
}

// present reports whether any row has a value.
func (c *columnBuilder) present() bool { return c.rows > c.nulls }

func (c *columnBuilder) null(row int) bool {
	return c.nulls > 0 && c.validity[row/8]&(1<<(row%8)) == 0
}

// fill gives every row before n that has no slot yet a null.
func (c *columnBuilder) fill(n int) {
	if c.rows < n {
		if c.nulls == 0 {
			c.validity = c.validity[:0]
			for row := range c.rows {
				setBit(&c.validity, row)
			}
		}
		c.nulls += n - c.rows
		c.rows = n
		growBits(&c.validity, n)
	}
	if c.typ == String || c.typ == Bytes {
		for len(c.offsets) < n {
			c.offsets = append(c.offsets, int32(len(c.data)))
		}
		return
	}
	if missing := fixedBytes(c.typ, c.width, n) - len(c.data); missing > 0 {
		c.data = slices.Grow(c.data, missing)
		c.data = c.data[:len(c.data)+missing]
		clear(c.data[len(c.data)-missing:])
	}
}

// cut takes the slots from row on back; row is the last one.
func (c *columnBuilder) cut(row int) {
	c.rows = row
	switch c.typ {
	case String, Bytes:
		last := int32(0)
		if row > 0 {
			last = c.offsets[row-1]
		}
		c.offsets, c.data = c.offsets[:row], c.data[:last]
	case Bool:
		c.data[row/8] &^= 1 << (row % 8)
		c.data = c.data[:(row+7)/8]
	default:
		c.data = c.data[:fixedBytes(c.typ, c.width, row)]
	}
	if c.nulls > 0 {
		c.validity[row/8] &^= 1 << (row % 8)
		c.validity = c.validity[:(row+7)/8]
	}
}

// wireCost is what a value of dataBytes added to the bound of encoded rows.
func (c *columnBuilder) wireCost(dataBytes int) int {
	if c.typ == String || c.typ == Bytes {
		return stringWireExtra + dataBytes
	}
	return fixedWireBound(c.typ, c.width)
}

// rowBits is what each row takes in the column, validity included.
func (c *columnBuilder) rowBits() int {
	if c.typ == Bool {
		return 2
	}
	return 8*fixedBytes(c.typ, c.width, 1) + 1 // for texts 4 bytes: the offset
}

// size is the exact length of the column in a batch of n rows.
func (c *columnBuilder) size(n int) int {
	bytes := 0
	if c.nulls > 0 {
		bytes = pad8((n + 7) / 8)
	}
	if c.typ == String || c.typ == Bytes {
		return bytes + pad8(4*(n+1)) + len(c.data)
	}
	return bytes + fixedBytes(c.typ, c.width, n)
}

// Len returns the exact size in bytes of the batch that Append writes.
func (b *Builder) Len() int {
	slices.Sort(b.used)
	n := len(b.times)
	at := b.stampsOffset() + 8*n
	for _, i := range b.used {
		if c := &b.columns[i]; c.present() {
			if c.rows < n {
				c.fill(n)
			}
			at = pad8(at) + c.size(n)
		}
	}
	return at
}

// stampsOffset is where the stamps begin, behind the directory.
func (b *Builder) stampsOffset() int {
	return batchHeader + pad8((len(b.columns)+7)/8) + b.present*batchDirectory
}

// Append writes the rows as a flow batch to the end of dst. The batch begins at a
// multiple of 8 bytes if len(dst) is one. There must be at least one row.
func (b *Builder) Append(dst []byte) []byte {
	total, start, n := b.Len(), len(dst), len(b.times)
	dst = slices.Grow(dst, total)[:start+total]
	w := layoutWriter{out: dst[start:], at: b.stampsOffset()}

	bitmap := w.out[batchHeader : batchHeader+pad8((len(b.columns)+7)/8)]
	directory := w.out[batchHeader+len(bitmap) : w.at]
	putWords(w.out, batchMagic, n)
	putWords(w.out[8:], len(b.columns), b.present)
	putWords(w.out[16:], total, 0)
	clear(bitmap)
	w.put(rawBytes(b.times))
	for _, i := range b.used {
		c := &b.columns[i]
		if !c.present() {
			continue
		}
		w.pad()
		bitmap[i/8] |= 1 << (i % 8)
		at := w.at
		w.column(c)
		putWords(directory, at, w.at-at)
		putWords(directory[8:], c.nulls, c.width)
		directory = directory[batchDirectory:]
	}
	return dst
}

// layoutWriter fills a batch from front to back.
type layoutWriter struct {
	out []byte
	at  int
}

func (w *layoutWriter) put(part []byte) { w.at += copy(w.out[w.at:], part) }

// pad goes on at a multiple of 8 bytes.
func (w *layoutWriter) pad() {
	end := pad8(w.at)
	clear(w.out[w.at:end])
	w.at = end
}

func (w *layoutWriter) column(c *columnBuilder) {
	if c.nulls > 0 {
		w.put(c.validity)
		w.pad()
	}
	if c.typ == String || c.typ == Bytes {
		w.put([]byte{0, 0, 0, 0})
		w.put(rawBytes(c.offsets))
		w.pad()
	}
	w.put(c.data)
}

func putWords(dst []byte, first, second int) {
	binary.LittleEndian.PutUint64(dst, uint64(uint32(first))|uint64(uint32(second))<<32)
}

// rawBytes is the inverse of view.
func rawBytes[T int32 | int64 | float64](values []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(zero)))
}

func growBits(bitmap *[]byte, n int) {
	for len(*bitmap) < (n+7)/8 {
		*bitmap = append(*bitmap, 0)
	}
}

func setBit(bitmap *[]byte, i int) {
	growBits(bitmap, i+1)
	(*bitmap)[i/8] |= 1 << (i % 8)
}
