package pbfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// newReader returns a reader that is nothing else: no WriterTo, no ByteReader.
func newReader(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// The decode rules of the reference, and what is done here.
func TestDecodeRules(t *testing.T) {
	good := rawChunk(bodyOf("first", "second"))
	later := rawChunk(bodyOf("later"))
	n := int64(len(good))
	damaged := bytes.Clone(later)
	damaged[len(damaged)-1] ^= 1

	tests := []struct {
		name   string
		then   []byte // behind a good chunk
		limits Limits
		read   int      // chunks that a Reader returns
		errs   []*Error // that a Reader returns before io.EOF, or as the last one
		final  bool     // whether the last one is final
		scan   []item   // what a Scanner returns behind the good chunk; bodies left out
	}{
		{
			// reference: normal end
			name: "end at a chunk border", read: 1,
		}, {
			// reference: normal end, no error
			name: "torn header, 1 byte", then: later[:1], read: 1,
			errs: []*Error{{TornTail, n, n + 1, 1, 12}}, final: true,
			scan: []item{{From: n, To: n + 1, Kind: TornTail}},
		}, {
			name: "torn header, 11 bytes", then: later[:11], read: 1,
			errs: []*Error{{TornTail, n, n + 11, 11, 12}}, final: true,
			scan: []item{{From: n, To: n + 11, Kind: TornTail}},
		}, {
			// reference: I/O error, then end
			name: "torn body, nothing of it", then: later[:12], read: 1,
			errs: []*Error{{TornTail, n, n + 12, 12, 21}}, final: true,
			scan: []item{{From: n, To: n + 12, Kind: TornTail}},
		}, {
			name: "torn body, one byte missing", then: later[:20], read: 1,
			errs: []*Error{{TornTail, n, n + 20, 20, 21}}, final: true,
			scan: []item{{From: n, To: n + 20, Kind: TornTail}},
		}, {
			// reference: error, and all later chunks are lost
			name: "wrong checksum", then: join(damaged, later), read: 1,
			errs: []*Error{{BadChecksum, n, n, 0, uint64(storedCRC(later))}}, final: true,
			scan: []item{{From: n, To: n + 21, Kind: BadChecksum}, {From: n + 21, To: n + 42}},
		}, {
			// reference: reads past the end of the chunk in memory, and panics
			name: "right checksum, message length beyond the chunk",
			then: join(rawChunk([]byte("\x09\x00\x00\x00a")), later), read: 2,
			errs: []*Error{{Malformed, n, n + 12, 9, 1}},
			scan: []item{{From: n, To: n + 17, Kind: Malformed}, {From: n + 17, To: n + 38}},
		}, {
			name: "right checksum, bytes left over behind the last message",
			then: join(rawChunk([]byte("\x01\x00\x00\x00a\x00")), later), read: 2,
			errs: []*Error{{Malformed, n, n + 17, 0, 1}},
			scan: []item{{From: n, To: n + 18, Kind: Malformed}, {From: n + 18, To: n + 39}},
		}, {
			// reference: the message is not decoded. Here messages are not decoded at all.
			name: "right checksum, message is junk", then: join(rawChunk(bodyOf("\xff\xff")), later), read: 3,
			scan: []item{{From: n, To: n + 18}, {From: n + 18, To: n + 39}},
		}, {
			// reference: tries to allocate that
			name: "absurd length", then: join(header(0, 1<<62), later), read: 1,
			errs: []*Error{{AbsurdLength, n, n + 4, 1 << 62, DefaultMaxChunk}}, final: true,
			scan: []item{{From: n, To: n + 12, Kind: AbsurdLength}, {From: n + 12, To: n + 33}},
		}, {
			name: "length beyond 2^63", then: join(header(0, 1<<64-1), later), read: 1,
			errs: []*Error{{AbsurdLength, n, n + 4, 1<<64 - 1, DefaultMaxChunk}}, final: true,
			scan: []item{{From: n, To: n + 12, Kind: AbsurdLength}, {From: n + 12, To: n + 33}},
		}, {
			name: "length within the limit but past the end, valid chunks behind", then: join(header(0, DefaultMaxChunk), later), read: 1,
			errs: []*Error{{TornTail, n, n + 33, 33, DefaultMaxChunk + 12}}, final: true,
			scan: []item{{From: n, To: n + 12, Kind: AbsurdLength}, {From: n + 12, To: n + 33}},
		}, {
			// reference: allowed
			name: "chunk without messages", then: join(rawChunk(nil), later), read: 3,
			scan: []item{{From: n, To: n + 12}, {From: n + 12, To: n + 33}},
		}, {
			name: "zeros at the end, as of a file that was made longer before", then: make([]byte, 50), read: 1,
			errs: []*Error{{BadChecksum, n, n, 0x6522df69, 0}}, final: true,
			scan: []item{{From: n, To: n + 50, Kind: BadChecksum}},
		}, {
			name: "message over the limit", then: join(rawChunk(bodyOf("1234567")), later), limits: Limits{MaxMessage: 6}, read: 2,
			errs: []*Error{{LargeMessage, n, n + 12, 7, 6}},
			scan: []item{{From: n, To: n + 23, Kind: LargeMessage}, {From: n + 23, To: n + 44}},
		}, {
			name: "chunk over the limit", then: join(rawChunk(bodyOf(strings.Repeat("x", 96))), later), limits: Limits{MaxChunk: 99}, read: 1,
			errs: []*Error{{AbsurdLength, n, n + 4, 100, 99}}, final: true,
			scan: []item{{From: n, To: n + 112, Kind: AbsurdLength}, {From: n + 112, To: n + 133}},
		}, {
			name: "chunk at the limit", then: join(rawChunk(bodyOf(strings.Repeat("x", 96))), later), limits: Limits{MaxChunk: 100}, read: 3,
			scan: []item{{From: n, To: n + 112}, {From: n + 112, To: n + 133}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := join(good, tt.then)
			chunks, errs := readAll(t, newReader(file), tt.limits)
			assert.Len(t, chunks, tt.read)
			if !tt.final {
				require.Equal(t, io.EOF, errs[len(errs)-1])
				errs = errs[:len(errs)-1]
			}
			require.Len(t, errs, len(tt.errs))
			for i, want := range tt.errs {
				got, ok := errors.AsType[*Error](errs[i])
				require.True(t, ok, errs[i])
				if want.Kind == BadChecksum && want.Got == 0 {
					want.Got = got.Got
				}
				assert.Equal(t, want, got)
			}

			items := scanAll(t, file, tt.limits)
			assert.Equal(t, item{To: n, Body: string(good[HeaderSize:])}, items[0])
			for i := range items {
				items[i].Body = ""
			}
			assert.Equal(t, tt.scan, nilIfEmpty(items[1:]))
		})
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func nilIfEmpty(items []item) []item {
	if len(items) == 0 {
		return nil
	}
	return items
}

func TestEmptyFile(t *testing.T) {
	chunks, errs := readAll(t, newReader(nil), Limits{})
	assert.Empty(t, chunks)
	assert.Equal(t, []error{io.EOF}, errs)
	assert.Empty(t, scanAll(t, nil, Limits{}))
	_, err := NewScanner(bytes.NewReader(nil), -1, Limits{}).Next()
	assert.Equal(t, io.EOF, err)
}

// A file cut anywhere gives all its whole chunks, then the end, or a torn tail
// at the right place.
func TestCutAtEveryByte(t *testing.T) {
	file, borders := fileOf(bodyOf("one"), nil, bodyOf("", "two", "three"), bodyOf(strings.Repeat("four", 300)), bodyOf(""))
	for cut := range len(file) + 1 {
		whole := 0
		for borders[whole+1] <= int64(cut) {
			if whole++; whole == len(borders)-1 {
				break
			}
		}
		border := borders[whole]

		chunks, errs := readAll(t, newReader(file[:cut]), Limits{})
		require.Len(t, chunks, whole, "cut at %d", cut)
		require.Len(t, errs, 1)
		items := scanAll(t, file[:cut], Limits{})
		require.Equal(t, chunks, nilIfEmpty(items[:whole:whole]))
		if int64(cut) == border {
			require.Equal(t, io.EOF, errs[0])
			require.Len(t, items, whole)
			continue
		}
		e, ok := errors.AsType[*Error](errs[0])
		require.True(t, ok)
		require.Equal(t, TornTail, e.Kind)
		require.Equal(t, border, e.Offset)
		require.Equal(t, int64(cut), e.At)
		require.Equal(t, []item{{From: border, To: int64(cut), Kind: TornTail}}, items[whole:])
	}
}

// What is written is read, however the source hands it out.
func TestReaderRoundTrip(t *testing.T) {
	sources := map[string]func(io.Reader) io.Reader{
		"plain":         func(r io.Reader) io.Reader { return r },
		"half":          iotest.HalfReader,
		"one byte":      iotest.OneByteReader,
		"data with EOF": iotest.DataErrReader,
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				bodies := rapid.SliceOfN(genBody(), 0, 6).Draw(rt, "bodies")
				file, borders := fileOf(bodies...)
				r := NewReader(source(newReader(file)), Limits{})
				for i, body := range bodies {
					c, err := r.Next()
					require.NoError(rt, err)
					require.Equal(rt, string(body), string(c.Body))
					require.Equal(rt, len(c.Body), cap(c.Body), "appending to a body does not touch the next chunk")
					require.Equal(rt, borders[i], c.Offset)
					require.Equal(rt, borders[i+1], c.End())
					require.Equal(rt, storedCRC(file[c.Offset:]), c.CRC)
				}
				_, err := r.Next()
				require.Equal(rt, io.EOF, err)
			})
		})
	}
}

