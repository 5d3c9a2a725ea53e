package pbfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Each single bit flipped: no wrong message is ever returned, by either reader,
// and everything outside the damaged chunk is found.
func TestEveryBitFlipped(t *testing.T) {
	file, borders := fileOf(bodyOf("one"), bodyOf("", "two", "three"), nil,
		bodyOf(string(make([]byte, 40))), bodyOf("five", "a longer message than the others"), bodyOf("six"))
	all := scanAll(t, file, Limits{})
	require.Len(t, all, 6)

	for bit := range 8 * len(file) {
		damaged := bytes.Clone(file)
		damaged[bit/8] ^= 1 << (bit % 8)
		hit := 0
		for borders[hit+1] <= int64(bit/8) {
			hit++
		}

		want := append([]item(nil), all...)
		items := scanAll(t, damaged, Limits{})
		require.Len(t, items, len(all), "bit %d", bit)
		want[hit].Body, want[hit].Kind = "", items[hit].Kind
		require.NotZero(t, items[hit].Kind, "bit %d: the damaged chunk is a hole", bit)
		require.Equal(t, want, items, "bit %d: the rest is found", bit)

		chunks, errs := readAll(t, newReader(damaged), Limits{})
		require.Equal(t, nilIfEmpty(all[:hit:hit]), chunks, "bit %d", bit)
		require.Len(t, errs, 1)
		e, ok := errors.AsType[*Error](errs[0])
		require.True(t, ok)
		require.Equal(t, borders[hit], e.Offset)
	}
}

// Random damage: a scan finds each chunk that is intact, tells the truth about
// the rest, and agrees with the obvious slow way. The stated exception, damage
// that looks like a chunk, is left to the slow way to agree on.
func TestRandomDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bodies := rapid.SliceOfN(genBody(), 1, 8).Draw(t, "bodies")
		file, intact := damage(t, bodies)

		var written []string
		for _, b := range bodies {
			written = append(written, string(b))
		}
		items := rapidScan(t, file, Limits{})
		require.Equal(t, slowScan(file, Limits{}), items)
		found := map[int64]string{}
		for _, it := range items {
			if it.Kind == 0 {
				found[it.From] = it.Body
			}
		}
		for off, body := range intact {
			require.Contains(t, found, off)
			require.Equal(t, body, found[off])
		}
		for _, body := range found { // an insertion may have left a chunk whole
			require.Contains(t, written, body, "nothing is found that was not written")
		}
	})
}

// damage writes a file, damaged in some places, and returns the bodies of the
// intact chunks by offset.
func damage(t *rapid.T, bodies [][]byte) (file []byte, intact map[int64]string) {
	intact = map[int64]string{}
	kinds := []string{"none", "none", "bytes", "cut", "cut start", "insert", "length", "zeros"}
	for _, body := range bodies {
		chunk := AppendChunk(nil, body)
		pos := rapid.IntRange(0, len(chunk)-1).Draw(t, "position")
		junk := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "junk")
		switch rapid.SampledFrom(kinds).Draw(t, "damage") {
		case "none":
			intact[int64(len(file))] = string(body)
		case "bytes":
			for i := range min(len(junk), len(chunk)-pos) {
				chunk[pos+i] ^= junk[i] | 1
			}
		case "cut":
			chunk[0] ^= 1 // the next chunk may begin with the bytes that are cut off
			chunk = chunk[:pos]
		case "cut start":
			chunk = chunk[1+pos:]
		case "insert":
			chunk = join(chunk[:pos], junk, chunk[pos:])
			if pos == 0 {
				intact[int64(len(file)+len(junk))] = string(body)
			}
		case "length":
			length := rapid.Uint64Range(0, 10_000).Filter(func(n uint64) bool { return n != uint64(len(body)) })
			binary.LittleEndian.PutUint64(chunk[4:], length.Draw(t, "length"))
		case "zeros":
			chunk[0] ^= 1
			clear(chunk[pos:])
		}
		file = append(file, chunk...)
	}
	return file, intact
}

// rapidScan is scanAll for a property, also with a small stride, so that files
// of this size reach all of the range checksums.
func rapidScan(t *rapid.T, file []byte, limits Limits) []item {
	s := NewScanner(newReaderAt(file), int64(len(file)), limits)
	s.sums.stride = rapid.SampledFrom([]int64{1, 7, 32, defaultStride}).Draw(t, "stride")
	return collect(t, s, file)
}

