package record

import (
	"bytes"
	"errors"
	"io"
)

// quoted reads a record with a quote in its first line, which ends at end. It
// finds the record's end before it takes anything, because more lines may be
// needed than there are yet.
func (r *Reader) quoted(end int) (*Record, error) {
	first := end
	s := scan{delimiter: r.delimiter}
	for lines := 1; ; lines++ {
		problem, open := s.lines(r.buf[r.at : r.at+end])
		if problem == "" && !open {
			r.begin("")
			r.take(end, lines)
			r.finishQuoted(trimEnd(r.buf[r.at-end : r.at]))
			return &r.record, nil
		}
		if problem == "" {
			next, err := r.another(end, lines)
			if err == nil {
				end = next
				continue
			}
			if !errors.Is(err, errOpen) {
				return nil, err
			}
			problem = OpenQuote
		}
		if lines > 1 {
			r.mark.SingleUntil = max(r.mark.SingleUntil, r.mark.Offset+int64(end))
		}
		r.begin(problem)
		r.take(first, 1)
		r.record.Text = trimEnd(r.buf[r.at-first : r.at])
		return &r.record, nil
	}
}

var errOpen = errors.New("quote is not closed")

// another returns the end of the line after end, or errOpen if the quote shall
// not go on into it.
func (r *Reader) another(end, lines int) (int, error) {
	if lines == MaxLines || r.mark.Offset+int64(end) < r.mark.SingleUntil {
		return 0, errOpen
	}
	next, err := r.line(end)
	if errors.Is(err, errTooLong) || errors.Is(err, io.EOF) && r.final {
		return 0, errOpen
	}
	return next, err
}

// finishQuoted completes a record that has quoted fields and was scanned.
func (r *Reader) finishQuoted(text []byte) {
	r.record.Text = text
	if bytes.IndexByte(text, 0) >= 0 {
		r.record.Problem = NULByte
		return
	}
	r.fields = r.fields[:0]
	for {
		n := 0 // length of the field as it stands
		if len(text) > 0 && text[0] == '"' {
			var field []byte
			field, n = unquote(text)
			r.fields = append(r.fields, field)
		} else {
			if n = bytes.IndexByte(text, r.delimiter); n < 0 {
				n = len(text)
			}
			r.fields = append(r.fields, text[:n])
		}
		if n == len(text) {
			r.record.Fields = r.fields
			return
		}
		text = text[n+1:]
	}
}

// unquote returns the content of the quoted field that text begins with and the
// field's length with its quotes. Text is changed where it has doubled quotes.
func unquote(text []byte) (field []byte, n int) {
	rest := text[1:]
	field = rest[:0]
	n = 1
	for {
		i := bytes.IndexByte(rest, '"')
		field = append(field, rest[:i]...)
		n += i + 1
		if i+1 == len(rest) || rest[i+1] != '"' {
			return field, n
		}
		field = append(field, '"')
		n++
		rest = rest[i+2:]
	}
}

// scan looks for the end of a record over lines that become known bit by bit.
type scan struct {
	delimiter byte
	at        int
	open      bool // inside quotes
}

// lines goes on to the end of b, which begins with the record and ends with a
// whole line. Open: the record needs another line.
func (s *scan) lines(b []byte) (problem Problem, open bool) {
	for {
		if !s.open {
			if s.at < len(b) && b[s.at] == '"' {
				s.at++
				s.open = true
				continue
			}
			i := bytes.IndexByte(b[s.at:], s.delimiter)
			if i < 0 {
				return "", false
			}
			s.at += i + 1
			continue
		}
		i := bytes.IndexByte(b[s.at:], '"')
		if i < 0 {
			s.at = len(b)
			return "", true
		}
		s.at += i + 1
		switch rest := b[s.at:]; {
		case len(rest) > 0 && rest[0] == '"':
			s.at++
		case len(trimEnd(rest)) == 0:
			return "", false
		case rest[0] == s.delimiter:
			s.at++
			s.open = false
		default:
			return AfterQuote, false
		}
	}
}
