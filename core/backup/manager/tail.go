package manager

import (
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
)

// stage is how far a batch is.
type stage uint8

const (
	waiting stage = iota // to be written, perhaps again
	written              // and not durable
	done                 // durable, confirmed or lost; it may have others before it that are not
)

// entry is a batch in the tail.
type entry struct {
	batch  Batch // nil: it is safe and its payload let go of, but not durable (mode Rotate)
	meta   backup.Meta
	size   channel.Size
	number uint64 // in the order of Push, from 1
	pushed time.Time

	stage    stage
	sequence uint64 // of its last Append
	// settled: it is done without being durable in a segment, so that its cursors must
	// be noted otherwise.
	settled bool
}

func newEntry(b Batch) *entry {
	e := &entry{batch: b, meta: b.Meta()}
	e.size = channel.Size{Messages: int(e.meta.Ids.Count()), Bytes: len(b.Body())}
	return e
}

// release gives the reference back.
func (e *entry) release() {
	if e.batch != nil {
		e.batch.Release()
	}
}

// tail holds what is not durable in the order of ids. It is guarded by Manager.mu.
type tail struct {
	entries  []*entry
	next     int     // none before it waits
	unsynced []write // in order of sequence; those that are not as their entry says count for nothing
	pushed   uint64  // batches so far
	waiting  channel.Size
	written  channel.Size // and not durable; bytes: of what is in memory
	settled  uint64       // all ids up to it are durable, confirmed or lost
}

// write is one Append.
type write struct {
	entry    *entry
	sequence uint64
}

func (w write) counts() bool { return w.entry.stage == written && w.entry.sequence == w.sequence }

// push puts an entry in.
func (t *tail) push(e *entry) {
	t.pushed++
	e.number = t.pushed
	at := len(t.entries)
	for at > 0 && t.entries[at-1].meta.Ids.First > e.meta.Ids.First {
		at--
	}
	t.entries = slices.Insert(t.entries, at, e)
	t.next = min(t.next, at)
	t.count(e, 1)
}

// count adds an entry to the sizes, or takes it off.
func (t *tail) count(e *entry, sign int) {
	size := &t.waiting
	switch e.stage {
	case written:
		size = &t.written
	case done:
		return
	}
	size.Messages += sign * e.size.Messages
	size.Bytes += sign * e.size.Bytes
}

// move changes the stage of an entry.
func (t *tail) move(e *entry, to stage) {
	t.count(e, -1)
	e.stage = to
	t.count(e, 1)
}

// first returns the first entry that waits, nil if none does.
func (t *tail) first() *entry {
	for ; t.next < len(t.entries); t.next++ {
		if e := t.entries[t.next]; e.stage == waiting {
			return e
		}
	}
	return nil
}

// wrote notes that an entry was written.
func (t *tail) wrote(e *entry, sequence uint64) {
	e.sequence = sequence
	t.move(e, written)
	t.unsynced = append(t.unsynced, write{e, sequence})
}

// synced takes off what was written up to a sequence, and returns it.
func (t *tail) synced(sequence uint64) []*entry {
	var durable []*entry
	n := 0
	for ; n < len(t.unsynced) && t.unsynced[n].sequence <= sequence; n++ {
		if w := t.unsynced[n]; w.counts() {
			t.move(w.entry, done)
			durable = append(durable, w.entry)
		}
	}
	t.unsynced = slices.Delete(t.unsynced, 0, n)
	return durable
}

// again notes that what is written must be written again, from an id on, and returns
// how many messages that are.
func (t *tail) again(from uint64) uint64 {
	messages := uint64(0)
	for i, e := range t.indexed(checkpoint.SetOf(checkpoint.Range{First: from, Last: checkpoint.MaxID})) {
		if e.stage == written {
			t.move(e, waiting)
			t.next = min(t.next, i)
			messages += e.meta.Ids.Count()
		}
	}
	t.unsynced = slices.DeleteFunc(t.unsynced, func(w write) bool { return !w.counts() })
	return messages
}

// indexed yields the entries that hold any of some ids, in order.
func (t *tail) indexed(ids checkpoint.Set) iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		at := 0
		for r := range ids.Ranges() {
			rest := t.entries[at:]
			at += sort.Search(len(rest), func(i int) bool { return rest[i].meta.Ids.Last >= r.First })
			for ; at < len(t.entries) && t.entries[at].meta.Ids.First <= r.Last; at++ {
				if !yield(at, t.entries[at]) {
					return
				}
			}
		}
	}
}

func (t *tail) overlapping(ids checkpoint.Set) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, e := range t.indexed(ids) {
			if !yield(e) {
				return
			}
		}
	}
}

// ids returns those of all entries that are not done.
func (t *tail) ids() checkpoint.Set {
	var ids checkpoint.Set
	for _, e := range t.entries {
		if e.stage != done {
			ids.Add(e.meta.Ids)
		}
	}
	return ids
}

// pop takes off the entries that are done and have none before them that is not. It
// returns those whose cursors must be noted.
func (t *tail) pop() []*entry {
	var settled []*entry
	n := 0
	for ; n < len(t.entries) && t.entries[n].stage == done; n++ {
		e := t.entries[n]
		if e.settled && len(e.meta.Cursors) > 0 {
			settled = append(settled, e)
		}
		t.settled = max(t.settled, e.meta.Ids.Last)
		t.entries[n] = nil
	}
	t.entries = t.entries[n:]
	t.next = max(0, t.next-n)
	return settled
}

// drain takes everything off and returns what is not done.
func (t *tail) drain() []*entry {
	left := slices.DeleteFunc(t.entries, func(e *entry) bool { return e.stage == done })
	*t = tail{pushed: t.pushed, settled: t.settled}
	return left
}
