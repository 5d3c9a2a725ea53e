package ingestionconfig

import "github.com/pipelined/pipelined/sdk"

// MaxMessageBytes is the greatest length of a message: with its length prefix it
// fills a payload.
const MaxMessageBytes = sdk.MaxPayloadBytes - prefixBytes

const (
	prefixBytes = 4  // the length before each message
	doubleBytes = 11 // a double with its tags and length
)

// Wire types.
const (
	varint  = 0
	fixed64 = 1
	counted = 2 // behind its length
	fixed32 = 5
)

// Tags of the fields, all of one byte: number<<3 | wire type.
const (
	tagConfigID  = 1<<3 | counted
	tagFlow      = 2<<3 | counted
	tagTimestamp = 3<<3 | counted
	tagValue     = 4<<3 | counted
	tagRunID     = 5<<3 | counted

	// In a timestamp.
	tagSeconds = 1<<3 | varint
	tagNanos   = 2<<3 | varint

	// In a channel value.
	tagString   = 1<<3 | counted
	tagDouble   = 2<<3 | fixed64
	tagFloat    = 3<<3 | fixed32
	tagBool     = 4<<3 | varint
	tagInt32    = 5<<3 | varint
	tagUint32   = 6<<3 | varint
	tagInt64    = 7<<3 | varint
	tagUint64   = 8<<3 | varint
	tagBitField = 9<<3 | counted
	tagEnum     = 10<<3 | varint
	tagEmpty    = 11<<3 | counted
	tagBytes    = 12<<3 | counted
)

// valueTag returns the tag that values of a channel type have in a channel
// value; 0 if there is no such type.
func valueTag(t sdk.ChannelType) byte {
	switch t {
	case sdk.Double:
		return tagDouble
	case sdk.String:
		return tagString
	case sdk.Enum:
		return tagEnum
	case sdk.BitField:
		return tagBitField
	case sdk.Bool:
		return tagBool
	case sdk.Float:
		return tagFloat
	case sdk.Int32:
		return tagInt32
	case sdk.Uint32:
		return tagUint32
	case sdk.Int64:
		return tagInt64
	case sdk.Uint64:
		return tagUint64
	case sdk.Bytes:
		return tagBytes
	}
	return 0
}
