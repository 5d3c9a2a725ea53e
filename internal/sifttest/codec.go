package sifttest

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// rawMessage is a message that is kept as it came.
type rawMessage struct{ bytes []byte }

// codec is that of protocol buffers, except that a *rawMessage is not decoded.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	b, err := proto.Marshal(v.(proto.Message))
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if raw, ok := v.(*rawMessage); ok {
		n := data.Len()
		if cap(raw.bytes) < n {
			raw.bytes = make([]byte, n)
		}
		raw.bytes = raw.bytes[:n]
		data.CopyTo(raw.bytes)
		return nil
	}
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}