// Chunks larger than the buffer, of unlike sizes, pass through it.
func TestReaderLargeChunks(t *testing.T) {
	var bodies [][]byte
	for i, size := range []int{1, 100 << 10, 70 << 10, 1, 3 << 20, 2 << 20, 64 << 10, 3 << 20, 0, 5} {
		bodies = append(bodies, AppendMessage(nil, bytes.Repeat([]byte{byte(i)}, size)))
	}
	file, _ := fileOf(bodies...)
	r := NewReader(newReader(file), Limits{})
	for _, body := range bodies {
		c, err := r.Next()
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, c.Body))
	}
	_, err := r.Next()
	require.Equal(t, io.EOF, err)
	assert.LessOrEqual(t, len(r.win.buf), (3<<20+16)*5/4)
}

// A length is not believed before the bytes have arrived.
func TestNoAllocationFromUncheckedLength(t *testing.T) {
	lie := join(header(0, 1<<30), make([]byte, 1000))
	limits := Limits{MaxChunk: math.MaxInt}
	allocated := allocatedBy(func() {
		_, errs := readAll(t, newReader(lie), limits)
		e, ok := errors.AsType[*Error](errs[0])
		require.True(t, ok && e.Kind == TornTail, errs[0])
	})
	assert.Less(t, allocated, uint64(1<<20), "reader")
	allocated = allocatedBy(func() { scanAll(t, lie, limits) })
	assert.Less(t, allocated, uint64(1<<20), "scanner")
}

