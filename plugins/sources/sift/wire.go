package siftserver

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/sdk"
)

// errMalformed is said of bytes that are no message at all.
var errMalformed = errors.New("not a valid IngestWithConfigDataStreamRequest")

// Tags of fields: number<<3 | wire type, which is 0 for varints. A field with another wire
// type is unknown and skipped, as everywhere in protobuf.
const (
	tagConfig    = 1<<3 | 2
	tagFlow      = 2<<3 | 2
	tagTimestamp = 3<<3 | 2
	tagValue     = 4<<3 | 2
	tagRun       = 5<<3 | 2
	tagStrict    = 6 << 3
	tagOrg       = 7<<3 | 2

	tagSeconds = 1 << 3
	tagNanos   = 2 << 3
)

// request is a first look at a message: everything but its values. It refers to
// the message's bytes.
type request struct {
	config, flow, run []byte
	seconds           int64
	nanos             int32
	stamped           bool
	strict            bool // end_stream_on_validation_error
	values            int  // how many channel values there are
	first             int  // where the first begins
}

// scan reads a message as proto.Unmarshal does: fields in any order, the last of
// several counts, unknown ones are skipped. Values are counted, not read.
func (r *request) scan(b []byte) error {
	*r = request{}
	for at := 0; at < len(b); {
		if next := r.shortValue(b, at); next > at {
			at = next
			continue
		}
		tag, n := consumeTag(b[at:])
		if n < 0 {
			return errMalformed
		}
		begin := at
		at += n
		switch tag {
		case tagConfig, tagFlow, tagRun, tagOrg, tagTimestamp, tagValue:
			part, n := consumeBytes(b[at:])
			if n < 0 || !r.take(tag, part, begin) {
				return errMalformed
			}
			at += n
		case tagStrict:
			v, n := protowire.ConsumeVarint(b[at:])
			if n < 0 {
				return errMalformed
			}
			r.strict = v != 0
			at += n
		default:
			n := skip(tag, b[at:])
			if n < 0 {
				return errMalformed
			}
			at += n
		}
	}
	return nil
}

// shortValue counts the channel value that begins at a place, if its length
// takes one byte, and returns where it ends; otherwise it returns the place.
func (r *request) shortValue(b []byte, at int) int {
	if len(b)-at < 2 || b[at] != tagValue || b[at+1] >= 0x80 {
		return at
	}
	next := at + 2 + int(b[at+1])
	if next > len(b) {
		return at
	}
	if r.values == 0 {
		r.first = at
	}
	r.values++
	return next
}

// take notes a field; it reports whether the field is well-formed.
func (r *request) take(tag uint64, part []byte, begin int) bool {
	switch tag {
	case tagValue:
		if r.values == 0 {
			r.first = begin
		}
		r.values++
		return true
	case tagTimestamp:
		return r.stamp(part)
	case tagConfig:
		r.config = part
	case tagFlow:
		r.flow = part
	case tagRun:
		r.run = part
	}
	return utf8.Valid(part)
}

