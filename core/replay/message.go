package replay

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/sdk"
)

// Numbers of the fields of a message (IngestWithConfigDataStreamRequest), of its
// timestamp, and of the string in a value.
const (
	fieldConfig       = 1
	fieldFlow         = 2
	fieldTime         = 3
	fieldValue        = 4
	fieldRun          = 5
	fieldOrganization = 7

	fieldSeconds = 1
	fieldNanos   = 2

	fieldString = 1
	fieldEmpty  = 11
)

// header is what of a message matters for sending it. The texts lie in the message.
type header struct {
	config, flow, run []byte
	seconds           int64
	nanos             int32
	hasTime           bool
}

// Seconds of the years 1 to 9999, outside of which a timestamp is none.
const (
	minSeconds = -62135596800
	maxSeconds = 253402300799

	maxStamp = math.MaxInt64 / 1_000_000_000 // seconds that int64 has nanoseconds for
)

// time returns when the values were taken. It is false if the message does not say
// it, or says what is no time.
func (h *header) time() (time.Time, bool) {
	if !h.hasTime || h.seconds < minSeconds || h.seconds > maxSeconds || h.nanos < 0 || h.nanos >= 1e9 {
		return time.Time{}, false
	}
	return time.Unix(h.seconds, int64(h.nanos)).UTC(), true
}

// stamp returns the time in ns since the Unix epoch, as near to it as that can
// express; 0 if there is none.
func (h *header) stamp() int64 {
	t, ok := h.time()
	switch {
	case !ok:
		return 0
	case h.seconds >= maxStamp:
		return math.MaxInt64
	case h.seconds <= -maxStamp:
		return math.MinInt64
	}
	return t.UnixNano()
}

func (h *header) binding() sdk.Binding {
	return sdk.Binding{ConfigID: string(h.config), RunID: string(h.run)}
}

// unbound reports whether the message carries placeholders instead of ids.
func (h *header) unbound() bool {
	return isPlaceholder(h.config) || isPlaceholder(h.run)
}

// isPlaceholder allocates only for what may be one.
func isPlaceholder(id []byte) bool {
	return len(id) >= len(sdk.UnboundPrefix) && (id[0] == 'f' || id[0] == 'F') && sdk.IsPlaceholder(string(id))
}

var errNotUTF8 = errors.New("a text in it is not UTF-8")

// parse reads the header of a message and makes sure that a receiver can decode
// all of it. Values are stepped over.
func parse(raw []byte) (header, error) {
	var h header
	for rest := raw; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return h, notField(raw, rest)
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return h, notField(raw, rest)
		}
		value := rest[n : n+size]
		rest = rest[n+size:]
		if kind != protowire.BytesType {
			continue
		}
		content, _ := protowire.ConsumeBytes(value)
		if err := h.take(number, content); err != nil {
			return h, err
		}
	}
	return h, nil
}

func notField(raw, rest []byte) error {
	return fmt.Errorf("its byte %d begins no field", len(raw)-len(rest))
}

func (h *header) take(number protowire.Number, content []byte) error {
	switch number {
	case fieldConfig:
		h.config = content
	case fieldFlow:
		h.flow = content
	case fieldRun:
		h.run = content
	case fieldOrganization:
	case fieldTime:
		return h.takeTime(content)
	case fieldValue:
		return checkValue(content)
	default:
		return nil
	}
	if !utf8.Valid(content) {
		return errNotUTF8
	}
	return nil
}

func (h *header) takeTime(content []byte) error {
	h.hasTime = true
	return fields(content, "its timestamp", func(number protowire.Number, kind protowire.Type, value []byte) error {
		if kind != protowire.VarintType {
			return nil
		}
		v, _ := protowire.ConsumeVarint(value)
		switch number {
		case fieldSeconds:
			h.seconds = int64(v)
		case fieldNanos:
			h.nanos = int32(v)
		}
		return nil
	})
}

func checkValue(content []byte) error {
	return fields(content, "a value", func(number protowire.Number, kind protowire.Type, value []byte) error {
		if kind != protowire.BytesType {
			return nil
		}
		text, _ := protowire.ConsumeBytes(value)
		switch {
		case number == fieldString && !utf8.Valid(text):
			return errNotUTF8
		case number == fieldEmpty:
			return fields(text, "a value", func(protowire.Number, protowire.Type, []byte) error { return nil })
		}
		return nil
	})
}

// fields calls use for each field of a message in the message.
func fields(content []byte, what string, use func(protowire.Number, protowire.Type, []byte) error) error {
	for len(content) > 0 {
		number, kind, n := protowire.ConsumeTag(content)
		size := -1
		if n >= 0 {
			size = protowire.ConsumeFieldValue(number, kind, content[n:])
		}
		if size < 0 {
			return fmt.Errorf("%s is malformed", what)
		}
		if err := use(number, kind, content[n:n+size]); err != nil {
			return err
		}
		content = content[n+size:]
	}
	return nil
}
