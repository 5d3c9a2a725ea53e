package backup

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// ErrLeave is what place of Adopt returns for a chunk that it knows no flow for.
var ErrLeave = errors.New("the chunk is left where it is")

// OrphanChunk is a chunk without a valid record in an index.
type OrphanChunk struct {
	Segment  uint64
	Body     []byte // valid during the call; its checksum is right
	Messages int
	Unbound  bool // the messages carry placeholders
	// Definitions and Targets are the flows and bindings of its segment, as far as the
	// index can be read: the chunk is most likely of one of them.
	Definitions [][]byte
	Targets     []sdk.Binding
}

// Adopted is what became of orphans.
type Adopted struct {
	Ids  checkpoint.Set // new ones, under which they are stored, durably; void if nothing more came of them
	Left int            // chunks that were left where they are
	Lost []Loss         // dropped for want of room, as by Append
}

// adoptBytes is after how many bytes what was adopted is made durable, so that a
// start that is broken off does not repeat more.
const adoptBytes = 16 << 20

// Adopt stores the messages of orphan chunks again, under new ids, so that all tracks
// get them. place says of what flow and binding a chunk is, and its times; Meta.Ids
// and Meta.Cursors of its answer are ignored. It must not call the backup but to
// define flows and bindings. For ErrLeave the chunk stays, after any other error
// Adopt ends.
//
// Once the messages are durable it is noted that the chunks are adopted, and the
// segment may go when its known chunks are confirmed. After a crash before that they
// are orphans again: twice is possible, never is not. After an error what is not yet
// adopted can be adopted by another call with the same Orphan.
//
// It may be called beside everything else. If the sync of a segment fails meanwhile,
// Adopt returns an error, and somebody's next Append or Sync the *SuspectError; of
// ids in that which are of an Adopt only Adopt takes care.
func (b *Backup) Adopt(o Orphan, place func(OrphanChunk) (Meta, error)) (Adopted, error) {
	a := adoption{b: b, orphan: o, place: place}
	err := a.run()
	if err == nil {
		err = a.settle(a.done.Left == 0)
	}
	if err != nil {
		err = fmt.Errorf("backup: adopt chunks of %s: %w", o.File, err)
	}
	b.mu.Lock()
	b.mu.suspect.RemoveSet(a.open)
	b.mu.Unlock()
	return a.done, err
}

type adoption struct {
	b      *Backup
	orphan Orphan
	place  func(OrphanChunk) (Meta, error)
	chunk  OrphanChunk // without a body

	done  Adopted
	open  checkpoint.Set // ids that are not durable
	bytes checkpoint.Set // of the chunks that these were
	size  int64
	segs  []*segment // that hold them
}

func (a *adoption) run() error {
	f, size, err := openFile(a.b.fs, a.orphan.File)
	if err != nil {
		return err
	}
	defer f.Close()
	a.chunk = OrphanChunk{Segment: a.orphan.Segment}
	if !a.look() {
		return errors.New("there is no such segment")
	}
	from, to := min(a.orphan.From, size), min(a.orphan.To, size)
	return scanChunks(f, from, to, func(c pbfs.Chunk) error {
		at := byteRange(from+c.Offset, from+c.End())
		if a.taken(at) {
			return nil
		}
		return a.adopt(c, at)
	})
}

// look fills in what is known of the segment.
func (a *adoption) look() bool {
	a.b.mu.Lock()
	i, found := a.b.segmentNumbered(a.orphan.Segment)
	if found {
		a.chunk.Unbound = a.b.mu.segments[i].unbound
	}
	a.b.mu.Unlock()
	if !found {
		return false
	}
	defined := readDefinitions(a.b.fs, a.b.indexPath(a.orphan.Segment))
	for _, d := range defined.flows {
		a.chunk.Definitions = append(a.chunk.Definitions, d)
	}
	for _, t := range defined.bindings {
		a.chunk.Targets = append(a.chunk.Targets, t)
	}
	return true
}

// readDefinitions returns what an index defines, as far as it can be read.
func readDefinitions(fsys vfs.FS, path string) definitions {
	defined := newDefinitions()
	f, size, err := openFile(fsys, path)
	if err != nil {
		return defined
	}
	defer f.Close()
	for records := newRecordReader(f, size); ; {
		rec, err := records.read()
		if err != nil {
			return defined
		}
		defined.read(rec)
	}
}

// taken reports whether a chunk was adopted before.
func (a *adoption) taken(at checkpoint.Range) bool {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	known := a.b.mu.facts.adopted[a.orphan.Segment]
	return known != nil && known.Contains(at)
}

