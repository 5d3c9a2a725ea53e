package pbfsview

import (
	"bufio"
	"fmt"
	"unicode"
)

// TimeFormat is how times are written: RFC 3339 with all nine digits.
const TimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// JSON writes messages, each as one line of JSON:
//
//	{"flow":"f","timestamp":"1970-01-01T00:00:01.000000002Z","ingestion_config_id":"c","run_id":"r","values":[1.5,null]}
//
// Values stand at the positions of their channels. A double is a number, a string
// a string, a bool a bool, and null is a channel without a value in this message.
// All others are objects with their type as the key, because JSON has no such
// types; so are doubles that JSON has no number for:
//
//	{"float":1.5} {"int32":1} {"uint32":1} {"enum":1} {"int64":"1"} {"uint64":"1"}
//	{"bytes":"base64"} {"bit_field":"base64"} {"double":"NaN"} {"float":"-Infinity"}
//
// A value of a type that is not known is {}. The timestamp is null if the message
// has none, and {"seconds":"…","nanos":…} if it is not in the years 1 to 9999. The
// keys end_stream_on_validation_error and organization_id are there if they are set.
//
// Control characters, and those that change the direction of text, are escaped.
type JSON struct{ out *bufio.Writer }

// NewJSON returns a writer to out.
func NewJSON(out *bufio.Writer) *JSON { return &JSON{out} }

// Flush writes what is in the buffer.
func (j *JSON) Flush() error { return j.out.Flush() }

// Write writes a message. It may stay in the buffer until Flush.
func (j *JSON) Write(m *Message) error {
	w := j.out
	w.WriteString(`{"flow":`)
	writeQuoted(w, m.pb.GetFlow())
	w.WriteString(`,"timestamp":`)
	m.writeTime(w)
	w.WriteString(`,"ingestion_config_id":`)
	writeQuoted(w, m.pb.GetIngestionConfigId())
	w.WriteString(`,"run_id":`)
	writeQuoted(w, m.pb.GetRunId())
	w.WriteString(`,"values":[`)
	for i, v := range m.pb.GetChannelValues() {
		if i > 0 {
			w.WriteByte(',')
		}
		writeValue(w, valueOf(v))
	}
	w.WriteByte(']')
	if m.pb.GetEndStreamOnValidationError() {
		w.WriteString(`,"end_stream_on_validation_error":true`)
	}
	if id := m.pb.GetOrganizationId(); id != "" {
		w.WriteString(`,"organization_id":`)
		writeQuoted(w, id)
	}
	_, err := w.WriteString("}\n") // a bufio.Writer keeps its first error
	return err
}

func (m *Message) writeTime(w *bufio.Writer) {
	if t, ok := m.Time(); ok {
		writeQuoted(w, t.Format(TimeFormat))
	} else if t := m.pb.GetTimestamp(); t != nil {
		fmt.Fprintf(w, `{"seconds":"%d","nanos":%d}`, t.GetSeconds(), t.GetNanos())
	} else {
		w.WriteString("null")
	}
}

func writeValue(w *bufio.Writer, v value) {
	switch {
	case v.kind == "empty":
		w.WriteString("null")
	case v.kind == "unknown":
		w.WriteString("{}")
	case v.kind == "string", v.kind == "bool", v.kind == "double" && !v.quoted:
		writeText(w, v)
	default:
		fmt.Fprintf(w, `{"%s":`, v.kind)
		writeText(w, v)
		w.WriteByte('}')
	}
}

func writeText(w *bufio.Writer, v value) {
	if v.quoted {
		writeQuoted(w, v.text)
	} else {
		w.WriteString(v.text)
	}
}

// writeQuoted writes text as a JSON string that a terminal may show.
func writeQuoted(w *bufio.Writer, text string) {
	w.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			w.WriteByte('\\')
			w.WriteByte(byte(r))
		case unsafeRune(r):
			fmt.Fprintf(w, `\u%04x`, r) // they are all below U+10000
		default:
			w.WriteRune(r)
		}
	}
	w.WriteByte('"')
}

// unsafeRune reports whether a character may do something to a terminal, or ends a
// line for some readers.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}
