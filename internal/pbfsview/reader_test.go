package pbfsview

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// A file that another writer has made.
func TestReaderReference(t *testing.T) {
	file, err := hex.DecodeString("b9a71f1722000000000000001e0000000a01631201661a0408011002220911000000000000f83f22025a002a0172")
	require.NoError(t, err)
	messages, damage, s := readAll(t, file)
	require.Empty(t, damage)
	requireSame(t, []*request{{
		IngestionConfigId: "c", Flow: "f", RunId: "r", Timestamp: &timestamppb.Timestamp{Seconds: 1, Nanos: 2},
		ChannelValues: []*channel{double(1.5), none()},
	}}, messages)
	at := time.Unix(1, 2).UTC()
	assert.Equal(t, Summary{
		Bytes: 46, Chunks: 1, Messages: 1, Flows: map[string]int64{"f": 1}, Timed: 1, From: at, To: at,
	}, s)
}

func TestReaderReadsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.SliceOfN(rapid.SliceOfN(genRequest(), 0, 3), 0, 4).Draw(t, "chunks")
		file, _ := fileOf(t, chunks...)
		messages, damage, s := readAll(t, file)
		require.Empty(t, damage)
		requireSame(t, slices.Concat(chunks...), messages)
		require.Equal(t, int64(len(chunks)), s.Chunks)
		total := int64(0)
		for _, n := range s.Flows {
			total += n
		}
		require.Equal(t, s.Messages, total)
	})
}

func TestReaderCutAnywhere(t *testing.T) {
	chunks := flightOf(4)
	file, ends := fileOf(t, chunks...)
	for cut := range len(file) + 1 {
		messages, damage, s := readAll(t, file[:cut])
		whole, onBorder := slices.BinarySearch(ends, int64(cut))
		if onBorder {
			whole++
		}
		requireSame(t, slices.Concat(chunks[:whole]...), messages)
		if onBorder || cut == 0 {
			require.Empty(t, damage, "cut at %d", cut)
			continue
		}
		require.Equal(t, []Kind{TornTail}, kindsOf(damage), "cut at %d", cut)
		require.True(t, s.TornTail)
	}
}

func TestReaderAnyBitFlipped(t *testing.T) {
	chunks := flightOf(3)
	file, ends := fileOf(t, chunks...)
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		hit, _ := slices.BinarySearch(ends, int64(bit/8)+1)
		messages, damage, _ := readAll(t, bad)
		requireSame(t, slices.Concat(slices.Delete(slices.Clone(chunks), hit, hit+1)...), messages)
		require.Len(t, damage, 1, "bit %d", bit)
		require.Equal(t, ends[hit], damage[0].To)
	}
}

func TestReaderHugeLengths(t *testing.T) {
	good, _ := fileOf(t, flightOf(1)...)
	for _, length := range []uint64{1 << 63, 1<<64 - 1, 1 << 40, 64 << 20, 1 << 10} {
		header := binary.LittleEndian.AppendUint64([]byte{1, 2, 3, 4}, length)
		bad := append(header, bytes.Repeat([]byte{0xff}, 30)...)

		messages, damage, _ := readAll(t, slices.Concat(good, bad, good))
		assert.Len(t, messages, 4)
		require.Equal(t, []Kind{Hole}, kindsOf(damage))
		assert.Equal(t, int64(len(bad)), damage[0].Size())

		_, damage, _ = readAll(t, slices.Concat(good, bad))
		assert.Len(t, damage, 1)
	}
	// A message that claims more than its chunk, whose checksum is right.
	bad := pbfs.AppendChunk(nil, []byte{0xff, 0xff, 0xff, 0xff, 1})
	_, damage, _ := readAll(t, slices.Concat(good, bad, good))
	require.Len(t, damage, 1)
	assert.EqualError(t, damage[0], "hole: bytes 72 to 89 (17 bytes): malformed lengths")
}

func TestReaderUndecodable(t *testing.T) {
	for _, tc := range []struct {
		name, raw, want string
	}{
		{"no field", "\x08", "its byte 0 begins no field"},
		{"no field at its end", "\x0a\x01c\x12\x05f", "its byte 3 begins no field"},
		{"wrong inside", "\x22\x01\x5a", "a field is malformed, or a text is not UTF-8"},
		{"not UTF-8", "\x12\x01\xff", "a field is malformed, or a text is not UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := pbfs.AppendMessage(nil, []byte("\x12\x01a"))
			body = pbfs.AppendMessage(body, []byte(tc.raw))
			body = pbfs.AppendMessage(body, []byte("\x12\x01b"))
			messages, damage, s := readAll(t, pbfs.AppendChunk(nil, body))
			requireSame(t, []*request{{Flow: "a"}, {Flow: "b"}}, messages)
			require.Len(t, damage, 1)
			at := int64(pbfs.HeaderSize + 4 + 3 + 4)
			assert.Equal(t, at, damage[0].From)
			assert.Equal(t, at+int64(len(tc.raw)), damage[0].To)
			assert.EqualError(t, damage[0].Cause, tc.want)
			assert.Equal(t, int64(1), s.Undecodable)
			assert.Equal(t, int64(2), s.Messages)
		})
	}
}

// A newer writer may know fields and types that this program does not.
func TestReaderUnknownFields(t *testing.T) {
	raw := "\x12\x01f" + "\xa2\x06\x03new" + "\x22\x03\xf8\x01\x01"
	messages, damage, _ := readAll(t, pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, []byte(raw))))
	require.Empty(t, damage)
	requireSame(t, []*request{{Flow: "f", ChannelValues: []*channel{{}}}}, messages)
}