func (a *adoption) adopt(c pbfs.Chunk, at checkpoint.Range) error {
	chunk := a.chunk
	chunk.Body, chunk.Messages = c.Body, c.Count
	meta, err := a.place(chunk)
	if errors.Is(err, ErrLeave) {
		a.done.Left++
		return nil
	}
	if err != nil {
		return err
	}
	if meta.Ids, err = a.b.Reserve(uint64(c.Count)); err != nil {
		return err
	}
	meta.Cursors = nil
	if err := a.store(meta, c.Body); err != nil {
		return err
	}
	a.bytes.Add(at)
	if a.size += int64(len(c.Body)); a.size >= adoptBytes {
		return a.settle(false)
	}
	return nil
}

// store appends a chunk. A batch that is dropped counts as adopted: it is among
// what is lost.
func (a *adoption) store(meta Meta, body []byte) error {
	a.b.io.Lock()
	defer a.b.io.Unlock()
	if err := a.b.checkBatch(meta, body); err != nil {
		return err
	}
	done, err := a.b.append(meta, body)
	a.done.Lost = append(a.done.Lost, done.Lost...)
	if err != nil {
		return a.hide(err)
	}
	if done.Sequence > 0 {
		a.open.Add(meta.Ids)
		if s := a.b.io.active.seg; !slices.Contains(a.segs, s) {
			a.segs = append(a.segs, s)
		}
	}
	return nil
}

// hide keeps a failed sync for who must write again what was not durable: what is of
// this adoption is not among it. io is held.
func (a *adoption) hide(err error) error {
	suspect, ok := errors.AsType[*SuspectError](err)
	if !ok {
		return err
	}
	ids := suspect.Ids.Clone()
	ids.RemoveSet(a.open)
	if !ids.Empty() {
		if u := a.b.io.unreported; u != nil {
			ids.AddSet(u.Ids)
		}
		a.b.io.unreported = &SuspectError{Ids: ids, File: suspect.File, Err: suspect.Err}
	}
	return fmt.Errorf("sync %s: %w", suspect.File, suspect.Err)
}

// settle makes what was adopted durable and notes it. all: nothing of the orphan is
// left.
func (a *adoption) settle(all bool) error {
	if err := a.sync(); err != nil {
		return err
	}
	b := a.b
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	noteIn(b.mu.facts.adopted, a.orphan.Segment, a.bytes)
	if i, found := b.segmentNumbered(a.orphan.Segment); found && all {
		s := b.mu.segments[i]
		s.orphans = slices.DeleteFunc(slices.Clone(s.orphans), func(o Orphan) bool { return o == a.orphan })
	}
	b.mu.Unlock()
	a.done.Ids.AddSet(a.open)
	records := appendAdopted(nil, a.orphan.Segment, a.bytes)
	a.open, a.bytes, a.size, a.segs = checkpoint.Set{}, checkpoint.Set{}, 0, nil
	if err := b.keep(records); err != nil {
		return err
	}
	return b.collect()
}

func (a *adoption) sync() error {
	if _, err := a.b.Sync(); err != nil {
		a.b.io.Lock()
		defer a.b.io.Unlock()
		return a.hide(err)
	}
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	for _, s := range a.segs {
		if s.suspect {
			return errors.New("a sync failed, it must be done again")
		}
	}
	return nil
}

// byteRange counts bytes from 1, as ids are counted.
func byteRange(from, to int64) checkpoint.Range {
	return checkpoint.Range{First: uint64(from) + 1, Last: uint64(to)}
}

// ReadOrphan calls use for each chunk without a valid record in a range that Open
// reported: its body, valid during the call, and the number of messages in it.
func (b *Backup) ReadOrphan(o Orphan, use func(body []byte, messages int) error) error {
	f, size, err := openFile(b.fs, o.File)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer f.Close()
	err = scanChunks(f, min(o.From, size), min(o.To, size), func(c pbfs.Chunk) error { return use(c.Body, c.Count) })
	if err != nil {
		return fmt.Errorf("backup: %s: %w", o.File, err)
	}
	return nil
}

// scanChunks calls use for each chunk in a range of a file, and passes over damage.
func scanChunks(f vfs.File, from, to int64, use func(pbfs.Chunk) error) error {
	for s := pbfs.NewScanner(io.NewSectionReader(f, from, to-from), to-from, pbfs.Limits{}); ; {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if _, hole := errors.AsType[*pbfs.Hole](err); hole {
			continue
		}
		if err == nil {
			err = use(c)
		}
		if err != nil {
			return err
		}
	}
}
