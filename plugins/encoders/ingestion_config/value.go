package ingestionconfig

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

// appender appends the value that a channel has in a row as a channel value. It
// returns nil if the value cannot be encoded.
type appender func(dst []byte, col *sdk.Column, row int) []byte

func appenderOf(t sdk.ChannelType) appender {
	switch t {
	case sdk.Double:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			dst = append(dst, tagValue, doubleBytes-2, tagDouble)
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(col.Doubles()[row]))
		}
	case sdk.Float:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			dst = append(dst, tagValue, 5, tagFloat)
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(col.Floats()[row]))
		}
	case sdk.Int32:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendNumber(dst, tagInt32, uint64(col.Int32s()[row])) // sign-extended
		}
	case sdk.Uint32:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendNumber(dst, tagUint32, uint64(col.Uint32s()[row]))
		}
	case sdk.Int64:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendNumber(dst, tagInt64, uint64(col.Int64s()[row]))
		}
	case sdk.Uint64:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendNumber(dst, tagUint64, col.Uint64s()[row])
		}
	case sdk.Enum:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendNumber(dst, tagEnum, uint64(col.Uint32s()[row]))
		}
	case sdk.Bool:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			b := byte(0)
			if col.Bool(row) {
				b = 1
			}
			return append(dst, tagValue, 2, tagBool, b)
		}
	case sdk.String:
		return func(dst []byte, col *sdk.Column, row int) []byte {
			if !utf8.Valid(col.Bytes(row)) {
				return nil
			}
			return appendBytes(dst, tagString, col.Bytes(row))
		}
	default: // bytes and bit fields
		tag := valueTag(t)
		return func(dst []byte, col *sdk.Column, row int) []byte {
			return appendBytes(dst, tag, col.Bytes(row))
		}
	}
}

// appendDoubles appends one value of each column.
func appendDoubles(dst []byte, columns [][]float64, row int) []byte {
	const head = tagValue | (doubleBytes-2)<<8 | tagDouble<<16
	at := len(dst)
	dst = slices.Grow(dst, doubleBytes*len(columns))[:at+doubleBytes*len(columns)]
	for _, values := range columns {
		out := dst[at : at+doubleBytes]
		binary.LittleEndian.PutUint32(out, head) // three bytes: the next line writes over the fourth
		binary.LittleEndian.PutUint64(out[3:], math.Float64bits(values[row]))
		at += doubleBytes
	}
	return dst
}

// appendEmpty appends n channel values that say "no value".
func appendEmpty(dst []byte, n int) []byte {
	const pair = "\x22\x02\x5a\x00\x22\x02\x5a\x00"
	for ; n > 1; n -= 2 {
		dst = append(dst, pair...)
	}
	return append(dst, pair[:4*n]...)
}

func appendNumber(dst []byte, tag byte, v uint64) []byte {
	at := len(dst)
	dst = binary.AppendUvarint(append(dst, tagValue, 0, tag), v)
	dst[at+1] = byte(len(dst) - at - 2)
	return dst
}

func appendBytes(dst []byte, tag byte, v []byte) []byte {
	inner := 1 + uvarintBytes(len(v)) + len(v)
	dst = binary.AppendUvarint(append(dst, tagValue), uint64(inner))
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(v)))
	return append(dst, v...)
}

// appendString appends a string field; an empty one is left out.
func appendString(dst []byte, tag byte, v string) []byte {
	if v == "" {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(v)))
	return append(dst, v...)
}

// appendTimestamp appends a stamp in ns since the Unix epoch. Parts that are 0
// are left out.
func appendTimestamp(dst []byte, stamp int64) []byte {
	const second = 1_000_000_000
	seconds, nanos := stamp/second, stamp%second
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+second
	}
	at := len(dst)
	dst = append(dst, tagTimestamp, 0)
	if seconds != 0 {
		dst = binary.AppendUvarint(append(dst, tagSeconds), uint64(seconds))
	}
	if nanos != 0 {
		dst = binary.AppendUvarint(append(dst, tagNanos), uint64(nanos))
	}
	dst[at+1] = byte(len(dst) - at - 2)
	return dst
}

func uvarintBytes(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
