package wire

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
)

func TestPool(t *testing.T) {
	var pool Pool
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 10_000), rapid.IntRange(0, sdk.MaxPayloadBytes+1)).Draw(t, "n")
		b := pool.Get(n)
		if len(b.Bytes()) != n {
			t.Fatalf("asked for %d bytes, got %d", n, len(b.Bytes()))
		}
		if cap(b.Bytes()) > max(4096, 2*n) {
			t.Fatalf("%d bytes held for %d", cap(b.Bytes()), n)
		}
		if n > 0 && uintptr(unsafe.Pointer(&b.Bytes()[0]))%8 != 0 {
			t.Fatal("not aligned")
		}
		users := rapid.IntRange(1, 3).Draw(t, "users")
		for range users - 1 {
			b.Retain()
		}
		for range users {
			b.Release()
		}
	})
}

func TestBufferReleasedTwice(t *testing.T) {
	b := BufferOf([]byte("12345678"))
	b.Retain().Release()
	b.Release()
	assert.Panics(t, b.Release)
}

func TestBufferOfAligns(t *testing.T) {
	memory := make([]byte, 64)
	for i := range 8 {
		b := BufferOf(memory[i : i+3])
		assert.Zero(t, uintptr(unsafe.Pointer(&b.Bytes()[0]))%8)
	}
}
