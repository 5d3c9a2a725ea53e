package backup

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// Kinds of records of a journal: facts, each true whenever it is read, in any
// order and any number of times. A journal begins with journalHeader, then all that
// was known, then journalComplete, then what was learnt since.
const (
	journalHeader    = iota + 1
	journalComplete  // all before it is here
	journalLease     // ids below it may be in use
	journalClean     // ids from it on are not in use; nothing follows but the next journal
	journalSegment   // numbers of segments below it may be in use
	journalConfirmed // ids that a track has confirmed
	journalLost      // ids that were reported as lost
	journalSealed    // a segment is whole up to its ends
	journalDeleted   // a segment is to be deleted
	journalCursor    // everything of a source up to a position is durable or was reported
	journalTrack     // a track was in the options
	journalAdopted   // bytes of a segment whose messages were stored again, under new ids
	journalDropped   // ids that are lost with a segment that is to be deleted
)

const journalVersion = 1

// maxSegment is the greatest number that is believed: names have 16 digits.
const maxSegment = 1 << 50

// rangesPerRecord keeps records far below maxPayload.
const rangesPerRecord = 4096

// seal says how far a segment is whole.
type seal struct {
	data, index int64 // ends in bytes
}

// position is a cursor with the id up to which it speaks.
type position struct {
	id    uint64
	bytes []byte
	loose bool // it stands in no index
}

// facts is what a journal says.
type facts struct {
	lease       uint64 // ids below it may be in use
	clean       uint64 // 0: not known
	nextSegment uint64
	confirmed   map[string]*checkpoint.Set
	lost        checkpoint.Set
	sealed      map[uint64]seal
	deleted     map[uint64]bool
	cursors     map[string]position
	tracks      map[string]bool            // that were ever in the options, until they are forgotten
	adopted     map[uint64]*checkpoint.Set // bytes of segments
	dropped     map[uint64]*checkpoint.Set // ids of segments
}

func newFacts() *facts {
	return &facts{
		lease:       1,
		nextSegment: 1,
		confirmed:   make(map[string]*checkpoint.Set),
		sealed:      make(map[uint64]seal),
		deleted:     make(map[uint64]bool),
		cursors:     make(map[string]position),
		tracks:      make(map[string]bool),
		adopted:     make(map[uint64]*checkpoint.Set),
		dropped:     make(map[uint64]*checkpoint.Set),
	}
}

// of returns the confirmed ids of a track.
func (f *facts) of(track string) *checkpoint.Set {
	s := f.confirmed[track]
	if s == nil {
		s = &checkpoint.Set{}
		f.confirmed[track] = s
	}
	return s
}

// advance moves a cursor. Of two positions for one id the loose one is further: it
// was noted later.
func (f *facts) advance(source string, p position) {
	if old, ok := f.cursors[source]; !ok || p.id > old.id || p.id == old.id && p.loose {
		f.cursors[source] = p
	}
}

// noteIn adds to what is known of a segment.
func noteIn(known map[uint64]*checkpoint.Set, segment uint64, more checkpoint.Set) {
	s := known[segment]
	if s == nil {
		s = &checkpoint.Set{}
		known[segment] = s
	}
	s.AddSet(more)
}

// forgetSegment drops what is known of a segment that is gone.
func (f *facts) forgetSegment(n uint64) {
	delete(f.deleted, n)
	delete(f.sealed, n)
	delete(f.adopted, n)
	delete(f.dropped, n)
}

