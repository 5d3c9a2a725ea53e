package sdk_test

import (
	"fmt"
	"math"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

// cell is what a channel has in a row; the zero value is nothing. It can be
// compared: numbers are kept as their bits, so that NaN equals itself.
type cell struct {
	set  bool
	bits uint64
	text string
}

// row is a row of a model.
type row struct {
	time  int64
	cells []cell
}

// allTypes is a flow with the given types.
func flowOf(types ...sdk.ChannelType) *sdk.Flow {
	flow := &sdk.Flow{Name: "engine"}
	for i, t := range types {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: fmt.Sprintf("%s_%d", t, i), Type: t})
	}
	return flow
}

func drawFlow(t *rapid.T) *sdk.Flow {
	return flowOf(rapid.SliceOfN(rapid.SampledFrom(sdk.ChannelTypes()), 1, 80).Draw(t, "types")...)
}

// drawCell draws a value; bit fields have the given width.
func drawCell(t *rapid.T, typ sdk.ChannelType, width int) cell {
	c := cell{set: true}
	switch typ {
	case sdk.Double, sdk.Int64, sdk.Uint64:
		c.bits = rapid.Uint64().Draw(t, "value")
	case sdk.Bool:
		c.bits = uint64(rapid.IntRange(0, 1).Draw(t, "value"))
	case sdk.String, sdk.Bytes:
		c.text = rapid.String().Draw(t, "value")
	case sdk.BitField:
		c.text = string(rapid.SliceOfN(rapid.Byte(), width, width).Draw(t, "value"))
	default:
		c.bits = uint64(rapid.Uint32().Draw(t, "value"))
	}
	return c
}

// put sets a channel to a cell that has a value.
func put(b *sdk.Builder, channel int, c cell) error {
	switch b.Flow().Channels[channel].Type {
	case sdk.Double:
		b.Double(channel, math.Float64frombits(c.bits))
	case sdk.Float:
		b.Float(channel, math.Float32frombits(uint32(c.bits)))
	case sdk.Int32:
		b.Int32(channel, int32(c.bits))
	case sdk.Uint32, sdk.Enum:
		b.Uint32(channel, uint32(c.bits))
	case sdk.Int64:
		b.Int64(channel, int64(c.bits))
	case sdk.Uint64:
		b.Uint64(channel, c.bits)
	case sdk.Bool:
		b.Bool(channel, c.bits == 1)
	case sdk.String:
		b.String(channel, c.text)
	case sdk.Bytes:
		b.SetBytes(channel, []byte(c.text))
	case sdk.BitField:
		return b.BitField(channel, []byte(c.text))
	}
	return nil
}

// get reads a cell of a batch.
func get(batch *sdk.Batch, channel, r int) cell {
	col := batch.Column(channel)
	if !col.Valid(r) {
		return cell{}
	}
	c := cell{set: true}
	switch col.Type() {
	case sdk.Double:
		c.bits = math.Float64bits(col.Doubles()[r])
	case sdk.Float:
		c.bits = uint64(math.Float32bits(col.Floats()[r]))
	case sdk.Int32:
		c.bits = uint64(uint32(col.Int32s()[r]))
	case sdk.Uint32, sdk.Enum:
		c.bits = uint64(col.Uint32s()[r])
	case sdk.Int64:
		c.bits = uint64(col.Int64s()[r])
	case sdk.Uint64:
		c.bits = col.Uint64s()[r]
	case sdk.Bool:
		if col.Bool(r) {
			c.bits = 1
		}
	default:
		c.text = string(col.Bytes(r))
	}
	return c
}

// rowsOf reads a whole batch.
func rowsOf(batch *sdk.Batch) []row {
	var rows []row
	for r := range batch.Rows() {
		next := row{time: batch.Times()[r]}
		for i := range batch.Flow().Channels {
			next.cells = append(next.cells, get(batch, i, r))
		}
		rows = append(rows, next)
	}
	return rows
}

// write puts rows into a builder.
func write(t require.TestingT, b *sdk.Builder, rows []row) {
	for _, r := range rows {
		b.Row(r.time)
		for i, c := range r.cells {
			if c.set {
				require.NoError(t, put(b, i, c))
			}
		}
	}
}

// checkBuilder holds everything that a builder says against the model.
func checkBuilder(t require.TestingT, b *sdk.Builder, want []row) {
	require.Equal(t, len(want), b.Rows())
	if len(want) == 0 {
		require.Zero(t, b.Bytes())
		return
	}
	raw := b.Append([]byte("8 bytes."))[8:]
	require.Equal(t, len(raw), b.Len())
	require.LessOrEqual(t, len(raw), b.Bytes(), "bound")
	batch, err := sdk.ParseBatch(b.Flow(), raw)
	require.NoError(t, err)
	require.Equal(t, want, rowsOf(batch))
	require.GreaterOrEqual(t, b.Bytes(), batch.WireBound())

	for i := range b.Flow().Channels {
		values := 0
		for _, r := range want {
			if r.cells[i].set {
				values++
			}
		}
		col := batch.Column(i)
		require.Equal(t, values > 0, col.Present())
		require.Equal(t, values == len(want), col.AllValid())
	}

	// The canonical form: what is kept of earlier rows must not show.
	fresh := sdk.NewBuilder(b.Flow())
	write(t, fresh, want)
	require.Equal(t, fresh.Append(nil), raw)
	require.Equal(t, fresh.Bytes(), b.Bytes())
}
