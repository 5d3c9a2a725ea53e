package pbfsview

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// CSV writes messages in the long form, a line for each value:
//
//	flow,time,position,type,value
//	f,1970-01-01T00:00:01.000000002Z,0,double,1.5
//	f,1970-01-01T00:00:01.000000002Z,1,empty,
//
// Positions count from 0. Types are those of the wire; unknown is one that this
// program does not know. Values are written as in JSON, without its quotes. A
// message without values has one line, with nothing behind the time. The time is
// missing if the message has none, and "<seconds>s <nanos>ns" since the Unix epoch
// if it is not in the years 1 to 9999.
type CSV struct {
	out    *csv.Writer
	clean  func(string) string
	record [5]string
}

// NewCSV returns a writer to out. For a terminal, it replaces control characters in
// names and values, which CSV cannot escape. The header is written at once.
func NewCSV(out *bufio.Writer, terminal bool) (*CSV, error) {
	c := &CSV{out: csv.NewWriter(out), clean: func(text string) string { return text }}
	if terminal {
		c.clean = replaceUnsafe
	}
	return c, c.out.Write([]string{"flow", "time", "position", "type", "value"})
}

// Write writes a message. It may stay in a buffer until Flush.
func (c *CSV) Write(m *Message) error {
	c.record = [5]string{c.clean(m.Flow()), m.csvTime()}
	values := m.pb.GetChannelValues()
	if len(values) == 0 {
		return c.out.Write(c.record[:])
	}
	for i, v := range values {
		value := valueOf(v)
		c.record[2], c.record[3], c.record[4] = strconv.Itoa(i), value.kind, c.clean(value.text)
		if err := c.out.Write(c.record[:]); err != nil {
			return err
		}
	}
	return nil
}

// Flush writes what is in the buffer.
func (c *CSV) Flush() error {
	c.out.Flush()
	return c.out.Error()
}

func (m *Message) csvTime() string {
	if t, ok := m.Time(); ok {
		return t.Format(TimeFormat)
	}
	if t := m.pb.GetTimestamp(); t != nil {
		return fmt.Sprintf("%ds %dns", t.GetSeconds(), t.GetNanos())
	}
	return ""
}

func replaceUnsafe(text string) string {
	return strings.Map(func(r rune) rune {
		if unsafeRune(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
