package pbfsview

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Kind is what is wrong with bytes of a file.
type Kind uint8

const (
	// Hole: the bytes belong to no valid chunk.
	Hole Kind = iota + 1
	// TornTail: the file ends inside a chunk, as after a crash of its writer.
	TornTail
	// Undecodable: the chunk is right, but its message is not one of telemetry.
	Undecodable
	// Foreign: there is no chunk in the whole file, and it looks like a file of
	// another format.
	Foreign
)

// Damage is a range of a file that cannot be read as messages.
type Damage struct {
	Kind     Kind
	From, To int64 // byte offsets: it begins at From and ends before To
	Cause    error
}

// Error says what is wrong where, in one line without the file's name.
func (d *Damage) Error() string {
	size := "1 byte"
	if d.Size() != 1 {
		size = fmt.Sprintf("%d bytes", d.Size())
	}
	switch d.Kind {
	case Foreign:
		return fmt.Sprintf("not a PBFS file: %v", d.Cause)
	case Undecodable:
		return fmt.Sprintf("message at byte %d (%s) cannot be decoded: %v", d.From, size, d.Cause)
	case TornTail:
		return fmt.Sprintf("torn tail: bytes %d to %d (%s) are an incomplete chunk", d.From, d.To, size)
	}
	cause := d.Cause.Error()
	if e, ok := errors.AsType[*pbfs.Error](d.Cause); ok {
		cause = e.Kind.String()
	}
	return fmt.Sprintf("hole: bytes %d to %d (%s): %s", d.From, d.To, size, cause)
}

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Cause }

// Size returns the number of bytes in the range.
func (d *Damage) Size() int64 { return d.To - d.From }

// sniffBytes is how much of a file is looked at to guess its format.
const sniffBytes = 512

// guessFormat names the format that a file with this beginning has, or nothing.
func guessFormat(head []byte) string {
	for _, f := range []struct{ magic, name string }{
		{"PAR1", "a Parquet file"},
		{"\x1f\x8b\x08", "a gzip file"},
		{"\x28\xb5\x2f\xfd", "a zstd file"},
		{"PK\x03\x04", "a zip file"},
		{"SQLite format 3\x00", "an SQLite file"},
		{"\x89HDF\r\n", "an HDF5 file"},
		{"\x89MCAP0\r\n", "an MCAP file"},
		{"\x7fELF", "a program"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return f.name
		}
	}
	if isText(head) {
		return "a text file"
	}
	return ""
}

// minText is the least size of a text: the first bytes of a torn chunk, its
// checksum and the low bytes of its length, may look like one.
const minText = 7

func isText(head []byte) bool {
	if len(head) < minText {
		return false
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n <= 1 {
			return len(head) < utf8.UTFMax // a rune may be cut at the end
		}
		if unicode.IsControl(r) && !bytes.ContainsRune([]byte("\t\n\v\f\r"), r) {
			return false
		}
		head = head[n:]
	}
	return true
}
