package wire

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	leastClass = 9  // 512 bytes: small batches are kept for a whole checkpoint interval
	classes    = 14 // up to 4 MiB
)

// Pool holds memory for payloads by sizes of powers of two. The zero value is
// ready; it must not be copied.
type Pool struct {
	classes [classes]sync.Pool
}

// Buffer is the memory of one payload, shared by counted users. Its bytes begin
// at a multiple of 8 and must not be changed once it is shared.
type Buffer struct {
	bytes []byte
	home  *sync.Pool // nil: left to the garbage collector
	users atomic.Int32
}

// Get returns a buffer of n bytes with one user. What it holds is undefined.
func (p *Pool) Get(n int) *Buffer {
	class := max(0, bits.Len(uint(max(n, 1)-1))-leastClass)
	if class >= classes {
		return BufferOf(make([]byte, n))
	}
	home := &p.classes[class]
	b, ok := home.Get().(*Buffer)
	if !ok {
		b = &Buffer{bytes: make([]byte, 1<<(class+leastClass)), home: home}
	}
	b.bytes = b.bytes[:n]
	b.users.Store(1)
	return b
}

// BufferOf wraps bytes that belong to no pool; it copies them if they are not
// aligned.
func BufferOf(data []byte) *Buffer {
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))%8 != 0 {
		data = append(make([]byte, 0, (len(data)+15)&^7), data...)
	}
	b := &Buffer{bytes: data}
	b.users.Store(1)
	return b
}

// Bytes returns the payload. It is valid until the caller's Release.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Retain adds a user and returns the buffer.
func (b *Buffer) Retain() *Buffer {
	b.users.Add(1)
	return b
}

// Release ends one use. After the last one the memory is used again. Releasing
// more often than retaining panics: somebody else's data would be overwritten.
func (b *Buffer) Release() {
	switch left := b.users.Add(-1); {
	case left < 0:
		panic("wire: buffer released more often than retained")
	case left == 0 && b.home != nil:
		b.home.Put(b)
	}
}
