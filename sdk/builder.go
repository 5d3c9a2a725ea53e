package sdk

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder collects rows of one flow and writes them as a flow batch. Begin a row
// with Row, then set the channels that have a value; the others have none.
//
// Setters panic if the channel's type is another one or no row has begun: that is
// a mistake in the plugin, not in the data. Setting a channel twice in a row keeps
// the last value.
type Builder struct {
	flow    *Flow
	times   []int64
	columns []columnBuilder
	rowCost int   // bound of an encoded row without values
	wire    int   // bound of all encoded rows
	rowBits int   // what each row takes in the batch: stamp and slots of present columns
	rest    int   // bound of what the batch takes besides: header, directory, text, padding
	used    []int // channels whose columns are not as new; a few of many, perhaps
	present int   // columns with values
}

// NewBuilder returns an empty builder for the flow.
func NewBuilder(flow *Flow) *Builder {
	b := &Builder{flow: flow, columns: make([]columnBuilder, len(flow.Channels))}
	for i := range b.columns {
		b.columns[i].typ = flow.Channels[i].Type
	}
	b.rowCost = rowWireBytes + idsWireBytes + len(flow.Name) + nullWireBytes*len(flow.Channels)
	b.Reset()
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

// Bytes returns an upper bound of the batch's size, here and when encoded with
// ids of up to 60 bytes. It is 0 without rows.
func (b *Builder) Bytes() int {
	if len(b.times) == 0 {
		return 0
	}
	return max(b.wire, b.rest+(len(b.times)*b.rowBits+7)/8)
}

// Full reports whether the batch should be emitted before another row is begun.
func (b *Builder) Full() bool {
	bytes := b.Bytes()
	return len(b.times) >= MaxRowsInBatch || bytes+bytes/max(1, len(b.times)) > MaxBatchBytes
}

// TooLarge reports whether the last row has made the batch larger than a payload
// may be. Take the row back with DropRow, emit the others and begin it again; a
// row that is too large alone must be refused.
func (b *Builder) TooLarge() bool { return b.Bytes() > MaxPayloadBytes }

// Reset forgets all rows and keeps the memory.
func (b *Builder) Reset() {
	b.times = b.times[:0]
	b.wire, b.rowBits, b.rest = 0, 64, batchHeader+pad8((len(b.columns)+7)/8)
	for _, i := range b.used {
		b.columns[i].reset()
	}
	b.used, b.present = b.used[:0], 0
}

// Row begins a row with its stamp in ns since the Unix epoch.
func (b *Builder) Row(time int64) {
	b.times = append(b.times, time)
	b.wire += b.rowCost
}

// AppendRows begins a row for each stamp, for Doubles to set.
func (b *Builder) AppendRows(times []int64) {
	b.times = append(b.times, times...)
	b.wire += len(times) * b.rowCost
}

// DropRow takes the last row back.
func (b *Builder) DropRow() {
	last := len(b.times) - 1
	for _, i := range b.used {
		if c := &b.columns[i]; c.rows > last {
			b.pop(c)
		}
	}
	b.times = b.times[:last]
	b.wire -= b.rowCost
}

// slot prepares the column for a value in the current row, unless dense has.
func (b *Builder) slot(channel int, t ChannelType) *columnBuilder {
	c := &b.columns[channel]
	if c.typ == t && c.rows == 0 && len(b.times) == 1 { // single rows of wide flows are common
		b.add(channel)
		c.rows = 1
		return c
	}
	c = b.open(channel, t)
	row := len(b.times) - 1
	if !c.present() {
		b.add(channel)
	}
	c.fill(row)
	if c.nulls > 0 {
		setBit(&c.validity, row)
	}
	c.rows++
	return c
}

// add is called for a column that gets its first value.
func (b *Builder) add(channel int) {
	c := &b.columns[channel]
	b.present++
	b.rowBits += c.rowBits()
	b.rest += columnRest
	if !c.used {
		c.used = true
		b.used = append(b.used, channel)
	}
}

// open makes sure that the channel may be set and is not set in this row.
func (b *Builder) open(channel int, t ChannelType) *columnBuilder {
	c := &b.columns[channel]
	switch {
	case c.typ != t:
		panic(fmt.Sprintf("sdk: channel %q of flow %q has type %s, not %s",
			b.flow.Channels[channel].Name, b.flow.Name, c.typ, t))
	case len(b.times) == 0:
		panic(fmt.Sprintf("sdk: channel %q of flow %q is set before a row has begun",
			b.flow.Channels[channel].Name, b.flow.Name))
	case c.rows == len(b.times):
		b.pop(c)
	}
	return c
}

// pop takes the column's last slot back.
func (b *Builder) pop(c *columnBuilder) {
	before, null := len(c.data), c.null(c.rows-1)
	bits := c.rowBits()
	c.cut(c.rows - 1)
	if null {
		c.nulls--
		return
	}
	b.wire -= c.wireCost(before - len(c.data))
	if c.typ == String || c.typ == Bytes {
		b.rest -= before - len(c.data)
	}
	if !c.present() {
		b.present--
		b.rowBits -= bits
		b.rest -= columnRest
		c.width = 0
	}
}

// Double sets a double channel.
func (b *Builder) Double(channel int, v float64) {
	c := &b.columns[channel]
	if !c.dense(Double, len(b.times)) {
		c = b.slot(channel, Double)
	}
	c.data = binary.LittleEndian.AppendUint64(c.data, math.Float64bits(v))
	b.wire += fixedWireBytes
}

// Doubles sets a double channel in as many of the last rows as there are values.
// None of these rows may have a value for it yet.
func (b *Builder) Doubles(channel int, values []float64) {
	c := &b.columns[channel]
	first := len(b.times) - len(values)
	switch {
	case len(values) == 0:
		return
	case c.typ != Double || first < 0 || c.rows > first:
		panic(fmt.Sprintf("sdk: channel %q of flow %q has type %s, or less than %d rows without a value",
			b.flow.Channels[channel].Name, b.flow.Name, c.typ, len(values)))
	case !c.present():
		b.add(channel)
	}
	c.fill(first)
	c.data = append(c.data, rawBytes(values)...)
	c.rows = len(b.times)
	if c.nulls > 0 {
		for row := first; row < c.rows; row++ {
			setBit(&c.validity, row)
		}
	}
	b.wire += len(values) * fixedWireBytes
}

// Float sets a float channel.
func (b *Builder) Float(channel int, v float32) {
	c := &b.columns[channel]
	if !c.dense(Float, len(b.times)) {
		c = b.slot(channel, Float)
	}
	c.data = binary.LittleEndian.AppendUint32(c.data, math.Float32bits(v))
	b.wire += fixedWireBytes
}

// Int32 sets an int32 channel.
func (b *Builder) Int32(channel int, v int32) {
	c := &b.columns[channel]
	if !c.dense(Int32, len(b.times)) {
		c = b.slot(channel, Int32)
	}
	c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v))
	b.wire += fixedWireBytes
}

