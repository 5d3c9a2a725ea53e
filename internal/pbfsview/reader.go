package pbfsview

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Reader reads the messages of a file that may be damaged.
type Reader struct {
	src     io.ReaderAt
	size    int64
	scanner *pbfs.Scanner
	body    []byte // what is left of the chunk
	at      int64  // offset of body in the file
	message Message
	summary Summary
}

// NewReader returns a reader of the first size bytes of src.
func NewReader(src io.ReaderAt, size int64) *Reader {
	return &Reader{
		src: src, size: size,
		scanner: pbfs.NewScanner(src, size, pbfs.Limits{}),
		summary: Summary{Bytes: max(size, 0), Flows: map[string]int64{}},
	}
}

// Next returns the next message. It is valid until the next call.
//
// Bytes that cannot be read as messages are returned as an error of type *Damage;
// the next call goes on behind them. At the end of the file the error is io.EOF.
// All other errors are those of the source, and final.
func (r *Reader) Next() (*Message, error) {
	for len(r.body) == 0 {
		if err := r.nextChunk(); err != nil {
			return nil, err
		}
	}
	n, size := protowire.ConsumeFixed32(r.body)
	raw := r.body[size:][:n] // the scanner has checked the lengths
	from := r.at + int64(size)
	r.body = r.body[size+int(n):]
	r.at = from + int64(n)
	if err := decode(raw, &r.message.pb); err != nil {
		d := &Damage{Kind: Undecodable, From: from, To: r.at, Cause: err}
		r.summary.addDamage(d)
		return nil, d
	}
	r.summary.addMessage(&r.message)
	return &r.message, nil
}

// Summary counts what Next has returned so far.
func (r *Reader) Summary() Summary { return r.summary }

func (r *Reader) nextChunk() error {
	c, err := r.scanner.Next()
	if hole, ok := errors.AsType[*pbfs.Hole](err); ok {
		d := r.damage(hole)
		r.summary.addDamage(d)
		return d
	}
	if err != nil {
		return err
	}
	r.summary.Chunks++
	r.body, r.at = c.Body, c.Offset+pbfs.HeaderSize
	return nil
}

// damage says what a hole is. A file that is one hole may be of another format.
func (r *Reader) damage(hole *pbfs.Hole) *Damage {
	d := &Damage{Kind: Hole, From: hole.From, To: hole.To, Cause: hole.Cause}
	if hole.Cause.Kind == pbfs.TornTail {
		d.Kind = TornTail
	}
	if hole.From == 0 && hole.To == r.size {
		if format := r.guess(); format != "" {
			d.Kind, d.Cause = Foreign, fmt.Errorf("it looks like %s", format)
		}
	}
	return d
}

// guess names the format of a file in which no chunk was found, if it is plain.
func (r *Reader) guess() string {
	head := make([]byte, min(r.size, sniffBytes))
	n, _ := r.src.ReadAt(head, 0) // what cannot be read is not guessed at
	return guessFormat(head[:n])
}

// Message is one row as a client sent it: the values of one flow at one time.
type Message struct {
	pb ingestv1.IngestWithConfigDataStreamRequest
}

// Flow returns the name of the flow. It may be any text.
func (m *Message) Flow() string { return m.pb.GetFlow() }

// Time returns when the values were taken, in UTC. It is false if the message has
// no time, or one that is not in the years 1 to 9999.
func (m *Message) Time() (time.Time, bool) {
	t := m.pb.GetTimestamp()
	if !t.IsValid() {
		return time.Time{}, false
	}
	return t.AsTime(), true
}
