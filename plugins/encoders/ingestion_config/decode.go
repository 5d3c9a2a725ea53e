package ingestionconfig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

// Decode appends the messages of body as rows. It accepts exactly what Encode
// writes for the builder's flow, with any ids. When it fails the messages before
// the one it names have been appended.
func (e *encoder) Decode(rows *sdk.Builder, body []byte) error {
	for number := 1; len(body) > 0; number++ {
		message, rest, err := cutMessage(body)
		if err != nil {
			return fmt.Errorf("message %d: %w", number, err)
		}
		if rows.Rows() >= sdk.MaxRowsInBatch {
			return fmt.Errorf("message %d: a batch has at most %d rows", number, sdk.MaxRowsInBatch)
		}
		if err := decodeMessage(rows, reader{message}); err != nil {
			return fmt.Errorf("message %d: %w", number, err)
		}
		body = rest
	}
	return nil
}

func decodeMessage(rows *sdk.Builder, r reader) error {
	if err := r.id(tagConfigID, "ingestion_config_id"); err != nil {
		return err
	}
	if err := r.flow(rows.Flow().Name); err != nil {
		return err
	}
	stamp, err := r.timestamp()
	if err != nil {
		return err
	}
	rows.Row(stamp)
	if err := decodeValues(rows, &r); err != nil {
		rows.DropRow()
		return err
	}
	return nil
}

// decodeValues reads what follows the timestamp into the current row.
func decodeValues(rows *sdk.Builder, r *reader) error {
	channels := rows.Flow().Channels
	for i := range channels {
		if !r.next(tagValue) {
			if len(r.rest) > 0 && r.rest[0] != tagRunID {
				return unexpected(r.rest)
			}
			return fmt.Errorf("it has %d values, flow %q has %d channels", i, rows.Flow().Name, len(channels))
		}
		value, err := r.bytes()
		if err == nil {
			err = decodeValue(rows, i, channels[i].Type, value)
		}
		if err != nil {
			return fmt.Errorf("channel %q: %w", channels[i].Name, err)
		}
	}
	if err := r.id(tagRunID, "run_id"); err != nil {
		return err
	}
	switch {
	case len(r.rest) == 0:
		return nil
	case r.rest[0] == tagValue:
		return fmt.Errorf("it has more values than flow %q has channels (%d)", rows.Flow().Name, len(channels))
	}
	return unexpected(r.rest)
}

// id takes a string field that is there only if it is not empty.
func (r *reader) id(tag byte, name string) error {
	if !r.next(tag) {
		return nil
	}
	id, err := r.bytes()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(id) == 0:
		return fmt.Errorf("%s is there and empty", name)
	case !utf8.Valid(id):
		return fmt.Errorf("%s is not UTF-8", name)
	}
	return nil
}

func (r *reader) flow(want string) error {
	if !r.next(tagFlow) {
		if len(r.rest) == 0 || r.rest[0] == tagTimestamp {
			return errors.New("it has no flow")
		}
		return unexpected(r.rest)
	}
	name, err := r.bytes()
	if err != nil {
		return fmt.Errorf("flow: %w", err)
	}
	if string(name) != want {
		return fmt.Errorf("it is of flow %q, not of %q", clip(name), want)
	}
	return nil
}

// timestamp takes the stamp, in ns since the Unix epoch.
func (r *reader) timestamp() (int64, error) {
	if !r.next(tagTimestamp) {
		if len(r.rest) == 0 || r.rest[0] == tagValue {
			return 0, errors.New("it has no timestamp")
		}
		return 0, unexpected(r.rest)
	}
	raw, err := r.bytes()
	if err != nil {
		return 0, fmt.Errorf("timestamp: %w", err)
	}
	stamp, err := parseTimestamp(reader{raw})
	if err != nil {
		return 0, fmt.Errorf("timestamp: %w", err)
	}
	return stamp, nil
}