// stamp reads a timestamp over what an earlier one said.
func (r *request) stamp(b []byte) bool {
	r.stamped = true
	for len(b) > 0 {
		tag, n := consumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if tag != tagSeconds && tag != tagNanos {
			if n = skip(tag, b); n < 0 {
				return false
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if tag == tagSeconds {
			r.seconds = int64(v)
		} else {
			r.nanos = int32(v)
		}
	}
	return true
}

const second = 1_000_000_000 // ns

// time returns the stamp in ns since the Unix epoch; ok is false if it is not a
// time or does not fit.
func (r *request) time() (ns int64, ok bool) {
	if r.nanos < 0 || r.nanos >= second ||
		r.seconds < math.MinInt64/second-1 || r.seconds > math.MaxInt64/second {
		return 0, false
	}
	whole, rest := r.seconds, int64(r.nanos)
	if whole < 0 {
		whole, rest = whole+1, rest-second // both below 0: the product cannot leave the range alone
	}
	ns = whole*second + rest
	return ns, (ns < 0) == (whole < 0 || whole == 0 && rest < 0)
}

// Members of a channel value, by their field numbers.
const (
	memberString   = 1
	memberDouble   = 2
	memberFloat    = 3
	memberBool     = 4
	memberInt32    = 5
	memberUint32   = 6
	memberInt64    = 7
	memberUint64   = 8
	memberBitField = 9
	memberEnum     = 10
	memberEmpty    = 11
	memberBytes    = 12
)

// memberOf returns the member that values of a channel type are in.
func memberOf(t sdk.ChannelType) uint8 {
	return [...]uint8{
		sdk.Double: memberDouble, sdk.String: memberString, sdk.Enum: memberEnum, sdk.BitField: memberBitField,
		sdk.Bool: memberBool, sdk.Float: memberFloat, sdk.Int32: memberInt32, sdk.Uint32: memberUint32,
		sdk.Int64: memberInt64, sdk.Uint64: memberUint64, sdk.Bytes: memberBytes,
	}[t]
}

// memberName returns what a member is called in messages for people.
func memberName(member uint8) string {
	names := [...]string{
		"nothing", "string", "double", "float", "bool", "int32", "uint32", "int64", "uint64",
		"bit_field", "enum", "empty", "bytes",
	}
	return names[member]
}

// value is a channel value: a member, and its number or its bytes.
type value struct {
	member uint8 // 0: none is set
	bits   uint64
	bytes  []byte
}

// scan reads a channel value; of several members the last counts. It reports
// whether the value is well-formed.
func (v *value) scan(b []byte) bool {
	*v = value{}
	for len(b) > 0 {
		tag, n := consumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		switch tag {
		case memberBool << 3, memberInt32 << 3, memberUint32 << 3, memberInt64 << 3, memberUint64 << 3, memberEnum << 3:
			v.bits, n = protowire.ConsumeVarint(b)
		case memberDouble<<3 | 1:
			v.bits, n = protowire.ConsumeFixed64(b)
		case memberFloat<<3 | 5:
			var bits uint32
			bits, n = protowire.ConsumeFixed32(b)
			v.bits = uint64(bits)
		case memberString<<3 | 2:
			v.bytes, n = consumeBytes(b)
			if n >= 0 && !utf8.Valid(v.bytes) {
				return false
			}
		case memberBitField<<3 | 2, memberBytes<<3 | 2:
			v.bytes, n = consumeBytes(b)
		case memberEmpty<<3 | 2:
			var inner []byte
			inner, n = consumeBytes(b)
			if n >= 0 && !wellFormed(inner) {
				return false
			}
		default:
			if n = skip(tag, b); n < 0 {
				return false
			}
			b = b[n:]
			continue
		}
		if n < 0 {
			return false
		}
		v.member = uint8(tag >> 3)
		b = b[n:]
	}
	return true
}

// wellFormed reports whether b is a message of unknown fields.
func wellFormed(b []byte) bool {
	for len(b) > 0 {
		tag, n := consumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if n = skip(tag, b); n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// consumeTag reads a tag; n is below 0 if there is none.
func consumeTag(b []byte) (tag uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		tag, n = uint64(b[0]), 1
	} else {
		tag, n = protowire.ConsumeVarint(b)
	}
	if number := tag >> 3; number < uint64(protowire.MinValidNumber) || number > uint64(protowire.MaxValidNumber) {
		return 0, -1
	}
	return tag, n
}

// consumeBytes reads a length and as many bytes.
func consumeBytes(b []byte) (part []byte, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		end := 1 + int(b[0])
		if end > len(b) {
			return nil, -1
		}
		return b[1:end], end
	}
	return protowire.ConsumeBytes(b)
}

// skip returns the length of an unknown field behind its tag, below 0 if it is
// malformed.
func skip(tag uint64, b []byte) int {
	return protowire.ConsumeFieldValue(protowire.Number(tag>>3), protowire.Type(tag&7), b)
}

// doubleBytes is the length of a channel value that is one double, in the usual
// form, with its tag and length.
const doubleBytes = 11

// usualDouble reads such a value.
func usualDouble(b []byte) (bits uint64, ok bool) {
	if len(b) < doubleBytes || b[0] != tagValue || b[1] != doubleBytes-2 || b[2] != memberDouble<<3|1 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[3:]), true
}
