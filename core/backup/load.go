package backup

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// loader reads one segment at the start. Its memory does not depend on the size of
// the segment.
type loader struct {
	b         *Backup
	files     files
	seg       *segment
	sealed    *seal // trusted up to here; nil: everything is checked
	data      vfs.File
	dataSize  int64
	indexSize int64

	holes    []Hole
	ids      checkpoint.Set // of all chunks that have a record
	cursors  map[string]position
	doubt    bool  // something is not as it was written; cursors behind it say too much
	readable bool  // nothing failed to be read
	expected int64 // offset of the next chunk
	torn     bool  // the index ends in damage
	buf      []byte
}

// whole reports whether everything is as it was written.
func (l *loader) whole() bool { return l.readable && !l.doubt && len(l.seg.orphans) == 0 }

// sealable reports whether nothing is wrong but a torn end, which was never durable.
func (l *loader) sealable() bool {
	return l.readable && !l.seg.damaged && len(l.seg.orphans) == 0 && l.seg.chunks > 0
}

// empty reports whether nothing was ever completed in a segment.
func (l *loader) empty() bool {
	return l.readable && l.seg.chunks == 0 && len(l.seg.orphans) == 0 && !l.seg.damaged && l.seg.gone.Empty()
}

func (l *loader) run() {
	data, index, err := l.openBoth()
	if err != nil {
		l.hole(Hole{Reason: err.Error()})
		l.seg.damaged = true
		return
	}
	l.readable = true
	l.data = data
	if data != nil {
		defer data.Close()
	}
	if index != nil {
		defer index.Close()
		l.readIndex(index)
	}
	end := l.dataSize
	if l.sealed != nil {
		end = l.sealed.data
		l.doubt = l.doubt || l.dataSize < end || l.expected != end
		return
	}
	if l.expected < end {
		l.scan(l.expected, end, nil)
	}
	l.seg.damaged = l.seg.damaged || index == nil && len(l.holes) > 0
}

// hole notes that a range cannot be read.
func (l *loader) hole(h Hole) {
	l.doubt = true
	h.Segment, h.File = l.seg.number, l.b.dataPath(l.seg)
	if n := len(l.holes); n > 0 && l.holes[n-1].To == h.From && !h.Ids.Empty() && !l.holes[n-1].Ids.Empty() {
		last := &l.holes[n-1]
		last.To = h.To
		last.Ids.AddSet(h.Ids)
		last.MinTime, last.MaxTime = min(last.MinTime, h.MinTime), max(last.MaxTime, h.MaxTime)
		return
	}
	if len(l.holes) < maxReports {
		l.holes = append(l.holes, h)
	}
}

func (l *loader) readIndex(index vfs.File) {
	size := l.indexSize
	if l.sealed != nil {
		size = min(size, l.sealed.index)
	}
	defined := newDefinitions()
	for records := newRecordReader(index, size); ; {
		rec, err := records.read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			l.readable = false
			l.seg.damaged = true
			l.hole(Hole{Reason: fmt.Sprintf("index cannot be read: %v", err)})
			return
		}
		l.record(rec, defined)
	}
}

// record takes in a record of the index. Damage of the index is no hole by itself:
// what it hides is found as chunks without a record.
func (l *loader) record(rec record, defined definitions) {
	if rec.kind == indexHeader && rec.from == 0 && readHeader(rec, l.seg.number) == nil || defined.read(rec) {
		l.seg.indexEnd = rec.to
		clear(defined.flows) // they are read again by readers
		clear(defined.bindings)
		return
	}
	e, ok := entry{}, false
	if rec.kind == indexChunk {
		e, ok = parseEntry(rec.payload)
	}
	if !ok || e.offset < l.expected {
		l.doubt = true
		l.torn = true
		return
	}
	if l.torn || e.offset > l.expected { // a record is missing
		l.doubt = true
	}
	l.torn = false
	l.seg.indexEnd = rec.to
	l.chunk(e)
}

