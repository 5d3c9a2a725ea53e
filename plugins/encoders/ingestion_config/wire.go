package ingestionconfig

import "github.com/pipelined/pipelined/sdk"

// MaxMessageBytes is the greatest length of a message: with its length prefix it
// fills a payload.
const MaxMessageBytes = sdk.MaxPayloadBytes - prefixBytes

const (
	prefixBytes = 4  // the length before each message
	doubleBytes = 11 // a double with its tags and length
)

// Tags of the fields, all of one byte: number<<3 | wire type.
const (
	tagConfigID  = 1<<3 | 2
	tagFlow      = 2<<3 | 2
	tagTimestamp = 3<<3 | 2
	tagValue     = 4<<3 | 2
	tagRunID     = 5<<3 | 2

	// In a timestamp.
	tagSeconds = 1<<3 | 0
	tagNanos   = 2<<3 | 0

	// In a channel value.
	tagString   = 1<<3 | 2
	tagDouble   = 2<<3 | 1
	tagFloat    = 3<<3 | 5
	tagBool     = 4<<3 | 0
	tagInt32    = 5<<3 | 0
	tagUint32   = 6<<3 | 0
	tagInt64    = 7<<3 | 0
	tagUint64   = 8<<3 | 0
	tagBitField = 9<<3 | 2
	tagEnum     = 10<<3 | 0
	tagEmpty    = 11<<3 | 2
	tagBytes    = 12<<3 | 2
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
