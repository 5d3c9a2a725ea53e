package record

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
)

// Limits of a record.
const (
	// Limit is the greatest length of a record in bytes, with its line end.
	Limit = 1 << 20
	// MaxLines is how many lines a record may have. It bounds what a stray quote
	// holds up in a file that grows.
	MaxLines = 1000

	firstBuffer = 64 << 10
	maxEmpty    = 100 // reads that give nothing before the stream counts as broken
)

// Problem says why a record cannot be read; empty: it can.
type Problem string

// The problems.
const (
	TooLong    Problem = "line is longer than 1 MiB"
	OpenQuote  Problem = "quote is not closed"
	AfterQuote Problem = "text follows a closing quote"
	NULByte    Problem = "line has a NUL byte"
)

// Record is a row or a line.
type Record struct {
	Offset  int64 // of its first byte
	Line    int64 // number of its first line, from 1
	Problem Problem
	Text    []byte   // without the line end; nil if it is too long
	Fields  [][]byte // of a row that can be read
}

// Mark is a place between two records.
type Mark struct {
	Offset int64 // in bytes from the beginning of the stream
	Line   int64 // number of the line that begins here, from 1
	// Length and Sum (CRC-32C) are those of what was read last before the place, to
	// recognise it; 0 = unknown.
	Length int64
	Sum    uint32
	// SingleUntil is the offset up to which quoted fields end with their line,
	// because a quote before was never closed.
	SingleUntil int64
}

// Start is the beginning of every stream.
func Start() Mark { return Mark{Line: 1} }

// Reader reads records. With a delimiter of 0 they are lines.
type Reader struct {
	in        io.Reader
	delimiter byte
	final     bool
	table     *crc32.Table

	buf      []byte // buf[at:] is not read yet
	at       int
	mark     Mark // of buf[at]
	skipping bool // through the rest of a line
	skipped  int64
	record   Record
	fields   [][]byte
}

var errTooLong = errors.New("record is too long")

// NewReader returns a reader of a stream whose next byte is that of the mark. If
// it is final, its end is the end of the last record; otherwise a line without
// its end is left until more comes or Final is called.
func NewReader(in io.Reader, delimiter byte, from Mark, final bool) *Reader {
	return &Reader{
		in: in, delimiter: delimiter, mark: from, final: final,
		table: crc32.MakeTable(crc32.Castagnoli),
		buf:   make([]byte, 0, firstBuffer),
	}
}

// Final says that nothing more will be written: the last line is one even without
// its end.
func (r *Reader) Final() { r.final = true }

// Mark returns the place behind the record that was returned last.
func (r *Reader) Mark() Mark { return r.mark }

// Fetched returns the offset up to which the stream was read.
func (r *Reader) Fetched() int64 { return r.mark.Offset + r.skipped + int64(len(r.buf)-r.at) }

// Sum is the checksum of a Mark.
func Sum(raw []byte) uint32 { return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) }

// Next returns the next record. io.EOF means that no complete one is there; Next
// may be called again when the stream has grown.
func (r *Reader) Next() (*Record, error) {
	for {
		if r.skipping {
			return r.skip()
		}
		end, err := r.line(0)
		if errors.Is(err, errTooLong) {
			r.begin(TooLong)
			r.skipping = true
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.mark.Offset == 0 && bytes.HasPrefix(r.buf[r.at:], []byte("\xef\xbb\xbf")) {
			r.at, r.mark.Offset = r.at+3, 3
			continue
		}
		line := r.buf[r.at : r.at+end]
		text := trimEnd(line)
		if r.blank(text) {
			r.take(end, 1)
			continue
		}
		if r.delimiter == 0 || bytes.IndexByte(text, '"') < 0 {
			r.begin("")
			r.take(end, 1)
			r.finish(text)
			return &r.record, nil
		}
		return r.quoted(end)
	}
}

// SkipLine passes over one line, whatever it holds. io.EOF means that there is no
// complete one.
func (r *Reader) SkipLine() error {
	if !r.skipping {
		r.begin("")
		r.skipping = true
	}
	_, err := r.skip()
	return err
}

func (r *Reader) blank(text []byte) bool {
	return len(text) == 0 || r.delimiter == 0 && len(bytes.TrimLeft(text, " \t\r")) == 0
}

// begin starts a record at the current place.
func (r *Reader) begin(p Problem) {
	r.record = Record{Offset: r.mark.Offset, Line: r.mark.Line, Problem: p}
}

// take moves on over n bytes with some line ends.
func (r *Reader) take(n, lines int) {
	raw := r.buf[r.at : r.at+n]
	r.mark.Length, r.mark.Sum = int64(n), crc32.Checksum(raw, r.table)
	r.at += n
	r.mark.Offset += int64(n)
	r.mark.Line += int64(lines)
}

// finish completes a record that has no quoted fields.
func (r *Reader) finish(text []byte) {
	r.record.Text = text
	switch {
	case bytes.IndexByte(text, 0) >= 0:
		r.record.Problem = NULByte
	case r.delimiter != 0:
		r.record.Fields = r.split(text)
	}
}

func (r *Reader) split(text []byte) [][]byte {
	r.fields = r.fields[:0]
	for {
		i := bytes.IndexByte(text, r.delimiter)
		if i < 0 {
			r.fields = append(r.fields, text)
			return r.fields
		}
		r.fields = append(r.fields, text[:i])
		text = text[i+1:]
	}
}

// skip drops the rest of a line and returns the record that was begun for it.
func (r *Reader) skip() (*Record, error) {
	for {
		rest := r.buf[r.at:]
		i := bytes.IndexByte(rest, '\n')
		if i >= 0 {
			rest = rest[:i+1]
		}
		r.at += len(rest)
		r.skipped += int64(len(rest))
		if i < 0 {
			err := r.fill()
			if err == nil {
				continue
			}
			if !errors.Is(err, io.EOF) || !r.final || r.skipped == 0 {
				return nil, err
			}
		}
		r.mark.Offset += r.skipped
		r.mark.Length, r.mark.Sum = 0, 0
		r.mark.Line++
		r.skipping, r.skipped = false, 0
		return &r.record, nil
	}
}

// line returns where the line that begins at from ends; both count from the
// record's begin.
func (r *Reader) line(from int) (end int, err error) {
	for at := from; ; {
		if i := bytes.IndexByte(r.buf[r.at+at:], '\n'); i >= 0 {
			if at+i+1 > Limit {
				return 0, errTooLong
			}
			return at + i + 1, nil
		}
		at = len(r.buf) - r.at
		if at > Limit {
			return 0, errTooLong
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) && r.final && at > from {
				return at, nil
			}
			return 0, err
		}
	}
}

// fill reads more into the buffer. It may move what is there.
func (r *Reader) fill() error {
	if len(r.buf) == cap(r.buf) {
		rest := r.buf[r.at:]
		if len(rest) > cap(r.buf)/2 {
			r.buf = append(make([]byte, 0, 2*cap(r.buf)), rest...)
		} else {
			r.buf = r.buf[:copy(r.buf, rest)]
		}
		r.at = 0
	}
	for range maxEmpty {
		n, err := r.in.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// trimEnd cuts the line end off.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}
