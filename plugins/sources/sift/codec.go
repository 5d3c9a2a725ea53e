package siftserver

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// codec hands messages to frames as they are, and all others to the usual codec:
// the rows of a stream are read without building message values.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Unmarshal keeps the data in a frame, or decodes it.
func (c codec) Unmarshal(data mem.BufferSlice, into any) error {
	if f, ok := into.(*frame); ok {
		f.hold(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, into)
}

// scratchBytes is the scratch memory that a frame keeps between messages.
const scratchBytes = 64 << 10

// frame is one encoded message. Its bytes are valid until free is called.
type frame struct {
	bytes   []byte
	held    mem.Buffer
	scratch []byte
}

// hold takes a reference to the data, or a copy if it lies in several pieces.
func (f *frame) hold(data mem.BufferSlice) {
	if len(data) == 1 {
		f.held = data[0]
		f.held.Ref()
		f.bytes = f.held.ReadOnlyData()
		return
	}
	n := data.Len()
	if cap(f.scratch) < n {
		f.scratch = make([]byte, n)
	}
	f.bytes = f.scratch[:n]
	data.CopyTo(f.bytes)
}

func (f *frame) free() {
	if f.held != nil {
		f.held.Free()
	}
	f.bytes, f.held = nil, nil
	if cap(f.scratch) > scratchBytes {
		f.scratch = nil
	}
}
