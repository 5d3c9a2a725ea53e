package backup

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// Recovered is what Open found.
type Recovered struct {
	Clean    bool // the last end was clean; otherwise ids up to the end of its lease are void
	Segments int
	Bytes    int64
	Cursors  map[string][]byte // see Backup.Cursors
	// Strangers are tracks of earlier starts that are not in Options.Tracks, with what
	// they have not confirmed of what is on disk. It is kept for them until
	// ForgetTrack; what is stored from now on is not.
	Strangers map[string]checkpoint.Set
	// Lost are the ids whose content is gone and that some track has not confirmed:
	// damaged, or dropped just before the end, by an Append that may have said so.
	Lost    checkpoint.Set
	Holes   []Hole   // ranges of files that cannot be read
	Orphans []Orphan // chunks without a valid record, unconfirmed for every track
	Damage  []string // of the state journal, in words
	// Journal is set if the journal could not be written. All that was found is
	// known; Reserve fails until it can be written.
	Journal error
}

// Hole is a range of a file that cannot be read.
type Hole struct {
	Segment  uint64
	File     string
	From, To int64 // bytes
	// Ids are those that were there. Where that is not known it is empty and Between
	// has those between the neighbours, if any: some of them may be void.
	Ids              checkpoint.Set
	Between          checkpoint.Range
	MinTime, MaxTime int64 // ns since the Unix epoch, of the ids or between the neighbours; 0: not known
	Reason           string
}

// Orphan is a range of a segment with valid chunks whose ids are not known. Their
// segment is kept until they are adopted, or until Forget.
type Orphan struct {
	Segment  uint64
	File     string
	From, To int64 // bytes
	Chunks   int
	Messages int
}

// maxReports bounds the lists of holes and orphans of one segment.
const maxReports = 1000

// recover builds the state from what is on disk. Nothing is changed before the new
// journal is durable.
func (b *Backup) recover() (Recovered, error) {
	known, damage := b.note.journal.read()
	b.mu.facts = known
	r := Recovered{Damage: damage, Clean: known.clean != 0}
	found, err := b.find()
	if err != nil {
		return Recovered{}, err
	}
	if len(damage) == 0 && len(found) > 0 && b.note.journal.number == 0 {
		r.Damage = []string{"there is no state journal: everything counts as unconfirmed"}
	}

	var empty []*segment
	var gone, dropped checkpoint.Set // ids whose content is
	highest := known.lost.Last()
	for _, s := range known.confirmed {
		highest = max(highest, s.Last())
	}
	for _, track := range b.opts.Tracks {
		known.tracks[track] = true
	}
	for _, f := range found {
		known.nextSegment = max(known.nextSegment, f.number+1)
		l := b.load(f)
		highest = max(highest, l.ids.Last())
		switch {
		case known.deleted[f.number]: // it was about to go, confirmed or dropped
			if lost := known.dropped[f.number]; lost != nil {
				dropped.AddSet(*lost)
			}
			if len(damage) > 0 { // perhaps it does not say what was dropped
				gone.AddSet(l.ids)
			}
			b.mu.doomed = append(b.mu.doomed, l.seg)
			continue
		case l.empty() || !f.hasData && l.readable:
			empty = append(empty, l.seg)
			if l.ids.Count() == b.confirmedByAll(l.ids).Count() {
				continue // nobody needs it
			}
		case f.hasData:
			b.mu.segments = append(b.mu.segments, l.seg)
			b.mu.written.AddSet(l.seg.ids)
		}
		r.Holes = append(r.Holes, l.holes...)
		r.Orphans = append(r.Orphans, l.seg.orphans...)
		gone.AddSet(l.seg.gone)
		for source, p := range l.cursors {
			known.advance(source, p)
		}
	}
	b.forgetDeleted(found)
	gone.RemoveSet(b.confirmedByAll(gone))
	gone.AddSet(dropped)
	r.Lost = b.newlyLost(gone)
	known.lost.AddSet(r.Lost)
	b.takeUpIDs(highest, len(r.Damage) > 0)
	b.forgetConfirmed(b.mu.next)
	b.takeUpTracks()
	r.Strangers = maps.Clone(b.mu.owed)
	for _, s := range slices.Concat(b.mu.segments, b.mu.doomed) {
		b.mu.bytes += s.bytes
	}

	if r.Journal = b.note.journal.begin(b.allFacts); r.Journal == nil {
		b.note.journal.removeTemporary()
		b.removeCopies()
		for _, s := range empty {
			b.removeFiles(s)
		}
		_ = b.collect() // the next confirmation does it again
		b.note.journal.keepReserve()
	}
	r.Segments, r.Bytes, r.Cursors = len(b.mu.segments), b.mu.bytes, b.Cursors()
	return r, nil
}

