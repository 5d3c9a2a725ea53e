package pbfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// bodyOf makes a body of messages.
func bodyOf(msgs ...string) []byte {
	var body []byte
	for _, m := range msgs {
		body = AppendMessage(body, []byte(m))
	}
	return body
}

// fileOf makes a file of chunks with these bodies, and the offsets at which
// they begin, followed by the size of the file.
func fileOf(bodies ...[]byte) (file []byte, borders []int64) {
	for _, b := range bodies {
		borders = append(borders, int64(len(file)))
		file = AppendChunk(file, b)
	}
	return file, append(borders, int64(len(file)))
}

// rawChunk makes a chunk whose checksum is right and whose body may be wrong.
func rawChunk(body []byte) []byte { return AppendChunk(nil, body) }

// header makes 12 bytes of any content.
func header(crc uint32, length uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, crc), length)
}

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

// item is what a scan returns, comparable: a chunk (Kind 0) or a hole.
type item struct {
	From, To int64
	Kind     Kind
	Body     string
}

// readAll reads chunks until an error that is final, and returns all errors.
func readAll(t testing.TB, src io.Reader, limits Limits) (chunks []item, errs []error) {
	t.Helper()
	r := NewReader(src, limits)
	for {
		c, err := r.Next()
		if err == nil {
			chunks = append(chunks, item{From: c.Offset, To: c.End(), Body: string(c.Body)})
			continue
		}
		errs = append(errs, err)
		e, ok := errors.AsType[*Error](err)
		if ok && (e.Kind == Malformed || e.Kind == LargeMessage) {
			continue
		}
		_, again := r.Next()
		require.Equal(t, err, again, "a final error stays")
		return chunks, errs
	}
}

// scanAll scans a whole file and checks what holds for every scan.
func scanAll(t testing.TB, file []byte, limits Limits) []item {
	t.Helper()
	return collect(t, NewScanner(bytes.NewReader(file), int64(len(file)), limits), file)
}

func collect(t tester, s *Scanner, file []byte) (items []item) {
	t.Helper()
	at := int64(0)
	for {
		c, err := s.Next()
		if err == io.EOF {
			break
		}
		it := item{From: c.Offset, To: c.End(), Body: string(c.Body)}
		if hole, ok := errors.AsType[*Hole](err); ok {
			it = item{From: hole.From, To: hole.To, Kind: hole.Cause.Kind}
			require.Equal(t, hole.From, hole.Cause.Offset)
		} else {
			require.NoError(t, err)
			require.Equal(t, file[c.Offset:c.End()], AppendChunk(nil, c.Body), "a chunk is written as it was read")
			n, err := CheckBody(c.Body)
			require.NoError(t, err)
			require.Equal(t, n, c.Count)
		}
		require.Equal(t, at, it.From, "no byte is left out or told twice")
		require.Greater(t, it.To, it.From)
		at = it.To
		items = append(items, it)
	}
	require.Equal(t, int64(len(file)), at)
	_, err := s.Next()
	require.Equal(t, io.EOF, err)
	return items
}

// slowScan is what a scan returns, computed in the obvious way: it tries each
// offset with a checksum over the whole chunk.
func slowScan(file []byte, limits Limits) (items []item) {
	for at := 0; at < len(file); {
		size, kind := tryChunk(file[at:], limits)
		end := at + size
		if size == 0 {
			for end = at + 1; end < len(file); end++ {
				if n, _ := tryChunk(file[end:], limits); n > 0 {
					break
				}
			}
			if kind == TornTail && end < len(file) {
				kind = AbsurdLength
			}
		}
		it := item{From: int64(at), To: int64(end), Kind: kind}
		if kind == 0 {
			it.Body = string(file[at+HeaderSize : end])
		}
		items = append(items, it)
		at = end
	}
	return items
}

// tryChunk returns the size of the chunk at the start of b if its checksum is
// right, and what is wrong.
func tryChunk(b []byte, limits Limits) (size int, kind Kind) {
	if len(b) < HeaderSize {
		return 0, TornTail
	}
	length := binary.LittleEndian.Uint64(b[4:])
	if length > uint64(limits.maxChunk()) {
		return 0, AbsurdLength
	}
	if length > uint64(len(b)-HeaderSize) {
		return 0, TornTail
	}
	chunk := b[:HeaderSize+int(length)]
	if crc32.ChecksumIEEE(chunk[4:]) != binary.LittleEndian.Uint32(chunk) {
		return 0, BadChecksum
	}
	for body := chunk[HeaderSize:]; len(body) > 0; {
		if len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4) {
			return len(chunk), Malformed
		}
		n := binary.LittleEndian.Uint32(body)
		if limits.MaxMessage > 0 && int64(n) > int64(limits.MaxMessage) {
			return len(chunk), LargeMessage
		}
		body = body[4+n:]
	}
	return len(chunk), 0
}

// genBody draws a body of a few messages, some empty, some long.
func genBody() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		var body []byte
		for range rapid.IntRange(0, 5).Draw(t, "messages") {
			longest := rapid.SampledFrom([]int{0, 8, 200, 3000}).Draw(t, "longest")
			body = AppendMessage(body, rapid.SliceOfN(rapid.Byte(), 0, longest).Draw(t, "message"))
		}
		return body
	})
}
