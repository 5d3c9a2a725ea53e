package backup

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Rewritable returns the numbers of the segments that Rewrite takes, ascending: those
// that are kept because of Retain and whose messages carry placeholders.
func (b *Backup) Rewritable() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var numbers []uint64
	for _, s := range b.mu.segments {
		if b.rewritable(s) {
			numbers = append(numbers, s.number)
		}
	}
	return numbers
}

// rewritable: mu is held.
func (b *Backup) rewritable(s *segment) bool {
	return s.unbound && s != b.mu.active && !s.damaged && s.chunks > 0 && b.needless(s)
}

// Rewrite replaces a segment whose messages carry placeholders by one with the ids of
// a destination, so that other tools can send it. All tracks have confirmed what it
// holds. rebind returns the body of a chunk with other ids in its messages, valid
// until the next call, and the number of their binding, as given to DefineBinding.
//
// The old segment goes only when the new one is durable. After an error, or a crash,
// it is there as before. Everything else goes on meanwhile. ErrFull: there is no room
// for both.
func (b *Backup) Rewrite(segment uint64, rebind func(Chunk) (body []byte, binding uint32, err error)) error {
	b.rewriting.Lock()
	defer b.rewriting.Unlock()
	old, done, err := b.toRewrite(segment)
	if err != nil {
		return err
	}
	if done { // by a call whose end was not noted
		return b.replace(old, nil)
	}
	if err := b.room(old.bytes); err != nil {
		return err
	}
	c, err := b.startCopy(old)
	if err == nil {
		err = c.run(rebind)
	}
	if err == nil {
		err = b.replace(old, c)
	}
	if err != nil {
		c.undo()
		return fmt.Errorf("backup: rewrite %s: %w", b.dataPath(old), err)
	}
	return nil
}

// toRewrite returns a segment. It is done if its content is in bound ones already.
func (b *Backup) toRewrite(number uint64) (old *segment, done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return nil, false, ErrClosed
	}
	i, found := b.segmentNumbered(number)
	if !found || !b.rewritable(b.mu.segments[i]) {
		return nil, false, fmt.Errorf("backup: segment %d is not one to be rewritten", number)
	}
	old = b.mu.segments[i]
	rest := old.ids.Clone()
	for _, s := range b.mu.segments {
		if !s.unbound && !s.damaged && s != b.mu.active {
			rest.RemoveSet(s.ids)
		}
	}
	return old, rest.Empty(), nil
}

// bound is a copy of a segment that is being made.
type bound struct {
	b       *Backup
	old     *segment
	w       *writer
	defined definitions // of the old one that stand in the new index
	sealed  bool        // all is there under its final name
}

// startCopy makes the files of a copy, under temporary names. A copy is returned also
// beside an error.
func (b *Backup) startCopy(old *segment) (*bound, error) {
	seg := &segment{number: b.takeSegmentNumber(), ours: old.ours}
	c := &bound{b: b, old: old, w: &writer{seg: seg}, defined: newDefinitions()}
	var err error
	if c.w.data, err = b.fs.Create(b.dataPath(seg) + temporary); err != nil {
		return c, err
	}
	if c.w.index, err = b.fs.Create(b.indexPath(seg.number) + temporary); err != nil {
		return c, err
	}
	return c, c.put(appendHeader(nil, seg.number))
}

// put writes records to the index.
func (c *bound) put(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	if _, err := c.w.index.Write(records); err != nil {
		return err
	}
	c.w.seg.indexEnd += int64(len(records))
	c.grow(int64(len(records)))
	return nil
}

func (c *bound) grow(n int64) {
	c.w.seg.bytes += n
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.b.mu.bytes += n
}

// run copies all chunks and makes them durable.
func (c *bound) run(rebind func(Chunk) ([]byte, uint32, error)) error {
	r := &Reader{b: c.b, want: c.old.ids.Clone(), only: c.old.number}
	defer r.Close()
	for {
		chunk, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		body, binding, err := rebind(chunk)
		if err != nil {
			return err
		}
		if err := c.chunk(chunk, body, binding); err != nil {
			return err
		}
	}
	if !c.w.seg.ids.ContainsSet(c.old.ids) {
		return errors.New("not everything of it can be read")
	}
	if err := c.w.data.Sync(); err != nil {
		return err
	}
	return c.w.index.Sync()
}