// learn takes in a record; false if it is not one of a journal.
func (f *facts) learn(rec record) bool {
	p := fields{rest: rec.payload}
	switch rec.kind {
	case journalHeader, journalComplete:
		return true
	case journalLease:
		end := p.u64()
		if !p.end() || end > checkpoint.MaxID {
			return false
		}
		f.lease = max(f.lease, end)
	case journalClean:
		next := p.u64()
		if !p.end() || next == 0 || next > checkpoint.MaxID {
			return false
		}
		f.clean = next
	case journalSegment:
		next := p.u64()
		if !p.end() || next > maxSegment {
			return false
		}
		f.nextSegment = max(f.nextSegment, next)
	case journalConfirmed:
		track := string(p.text())
		ids, ok := parseRanges(&p)
		if ok {
			f.of(track).AddSet(ids)
		}
		return ok
	case journalLost:
		ids, ok := parseRanges(&p)
		f.lost.AddSet(ids)
		return ok
	case journalSealed:
		n, s := p.u64(), seal{int64(p.u64()), int64(p.u64())}
		if !p.end() || n > maxSegment || s.data < 0 || s.index < 0 {
			return false
		}
		f.sealed[n] = s
	case journalDeleted:
		n := p.u64()
		if !p.end() || n > maxSegment {
			return false
		}
		f.deleted[n] = true
	case journalCursor:
		source, id, bytes := string(p.text()), p.u64(), p.text()
		if !p.end() || id > checkpoint.MaxID {
			return false
		}
		f.advance(source, position{id, bytes, true})
	case journalTrack:
		track := string(p.text())
		if !p.end() {
			return false
		}
		f.tracks[track] = true
	case journalAdopted, journalDropped:
		n := p.u64()
		what, ok := parseRanges(&p)
		if !ok || n > maxSegment {
			return false
		}
		if rec.kind == journalAdopted {
			noteIn(f.adopted, n, what)
		} else {
			noteIn(f.dropped, n, what)
		}
	default:
		return false
	}
	return true
}

// parseRanges is all or nothing.
func parseRanges(p *fields) (checkpoint.Set, bool) {
	var s checkpoint.Set
	for len(p.rest) > 0 && !p.bad {
		r := checkpoint.Range{First: p.u64(), Last: p.u64()}
		if !r.Valid() {
			return checkpoint.Set{}, false
		}
		s.Add(r)
	}
	return s, p.end()
}

// all appends records of everything that is known.
func (f *facts) all(dst []byte) []byte {
	dst = appendLease(dst, f.lease)
	dst = appendRecord(dst, journalSegment, u64(f.nextSegment))
	for _, track := range slices.Sorted(maps.Keys(f.tracks)) {
		dst = appendRecord(dst, journalTrack, appendText(nil, track))
	}
	for _, track := range slices.Sorted(maps.Keys(f.confirmed)) {
		dst = appendConfirmed(dst, track, *f.confirmed[track])
	}
	dst = appendRanges(dst, journalLost, nil, f.lost)
	for _, n := range slices.Sorted(maps.Keys(f.sealed)) {
		dst = appendSealed(dst, n, f.sealed[n])
	}
	for _, n := range slices.Sorted(maps.Keys(f.dropped)) {
		dst = appendRanges(dst, journalDropped, u64(n), *f.dropped[n])
	}
	for _, n := range slices.Sorted(maps.Keys(f.deleted)) {
		dst = appendRecord(dst, journalDeleted, u64(n))
	}
	for _, n := range slices.Sorted(maps.Keys(f.adopted)) {
		dst = appendAdopted(dst, n, *f.adopted[n])
	}
	return appendCursors(dst, f.cursors)
}

func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func appendLease(dst []byte, end uint64) []byte { return appendRecord(dst, journalLease, u64(end)) }

func appendConfirmed(dst []byte, track string, ids checkpoint.Set) []byte {
	return appendRanges(dst, journalConfirmed, appendText(nil, track), ids)
}

// appendAdopted takes bytes counted from 1, as ids are.
func appendAdopted(dst []byte, segment uint64, bytes checkpoint.Set) []byte {
	return appendRanges(dst, journalAdopted, u64(segment), bytes)
}

func appendRanges(dst []byte, kind uint32, prefix []byte, ids checkpoint.Set) []byte {
	for ranges := range slices.Chunk(slices.Collect(ids.Ranges()), rangesPerRecord) {
		p := slices.Clone(prefix)
		for _, r := range ranges {
			p = binary.LittleEndian.AppendUint64(p, r.First)
			p = binary.LittleEndian.AppendUint64(p, r.Last)
		}
		dst = appendRecord(dst, kind, p)
	}
	return dst
}

func appendSealed(dst []byte, n uint64, s seal) []byte {
	p := binary.LittleEndian.AppendUint64(u64(n), uint64(s.data))
	return appendRecord(dst, journalSealed, binary.LittleEndian.AppendUint64(p, uint64(s.index)))
}

func appendCursors(dst []byte, cursors map[string]position) []byte {
	for _, source := range slices.Sorted(maps.Keys(cursors)) {
		c := cursors[source]
		p := binary.LittleEndian.AppendUint64(appendText(nil, source), c.id)
		dst = appendRecord(dst, journalCursor, appendText(p, c.bytes))
	}
	return dst
}