func TestReaderTooManyValues(t *testing.T) {
	many := func(n int) []byte {
		return pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, bytes.Repeat([]byte{0x22, 0}, n)))
	}
	_, damage, s := readAll(t, many(MaxValues+1))
	require.Len(t, damage, 1)
	assert.EqualError(t, damage[0].Cause, "it has 1048577 values, at most 1048576 are decoded")
	assert.Equal(t, int64(1), s.Undecodable)
}

func TestReaderManyFlows(t *testing.T) {
	var chunks []*request
	for i := range maxFlows + 5 {
		chunks = append(chunks, &request{Flow: string(rune(0x10000 + i))})
	}
	chunks = append(chunks, &request{Flow: strings.Repeat("x", maxFlowBytes+1)}, chunks[0])
	file, _ := fileOf(t, chunks)
	_, _, s := readAll(t, file)
	assert.Len(t, s.Flows, maxFlows)
	assert.True(t, s.MoreFlows)
	assert.Equal(t, int64(2), s.Flows[chunks[0].Flow])
}

func TestReaderTimes(t *testing.T) {
	at := func(seconds int64, nanos int32) *request {
		return &request{Timestamp: &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}}
	}
	const year1, year10000 = -62135596800, 253402300800
	file, _ := fileOf(t, []*request{
		{}, at(year1-1, 0), at(year10000, 0), at(5, -1), at(5, 1_000_000_000), // none of these has a time
		at(7, 0), at(year1, 0), at(9, 999_999_999), at(8, 0),
	})
	_, _, s := readAll(t, file)
	assert.Equal(t, int64(4), s.Timed)
	assert.Equal(t, "0001-01-01T00:00:00Z", s.From.Format(time.RFC3339Nano))
	assert.Equal(t, "1970-01-01T00:00:09.999999999Z", s.To.Format(time.RFC3339Nano))
}

func TestReaderForeign(t *testing.T) {
	for name, tc := range map[string]struct {
		content, want string
	}{
		"text":       {"time,value\n1,2\n3,4\n", "not a PBFS file: it looks like a text file"},
		"short text": {"hello\r\n", "not a PBFS file: it looks like a text file"},
		"UTF-8":      {strings.Repeat("ä€😀", 300), "not a PBFS file: it looks like a text file"},
		"Parquet":    {"PAR1\x15\x04\x15\x80\x80" + strings.Repeat("\x00\x07", 100) + "PAR1", "not a PBFS file: it looks like a Parquet file"},
		"gzip":       {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x4b\x04\x00", "not a PBFS file: it looks like a gzip file"},
		"binary":     {strings.Repeat("\xff\xfe\xfd", 20), "hole: bytes 0 to 60 (60 bytes): absurd length"},
		"zeros":      {strings.Repeat("\x00", 60), "hole: bytes 0 to 60 (60 bytes): wrong checksum"},
		"torn":       {"abcdef", "torn tail: bytes 0 to 6 (6 bytes) are an incomplete chunk"},
	} {
		t.Run(name, func(t *testing.T) {
			messages, damage, s := readAll(t, []byte(tc.content))
			assert.Empty(t, messages)
			require.Len(t, damage, 1)
			assert.EqualError(t, damage[0], tc.want)
			assert.Equal(t, strings.HasPrefix(tc.want, "not"), s.Foreign)
		})
	}
	// With a chunk in it, it is a PBFS file, whatever lies in front.
	good, _ := fileOf(t, flightOf(1)...)
	_, damage, _ := readAll(t, append([]byte("time,value\n1,2\n3,4\n"), good...))
	assert.Equal(t, []Kind{Hole}, kindsOf(damage))
}

// failing is a file with a place that cannot be read.
type failing struct {
	*bytes.Reader
	at int64
}

var errDisk = errors.New("input/output error")

func (f failing) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > f.at {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, offset)
}

func TestReaderSourceErrors(t *testing.T) {
	file, _ := fileOf(t, flightOf(3)...)
	r := NewReader(failing{bytes.NewReader(file), 0}, int64(len(file)))
	for range 2 {
		_, err := r.Next()
		require.ErrorIs(t, err, errDisk)
	}
	// A file that has become shorter since it was opened.
	r = NewReader(bytes.NewReader(file), int64(len(file))+1)
	var err error
	for err == nil {
		_, err = r.Next()
	}
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func FuzzReader(f *testing.F) {
	good, _ := fileOf(f, flightOf(2)...)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append([]byte("text, and then\n"), good...))
	f.Fuzz(func(t *testing.T, file []byte) {
		messages, _, _ := readAll(t, file)
		requireRendered(t, messages)
	})
}

// FuzzMessage has messages in front of which no checksum is in the way.
func FuzzMessage(f *testing.F) {
	good, _ := fileOf(f, flightOf(1)...)
	f.Add(good[pbfs.HeaderSize+pbfs.PrefixSize:])
	f.Add([]byte("\x22\x02\x09\x09\x22\x00\x1a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("\x22\x03\xf8\x01\x01\x12\x01\xff\xa2\x06\x03new"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		messages, damage, _ := readAll(t, pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, raw)))
		require.Equal(t, 1, len(messages)+len(damage))
		requireRendered(t, messages)
		// Written again, it is the same message.
		again, _ := fileOf(t, messages)
		same, damage, _ := readAll(t, again)
		require.Empty(t, damage)
		requireSame(t, messages, same)
	})
}
