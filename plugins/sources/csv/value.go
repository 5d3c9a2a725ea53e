package csv

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

// column is a column that becomes a channel.
type column struct {
	name    string // in the file
	field   int    // index of its value in a row
	channel int    // in the flow
	typ     sdk.ChannelType
	enum    map[string]uint32
}

// What can be wrong with a value. The texts are part of the reason why a row is
// refused.
var (
	errNotNumber  = errors.New("is not a number")
	errNotInteger = errors.New("is not an integer")
	errRange      = errors.New("is out of range")
	errNotBool    = errors.New("is neither true nor false")
	errNotName    = errors.New("is not a name of the enum")
	errNotUTF8    = errors.New("is not UTF-8")
)

// set parses a text and puts it into the last row.
func (c *column) set(rows *sdk.Builder, text []byte) error {
	switch c.typ {
	case sdk.String:
		if !utf8.Valid(text) {
			return errNotUTF8
		}
		rows.SetBytes(c.channel, text)
		return nil
	case sdk.Bytes:
		rows.SetBytes(c.channel, text)
		return nil
	}
	text = trim(text)
	switch c.typ {
	case sdk.Double:
		v, err := parseFloat(text, 64)
		if err == nil {
			rows.Double(c.channel, v)
		}
		return err
	case sdk.Float:
		v, err := parseFloat(text, 32)
		if err == nil {
			rows.Float(c.channel, float32(v))
		}
		return err
	case sdk.Int64, sdk.Int32:
		return c.setInt(rows, text)
	case sdk.Uint64, sdk.Uint32:
		return c.setUint(rows, text)
	case sdk.Bool:
		v, ok := parseBool(text)
		if !ok {
			return errNotBool
		}
		rows.Bool(c.channel, v)
		return nil
	default:
		return c.setEnum(rows, text)
	}
}

func (c *column) setInt(rows *sdk.Builder, text []byte) error {
	size := 64
	if c.typ == sdk.Int32 {
		size = 32
	}
	v, err := strconv.ParseInt(string(text), 10, size)
	switch {
	case err != nil:
		return integerError(err)
	case size == 32:
		rows.Int32(c.channel, int32(v))
	default:
		rows.Int64(c.channel, v)
	}
	return nil
}

func (c *column) setUint(rows *sdk.Builder, text []byte) error {
	size := 64
	if c.typ == sdk.Uint32 {
		size = 32
	}
	v, err := strconv.ParseUint(string(bytes.TrimPrefix(text, []byte("+"))), 10, size)
	switch {
	case err != nil && isInteger(text):
		return errRange
	case err != nil:
		return errNotInteger
	case size == 32:
		rows.Uint32(c.channel, uint32(v))
	default:
		rows.Uint64(c.channel, v)
	}
	return nil
}

func integerError(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errRange
	}
	return errNotInteger
}

func (c *column) setEnum(rows *sdk.Builder, text []byte) error {
	key, ok := c.enum[string(text)]
	if !ok {
		n, err := strconv.ParseUint(string(text), 10, 32)
		if err != nil {
			return errNotName
		}
		key = uint32(n)
		for _, known := range c.enum {
			ok = ok || known == key
		}
		if !ok {
			return errNotName
		}
	}
	rows.Uint32(c.channel, key)
	return nil
}

// trim cuts spaces off.
func trim(text []byte) []byte {
	if len(text) > 0 && text[0] > ' ' && text[len(text)-1] > ' ' {
		return text
	}
	return bytes.Trim(text, " \t")
}

// parseFloat reads a decimal number, or NaN and the infinities.
func parseFloat(text []byte, bits int) (float64, error) {
	for _, c := range text {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c|0x20 != 'e' {
			return parseSpecial(text)
		}
	}
	v, err := strconv.ParseFloat(string(text), bits)
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, strconv.ErrRange):
		return 0, errRange
	}
	return 0, errNotNumber
}

// parseSpecial keeps the forms of package strconv that are not decimal away.
func parseSpecial(text []byte) (float64, error) {
	sign := 1
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	switch {
	case bytes.EqualFold(text, []byte("nan")):
		return math.NaN(), nil
	case bytes.EqualFold(text, []byte("inf")), bytes.EqualFold(text, []byte("infinity")):
		return math.Inf(sign), nil
	}
	return 0, errNotNumber
}

func parseBool(text []byte) (value, ok bool) {
	switch {
	case len(text) == 1:
		return text[0] == '1', text[0] == '1' || text[0] == '0'
	case bytes.EqualFold(text, []byte("true")):
		return true, true
	}
	return false, bytes.EqualFold(text, []byte("false"))
}

// isInteger reports whether the text is an integer of any size.
func isInteger(text []byte) bool {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		text = text[1:]
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}

// enumValues returns the values of an enum by key.
func enumValues(values map[string]uint32) []sdk.EnumValue {
	var out []sdk.EnumValue
	for name, key := range values {
		out = append(out, sdk.EnumValue{Name: name, Key: key})
	}
	slices.SortFunc(out, func(a, b sdk.EnumValue) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Name, b.Name))
	})
	return out
}
