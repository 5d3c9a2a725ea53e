package sdk

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder collects rows of one flow and writes them as a flow batch. Begin a row
// with Row, then set the channels that have a value; the others have none.
//
// Setters panic if the channel's type is another one: that is a mistake in the
// plugin, not in the data. Setting a channel twice in a row keeps the last value.
type Builder struct {
	flow    *Flow
	times   []int64
	columns []columnBuilder
	rowCost int
	bound   int
}

type columnBuilder struct {
	typ      ChannelType
	width    int
	rows     int // rows that have a slot
	nulls    int
	validity []byte // nil as long as there are no nulls
	data     []byte
	offsets  []int32
}

// NewBuilder returns an empty builder for the flow.
func NewBuilder(flow *Flow) *Builder {
	b := &Builder{flow: flow, columns: make([]columnBuilder, len(flow.Channels))}
	for i := range b.columns {
		b.columns[i].typ = flow.Channels[i].Type
	}
	b.rowCost = rowWireBytes + idsWireBytes + len(flow.Name) + nullWireBytes*len(flow.Channels)
	return b
}

// Flow returns the builder's flow.
func (b *Builder) Flow() *Flow { return b.flow }

// Rows returns the number of rows begun.
func (b *Builder) Rows() int { return len(b.times) }

// TimeSpan returns the least and the greatest stamp; there must be a row.
func (b *Builder) TimeSpan() (least, greatest int64) {
	least, greatest = b.times[0], b.times[0]
	for _, t := range b.times[1:] {
		least, greatest = min(least, t), max(greatest, t)
	}
	return least, greatest
}

// Bytes returns an upper bound of the batch's size, here and when encoded.
func (b *Builder) Bytes() int { return b.bound }

// Full reports whether the batch should be emitted before another row is begun.
func (b *Builder) Full() bool {
	return len(b.times) >= MaxRowsInBatch || b.bound+b.bound/max(1, len(b.times)) > MaxBatchBytes
}

// Reset forgets all rows and keeps the memory.
func (b *Builder) Reset() {
	b.times, b.bound = b.times[:0], 0
	for i := range b.columns {
		c := &b.columns[i]
		c.rows, c.nulls, c.width = 0, 0, 0
		c.validity, c.data, c.offsets = c.validity[:0], c.data[:0], c.offsets[:0]
	}
}

// Row begins a row with its stamp in ns since the Unix epoch.
func (b *Builder) Row(time int64) {
	b.times = append(b.times, time)
	b.bound += b.rowCost
}

// DropRow takes the last row back.
func (b *Builder) DropRow() {
	last := len(b.times) - 1
	b.times = b.times[:last]
	b.bound -= b.rowCost
	for i := range b.columns {
		c := &b.columns[i]
		if c.rows > last {
			before := len(c.data)
			c.pop()
			b.bound -= c.cost(before - len(c.data))
		}
	}
}

// slot prepares the column for a value in the current row.
func (b *Builder) slot(channel int, types ...ChannelType) *columnBuilder {
	c := &b.columns[channel]
	ok := false
	for _, t := range types {
		ok = ok || c.typ == t
	}
	if !ok {
		panic(fmt.Sprintf("sdk: channel %q of flow %q has type %s, not %s",
			b.flow.Channels[channel].Name, b.flow.Name, c.typ, types[0]))
	}
	row := len(b.times) - 1
	if c.rows > row {
		before := len(c.data)
		c.pop()
		b.bound -= c.cost(before - len(c.data))
	}
	c.fill(row)
	if c.nulls > 0 {
		setBit(&c.validity, row)
	}
	c.rows++
	return c
}

// Double sets a double channel.
func (b *Builder) Double(channel int, v float64) {
	c := b.slot(channel, Double)
	c.data = binary.LittleEndian.AppendUint64(c.data, math.Float64bits(v))
	b.bound += 13
}

// Float sets a float channel.
func (b *Builder) Float(channel int, v float32) {
	c := b.slot(channel, Float)
	c.data = binary.LittleEndian.AppendUint32(c.data, math.Float32bits(v))
	b.bound += 13
}

