package backup

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Chunk is a batch that was read. It is valid until the next call of Next.
type Chunk struct {
	Meta
	Segment    uint64
	Wanted     checkpoint.Set // those of its ids that were asked for
	Body       []byte         // as of package pbfs; its checksum is right
	Definition []byte         // of the flow, as it was given to DefineFlow; nil: not readable
	Target     sdk.Binding    // that the messages carry
	Unbound    bool           // the messages carry placeholders instead
}

// HoleError is a Hole, met while reading.
type HoleError struct {
	Hole
	Flow uint32 // number of the flow in its segment
}

// Error names the range and the reason.
func (e *HoleError) Error() string {
	return fmt.Sprintf("backup: %s: bytes %d to %d with %d messages are not readable: %s",
		e.File, e.From, e.To, e.Ids.Count(), e.Reason)
}

// Reader reads chunks with certain ids. It is for one goroutine, and disturbs no
// writer. Its memory is one chunk and the definitions of one segment.
type Reader struct {
	b     *Backup
	want  checkpoint.Set
	after uint64 // segments up to this number are done
	only  uint64 // the only segment that is read; 0: all are

	seg     segment // copy, of when it was opened
	data    vfs.File
	index   vfs.File
	records *recordReader
	defined definitions
	raw     []byte // the chunk, with its header
}

// Read returns a reader of the chunks that hold any of the ids, oldest segment
// first, each id once; also those that were appended and are not durable. What is
// deleted meanwhile is left out.
func (b *Backup) Read(ids checkpoint.Set) *Reader { return &Reader{b: b, want: ids.Clone()} }

// Next returns the next chunk. The error is io.EOF at the end; after a *HoleError
// the next call goes on behind the hole. Others are those of the disk; the next call
// goes on with the next segment.
func (r *Reader) Next() (Chunk, error) {
	for !r.want.Empty() {
		if r.data == nil {
			if err := r.open(); errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			} else if err != nil {
				return Chunk{}, err
			}
		}
		rec, err := r.records.read()
		if errors.Is(err, io.EOF) {
			r.Close()
			continue
		}
		if err != nil {
			r.Close()
			return Chunk{}, fmt.Errorf("backup: index of segment %d: %w", r.seg.number, err)
		}
		if rec.kind != indexChunk {
			r.defined.read(rec)
			continue
		}
		if e, ok := parseEntry(rec.payload); ok && r.want.Overlaps(e.Ids) {
			return r.chunk(e)
		}
	}
	r.Close()
	return Chunk{}, io.EOF
}

// Close frees the files. Next may be called again: it goes on with the next segment.
func (r *Reader) Close() {
	if r.data != nil {
		_ = r.data.Close()
		_ = r.index.Close()
		r.data, r.index = nil, nil
	}
}

// open opens the next segment that has wanted ids; io.EOF if there is none.
func (r *Reader) open() error {
	if !r.take() {
		return io.EOF
	}
	data, err := r.b.fs.Open(r.b.dataPath(&r.seg))
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	index, err := r.b.fs.Open(r.b.indexPath(r.seg.number))
	if err != nil {
		_ = data.Close()
		return fmt.Errorf("backup: %w", err)
	}
	r.data, r.index = data, index
	r.records = newRecordReader(index, r.seg.indexEnd)
	r.defined = newDefinitions()
	return nil
}

// take finds the next segment.
func (r *Reader) take() bool {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for _, s := range r.b.mu.segments {
		if s.number <= r.after || r.only != 0 && s.number != r.only {
			continue
		}
		if s.ids.Empty() {
			continue
		}
		around := checkpoint.Range{First: s.ids.First(), Last: s.ids.Last()}
		for ids := range r.want.Within(around).Ranges() {
			if s.ids.Overlaps(ids) {
				r.seg, r.after = *s, s.number
				return true
			}
		}
	}
	return false
}

func (r *Reader) chunk(e entry) (Chunk, error) {
	reason, err := r.readBody(e)
	if err != nil {
		r.Close()
		return Chunk{}, fmt.Errorf("backup: %s: %w", r.b.dataPath(&r.seg), err)
	}
	if reason != "" {
		r.b.keepAside(r.seg.number)
		return Chunk{}, &HoleError{Flow: e.Flow, Hole: Hole{
			Segment: r.seg.number, File: r.b.dataPath(&r.seg), From: e.offset, To: e.end(),
			Ids: r.want.Within(e.Ids), MinTime: e.MinTime, MaxTime: e.MaxTime, Reason: reason,
		}}
	}
	c := Chunk{
		Meta: e.Meta, Segment: r.seg.number, Wanted: r.want.Within(e.Ids), Body: r.raw[chunkHeader:], Unbound: r.seg.unbound,
		Definition: r.defined.flows[e.Flow], Target: r.defined.bindings[e.Binding],
	}
	r.want.Remove(e.Ids)
	return c, nil
}

// readBody reads and checks a chunk. It says why it is not what was written.
func (r *Reader) readBody(e entry) (reason string, err error) {
	if e.length > maxBody {
		return "longer than possible", nil
	}
	n := chunkHeader + int(e.length)
	if cap(r.raw) < n {
		r.raw = make([]byte, n)
	}
	r.raw = r.raw[:n]
	if got, err := r.data.ReadAt(r.raw, e.offset); got < n {
		if errors.Is(err, io.EOF) {
			return "the file ends before", nil
		}
		return "", err
	}
	if !e.matches(r.raw) || crc32.ChecksumIEEE(r.raw[4:]) != e.crc {
		return "wrong checksum", nil
	}
	if count, err := pbfs.CheckBody(r.raw[chunkHeader:]); err != nil || uint64(count) != e.Ids.Count() {
		return "it has not as many messages as ids", nil
	}
	return "", nil
}