func parseTimestamp(r reader) (int64, error) {
	var seconds, nanos uint64
	var err error
	if r.next(tagSeconds) {
		if seconds, err = r.uvarint(); err != nil {
			return 0, err
		}
		if seconds == 0 {
			return 0, errors.New("seconds are there and 0")
		}
	}
	if r.next(tagNanos) {
		if nanos, err = r.uvarint(); err != nil {
			return 0, err
		}
		if nanos == 0 || nanos > 999_999_999 {
			return 0, fmt.Errorf("nanos are there and %d: want 1 to 999999999", nanos)
		}
	}
	if len(r.rest) > 0 {
		return 0, errors.New("it has other fields than seconds and nanos, or in another order")
	}
	return joinTimestamp(int64(seconds), int64(nanos))
}

// joinTimestamp returns an error where ns in an int64 do not suffice.
func joinTimestamp(seconds, nanos int64) (int64, error) {
	const second = 1_000_000_000
	const least, greatest = math.MinInt64/second - 1, math.MaxInt64 / second
	if seconds < least || seconds > greatest ||
		seconds == least && nanos < second+math.MinInt64%second ||
		seconds == greatest && nanos > math.MaxInt64%second {
		return 0, fmt.Errorf("%d s and %d ns since 1970 lie outside the years 1677 to 2262", seconds, nanos)
	}
	return seconds*second + nanos, nil // in the first second the product wraps, and the sum back
}

func decodeValue(rows *sdk.Builder, channel int, t sdk.ChannelType, value []byte) error {
	if len(value) == 0 {
		return errors.New("the value has no type, not even empty")
	}
	if value[0] == tagEmpty {
		if len(value) != 2 || value[1] != 0 {
			return errors.New("an empty value has content")
		}
		return nil
	}
	if value[0] != valueTag(t) {
		return fmt.Errorf("the value is %s, the channel's type is %s", valueName(value[0]), t)
	}
	r := reader{value[1:]}
	if err := decodeContent(rows, channel, t, &r); err != nil {
		return err
	}
	if len(r.rest) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(r.rest))
	}
	return nil
}

func decodeContent(rows *sdk.Builder, channel int, t sdk.ChannelType, r *reader) error {
	switch t {
	case sdk.Double:
		v, err := r.fixed(8)
		if err == nil {
			rows.Double(channel, math.Float64frombits(binary.LittleEndian.Uint64(v)))
		}
		return err
	case sdk.Float:
		v, err := r.fixed(4)
		if err == nil {
			rows.Float(channel, math.Float32frombits(binary.LittleEndian.Uint32(v)))
		}
		return err
	case sdk.String, sdk.Bytes, sdk.BitField:
		v, err := r.bytes()
		if err != nil {
			return err
		}
		return setBytes(rows, channel, t, v)
	default:
		v, err := r.uvarint()
		if err != nil {
			return err
		}
		return setNumber(rows, channel, t, v)
	}
}

func setBytes(rows *sdk.Builder, channel int, t sdk.ChannelType, v []byte) error {
	switch {
	case t == sdk.BitField:
		return rows.BitField(channel, v)
	case t == sdk.String && !utf8.Valid(v):
		return errors.New("the string is not UTF-8")
	}
	rows.SetBytes(channel, v)
	return nil
}

func setNumber(rows *sdk.Builder, channel int, t sdk.ChannelType, v uint64) error {
	switch t {
	case sdk.Bool:
		if v > 1 {
			return fmt.Errorf("%d is no bool", v)
		}
		rows.Bool(channel, v == 1)
	case sdk.Int32:
		if int64(v) != int64(int32(v)) {
			return fmt.Errorf("%d is no int32", int64(v))
		}
		rows.Int32(channel, int32(v))
	case sdk.Uint32, sdk.Enum:
		if v > math.MaxUint32 {
			return fmt.Errorf("%d is no %s: more than 32 bits", v, t)
		}
		rows.Uint32(channel, uint32(v))
	case sdk.Int64:
		rows.Int64(channel, int64(v))
	case sdk.Uint64:
		rows.Uint64(channel, v)
	}
	return nil
}

func valueName(tag byte) string {
	for _, t := range sdk.ChannelTypes() {
		if valueTag(t) == tag {
			return "of type " + t.String()
		}
	}
	return fmt.Sprintf("of an unknown type (field %d, wire type %d)", tag>>3, tag&7)
}

// clip keeps errors about foreign text short.
func clip(text []byte) []byte {
	const most = 200
	return text[:min(len(text), most)]
}
