package pbfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rowBody is a body of n messages of 160 bytes, as of rows of ten doubles.
func rowBody(n int) []byte {
	rnd := rand.New(rand.NewPCG(3, 4))
	var body []byte
	for range n {
		body = AppendMessage(body, randomBytes(rnd, 160))
	}
	return body
}

// repeated is a file of count chunks with this body.
func repeated(body []byte, count int) []byte { return bytes.Repeat(rawChunk(body), count) }

func TestHotPathDoesNotAllocate(t *testing.T) {
	body := rowBody(1000)
	dst := make([]byte, 0, 2*len(body))
	msg := make([]byte, 160)
	file := repeated(body, 3)
	src := bytes.NewReader(file)
	r := NewReader(src, Limits{})
	total := 0

	tests := []struct {
		name string
		f    func()
	}{
		{"AppendChunk", func() { dst = AppendChunk(dst[:0], body) }},
		{"AppendMessage", func() { dst = AppendMessage(dst[:0], msg) }},
		{"ChunkHeader", func() { h := ChunkHeader(body); total += int(h[0]) }},
		{"CheckBody", func() { n, _ := CheckBody(body); total += n }},
		{"Messages", func() {
			for m := range Messages(body) {
				total += len(m)
			}
		}},
		{"Reader.Next", func() {
			src.Reset(file)
			r.skip, r.win.start, r.win.end, r.win.off, r.win.err = 0, 0, 0, 0, nil
			r.err = nil
			for range 3 {
				c, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				total += c.Count
			}
		}},
	}
	for _, tt := range tests {
		tt.f() // a reader's buffer grows once
		assert.Zero(t, testing.AllocsPerRun(20, tt.f), tt.name)
	}
	require.NotZero(t, total)
}

func BenchmarkAppendChunk(b *testing.B) {
	for _, bb := range []struct {
		name string
		rows int
	}{{"1row", 1}, {"4096rows", 4096}} {
		b.Run(bb.name, func(b *testing.B) {
			body := rowBody(bb.rows)
			dst := make([]byte, 0, 2*len(body)+HeaderSize)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendChunk(dst[:0], body)
			}
		})
	}
}

func BenchmarkChunkHeader(b *testing.B) {
	body := rowBody(4096)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		ChunkHeader(body)
	}
}

func BenchmarkCheckBody(b *testing.B) {
	body := rowBody(4096)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CheckBody(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessages(b *testing.B) {
	body := rowBody(4096)
	total := 0
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		for m := range Messages(body) {
			total += len(m)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, bb := range []struct {
		name string
		file []byte
	}{
		{"1row-chunks", repeated(rowBody(1), 50_000)},
		{"4096row-chunks", repeated(rowBody(4096), 13)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.file)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(newReader(bb.file), Limits{})
				for {
					if _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// The last ones are the hostile cases: nothing in them is a chunk, and as many
// offsets as possible look like one.
func BenchmarkScanner(b *testing.B) {
	const size = 8 << 20
	damaged := repeated(rowBody(4096), 13)
	damaged[7] ^= 1
	for _, bb := range []struct {
		name string
		file []byte
	}{
		{"1row-chunks", repeated(rowBody(1), 50_000)},
		{"4096row-chunks", repeated(rowBody(4096), 13)},
		{"first-chunk-damaged", damaged},
		{"random", randomBytes(rand.New(rand.NewPCG(5, 6)), size)},
		{"zeros", make([]byte, size)},
		{"sparse-numbers", pattern(size, func(i int) uint64 { return uint64(i % 100 / 99 * 1000) })},
		{"all-long-lengths", pattern(size, func(i int) uint64 { return uint64(max(size-8*i-100, 0)) })},
		{"all-length-one", pattern(size, func(int) uint64 { return 1 })},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.file)))
			b.ReportAllocs()
			for b.Loop() {
				s := NewScanner(bytes.NewReader(bb.file), int64(len(bb.file)), Limits{})
				for {
					_, err := s.Next()
					if _, hole := errors.AsType[*Hole](err); hole || err == nil {
						continue
					}
					if err != io.EOF {
						b.Fatal(err)
					}
					break
				}
			}
		})
	}
}