// takeUpIDs sets the next id behind all that may have been used.
func (b *Backup) takeUpIDs(highest uint64, damaged bool) {
	known := b.mu.facts
	next := known.lease
	if known.clean != 0 {
		next = known.clean
	}
	next = max(next, highest+1)
	if damaged { // a lease may be among what cannot be read
		next += b.opts.Lease
	}
	next = min(next, checkpoint.MaxID)
	b.mu.next, b.mu.leased = next, next
	known.lease, known.clean = next, 0
}

// takeUpTracks finds out what need not be kept, and for whom the rest is kept.
func (b *Backup) takeUpTracks() {
	known := b.mu.facts
	for track := range known.tracks {
		if slices.Contains(b.opts.Tracks, track) {
			continue
		}
		if owed := b.Missing(track); !owed.Empty() {
			b.mu.owed[track] = owed
			continue
		}
		delete(known.tracks, track) // what it has confirmed is kept, it may come back
	}
	maps.DeleteFunc(known.confirmed, func(track string, ids *checkpoint.Set) bool {
		return ids.Empty() && !known.tracks[track]
	})
	if len(b.opts.Tracks) > 0 {
		b.mu.enough = b.confirmedByAll(*known.of(b.opts.Tracks[0]))
	}
	b.mu.enough.AddSet(known.lost)
}

// newlyLost returns what of the ids that are gone was not reported before and is
// nowhere else.
func (b *Backup) newlyLost(gone checkpoint.Set) checkpoint.Set {
	gone.RemoveSet(b.mu.facts.lost)
	gone.RemoveSet(b.mu.written)
	return gone
}

// forgetDeleted drops facts about segments that are gone. Their numbers stay used.
func (b *Backup) forgetDeleted(found []files) {
	known := b.mu.facts
	there := func(n uint64) bool {
		return slices.ContainsFunc(found, func(f files) bool { return f.number == n })
	}
	for n := range known.deleted {
		known.nextSegment = max(known.nextSegment, n+1)
		if !there(n) {
			known.forgetSegment(n)
		}
	}
	for n := range known.sealed {
		known.nextSegment = max(known.nextSegment, n+1)
		if !there(n) {
			known.forgetSegment(n)
		}
	}
	for n := range known.adopted {
		if !there(n) {
			delete(known.adopted, n)
		}
	}
}

// files are those of one segment.
type files struct {
	number   uint64
	unbound  bool
	hasData  bool
	hasIndex bool
	size     int64 // bytes of both
}

// find returns the segments of which there is any file, in order.
func (b *Backup) find() ([]files, error) {
	byNumber := make(map[uint64]files)
	data, err := b.fs.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range data {
		for _, suffix := range []string{boundSuffix, unboundSuffix} {
			if n, ok := cutNumber(e.Name, b.opts.Name+"-", suffix, 10); ok && !e.Dir {
				f := byNumber[n]
				f.number, f.hasData, f.unbound, f.size = n, true, suffix == unboundSuffix, f.size+e.Size
				byNumber[n] = f
			}
		}
	}
	indexes, err := b.fs.ReadDir(b.opts.StateDir)
	if err != nil {
		return nil, err
	}
	for _, e := range indexes {
		if n, ok := cutNumber(e.Name, indexPrefix, indexSuffix, 10); ok && !e.Dir {
			f := byNumber[n]
			f.number, f.hasIndex, f.size = n, true, f.size+e.Size
			byNumber[n] = f
		}
	}
	var list []files
	for _, f := range byNumber {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b files) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, nil
}

// load reads a segment: if it is sealed, its index alone, as long as that is whole.
func (b *Backup) load(f files) *loader {
	if s, ok := b.mu.facts.sealed[f.number]; ok && f.hasData && f.hasIndex {
		l := b.newLoader(f)
		l.sealed = &s
		if l.run(); l.whole() {
			return l
		}
		delete(b.mu.facts.sealed, f.number) // from now on it is read at each start
	}
	l := b.newLoader(f)
	l.run()
	if l.sealable() {
		b.mu.facts.sealed[f.number] = seal{l.seg.dataEnd, l.seg.indexEnd}
	}
	return l
}

func (b *Backup) newLoader(f files) *loader {
	return &loader{
		b:       b,
		files:   f,
		seg:     &segment{number: f.number, unbound: f.unbound, bytes: f.size},
		cursors: make(map[string]position),
	}
}

// openBoth opens what there is of a segment's files.
func (l *loader) openBoth() (data, index vfs.File, err error) {
	if l.files.hasData {
		if data, l.dataSize, err = openFile(l.b.fs, l.b.dataPath(l.seg)); err != nil {
			return nil, nil, fmt.Errorf("cannot be opened: %w", err)
		}
	}
	if l.files.hasIndex {
		if index, l.indexSize, err = openFile(l.b.fs, l.b.indexPath(l.seg.number)); err != nil {
			if data != nil {
				_ = data.Close()
			}
			return nil, nil, fmt.Errorf("index cannot be opened: %w", err)
		}
	}
	return data, index, nil
}
