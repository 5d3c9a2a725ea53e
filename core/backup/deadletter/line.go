package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/pipelined/pipelined/sdk"
)

// Letter is a message that is given up.
type Letter struct {
	Track      string // "sift.live"
	ID         uint64
	Flow       string // name
	Code       uint32 // gRPC status code of the refusal
	Text       string // what the destination said
	Time       int64  // of the row, ns since the Unix epoch
	GivenUp    int64  // ns since the Unix epoch
	Definition []byte // of the flow, as the backup has it; nil if it is not known
	Target     sdk.Binding
	Message    []byte // as it was encoded for Target
}

// Line is what stands beside a message, as JSON.
type Line struct {
	Track      string `json:"track"`
	ID         uint64 `json:"id"`
	Flow       string `json:"flow"`
	Code       uint32 `json:"code"`
	Status     string `json:"status"` // name of the code
	Text       string `json:"text,omitempty"`
	Time       string `json:"time"`     // of the row, RFC 3339
	GivenUp    string `json:"given_up"` // RFC 3339
	Offset     int64  `json:"offset"`   // of the chunk in the PBFS file, in bytes
	Length     int    `json:"length"`   // of the message, in bytes
	ConfigID   string `json:"config_id,omitempty"`
	RunID      string `json:"run_id,omitempty"`
	Definition []byte `json:"definition,omitempty"` // base64; with the first message of a flow in the file, and after a change
}

// Bounds of what is written of foreign words, in bytes.
const (
	maxText = 1024
	maxName = 4096
)

func newLine(l Letter, offset int64) Line {
	return Line{
		Track: clean(l.Track, maxName), ID: l.ID, Flow: clean(l.Flow, maxName),
		Code: l.Code, Status: sdk.StatusName(l.Code), Text: clean(l.Text, maxText),
		Time: timeText(l.Time), GivenUp: timeText(l.GivenUp),
		Offset: offset, Length: len(l.Message),
		ConfigID: clean(l.Target.ConfigID, maxName), RunID: clean(l.Target.RunID, maxName),
	}
}

func timeText(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// encode returns the line with its end.
func (l Line) encode() ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return buf.Bytes(), err
}

// clean cuts a text and replaces what could confuse a terminal or its reader.
func clean(text string, limit int) string {
	text = strings.ToValidUTF8(text[:min(len(text), limit)], "?")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

// maxLine bounds a line, in bytes; what Put writes is shorter.
const maxLine = 2 << 20

// Reader reads the lines of a file. Its memory is a line.
type Reader struct {
	src *bufio.Reader
	buf []byte
}

// NewReader returns a reader of a file with lines.
func NewReader(src io.Reader) *Reader { return &Reader{src: bufio.NewReader(src)} }

// Next returns the next line, and skips what is none. The error is io.EOF at the end;
// others are those of the source.
func (r *Reader) Next() (Line, error) {
	for {
		r.buf = r.buf[:0]
		for {
			part, err := r.src.ReadSlice('\n')
			if len(r.buf)+len(part) <= maxLine {
				r.buf = append(r.buf, part...)
			} else {
				r.buf = append(r.buf[:0], '!') // is no line, whatever follows
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return Line{}, err // without its end, a line was not completed
			}
		}
		var l Line
		if json.Unmarshal(r.buf, &l) == nil && l.Status != "" {
			return l, nil
		}
	}
}
