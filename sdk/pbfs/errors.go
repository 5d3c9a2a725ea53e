package pbfs

import "fmt"

// Kind is what is wrong with a chunk or a body.
type Kind uint8

const (
	// TornTail: the file ends inside the chunk, in its header (1 to 11 bytes are
	// left) or in its body. It is what a crash while writing leaves behind. To a
	// Reader, a damaged length that points past the end looks the same; a
	// Scanner says AbsurdLength if valid chunks follow.
	TornTail Kind = iota + 1
	// AbsurdLength: the header claims a body that is longer than the limit, or
	// than the file although valid chunks follow.
	AbsurdLength
	// BadChecksum: the bytes are not those that the checksum was computed over.
	BadChecksum
	// Malformed: the checksum is right, but the lengths of the messages do not
	// fill the body exactly. The chunk was written so.
	Malformed
	// LargeMessage: a message is longer than the limit. The chunk is not damaged.
	LargeMessage
)

// String names the kind in a few words.
func (k Kind) String() string {
	switch k {
	case TornTail:
		return "torn tail"
	case AbsurdLength:
		return "absurd length"
	case BadChecksum:
		return "wrong checksum"
	case Malformed:
		return "malformed lengths"
	case LargeMessage:
		return "message too large"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Error says what is wrong, and where. Errors of the source are never of this
// type.
type Error struct {
	Kind Kind

	// Offset is the byte offset in the file at which the chunk begins. All before
	// it is as it should be. It is -1 if a body was checked by itself.
	Offset int64

	// At is the byte offset in the file of the value that is wrong. It counts
	// from the start of the body if a body was checked by itself.
	At int64

	// Got and Want are the numbers behind the verdict:
	//
	//	TornTail      bytes of the chunk that are there; bytes that it needs at least
	//	AbsurdLength  the length claimed; the most that is possible
	//	BadChecksum   the checksum of the bytes; the one in the header
	//	Malformed     the message length claimed, 0 if not even the 4 bytes of a
	//	              length are there; the bytes that are left in the body
	//	LargeMessage  the message length; the limit
	Got, Want uint64
}

// Error says it in one line, without the content of any message.
func (e *Error) Error() string {
	where := "body"
	if e.Offset >= 0 {
		where = fmt.Sprintf("chunk at byte %d", e.Offset)
	}
	return fmt.Sprintf("pbfs: %s: %s", where, e.detail())
}

func (e *Error) detail() string {
	switch e.Kind {
	case TornTail:
		return fmt.Sprintf("torn: the file ends after %d of at least %d bytes", e.Got, e.Want)
	case AbsurdLength:
		return fmt.Sprintf("length %d, at most %d is possible: damaged, or over the limit", e.Got, e.Want)
	case BadChecksum:
		return fmt.Sprintf("damaged: checksum %08x, header says %08x", e.Got, e.Want)
	case Malformed:
		if e.Got == 0 {
			return fmt.Sprintf("%d bytes left at byte %d, too few for a message length", e.Want, e.At)
		}
		return fmt.Sprintf("message length %d at byte %d, but %d bytes are left", e.Got, e.At, e.Want)
	case LargeMessage:
		return fmt.Sprintf("message of %d bytes at byte %d, over the limit of %d", e.Got, e.At, e.Want)
	default:
		return e.Kind.String()
	}
}