// Uint32 sets a uint32 channel or the key of an enum channel.
func (b *Builder) Uint32(channel int, v uint32) {
	c := &b.columns[channel]
	if !c.dense(Uint32, len(b.times)) {
		c = b.slot(channel, b.either(channel, Uint32, Enum))
	}
	c.data = binary.LittleEndian.AppendUint32(c.data, v)
	b.wire += fixedWireBytes
}

// Int64 sets an int64 channel.
func (b *Builder) Int64(channel int, v int64) {
	c := &b.columns[channel]
	if !c.dense(Int64, len(b.times)) {
		c = b.slot(channel, Int64)
	}
	c.data = binary.LittleEndian.AppendUint64(c.data, uint64(v))
	b.wire += fixedWireBytes
}

// Uint64 sets a uint64 channel.
func (b *Builder) Uint64(channel int, v uint64) {
	c := &b.columns[channel]
	if !c.dense(Uint64, len(b.times)) {
		c = b.slot(channel, Uint64)
	}
	c.data = binary.LittleEndian.AppendUint64(c.data, v)
	b.wire += fixedWireBytes
}

// Bool sets a bool channel.
func (b *Builder) Bool(channel int, v bool) {
	c := &b.columns[channel]
	if !c.dense(Bool, len(b.times)) {
		c = b.slot(channel, Bool)
	}
	growBits(&c.data, c.rows)
	if v {
		c.data[(c.rows-1)/8] |= 1 << ((c.rows - 1) % 8)
	}
	b.wire += fixedWireBytes
}

// String sets a string channel.
func (b *Builder) String(channel int, v string) {
	c := &b.columns[channel]
	if !c.dense(String, len(b.times)) {
		c = b.slot(channel, String)
	}
	c.data = append(c.data, v...)
	b.endText(c, len(v))
}

// SetBytes sets a bytes channel, or a string channel from UTF-8 bytes.
func (b *Builder) SetBytes(channel int, v []byte) {
	c := &b.columns[channel]
	if !c.dense(Bytes, len(b.times)) {
		c = b.slot(channel, b.either(channel, Bytes, String))
	}
	c.data = append(c.data, v...)
	b.endText(c, len(v))
}

func (b *Builder) endText(c *columnBuilder, n int) {
	c.offsets = append(c.offsets, int32(len(c.data)))
	b.wire += stringWireExtra + n
	b.rest += n
}

// either returns the channel's type if it is the second one, else the first.
func (b *Builder) either(channel int, first, second ChannelType) ChannelType {
	if b.columns[channel].typ == second {
		return second
	}
	return first
}

// BitField sets a bit field channel. All values of a batch have the width of the
// first one; a value of another width, or one that would make the batch larger
// than a payload, is refused with an error and the channel has no value in this
// row.
func (b *Builder) BitField(channel int, v []byte) error {
	c := b.open(channel, BitField)
	name := b.flow.Channels[channel].Name
	switch {
	case len(v) == 0 || c.present() && c.width != len(v):
		return fmt.Errorf("bit field %.100q has %d bytes, want %d", name, len(v), max(1, c.width))
	case len(v) > MaxPayloadBytes/len(b.times):
		return fmt.Errorf("bit field %.100q has %d bytes, too many for a batch of %d rows", name, len(v), len(b.times))
	}
	c.width = len(v)
	c = b.slot(channel, BitField)
	c.data = append(c.data, v...)
	b.wire += stringWireExtra + len(v)
	return nil
}

// CopyRow appends one row of a parsed batch of the same channels. If it fails, the
// builder is as before.
func (b *Builder) CopyRow(from *Batch, row int) error {
	b.Row(from.Times()[row])
	for i := range b.columns {
		if !from.Column(i).Valid(row) {
			continue
		}
		if err := b.copyValue(i, from.Column(i), row); err != nil {
			b.DropRow()
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