func (l *loader) chunk(e entry) {
	l.ids.Add(e.Ids)
	if !l.files.hasData {
		l.hole(Hole{From: e.offset, To: e.end(), Ids: checkpoint.SetOf(e.Ids), MinTime: e.MinTime, MaxTime: e.MaxTime, Reason: "the file is gone"})
		l.seg.gone.Add(e.Ids)
		l.seg.damaged = true
		return
	}
	if e.offset > l.expected && e.offset <= l.dataSize && l.sealed == nil {
		l.scan(l.expected, e.offset, &e)
	}
	reason, err := l.check(e)
	switch {
	case err != nil: // perhaps it can be read another time: it counts as there
		l.readable = false
		l.seg.damaged = true
		l.hole(Hole{From: e.offset, To: e.end(), Ids: checkpoint.SetOf(e.Ids), MinTime: e.MinTime, MaxTime: e.MaxTime, Reason: err.Error()})
	case reason != "":
		l.seg.damaged = true
		l.seg.gone.Add(e.Ids)
		l.hole(Hole{From: e.offset, To: e.end(), Ids: checkpoint.SetOf(e.Ids), MinTime: e.MinTime, MaxTime: e.MaxTime, Reason: reason})
		l.expected = min(e.end(), l.dataSize)
		return
	}
	l.seg.note(e)
	l.expected = e.end()
	if l.doubt {
		return
	}
	for _, c := range e.Cursors {
		l.cursors[c.Source] = position{e.Ids.Last, c.Position, false}
	}
}

// check says why the content of a chunk is not what was written; "" if it is. The
// content of sealed segments is checked when it is read.
func (l *loader) check(e entry) (reason string, err error) {
	if e.end() > l.dataSize {
		return "the file ends before", nil
	}
	if l.sealed != nil {
		return "", nil
	}
	if e.length > maxBody {
		return "longer than possible", nil
	}
	if l.buf == nil {
		l.buf = make([]byte, 128<<10)
	}
	section := io.NewSectionReader(l.data, e.offset, chunkHeader+e.length)
	var header [chunkHeader]byte
	if _, err := io.ReadFull(section, header[:]); err != nil {
		return "", err
	}
	sum := crc32.ChecksumIEEE(header[4:])
	for {
		n, err := section.Read(l.buf)
		sum = crc32.Update(sum, crc32.IEEETable, l.buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if sum != e.crc || !e.matches(header[:]) {
		return "wrong checksum", nil
	}
	return "", nil
}

// scan looks for chunks in a range that no record of the index covers. next is the
// one behind it, nil at the end.
func (l *loader) scan(from, to int64, next *entry) {
	if l.data == nil {
		return
	}
	orphan := Orphan{Segment: l.seg.number, File: l.b.dataPath(l.seg)}
	for s := pbfs.NewScanner(io.NewSectionReader(l.data, from, to-from), to-from, pbfs.Limits{}); ; {
		c, err := s.Next()
		hole, isHole := errors.AsType[*pbfs.Hole](err)
		switch {
		case errors.Is(err, io.EOF):
			l.orphan(orphan)
			return
		case err == nil && l.adopted(from+c.Offset, from+c.End()):
			l.orphan(orphan)
			orphan.From, orphan.To, orphan.Chunks, orphan.Messages = 0, 0, 0, 0
		case isHole:
			l.hole(l.between(Hole{From: from + hole.From, To: from + hole.To, Reason: hole.Cause.Error()}, next))
			l.seg.damaged = l.seg.damaged || next != nil
		case err != nil:
			l.readable = false
			l.seg.damaged = true
			l.hole(l.between(Hole{From: from, To: to, Reason: err.Error()}, next))
			l.orphan(orphan)
			return
		default:
			if orphan.Chunks == 0 {
				orphan.From = from + c.Offset
			}
			orphan.To = from + c.End()
			orphan.Chunks++
			orphan.Messages += c.Count
		}
	}
}

// orphan notes chunks without a record, if there are any.
func (l *loader) orphan(o Orphan) {
	if o.Chunks > 0 {
		l.doubt = true
		l.seg.orphans = append(l.seg.orphans, o)
	}
}

// adopted reports whether the messages of a chunk were stored again.
func (l *loader) adopted(from, to int64) bool {
	known := l.b.mu.facts.adopted[l.seg.number]
	if known == nil || !known.Contains(byteRange(from, to)) {
		return false
	}
	l.doubt = true // cursors behind it are those of what was not whole
	return true
}

// between fills in what the neighbours say of a hole whose ids are not known.
func (l *loader) between(h Hole, next *entry) Hole {
	if l.seg.chunks == 0 || next == nil {
		return h
	}
	if r := (checkpoint.Range{First: l.seg.ids.Last() + 1, Last: next.Ids.First - 1}); r.Valid() {
		h.Between = r
	}
	h.MinTime, h.MaxTime = l.seg.maxTime, next.MinTime
	return h
}
