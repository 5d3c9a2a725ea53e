package sdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unsafe"
)

// Layout of a flow batch. All integers are little-endian, every part starts at a
// multiple of 8 bytes.
//
//	 0  magic "PFB1"
//	 4  u32 rows
//	 8  u32 channels of the flow
//	12  u32 present columns
//	16  u32 length of the whole batch in bytes
//	20  u32 zero
//	24  presence bitmap, one bit for each channel, LSB first
//	    directory: for each present column u32 offset, u32 length, u32 nulls, u32 width
//	    stamps: int64 for each row, ns since the Unix epoch
//	    columns
//
// A column with nulls begins with its validity bitmap (LSB first, padded to 8
// bytes). Then come its values in Arrow layout: numbers as they are, enum as
// uint32, bool as bits, string and bytes as int32 offsets (rows + 1, padded to 8
// bytes) and their data, bit fields as width bytes for each row. Null slots are
// zero. Width is 0 for all other types.
const (
	batchMagic     = 0x31424650
	batchHeader    = 24
	batchDirectory = 16

	// Bounds of encoded messages.
	nullWireBytes   = 4      // nothing
	rowWireBytes    = 24     // stamp, length prefix and tags
	idsWireBytes    = 2 * 64 // two ids of up to 60 bytes, and the tag of the flow's name
	stringWireExtra = 12     // two tags and two lengths
	fixedWireBytes  = 13     // two tags, a length and a varint of at most ten bytes
)

var errShortBatch = errors.New("flow batch is shorter than it says")

// Batch is a parsed flow batch. It refers to the bytes it was parsed from and is
// valid as long as these are unchanged. Parse may be called again to reuse it.
type Batch struct {
	flow     *Flow
	raw      []byte
	rows     int
	times    []int64
	columns  []Column
	channels []Channel // that columns has the types of
	used     []int     // channels whose columns may have values
	bound    int
}

// Column holds the values of one channel in a batch. Values of null rows are
// zero.
type Column struct {
	typ      ChannelType
	present  bool
	rows     int
	nulls    int
	width    int
	validity []byte // nil: all rows have a value
	data     []byte
	offsets  []int32
}

// ParseBatch checks raw against the flow and returns a view of it.
func ParseBatch(flow *Flow, raw []byte) (*Batch, error) {
	b := new(Batch)
	return b, b.Parse(flow, raw)
}

