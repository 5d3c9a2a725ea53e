package generator

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/pipelined/pipelined/sdk"
)

// channel is a channel that is ready to give values.
type channel struct {
	typ       sdk.ChannelType
	wave      wave
	amplitude float64
	offset    float64
	every     uint64
	stride    place // between two rows
	first     place // of row 0
	key       uint64
	values    int // of an enum
	width     int // of a bit field, bytes
	bits      uint64
	sines     *sines
}

// compile prepares the channels of a checked configuration.
func compile(c Config) []channel {
	table := newSines()
	var out []channel
	for i, ch := range c.channels() {
		next := channel{
			typ: ch.channel().Type, wave: wave(slices.Index(waves(), ch.Wave)), amplitude: ch.Amplitude, offset: ch.Offset,
			every: uint64(ch.Every), stride: strideOf(c.rate(), int64(ch.Period)), first: place{part: partOf(ch.Phase)},
			key: key(c.Seed, i), values: len(ch.Values), sines: table,
		}
		if ch.Min != nil && ch.Max != nil {
			next.amplitude, next.offset = *ch.Max/2-*ch.Min/2, *ch.Max/2+*ch.Min/2
		}
		if next.typ == sdk.BitField {
			n := len(ch.bits())
			next.width, next.bits = (n+7)/8, math.MaxUint64>>(64-n)
		}
		out = append(out, next)
	}
	return out
}

// place returns where in its wave a row is.
func (c *channel) place(row uint64) place { return c.first.add(c.stride.times(row)) }

// set gives the builder's current row the channel's value. Scratch is memory to
// write texts to; it is returned, perhaps larger.
func (c *channel) set(b *sdk.Builder, i int, row uint64, at place, scratch []byte) []byte {
	if c.every > 1 && row%c.every != 0 {
		return scratch
	}
	switch c.typ {
	case sdk.Double:
		b.Double(i, c.number(row, at))
	case sdk.Float:
		b.Float(i, float32(c.number(row, at)))
	case sdk.Int32:
		b.Int32(i, int32(min(max(c.integer(row, at), math.MinInt32), math.MaxInt32)))
	case sdk.Uint32:
		b.Uint32(i, uint32(min(max(c.integer(row, at), 0), math.MaxUint32)))
	case sdk.Int64:
		b.Int64(i, c.integer(row, at))
	case sdk.Uint64:
		b.Uint64(i, c.unsigned(row, at))
	case sdk.Enum:
		b.Uint32(i, c.choice(row, at))
	case sdk.Bool:
		b.Bool(i, c.upper(row, at))
	case sdk.String:
		scratch = c.text(scratch[:0], row, at)
		b.SetBytes(i, scratch)
	case sdk.Bytes:
		scratch = binary.LittleEndian.AppendUint64(scratch[:0], uint64(c.integer(row, at)))
		b.SetBytes(i, scratch)
	case sdk.BitField:
		scratch = binary.LittleEndian.AppendUint64(scratch[:0], uint64(c.integer(row, at))&c.bits)
		// Its only error is another width.
		_ = b.BitField(i, scratch[:c.width])
	}
	return scratch
}

func (c *channel) number(row uint64, at place) float64 {
	switch c.wave {
	case counter:
		return c.offset + float64(row)
	case constant:
		return c.offset
	}
	return c.offset + float64(c.amplitude*c.level(row, at))
}

// appendNumbers appends the numbers of n rows.
func (c *channel) appendNumbers(dst []float64, row uint64, n int) []float64 {
	at := c.place(row)
	if c.wave == sine { // the usual load
		for range n {
			dst = append(dst, c.offset+float64(c.amplitude*c.sines.sine(at.part)))
			at.part += c.stride.part
		}
		return dst
	}
	for range n {
		dst = append(dst, c.number(row, at))
		at = at.add(c.stride)
		row++
	}
	return dst
}

// integer returns the number rounded, and within the range of an int64. Counters
// are exact.
func (c *channel) integer(row uint64, at place) int64 {
	if c.wave == counter {
		return clip(c.offset) + int64(row)
	}
	return clip(c.number(row, at))
}

func (c *channel) unsigned(row uint64, at place) uint64 {
	switch {
	case c.wave == counter && c.offset >= 0:
		return clipUnsigned(c.offset) + row
	case c.wave == counter:
		return uint64(max(0, c.integer(row, at)))
	}
	return clipUnsigned(c.number(row, at))
}

// upper reports whether the wave is above its middle.
func (c *channel) upper(row uint64, at place) bool {
	switch c.wave {
	case counter:
		return c.integer(row, at)%2 != 0
	case constant:
		return c.offset != 0
	}
	return c.level(row, at) > 0
}

// choice returns the key of an enum.
func (c *channel) choice(row uint64, at place) uint32 {
	n := uint64(c.values)
	switch c.wave {
	case counter:
		return uint32(uint64(c.integer(row, at)) % n)
	case constant:
		return uint32(min(clipUnsigned(c.offset), n-1))
	}
	part := int((c.level(row, at) + 1) / 2 * float64(n))
	return uint32(min(part, int(n)-1))
}

func (c *channel) text(dst []byte, row uint64, at place) []byte {
	if c.wave == counter {
		return strconv.AppendInt(dst, c.integer(row, at), 10)
	}
	return strconv.AppendFloat(dst, c.number(row, at), 'g', -1, 64)
}

// clip rounds to the nearest int64.
func clip(v float64) int64 {
	switch v = math.RoundToEven(v); {
	case v >= math.MaxInt64: // 2^63: no int64
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

func clipUnsigned(v float64) uint64 {
	switch v = math.RoundToEven(v); {
	case v >= math.MaxUint64:
		return math.MaxUint64
	case v <= 0:
		return 0
	}
	return uint64(v)
}