// Int32 sets an int32 channel.
func (b *Builder) Int32(channel int, v int32) {
	c := b.slot(channel, Int32)
	c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v))
	b.bound += 13
}

// Uint32 sets a uint32 channel or the key of an enum channel.
func (b *Builder) Uint32(channel int, v uint32) {
	c := b.slot(channel, Uint32, Enum)
	c.data = binary.LittleEndian.AppendUint32(c.data, v)
	b.bound += 13
}

// Int64 sets an int64 channel.
func (b *Builder) Int64(channel int, v int64) {
	c := b.slot(channel, Int64)
	c.data = binary.LittleEndian.AppendUint64(c.data, uint64(v))
	b.bound += 13
}

// Uint64 sets a uint64 channel.
func (b *Builder) Uint64(channel int, v uint64) {
	c := b.slot(channel, Uint64)
	c.data = binary.LittleEndian.AppendUint64(c.data, v)
	b.bound += 13
}

// Bool sets a bool channel.
func (b *Builder) Bool(channel int, v bool) {
	c := b.slot(channel, Bool)
	for len(c.data) < (c.rows+7)/8 {
		c.data = append(c.data, 0)
	}
	if v {
		c.data[(c.rows-1)/8] |= 1 << ((c.rows - 1) % 8)
	}
	b.bound += 13
}

// String sets a string channel.
func (b *Builder) String(channel int, v string) {
	c := b.slot(channel, String)
	c.data = append(c.data, v...)
	c.offsets = append(c.offsets, int32(len(c.data)))
	b.bound += stringWireExtra + len(v)
}

// SetBytes sets a bytes channel, or a string channel from UTF-8 bytes.
func (b *Builder) SetBytes(channel int, v []byte) {
	c := b.slot(channel, Bytes, String)
	c.data = append(c.data, v...)
	c.offsets = append(c.offsets, int32(len(c.data)))
	b.bound += stringWireExtra + len(v)
}

// BitField sets a bit field channel. All values of a batch have the width of the
// first one; a value of another width is refused with an error and the channel
// has no value in this row.
func (b *Builder) BitField(channel int, v []byte) error {
	c := &b.columns[channel]
	if c.typ == BitField && (len(v) == 0 || c.width != 0 && c.width != len(v)) {
		return fmt.Errorf("bit field %q has %d bytes, want %d", b.flow.Channels[channel].Name, len(v), max(1, c.width))
	}
	c = b.slot(channel, BitField)
	if c.width == 0 {
		c.width = len(v)
		c.data = append(c.data, make([]byte, (c.rows-1)*c.width)...)
	}
	c.data = append(c.data, v...)
	b.bound += stringWireExtra + len(v)
	return nil
}