func newReaderAt(b []byte) io.ReaderAt { return struct{ io.ReaderAt }{bytes.NewReader(b)} }

// Files made to be hard: many offsets that look like the start of a long chunk.
func TestHostileFiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const size = 64 << 10
	tests := []struct {
		name string
		file []byte
	}{
		{"zeros", make([]byte, size)},
		{"ones", bytes.Repeat([]byte{0xff}, size)},
		{"each offset claims what is left", pattern(size, func(i int) uint64 { return uint64(size - 8*i) })},
		{"each eighth byte set", pattern(size, func(int) uint64 { return 1 })},
		{"lengths of some kilobytes", pattern(size, func(i int) uint64 { return uint64(i * 37 % 5000) })},
		{"sparse numbers", pattern(size, func(i int) uint64 {
			if i%100 == 0 {
				return 1000
			}
			return 0
		})},
		{"random", randomBytes(rnd, size)},
		{"nothing but empty chunks", bytes.Repeat(rawChunk(nil), size/12)},
		{"one junk byte before each chunk", bytes.Repeat(join([]byte{7}, rawChunk(bodyOf("x"))), size/20)},
		{"right checksums, wrong lengths", bytes.Repeat(rawChunk([]byte{1, 2, 3}), size/15)},
		{"chunks that begin in each other", nested(size / 16)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tail, _ := fileOf(bodyOf("still found"), bodyOf("and this"))
			file := join(tt.file, tail)
			items := scanAll(t, file, Limits{})
			require.GreaterOrEqual(t, len(items), 2)
			for i, want := range []string{"still found", "and this"} {
				assert.Equal(t, string(bodyOf(want)), items[len(items)-2+i].Body)
			}
			start := file[:min(len(file), 8<<10)] // the slow way is too slow for all
			assert.Equal(t, slowScan(start, Limits{}), scanAll(t, start, Limits{}))
		})
	}
}

func pattern(size int, number func(i int) uint64) []byte {
	var b []byte
	for i := range size / 8 {
		b = binary.LittleEndian.AppendUint64(b, number(i))
	}
	return b
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// nested makes chunks of which each contains all the following ones as its one
// message; the innermost is malformed. The outermost is damaged.
func nested(depth int) []byte {
	const innermost = 3
	file := make([]byte, 16*depth+innermost)
	for i := depth - 1; i >= 0; i-- {
		at := 16 * i
		body := file[at+HeaderSize:]
		length := len(body) - PrefixSize
		if i == depth-1 {
			length++ // beyond the end
		}
		binary.LittleEndian.PutUint32(body, uint32(length))
		h := ChunkHeader(body)
		copy(file[at:], h[:])
	}
	file[0] ^= 1
	return file
}

// A chunk behind damage is found at any offset, also where it begins near the
// end of the buffer, and up to the limits.
func TestScanFindsAtAnyOffset(t *testing.T) {
	body := bodyOf("found")
	limits := Limits{MaxChunk: len(body), MaxMessage: len("found")}
	for junk := firstBuffer - 40; junk < firstBuffer+40; junk++ {
		file := AppendChunk(bytes.Repeat([]byte{0xff}, junk), body)
		for name, src := range map[string]io.ReaderAt{"whole reads": bytes.NewReader(file), "short reads": shortReaderAt{file}} {
			items := collect(t, NewScanner(src, int64(len(file)), limits), file)
			require.Len(t, items, 2, "%s, %d bytes of junk", name, junk)
			require.Equal(t, item{From: int64(junk), To: int64(len(file)), Body: string(body)}, items[1])
		}
	}
}

// shortReaderAt returns a few bytes at a time near the end of the buffer.
type shortReaderAt struct{ content []byte }

func (s shortReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off > firstBuffer-100 {
		p = p[:min(len(p), 5)]
	}
	return bytes.NewReader(s.content).ReadAt(p, off)
}

// The work is linear: the bytes that are read are those of the file, once, and
// the checksum table is filled once.
func TestScanReadsOnce(t *testing.T) {
	file := pattern(1<<20, func(i int) uint64 { return uint64(1<<20 - 8*i - 100) })
	src := &countingReaderAt{ReaderAt: bytes.NewReader(file)}
	s := NewScanner(src, int64(len(file)), Limits{})
	collect(t, s, file)
	assert.Equal(t, int64(len(file)), src.bytes)
	assert.LessOrEqual(t, len(s.win.buf), len(file)*5/4)
	assert.LessOrEqual(t, cap(s.sums.marks)*4, len(file)/16)
}

// Memory follows the limit, not the file, however long the damage is.
func TestScanMemory(t *testing.T) {
	const limit = 8 << 10
	file := pattern(1<<20, func(int) uint64 { return limit })
	s := NewScanner(bytes.NewReader(file), int64(len(file)), Limits{MaxChunk: limit})
	collect(t, s, file)
	assert.Len(t, s.win.buf, firstBuffer)
	assert.NotZero(t, len(s.sums.marks))
	assert.LessOrEqual(t, cap(s.sums.marks)*4, limit/16)
}

type countingReaderAt struct {
	io.ReaderAt
	bytes int64
}

func (c *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += int64(n)
	return n, err
}

// A scan of only the first bytes of a file that grows.
func TestScanPart(t *testing.T) {
	file, borders := fileOf(bodyOf("one"), bodyOf("two"))
	items := collect(t, NewScanner(bytes.NewReader(file), borders[1], Limits{}), file[:borders[1]])
	assert.Len(t, items, 1)
}

func TestScanSourceErrors(t *testing.T) {
	file, _ := fileOf(bodyOf("one"), bodyOf("two"))
	broken := errors.New("disk on fire")

	s := NewScanner(bytes.NewReader(file), int64(len(file))+1, Limits{})
	for range 2 {
		_, err := s.Next()
		require.NoError(t, err)
	}
	_, err := s.Next()
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.EqualError(t, err, fmt.Sprintf("pbfs: file ends at byte %d, expected %d: unexpected EOF", len(file), len(file)+1))
	_, again := s.Next()
	assert.Equal(t, err, again)

	for good := range len(file) { // fails from each byte on, also while looking for the next chunk
		for _, damaged := range []bool{false, true} {
			content := bytes.Clone(file)
			if damaged {
				content[0] ^= 1
			}
			s := NewScanner(failingReaderAt{content, good, broken}, int64(len(file)), Limits{})
			for {
				_, err = s.Next()
				if _, hole := errors.AsType[*Hole](err); err != nil && !hole {
					break
				}
			}
			require.ErrorIs(t, err, broken)
			_, again := s.Next()
			require.Equal(t, err, again)
		}
	}
}

// failingReaderAt has good bytes, then fails.
type failingReaderAt struct {
	content []byte
	good    int
	err     error
}

func (f failingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, f.content[min(int(off), f.good):f.good])
	if n < len(p) {
		return n, f.err
	}
	return n, nil
}

