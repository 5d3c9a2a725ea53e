package replay

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Position is how far a file has been read, or confirmed.
type Position struct {
	Chunk   int64 `json:"chunk"`             // offset of a chunk, or of the end
	Skip    int   `json:"skip,omitempty"`    // its messages that are done
	Through int64 `json:"through,omitempty"` // offset behind the last byte that is done
}

// message is one that was read. It is valid until the next call.
type message struct {
	header
	raw    []byte
	at     int64   // offset of raw in the file
	target *Target // what is to take the place of its placeholders
}

// Borders tells where chunks begin, for files with an index.
type Borders interface {
	// After returns the offset of the first chunk behind an offset; false if there
	// is none.
	After(offset int64) (int64, bool)
}

// maxJumps bounds how often a reader starts its scanner anew. More is made up.
const maxJumps = 1000

// reader reads the messages of a file from a position on. Damage is skipped.
type reader struct {
	src     io.ReaderAt
	size    int64
	resync  bool
	borders Borders // nil: none are known

	scanner *pbfs.Scanner
	base    int64 // offset at which the scanner began
	jumps   int
	queued  []damageError // to be returned
	over    bool

	at      Position
	body    []byte // what is left of the chunk
	bodyAt  int64  // its offset
	chunkTo int64  // end of the chunk
}

func newReader(src io.ReaderAt, size int64, from Position, resync bool, borders Borders) *reader {
	r := &reader{src: src, size: size, resync: resync, borders: borders, at: from}
	r.scan(from.Chunk)
	return r
}

// scan begins to read chunks at an offset.
func (r *reader) scan(from int64) {
	r.base = from
	r.scanner = pbfs.NewScanner(io.NewSectionReader(r.src, from, r.size-from), r.size-from, pbfs.Limits{})
}

// position is behind the last message that next returned, and behind damage that was
// passed.
func (r *reader) position() Position { return r.at }

// next returns the next message, or a range of damage as an error of type
// *damageError, or io.EOF. Other errors are those of the source, and final.
func (r *reader) next() (*message, error) {
	for len(r.body) == 0 {
		if len(r.queued) > 0 {
			d := r.queued[0]
			r.queued = r.queued[1:]
			return nil, &d
		}
		if r.over {
			return nil, io.EOF
		}
		if err := r.nextChunk(); err != nil {
			return nil, err
		}
	}
	raw, at := r.cut()
	h, err := parse(raw)
	if err != nil {
		return nil, &damageError{passed: true, Damage: Damage{
			Kind: Undecodable, From: at, To: at + int64(len(raw)), Messages: 1, Reason: err.Error(),
		}}
	}
	return &message{header: h, raw: raw, at: at}, nil
}

// damageError is a range of damage while reading.
type damageError struct {
	Damage
	passed bool // it lies in front of the position
}

func (e *damageError) Error() string { return e.String() }

// cut takes the next message off the chunk; the scanner has checked the lengths.
func (r *reader) cut() (raw []byte, at int64) {
	n := int(binary.LittleEndian.Uint32(r.body))
	at = r.bodyAt + pbfs.PrefixSize
	raw = r.body[pbfs.PrefixSize : pbfs.PrefixSize+n]
	r.body = r.body[pbfs.PrefixSize+n:]
	r.bodyAt = at + int64(n)
	r.at.Skip++
	r.at.Through = r.bodyAt
	if len(r.body) == 0 {
		r.at = Position{Chunk: r.chunkTo, Through: r.chunkTo}
	}
	return raw, at
}

func (r *reader) nextChunk() error {
	c, err := r.scanner.Next()
	if hole, ok := errors.AsType[*pbfs.Hole](err); ok {
		return r.damage(hole)
	}
	if err != nil {
		return err
	}
	skip := 0
	if r.at.Chunk == r.base+c.Offset {
		skip = r.at.Skip
	}
	r.at = Position{Chunk: r.base + c.Offset, Through: max(r.at.Through, r.base+c.Offset)}
	r.chunkTo = r.base + c.End()
	r.body, r.bodyAt = c.Body, r.base+c.Offset+pbfs.HeaderSize
	for range min(skip, c.Count) {
		r.cut()
	}
	if c.Count == 0 {
		r.at = Position{Chunk: r.chunkTo, Through: r.chunkTo}
	}
	return nil
}

// damage decides where to go on behind a hole.
func (r *reader) damage(hole *pbfs.Hole) error {
	from, to := r.base+hole.From, r.base+hole.To
	d := Damage{Kind: Hole, From: from, To: to, Reason: reasonOf(hole.Cause)}
	if hole.Cause.Kind == pbfs.TornTail {
		d.Kind = TornTail
	}
	if to == r.size { // nothing is behind it; when the file grows, it is looked at again
		r.queued, r.over = append(r.queued, damageError{Damage: d}), true
		return nil
	}
	border, certain := r.border(hole, from)
	switch {
	case certain && border != to:
		d.To = border
		r.scan(border)
	case !certain && !r.resync:
		return r.searched(d)
	}
	r.at = Position{Chunk: d.To, Through: d.To}
	r.queued = append(r.queued, damageError{d, true})
	return nil
}

// border returns where the next chunk begins behind a hole, if anything but
// searching says so and there is one.
func (r *reader) border(hole *pbfs.Hole, from int64) (int64, bool) {
	to := r.base + hole.To
	switch hole.Cause.Kind {
	case pbfs.Malformed, pbfs.LargeMessage: // its checksum vouches for its length
		return to, true
	case pbfs.BadChecksum:
		at := from
		for range maxClaims {
			next, ok := r.claimed(at)
			if !ok {
				break
			}
			if next == to || r.jump(next) {
				return next, true
			}
			at = next
		}
	}
	if r.borders == nil {
		return 0, false
	}
	for at := from; ; {
		next, ok := r.borders.After(at)
		if !ok || next >= r.size {
			return 0, false
		}
		if next == to || r.jump(next) {
			return next, true
		}
		at = next
	}
}

// maxClaims is how many damaged chunks in a row are believed to be as long as they
// say. What proves them right is the valid chunk behind the last one.
const maxClaims = 16

// claimed returns where a chunk ends by its own header.
func (r *reader) claimed(from int64) (int64, bool) {
	var header [pbfs.HeaderSize]byte
	if _, err := r.src.ReadAt(header[:], from); err != nil {
		return 0, false
	}
	length := binary.LittleEndian.Uint64(header[4:])
	if length == 0 || length > uint64(r.size-from-pbfs.HeaderSize) { // zeros are a common kind of damage
		return 0, false
	}
	return from + pbfs.HeaderSize + int64(length), true
}

// jump reports whether a valid chunk begins at an offset.
func (r *reader) jump(at int64) bool {
	if r.jumps >= maxJumps || at >= r.size {
		return false
	}
	r.jumps++
	src := io.NewSectionReader(r.src, at, r.size-at)
	_, err := pbfs.NewReader(src, pbfs.Limits{}).Next()
	return err == nil
}

// searched counts what lies behind damage whose borders are not certain. The file
// ends before it.
func (r *reader) searched(d Damage) error {
	behind := Damage{Kind: Searched, From: d.To, To: r.size, Reason: "found by searching behind damage"}
	for {
		c, err := r.scanner.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, hole := errors.AsType[*pbfs.Hole](err); err != nil && !hole {
			return err
		}
		behind.Messages += int64(c.Count)
	}
	r.queued, r.over = append(r.queued, damageError{Damage: d}, damageError{Damage: behind}), true
	return nil
}
