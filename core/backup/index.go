package backup

import (
	"encoding/binary"
	"fmt"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk"
)

// Kinds of records of an index. It begins with indexHeader. A flow or binding
// stands before the first chunk that refers to it.
const (
	indexHeader = iota + 1
	indexFlow
	indexBinding
	indexChunk
)

const indexVersion = 1

// Cursor is the position of a source behind the rows that a batch was made of.
type Cursor struct {
	Source   string
	Position []byte
}

// Meta is what is known of a chunk besides its bytes.
type Meta struct {
	Ids              checkpoint.Range // of the messages
	Flow             uint32           // number given to DefineFlow
	Binding          uint32           // number given to DefineBinding; 0: messages carry no ids of a destination
	MinTime, MaxTime int64            // ns since the Unix epoch
	Cursors          []Cursor
}

// entry is the index record of a chunk.
type entry struct {
	Meta
	offset int64 // of the header in the segment
	length int64 // of the body
	crc    uint32
}

// chunkHeader is the length of what stands before a body in a PBFS file.
const chunkHeader = 12

func (e entry) end() int64 { return e.offset + chunkHeader + e.length }

// matches reports whether the header of a chunk is that of the entry.
func (e entry) matches(header []byte) bool {
	return chunkCRC(header) == e.crc && binary.LittleEndian.Uint64(header[4:]) == uint64(e.length)
}

// chunkCRC returns the checksum in the header of a chunk.
func chunkCRC(header []byte) uint32 { return binary.LittleEndian.Uint32(header) }

func appendHeader(dst []byte, segment uint64) []byte {
	p := binary.LittleEndian.AppendUint32([]byte("pbix"), indexVersion)
	return appendRecord(dst, indexHeader, binary.LittleEndian.AppendUint64(p, segment))
}

func appendFlow(dst []byte, number uint32, definition []byte) []byte {
	p := binary.LittleEndian.AppendUint32(nil, number)
	return appendRecord(dst, indexFlow, append(p, definition...))
}

func appendBinding(dst []byte, number uint32, binding sdk.Binding) []byte {
	p := binary.LittleEndian.AppendUint32(nil, number)
	p = appendText(p, binding.ConfigID)
	return appendRecord(dst, indexBinding, appendText(p, binding.RunID))
}

func appendEntry(dst []byte, e entry) []byte {
	p := make([]byte, 0, 96)
	p = binary.LittleEndian.AppendUint64(p, uint64(e.offset))
	p = binary.LittleEndian.AppendUint64(p, uint64(e.length))
	p = binary.LittleEndian.AppendUint32(p, e.crc)
	p = binary.LittleEndian.AppendUint64(p, e.Ids.First)
	p = binary.LittleEndian.AppendUint64(p, e.Ids.Count())
	p = binary.LittleEndian.AppendUint32(p, e.Flow)
	p = binary.LittleEndian.AppendUint32(p, e.Binding)
	p = binary.LittleEndian.AppendUint64(p, uint64(e.MinTime))
	p = binary.LittleEndian.AppendUint64(p, uint64(e.MaxTime))
	for _, c := range e.Cursors {
		p = appendText(p, c.Source)
		p = appendText(p, c.Position)
	}
	return appendRecord(dst, indexChunk, p)
}

// entrySize returns the length of appendEntry in bytes.
func entrySize(e entry) int {
	const fixed = 60
	n := recordHeader + fixed
	for _, c := range e.Cursors {
		n += 8 + len(c.Source) + len(c.Position)
	}
	return n + padding(n)
}

// parseEntry is false if the payload is none of appendEntry.
func parseEntry(payload []byte) (entry, bool) {
	f := fields{rest: payload}
	e := entry{offset: int64(f.u64()), length: int64(f.u64()), crc: f.u32()}
	first, count := f.u64(), f.u64()
	e.Flow, e.Binding = f.u32(), f.u32()
	e.MinTime, e.MaxTime = int64(f.u64()), int64(f.u64())
	for len(f.rest) > 0 && !f.bad {
		e.Cursors = append(e.Cursors, Cursor{Source: string(f.text()), Position: f.text()})
	}
	if !f.end() || first > checkpoint.MaxID || count > checkpoint.MaxID {
		return entry{}, false
	}
	e.Ids = checkpoint.Range{First: first, Last: first + count - 1}
	const most = 1 << 62
	possible := e.offset >= 0 && e.offset < most && e.length >= 0 && e.length < most
	return e, possible && count > 0 && e.Ids.Valid()
}

// definitions are the flows and bindings that chunks refer to.
type definitions struct {
	flows    map[uint32][]byte
	bindings map[uint32]sdk.Binding
}

func newDefinitions() definitions {
	return definitions{make(map[uint32][]byte), make(map[uint32]sdk.Binding)}
}

// read takes in the record of a flow or binding. It is false for anything else.
func (d definitions) read(rec record) bool {
	f := fields{rest: rec.payload}
	number := f.u32()
	switch rec.kind {
	case indexFlow:
		if f.bad {
			return false
		}
		d.flows[number] = append([]byte(nil), f.rest...)
		return true
	case indexBinding:
		b := sdk.Binding{ConfigID: string(f.text()), RunID: string(f.text())}
		if !f.end() {
			return false
		}
		d.bindings[number] = b
		return true
	}
	return false
}

// readHeader fails if a record is not the header of a segment's index.
func readHeader(rec record, segment uint64) error {
	f := fields{rest: rec.payload}
	magic, version, number := string(f.take(4)), f.u32(), f.u64()
	switch {
	case rec.kind != indexHeader || !f.end() || magic != "pbix":
		return fmt.Errorf("index has no header")
	case version != indexVersion:
		return fmt.Errorf("index is of version %d, this program reads %d", version, indexVersion)
	case number != segment:
		return fmt.Errorf("index is of segment %d", number)
	}
	return nil
}