// Parse checks everything that reading the batch relies on: raw may come from
// anywhere. The batch refers to raw, or to a copy where raw is not aligned.
func (b *Batch) Parse(flow *Flow, raw []byte) error {
	if len(raw) < batchHeader || len(raw) > MaxPayloadBytes {
		return fmt.Errorf("flow batch of %d bytes: want %d to %d", len(raw), batchHeader, MaxPayloadBytes)
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%8 != 0 {
		raw = append(make([]byte, 0, len(raw)+8), raw...)
	}
	word := func(at int) int { return word32(raw[at:]) }
	rows, channels, present := word(4), word(8), word(12)
	switch {
	case word(0) != batchMagic:
		return errors.New("not a flow batch: bad magic")
	case word(16) != len(raw):
		return fmt.Errorf("flow batch says %d bytes and has %d", word(16), len(raw))
	case rows < 1 || rows > MaxRowsInBatch:
		return fmt.Errorf("flow batch has %d rows: want 1 to %d", rows, MaxRowsInBatch)
	case channels != len(flow.Channels):
		return fmt.Errorf("flow batch has %d channels, flow %.100q has %d", channels, flow.Name, len(flow.Channels))
	case present > channels:
		return fmt.Errorf("flow batch has %d columns of %d channels", present, channels)
	}
	directory := batchHeader + pad8((channels+7)/8)
	stamps := directory + present*batchDirectory
	first := stamps + 8*rows
	if first > len(raw) {
		return errShortBatch
	}
	b.flow, b.raw, b.rows = flow, raw, rows
	b.times = view[int64](raw[stamps:first])
	b.bound = rows * (rowWireBytes + idsWireBytes + len(flow.Name) + nullWireBytes*channels)
	b.clearColumns(flow.Channels)
	return b.parseColumns(raw[batchHeader:directory], raw[directory:stamps], first)
}

// clearColumns leaves columns without values. Batches of one flow follow each
// other, mostly with values in the same few columns.
func (b *Batch) clearColumns(channels []Channel) {
	if len(channels) == len(b.channels) && unsafe.SliceData(channels) == unsafe.SliceData(b.channels) {
		for _, i := range b.used {
			b.columns[i] = Column{typ: b.columns[i].typ}
		}
	} else {
		b.channels = channels
		b.columns = slices.Grow(b.columns[:0], len(channels))[:len(channels)]
		for i := range channels {
			b.columns[i] = Column{typ: channels[i].Type}
		}
	}
	b.used = b.used[:0]
}

func (b *Batch) parseColumns(bitmap, directory []byte, end int) error {
	for ; len(bitmap) > 0; bitmap = bitmap[8:] {
		base := 8 * (pad8((len(b.columns)+7)/8) - len(bitmap))
		for word := binary.LittleEndian.Uint64(bitmap); word != 0; word &= word - 1 {
			i := base + bits.TrailingZeros64(word)
			switch {
			case i >= len(b.columns):
				return fmt.Errorf("flow batch has a column for channel %d of %d", i+1, len(b.columns))
			case len(directory) == 0:
				return errors.New("flow batch has more columns than directory entries")
			}
			b.used = append(b.used, i)
			var err error
			if end, err = b.parseColumn(&b.columns[i], directory, end); err != nil {
				return fmt.Errorf("column %.100q: %w", b.channels[i].Name, err)
			}
			directory = directory[batchDirectory:]
		}
	}
	if len(directory) != 0 {
		return errors.New("flow batch has fewer columns than directory entries")
	}
	return nil
}

// parseColumn reads the column of a directory entry, which must not begin before
// end, and returns its end.
func (b *Batch) parseColumn(col *Column, entry []byte, end int) (int, error) {
	offset, length := word32(entry), word32(entry[4:])
	if offset < end || offset%8 != 0 || offset > len(b.raw) || length > len(b.raw)-offset {
		return 0, errors.New("it lies outside the flow batch")
	}
	col.rows, col.nulls, col.width = b.rows, word32(entry[8:]), word32(entry[12:])
	end = offset + length
	if err := col.parse(b.raw[offset:end:end]); err != nil {
		return 0, err
	}
	b.bound += col.wireBound()
	return end, nil
}

func (c *Column) parse(raw []byte) error {
	c.present = true
	if c.nulls > c.rows {
		return fmt.Errorf("%d nulls in %d rows", c.nulls, c.rows)
	}
	if c.nulls > 0 {
		n := pad8((c.rows + 7) / 8)
		if len(raw) < n {
			return errors.New("validity bitmap is cut off")
		}
		c.validity, raw = raw[:(c.rows+7)/8], raw[n:]
		if set := countBits(c.validity, c.rows); set != c.rows-c.nulls {
			return fmt.Errorf("%d values valid, %d nulls and %d rows", set, c.nulls, c.rows)
		}
	}
	switch c.typ {
	case String, Bytes:
		if c.width == 0 {
			return c.parseOffsets(raw)
		}
	case BitField:
		if c.width > 0 && c.width <= MaxPayloadBytes/c.rows {
			return c.parseFixed(raw)
		}
	default:
		if c.width == 0 {
			return c.parseFixed(raw)
		}
	}
	return fmt.Errorf("width %d for type %s", c.width, c.typ)
}

func (c *Column) parseFixed(raw []byte) error {
	if want := fixedBytes(c.typ, c.width, c.rows); len(raw) != want {
		return fmt.Errorf("%d bytes of values, want %d", len(raw), want)
	}
	c.data = raw
	return nil
}

func (c *Column) parseOffsets(raw []byte) error {
	n := pad8(4 * (c.rows + 1))
	if len(raw) < n {
		return errors.New("offsets are cut off")
	}
	c.offsets, c.data = view[int32](raw[:4*(c.rows+1)]), raw[n:]
	last := int32(0)
	for _, o := range c.offsets {
		if o < last {
			return errors.New("offsets go back")
		}
		last = o
	}
	if c.offsets[0] != 0 || int(last) != len(c.data) {
		return fmt.Errorf("offsets cover %d to %d of %d bytes", c.offsets[0], last, len(c.data))
	}
	return nil
}

// wireBound is more than the column's values can take in encoded messages.
func (c *Column) wireBound() int {
	values := c.rows - c.nulls
	if c.typ == String || c.typ == Bytes {
		return values*stringWireExtra + len(c.data)
	}
	return values * fixedWireBound(c.typ, c.width)
}

func fixedWireBound(t ChannelType, width int) int {
	if t == BitField {
		return stringWireExtra + width
	}
	return fixedWireBytes
}

func fixedBytes(t ChannelType, width, rows int) int {
	switch t {
	case Bool:
		return (rows + 7) / 8
	case Double, Int64, Uint64:
		return 8 * rows
	case BitField:
		return width * rows
	default:
		return 4 * rows
	}
}

// Flow returns the flow that the batch was parsed with.
func (b *Batch) Flow() *Flow { return b.flow }

// Rows returns the number of rows, at least 1.
func (b *Batch) Rows() int { return b.rows }

// Times returns the stamps, ns since the Unix epoch.
func (b *Batch) Times() []int64 { return b.times }

// Raw returns the bytes of the batch.
func (b *Batch) Raw() []byte { return b.raw }

// Column returns the column of a channel by its position in the flow.
func (b *Batch) Column(channel int) *Column { return &b.columns[channel] }

// WireBound is an upper bound of the batch's size in the encoded form with ids of
// up to 60 bytes, used to cut batches before they are encoded.
func (b *Batch) WireBound() int { return b.bound }

// TimeSpan returns the least and the greatest stamp.
func (b *Batch) TimeSpan() (least, greatest int64) { return timeSpan(b.times) }

func timeSpan(times []int64) (least, greatest int64) {
	least, greatest = times[0], times[0]
	for _, t := range times[1:] {
		least, greatest = min(least, t), max(greatest, t)
	}
	return least, greatest
}

// Type returns the channel's type.
func (c *Column) Type() ChannelType { return c.typ }

// Present is false if no row has a value.
func (c *Column) Present() bool { return c.present }

// Valid reports whether the row has a value.
func (c *Column) Valid(row int) bool {
	return c.present && (c.validity == nil || c.validity[row/8]&(1<<(row%8)) != 0)
}

// AllValid reports whether every row has a value.
func (c *Column) AllValid() bool { return c.present && c.validity == nil }

// Doubles returns the values of a double channel.
func (c *Column) Doubles() []float64 { return view[float64](c.data) }

// Floats returns the values of a float channel.
func (c *Column) Floats() []float32 { return view[float32](c.data) }

// Int32s returns the values of an int32 channel.
func (c *Column) Int32s() []int32 { return view[int32](c.data) }

// Uint32s returns the values of a uint32 channel or the keys of an enum channel.
func (c *Column) Uint32s() []uint32 { return view[uint32](c.data) }

// Int64s returns the values of an int64 channel.
func (c *Column) Int64s() []int64 { return view[int64](c.data) }

// Uint64s returns the values of a uint64 channel.
func (c *Column) Uint64s() []uint64 { return view[uint64](c.data) }

// Bool returns one value of a bool channel.
func (c *Column) Bool(row int) bool { return c.data[row/8]&(1<<(row%8)) != 0 }

// Bytes returns one value of a string, bytes or bit field channel. It must not be
// changed.
func (c *Column) Bytes(row int) []byte {
	if c.typ == BitField {
		return c.data[row*c.width : (row+1)*c.width]
	}
	return c.data[c.offsets[row]:c.offsets[row+1]]
}

// Width returns the bytes of each value of a bit field channel.
func (c *Column) Width() int { return c.width }

// word32 reads a number that the layout says fits; it is never negative, also
// where int has 32 bits.
func word32(raw []byte) int { return int(min(binary.LittleEndian.Uint32(raw), math.MaxInt32)) }

func pad8(n int) int { return (n + 7) &^ 7 }

func countBits(bitmap []byte, n int) int {
	set := 0
	for i, b := range bitmap {
		if rest := n - 8*i; rest < 8 {
			b &= 1<<rest - 1
		}
		set += bits.OnesCount8(b)
	}
	return set
}

// view reads little-endian bytes as values without copying. All platforms that
// pipelined is built for are little-endian; Parse has checked the alignment.
func view[T any](raw []byte) []T {
	if len(raw) == 0 {
		return nil
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/int(unsafe.Sizeof(zero)))
}
