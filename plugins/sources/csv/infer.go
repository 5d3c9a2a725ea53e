package csv

import (
	"errors"
	"strconv"

	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
	"github.com/pipelined/pipelined/sdk"
)

// evidence is what the first values of a column look like.
type evidence struct {
	bools, integers, large, negative, floats, texts, nested bool
}

// add looks at a value of CSV.
func (e *evidence) add(text []byte) {
	text = trim(text)
	if isInteger(text) {
		e.addInteger(text)
		return
	}
	if _, err := parseFloat(text, 64); err == nil {
		e.floats = true
		return
	}
	if len(text) > 1 {
		if _, ok := parseBool(text); ok {
			e.bools = true
			return
		}
	}
	e.texts = true
}

// addJSON looks at a value of NDJSON that is not null.
func (e *evidence) addJSON(v jsonline.Value) {
	switch v.Kind {
	case jsonline.Bool:
		e.bools = true
	case jsonline.Number:
		e.add(v.Text)
	case jsonline.String:
		e.texts = true
	default:
		e.nested = true
	}
}

func (e *evidence) addInteger(text []byte) {
	e.integers = true
	e.negative = e.negative || text[0] == '-'
	_, err := strconv.ParseInt(string(text), 10, 64)
	if !errors.Is(err, strconv.ErrRange) {
		return
	}
	e.large = true
	if text[0] == '+' {
		text = text[1:]
	}
	if _, err := strconv.ParseUint(string(text), 10, 64); err != nil {
		e.floats = true
	}
}

// found reports whether there was any value.
func (e *evidence) found() bool { return *e != evidence{} }

// typ returns the type that fits all values. 0: they are not values of a channel.
func (e *evidence) typ(follow bool) sdk.ChannelType {
	numbers := e.integers || e.floats
	switch {
	case e.nested && !e.texts && !numbers && !e.bools:
		return 0
	case e.texts || e.nested || e.bools && numbers || !e.found():
		return sdk.String
	case e.bools:
		return sdk.Bool
	case e.floats || follow || e.large && e.negative:
		return sdk.Double
	case e.large:
		return sdk.Uint64
	}
	return sdk.Int64
}