// The buffer follows what arrives: never more than 4 times that, nor 5/4 of the
// limit.
func TestBufferBound(t *testing.T) {
	const limit = 1 << 20
	for _, arrives := range []int{100, 40 << 10, 100 << 10, 300 << 10, limit, 3 * limit} {
		file := join(header(0, limit), make([]byte, arrives))
		r := NewReader(newReader(file), Limits{MaxChunk: limit})
		_, err := r.Next()
		require.Error(t, err)
		assert.LessOrEqual(t, len(r.win.buf), max(firstBuffer, min(4*len(file), (limit+HeaderSize)*5/4)), "%d bytes", arrives)
	}
}

// A lie at the end of a full buffer makes it no larger.
func TestBufferGrowsWithWhatArrives(t *testing.T) {
	first := AppendMessage(nil, make([]byte, firstBuffer-2*HeaderSize-PrefixSize))
	r := NewReader(newReader(join(rawChunk(first), header(0, 1<<20))), Limits{})
	_, err := r.Next()
	require.NoError(t, err)
	_, err = r.Next()
	require.Error(t, err)
	assert.Len(t, r.win.buf, firstBuffer)
}

// A view that slides by single bytes moves the buffer seldom: each byte is
// moved a few times at most.
func TestWindowMovesSeldom(t *testing.T) {
	const view, steps = 300 << 10, 600 << 10
	w := newWindow(newReader(make([]byte, view+steps)))
	moved := 0
	for range steps {
		before := w.start
		require.NoError(t, w.need(view))
		if w.start < before {
			moved += view
		}
		w.advance(1)
	}
	assert.LessOrEqual(t, moved, 5*(view+steps))
	assert.LessOrEqual(t, len(w.buf), view*5/4)
}

func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	file, borders := fileOf(bodyOf("one"), bodyOf("two"))
	tests := []struct {
		name string
		src  io.Reader
		want string
		is   error
	}{
		{"in a header", io.MultiReader(newReader(file[:borders[1]+3]), iotest.ErrReader(broken)), "pbfs: read at byte 22: disk on fire", broken},
		{"in a body", io.MultiReader(newReader(file[:borders[1]+15]), iotest.ErrReader(broken)), "pbfs: read at byte 34: disk on fire", broken},
		{"at a border", io.MultiReader(newReader(file[:borders[1]]), iotest.ErrReader(broken)), "pbfs: read at byte 19: disk on fire", broken},
		{"wraps io.EOF, yet is no end", io.MultiReader(newReader(file[:borders[1]]), iotest.ErrReader(fmt.Errorf("gone: %w", io.EOF))), "pbfs: read at byte 19: gone: EOF", io.EOF},
		{"never gives a byte", io.MultiReader(newReader(file[:borders[1]]), nothing{}), "pbfs: read at byte 19: multiple Read calls return no data or error", io.ErrNoProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			chunks, errs := readAll(t, tt.src, Limits{})
			require.Len(t, chunks, 1, "what came before is read")
			require.Len(t, errs, 1)
			assert.EqualError(t, errs[0], tt.want)
			assert.NotEqual(t, io.EOF, errs[0])
			assert.ErrorIs(t, errs[0], tt.is)
		})
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func TestLimits(t *testing.T) {
	assert.Equal(t, DefaultMaxChunk, Limits{}.maxChunk())
	assert.Equal(t, DefaultMaxChunk, Limits{MaxChunk: -1}.maxChunk())
	assert.Equal(t, 1, Limits{MaxChunk: 1}.maxChunk())
	assert.Equal(t, 1<<30, Limits{MaxChunk: 1<<31 - 1}.maxChunk())
	assert.Equal(t, uint32(1<<32-1), Limits{MaxMessage: -5}.maxMessage())
	assert.Equal(t, uint32(5), Limits{MaxMessage: 5}.maxMessage())
}
