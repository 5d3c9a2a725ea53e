package parquet

import (
	"bytes"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/pipelined/pipelined/sdk"
)

// fillRows is how many values are handed to a column at a time.
const fillRows = 1024

// replacement stands for bytes that are not UTF-8 in strings, which all readers
// refuse.
var replacement = []byte("�")

// filler turns the columns of batches into the values of Parquet columns.
type filler struct {
	values   []parquet.Value // scratch, fillRows long
	enums    []*enumText     // by channel; nil for other types
	repaired uint64          // strings in which bytes were replaced
}

func newFiller(f *sdk.Flow, scratch []parquet.Value) *filler {
	l := &filler{values: scratch, enums: make([]*enumText, len(f.Channels))}
	for i := range f.Channels {
		if f.Channels[i].Type == sdk.Enum {
			l.enums[i] = newEnumText(f.Channels[i].Enum)
		}
	}
	return l
}

// write hands the rows of a batch to the column writers, the first of which is
// that of the stamps.
func (l *filler) write(batch *sdk.Batch, columns []*parquet.ColumnWriter) error {
	for from := 0; from < batch.Rows(); from += fillRows {
		to := min(from+fillRows, batch.Rows())
		values := l.values[:to-from]
		for i, t := range batch.Times()[from:to] {
			values[i] = parquet.Int64Value(t)
		}
		if _, err := columns[0].WriteRowValues(values); err != nil {
			return err
		}
		for channel := range l.enums {
			l.fill(values, batch.Column(channel), channel, from)
			if _, err := columns[channel+1].WriteRowValues(values); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill sets values to those of a column from row from on.
func (l *filler) fill(values []parquet.Value, c *sdk.Column, channel, from int) {
	if !c.Present() {
		clear(values) // the zero value is null
		return
	}
	l.convert(values, c, channel, from)
	if c.AllValid() {
		for i := range values {
			values[i].SetDefinitionLevel(1)
		}
		return
	}
	for i := range values {
		if c.Valid(from + i) {
			values[i].SetDefinitionLevel(1)
		} else {
			values[i] = parquet.Value{}
		}
	}
}

// convert sets values to those of a column, as if all rows had one.
func (l *filler) convert(values []parquet.Value, c *sdk.Column, channel, from int) {
	to := from + len(values)
	switch c.Type() {
	case sdk.Double:
		for i, v := range c.Doubles()[from:to] {
			values[i] = parquet.DoubleValue(v)
		}
	case sdk.Float:
		for i, v := range c.Floats()[from:to] {
			values[i] = parquet.FloatValue(v)
		}
	case sdk.Int32:
		for i, v := range c.Int32s()[from:to] {
			values[i] = parquet.Int32Value(v)
		}
	case sdk.Uint32:
		for i, v := range c.Uint32s()[from:to] {
			values[i] = parquet.Int32Value(int32(v))
		}
	case sdk.Int64:
		for i, v := range c.Int64s()[from:to] {
			values[i] = parquet.Int64Value(v)
		}
	case sdk.Uint64:
		for i, v := range c.Uint64s()[from:to] {
			values[i] = parquet.Int64Value(int64(v))
		}
	case sdk.Enum:
		for i, key := range c.Uint32s()[from:to] {
			values[i] = parquet.ByteArrayValue(l.enums[channel].of(key))
		}
	case sdk.Bool:
		for i := range values {
			values[i] = parquet.BooleanValue(c.Bool(from + i))
		}
	case sdk.String:
		for i := range values {
			values[i] = parquet.ByteArrayValue(l.text(c.Bytes(from + i)))
		}
	default: // bytes and bit fields
		for i := range values {
			values[i] = parquet.ByteArrayValue(c.Bytes(from + i))
		}
	}
}

// text returns what is stored for a string: itself, if it is UTF-8.
func (l *filler) text(s []byte) []byte {
	if utf8.Valid(s) {
		return s
	}
	l.repaired++
	return bytes.ToValidUTF8(s, replacement)
}