// CopyRow appends one row of a parsed batch of the same channels.
func (b *Builder) CopyRow(from *Batch, row int) error {
	b.Row(from.Times()[row])
	for i := range b.columns {
		if !from.Column(i).Valid(row) {
			continue
		}
		if err := b.copyValue(i, from.Column(i), row); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) copyValue(channel int, col *Column, row int) error {
	switch col.Type() {
	case Double:
		b.Double(channel, col.Doubles()[row])
	case Float:
		b.Float(channel, col.Floats()[row])
	case Int32:
		b.Int32(channel, col.Int32s()[row])
	case Uint32, Enum:
		b.Uint32(channel, col.Uint32s()[row])
	case Int64:
		b.Int64(channel, col.Int64s()[row])
	case Uint64:
		b.Uint64(channel, col.Uint64s()[row])
	case Bool:
		b.Bool(channel, col.Bool(row))
	case String, Bytes:
		b.SetBytes(channel, col.Bytes(row))
	case BitField:
		return b.BitField(channel, col.Bytes(row))
	}
	return nil
}

// fill gives every row before n that has no slot yet a null.
func (c *columnBuilder) fill(n int) {
	if c.rows >= n {
		return
	}
	if c.nulls == 0 {
		c.validity = c.validity[:0]
		for row := range c.rows {
			setBit(&c.validity, row)
		}
	}
	c.nulls += n - c.rows
	c.rows = n
	growBits(&c.validity, n)
	switch c.typ {
	case String, Bytes:
		for len(c.offsets) < n {
			c.offsets = append(c.offsets, int32(len(c.data)))
		}
	default:
		want := fixedBytes(c.typ, c.width, n)
		for len(c.data) < want {
			c.data = append(c.data, 0)
		}
	}
}

// pop takes the slot of the last row back; the row had a value.
func (c *columnBuilder) pop() {
	c.rows--
	switch c.typ {
	case String, Bytes:
		c.offsets = c.offsets[:c.rows]
		last := int32(0)
		if c.rows > 0 {
			last = c.offsets[c.rows-1]
		}
		c.data = c.data[:last]
	case Bool:
		c.data[c.rows/8] &^= 1 << (c.rows % 8)
		c.data = c.data[:(c.rows+7)/8]
	default:
		c.data = c.data[:fixedBytes(c.typ, c.width, c.rows)]
	}
	if c.nulls > 0 {
		c.validity[c.rows/8] &^= 1 << (c.rows % 8)
		c.validity = c.validity[:(c.rows+7)/8]
	}
}

// cost is what a value of dataBytes added to the bound.
func (c *columnBuilder) cost(dataBytes int) int {
	switch c.typ {
	case String, Bytes:
		return stringWireExtra + dataBytes
	default:
		return fixedWireBound(c.typ, c.width)
	}
}

func (c *columnBuilder) present() bool { return c.rows > c.nulls }

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
	n := len(b.times)
	at := batchHeader + pad8((len(b.columns)+7)/8) + 8*n
	for i := range b.columns {
		c := &b.columns[i]
		if !c.present() {
			continue
		}
		c.fill(n)
		at += batchDirectory
	}
	for i := range b.columns {
		if c := &b.columns[i]; c.present() {
			at = pad8(at) + c.size(n)
		}
	}
	return at
}

// Append writes the rows as a flow batch to the end of dst. The batch begins at a
// multiple of 8 bytes if len(dst) is one. There must be at least one row.
func (b *Builder) Append(dst []byte) []byte {
	total, n, start := b.Len(), len(b.times), len(dst)
	present := 0
	bitmap := make([]byte, 0, 64)
	growBits(&bitmap, len(b.columns))
	for i := range b.columns {
		if b.columns[i].present() {
			setBit(&bitmap, i)
			present++
		}
	}
	for _, word := range [...]int{batchMagic, n, len(b.columns), present, total, 0} {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(word))
	}
	dst = appendPadded(dst, start, bitmap)
	dst = b.appendDirectory(dst, present, n)
	for _, t := range b.times {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	}
	for i := range b.columns {
		if c := &b.columns[i]; c.present() {
			dst = appendPadding(dst, start)
			dst = c.append(dst, start, n)
		}
	}
	return dst
}

func (b *Builder) appendDirectory(dst []byte, present, n int) []byte {
	at := batchHeader + pad8((len(b.columns)+7)/8) + present*batchDirectory + 8*n
	for i := range b.columns {
		c := &b.columns[i]
		if !c.present() {
			continue
		}
		at = pad8(at)
		for _, word := range [...]int{at, c.size(n), c.nulls, c.width} {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(word))
		}
		at += c.size(n)
	}
	return dst
}

func (c *columnBuilder) append(dst []byte, start, n int) []byte {
	if c.nulls > 0 {
		growBits(&c.validity, n)
		dst = appendPadded(dst, start, c.validity)
	}
	if c.typ == String || c.typ == Bytes {
		dst = append(dst, 0, 0, 0, 0)
		for _, o := range c.offsets {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(o))
		}
		dst = appendPadding(dst, start)
	}
	return append(dst, c.data...)
}

func appendPadded(dst []byte, start int, part []byte) []byte {
	return appendPadding(append(dst, part...), start)
}

func appendPadding(dst []byte, start int) []byte {
	for (len(dst)-start)%8 != 0 {
		dst = append(dst, 0)
	}
	return dst
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
