package plugintest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/pipelined/pipelined/sdk"
)

// everyType is a flow with a channel of every type.
func everyType() sdk.Flow {
	f := sdk.Flow{Name: "every_type"}
	for _, t := range sdk.ChannelTypes() {
		c := sdk.Channel{Name: "a_" + t.String(), Type: t, Unit: "unit", Description: "A channel of type " + t.String() + "."}
		switch t {
		case sdk.Enum:
			c.Enum = []sdk.EnumValue{{Name: "off", Key: 0}, {Name: "on", Key: 1}, {Name: "most", Key: math.MaxUint32}}
		case sdk.BitField:
			c.BitField = []sdk.BitFieldElement{{Name: "low", Index: 0, BitCount: 4}, {Name: "high", Index: 4, BitCount: 4}}
		}
		f.Channels = append(f.Channels, c)
	}
	return f
}

// baseTime is where the stamps of made-up rows begin.
const baseTime = 1_700_000_000_000_000_000

// maker makes up rows. The same seed gives the same rows.
type maker struct {
	random *rand.Rand
	now    int64
}

func newMaker(seed uint64) *maker {
	return &maker{random: rand.New(rand.NewPCG(seed, 1)), now: baseTime}
}

// batch makes up to n rows, as many as fit a batch, in some of which values are
// missing, and some columns of which may be missing altogether.
func (m *maker) batch(flow *sdk.Flow, n int) *sdk.Builder {
	b := sdk.NewBuilder(flow)
	absent := make([]bool, len(flow.Channels))
	for i := range absent {
		absent[i] = m.random.IntN(8) == 0
	}
	nulls := m.random.IntN(2) == 0
	width := 1 + m.random.IntN(8)
	for range n {
		if b.Full() {
			break
		}
		m.now += m.random.Int64N(3) * 500_000 // stamps may be equal
		b.Row(m.now)
		for i := range flow.Channels {
			if !absent[i] && (!nulls || m.random.IntN(3) > 0) {
				m.value(b, i, width)
			}
		}
	}
	return b
}

func (m *maker) value(b *sdk.Builder, channel, width int) {
	c := &b.Flow().Channels[channel]
	bits := m.random.Uint64()
	switch c.Type {
	case sdk.Double:
		b.Double(channel, m.double(bits))
	case sdk.Float:
		b.Float(channel, m.float(uint32(bits)))
	case sdk.Int32:
		b.Int32(channel, pick(m, int32(bits), 0, -1, math.MinInt32, math.MaxInt32))
	case sdk.Uint32:
		b.Uint32(channel, pick(m, uint32(bits), 0, 1, math.MaxUint32))
	case sdk.Int64:
		b.Int64(channel, pick(m, int64(bits), 0, -1, math.MinInt64, math.MaxInt64))
	case sdk.Uint64:
		b.Uint64(channel, pick(m, bits, 0, 1, math.MaxUint64))
	case sdk.Bool:
		b.Bool(channel, bits&1 == 1)
	case sdk.Enum:
		if len(c.Enum) > 0 {
			b.Uint32(channel, c.Enum[m.random.IntN(len(c.Enum))].Key)
		}
	case sdk.String:
		b.String(channel, pick(m, fmt.Sprintf("text %x", bits), "", "\x00", "wörter 漢字 🚀", strings.Repeat("long ", 50)))
	case sdk.Bytes:
		b.SetBytes(channel, m.bytes(m.random.IntN(40)))
	case sdk.BitField:
		// All values of a batch have one width, so this cannot fail.
		_ = b.BitField(channel, m.bytes(width))
	}
}

// pick returns a usual value, or now and then a special one.
func pick[T any](m *maker, usual T, special ...T) T {
	if i := m.random.IntN(3 * len(special)); i < len(special) {
		return special[i]
	}
	return usual
}

func (m *maker) double(bits uint64) float64 {
	usual := float64(int64(bits)) / 1e12
	return pick(m, usual, 0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff0_0000_dead_beef),
		math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.Float64frombits(bits))
}

func (m *maker) float(bits uint32) float32 {
	usual := float32(int32(bits)) / 1e3
	return pick(m, usual, 0, float32(math.Copysign(0, -1)), math.Float32frombits(0x7fc0_0001),
		float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, math.SmallestNonzeroFloat32)
}

func (m *maker) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(m.random.Uint32())
	}
	return out
}

// difference says how two rows differ; empty: they are equal, bit for bit.
func difference(a *sdk.Batch, rowA int, b *sdk.Batch, rowB int) string {
	if a.Times()[rowA] != b.Times()[rowB] {
		return fmt.Sprintf("stamp %d became %d", a.Times()[rowA], b.Times()[rowB])
	}
	for i := range a.Flow().Channels {
		x, y := a.Column(i), b.Column(i)
		name := a.Flow().Channels[i].Name
		if x.Valid(rowA) != y.Valid(rowB) {
			return fmt.Sprintf("channel %q had a value: %t, has one: %t", name, x.Valid(rowA), y.Valid(rowB))
		}
		if x.Valid(rowA) && !bytes.Equal(valueBits(x, rowA), valueBits(y, rowB)) {
			return fmt.Sprintf("channel %q: % x became % x", name, valueBits(x, rowA), valueBits(y, rowB))
		}
	}
	return ""
}

// valueBits returns one value as bytes.
func valueBits(c *sdk.Column, row int) []byte {
	word := uint64(0)
	switch c.Type() {
	case sdk.Double:
		word = math.Float64bits(c.Doubles()[row])
	case sdk.Float:
		word = uint64(math.Float32bits(c.Floats()[row]))
	case sdk.Int32:
		word = uint64(uint32(c.Int32s()[row]))
	case sdk.Uint32, sdk.Enum:
		word = uint64(c.Uint32s()[row])
	case sdk.Int64:
		word = uint64(c.Int64s()[row])
	case sdk.Uint64:
		word = c.Uint64s()[row]
	case sdk.Bool:
		if c.Bool(row) {
			word = 1
		}
	default:
		return c.Bytes(row)
	}
	return []byte{
		byte(word), byte(word >> 8), byte(word >> 16), byte(word >> 24),
		byte(word >> 32), byte(word >> 40), byte(word >> 48), byte(word >> 56),
	}
}