func TestVerify(t *testing.T) {
	one, two := rawChunk(bodyOf("one", "")), rawChunk(bodyOf("two"))
	file := join(one, []byte("junk"), two, rawChunk([]byte{9}), one, two[:15])
	sum, err := Verify(bytes.NewReader(file), int64(len(file)), Limits{})
	require.NoError(t, err)
	a, b := int64(len(one)), int64(len(two))
	holes := sum.Holes
	sum.Holes = nil
	assert.Equal(t, Summary{
		Size: int64(len(file)), Chunks: 3, ChunkBytes: 2*a + b, Messages: 5, MessageBytes: 9,
		HoleCount: 2, HoleBytes: 4 + 13, TornBytes: 15,
	}, sum)
	assert.Equal(t, sum.Size, sum.ChunkBytes+sum.HoleBytes+sum.TornBytes)
	require.Len(t, holes, 2)
	assert.Equal(t, []int64{a, a + 4, a + 4 + b, a + 4 + b + 13}, []int64{holes[0].From, holes[0].To, holes[1].From, holes[1].To})
	assert.Equal(t, Malformed, holes[1].Cause.Kind)
	assert.False(t, sum.Intact())

	sum, err = Verify(bytes.NewReader(one), a, Limits{})
	require.NoError(t, err)
	assert.True(t, sum.Intact())

	sum, err = Verify(bytes.NewReader(one), a+1, Limits{})
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, int64(1), sum.Chunks)
}

// The list of holes is bounded, the counts are not.
func TestVerifyManyHoles(t *testing.T) {
	const n = MaxListedHoles + 500
	file := bytes.Repeat(join([]byte{7}, rawChunk(nil)), n)
	sum, err := Verify(bytes.NewReader(file), int64(len(file)), Limits{})
	require.NoError(t, err)
	assert.Len(t, sum.Holes, MaxListedHoles)
	assert.Equal(t, int64(n), sum.HoleCount)
	assert.Equal(t, int64(n), sum.HoleBytes)
	assert.Equal(t, int64(n), sum.Chunks)
}
