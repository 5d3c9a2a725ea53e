package ingestionconfig

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	errCut       = errors.New("it is cut off")
	errVarint    = errors.New("a number is not in its shortest form")
	errTooLong   = errors.New("a length goes beyond the end")
	errPrefix    = errors.New("the length before a message goes beyond the end of the body")
	errLastBytes = errors.New("the body ends with a part of a length")
)

// reader takes protobuf fields from the front of a message.
type reader struct{ rest []byte }

// next reports whether the next field has the tag, and takes the tag if so.
func (r *reader) next(tag byte) bool {
	if len(r.rest) == 0 || r.rest[0] != tag {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// uvarint takes a number in its shortest form.
func (r *reader) uvarint() (uint64, error) {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		v := r.rest[0]
		r.rest = r.rest[1:]
		return uint64(v), nil
	}
	v, n := binary.Uvarint(r.rest)
	switch {
	case n == 0:
		return 0, errCut
	case n < 0 || r.rest[n-1] == 0:
		return 0, errVarint
	}
	r.rest = r.rest[n:]
	return v, nil
}

// bytes takes a length and as many bytes.
func (r *reader) bytes() ([]byte, error) {
	n, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.rest)) {
		return nil, errTooLong
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out, nil
}

// fixed takes n bytes.
func (r *reader) fixed(n int) ([]byte, error) {
	if len(r.rest) < n {
		return nil, errCut
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out, nil
}

// cutMessage splits the first message off a body.
func cutMessage(body []byte) (message, rest []byte, err error) {
	if len(body) < prefixBytes {
		return nil, nil, errLastBytes
	}
	n := uint64(binary.LittleEndian.Uint32(body))
	body = body[prefixBytes:]
	if n > uint64(len(body)) {
		return nil, nil, errPrefix
	}
	return body[:n:n], body[n:], nil
}

// unexpected says which field stands where another or none should.
func unexpected(rest []byte) error {
	tag, n := binary.Uvarint(rest)
	if n <= 0 {
		return errCut
	}
	names := [...]string{
		1: "ingestion_config_id", 2: "flow", 3: "timestamp", 4: "channel_values", 5: "run_id",
		6: "end_stream_on_validation_error", 7: "organization_id",
	}
	number := tag >> 3
	if number == 0 || number >= uint64(len(names)) {
		return fmt.Errorf("unknown field %d", number)
	}
	return fmt.Errorf("field %d (%s) of wire type %d is not expected there", number, names[number], tag&7)
}