func (c *bound) chunk(chunk Chunk, body []byte, binding uint32) error {
	count, err := pbfs.CheckBody(body)
	if err != nil {
		return err
	}
	if uint64(count) != chunk.Ids.Count() || len(body) > maxBody {
		return fmt.Errorf("%d messages with %d bytes instead of %d messages", count, len(body), chunk.Ids.Count())
	}
	if err := c.define(chunk, binding); err != nil {
		return err
	}
	e := entry{Meta: chunk.Meta}
	e.Binding = binding
	if e, err = c.w.write(e, body); err != nil {
		return err
	}
	index := int64(entrySize(e))
	c.w.seg.note(e)
	c.w.seg.indexEnd += index
	c.grow(chunkHeader + e.length + index)
	return nil
}

// define writes the flow of a chunk, under the number that it has in the old index,
// and the binding.
func (c *bound) define(chunk Chunk, binding uint32) error {
	c.b.mu.Lock()
	target, ok := c.b.mu.defined.bindings[binding]
	c.b.mu.Unlock()
	if !ok || c.b.isUnbound(binding) {
		return fmt.Errorf("binding %d is not one of a destination", binding)
	}
	var records []byte
	if _, known := c.defined.flows[chunk.Flow]; !known && chunk.Definition != nil {
		c.defined.flows[chunk.Flow] = nil
		records = appendFlow(records, chunk.Flow, chunk.Definition)
	}
	if _, known := c.defined.bindings[binding]; !known {
		c.defined.bindings[binding] = target
		records = appendBinding(records, binding, target)
	}
	return c.put(records)
}

// replace gives the copy its names and deletes the old segment.
func (b *Backup) replace(old *segment, c *bound) error {
	b.note.Lock()
	defer b.note.Unlock()
	b.mu.Lock()
	there := slices.Contains(b.mu.segments, old)
	b.mu.Unlock()
	if !there {
		return errors.New("it was dropped meanwhile")
	}
	var records []byte
	if c != nil {
		if err := c.name(); err != nil {
			return err
		}
		records = c.enlist()
	}
	b.mu.Lock()
	b.mu.facts.deleted[old.number] = true
	records = appendCursors(appendRecord(records, journalDeleted, u64(old.number)), b.mu.facts.cursors)
	b.mu.Unlock()
	if err := b.keep(records); err != nil {
		b.mu.Lock()
		delete(b.mu.facts.deleted, old.number)
		b.mu.Unlock()
		return err
	}
	b.doom(old)
	b.finishDeletions()
	return nil
}

// name gives the files their final names, the index first: data alone would be chunks
// without a record.
func (c *bound) name() error {
	b, seg := c.b, c.w.seg
	index, data := b.indexPath(seg.number), b.dataPath(seg)
	if err := b.fs.Rename(index+temporary, index); err != nil {
		return err
	}
	if err := b.fs.SyncDir(b.opts.StateDir); err != nil {
		return err
	}
	if err := b.fs.Rename(data+temporary, data); err != nil {
		return err
	}
	return b.fs.SyncDir(b.dir)
}

// enlist adds the copy to the segments and returns the record of its seal.
func (c *bound) enlist() []byte {
	b, seg := c.b, c.w.seg
	c.w.close()
	c.sealed = true
	b.mu.Lock()
	defer b.mu.Unlock()
	i, _ := b.segmentNumbered(seg.number)
	b.mu.segments = slices.Insert(b.mu.segments, i, seg)
	b.mu.written.AddSet(seg.ids)
	b.mu.facts.sealed[seg.number] = seal{seg.dataEnd, seg.indexEnd}
	return appendSealed(nil, seg.number, b.mu.facts.sealed[seg.number])
}

// undo removes what there is of a copy that failed.
func (c *bound) undo() {
	if c.sealed {
		return
	}
	b, seg := c.b, c.w.seg
	for _, f := range []vfs.File{c.w.data, c.w.index} {
		if f != nil {
			_ = f.Close()
		}
	}
	_ = b.fs.Remove(b.dataPath(seg) + temporary) // the next start removes what is left
	_ = b.fs.Remove(b.indexPath(seg.number) + temporary)
	b.removeFiles(seg)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.bytes -= seg.bytes
	b.mu.facts.forgetSegment(seg.number)
}

// removeCopies removes what a Rewrite left that was broken off.
func (b *Backup) removeCopies() {
	for dir, prefix := range map[string]string{b.dir: b.opts.Name + "-", b.opts.StateDir: indexPrefix} {
		list, err := b.fs.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range list {
			if strings.HasPrefix(e.Name, prefix) && strings.HasSuffix(e.Name, temporary) && !e.Dir {
				_ = b.fs.Remove(filepath.Join(dir, e.Name))
			}
		}
	}
}
