package pbfs

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The message of the golden vectors, as the reference encodes it.
const goldenMessage = "0a01631201661a0408011002220911000000000000f83f22025a002a0172"

func TestGoldenVectors(t *testing.T) {
	m := unhex(t, goldenMessage)
	require.Len(t, m, 30)
	one := AppendMessage(nil, m)
	two := AppendMessage(one[:len(one):len(one)], m)

	tests := []struct {
		name string
		body []byte
		crc  uint32
		want string
	}{
		{"one message", one, 0x171fa7b9, "b9a71f1722000000000000001e000000" + goldenMessage},
		{"two messages", two, 0x4da88e1e, "1e8ea84d44000000000000001e000000" + goldenMessage + "1e000000" + goldenMessage},
		{"an empty message", AppendMessage(nil, nil), 0x78d3fd10, "10fdd378040000000000000000000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.want)
			assert.Equal(t, want, AppendChunk(nil, tt.body))
			h := ChunkHeader(tt.body)
			assert.Equal(t, want[:HeaderSize], h[:])

			items := scanAll(t, want, Limits{})
			require.Len(t, items, 1)
			assert.Equal(t, string(tt.body), items[0].Body)
			chunks, errs := readAll(t, newReader(want), Limits{})
			assert.Equal(t, items, chunks)
			assert.Len(t, errs, 1)
			assert.Equal(t, tt.crc, storedCRC(want))
		})
	}
}

func TestAppendChunkKeepsWhatIsThere(t *testing.T) {
	dst := append(make([]byte, 0, 100), "before"...)
	got := AppendChunk(dst, bodyOf("a"))
	assert.Equal(t, "before", string(got[:6]))
	assert.Equal(t, AppendChunk(nil, bodyOf("a")), got[6:])
	assert.Same(t, &dst[0], &got[0], "it fits, so it is not moved")
}

func TestCheckBody(t *testing.T) {
	tests := []struct {
		name  string
		body  string
		count int
		want  *Error // nil: right
	}{
		{"empty", "", 0, nil},
		{"one empty message", "\x00\x00\x00\x00", 1, nil},
		{"three", "\x01\x00\x00\x00a\x00\x00\x00\x00\x02\x00\x00\x00bc", 3, nil},
		{"one byte", "\x00", 0, &Error{Malformed, -1, 0, 0, 1}},
		{"three bytes", "\xff\xff\xff", 0, &Error{Malformed, -1, 0, 0, 3}},
		{"one too long", "\x02\x00\x00\x00a", 0, &Error{Malformed, -1, 0, 2, 1}},
		{"longest length", "\xff\xff\xff\xffa", 0, &Error{Malformed, -1, 0, math.MaxUint32, 1}},
		{"sign bit", "\x00\x00\x00\x80aaaa", 0, &Error{Malformed, -1, 0, 1 << 31, 4}},
		{"second too long", "\x01\x00\x00\x00a\x01\x00\x00\x00", 1, &Error{Malformed, -1, 5, 1, 0}},
		{"bytes left over", "\x01\x00\x00\x00a\x00\x00", 1, &Error{Malformed, -1, 5, 0, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			count, err := CheckBody([]byte(tt.body))
			assert.Equal(t, tt.count, count)
			if tt.want == nil {
				assert.NoError(t, err)
			} else {
				assert.Equal(t, tt.want, err)
			}

			// The walker agrees: that many messages, then that error.
			n := 0
			var last error
			for msg, err := range Messages([]byte(tt.body)) {
				require.NoError(t, last, "nothing follows an error")
				if last = err; err == nil {
					n++
					assert.Equal(t, len(msg), cap(msg), "appending to a message does not touch the next")
				}
			}
			assert.Equal(t, count, n)
			assert.Equal(t, err, last)
		})
	}
}

func TestMessagesStops(t *testing.T) {
	n := 0
	for range Messages(bodyOf("a", "b", "c")) {
		if n++; n == 2 {
			break
		}
	}
	assert.Equal(t, 2, n)
	for range Messages([]byte{1}) { // the error is the last element also if the loop breaks
		break
	}
}

func TestMessageLength(t *testing.T) {
	assert.Equal(t, uint32(7), messageLength(7))
	if math.MaxInt == math.MaxInt32 {
		t.Skip("no message can be too long where int has 32 bits")
	}
	most := uint64(math.MaxUint32)
	assert.Equal(t, uint32(math.MaxUint32), messageLength(int(most)))
	assert.PanicsWithValue(t, "pbfs: message of 4294967296 bytes, the format takes at most 4294967295",
		func() { messageLength(int(most + 1)) })
}

// A body is its messages, and nothing else.
func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "messages")
		var body []byte
		for _, m := range msgs {
			body = AppendMessage(body, m)
		}
		count, err := CheckBody(body)
		require.NoError(t, err)
		require.Equal(t, len(msgs), count)
		i := 0
		for m, err := range Messages(body) {
			require.NoError(t, err)
			require.Equal(t, string(msgs[i]), string(m))
			i++
		}
		require.Equal(t, count, i)
	})
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&Error{TornTail, 100, 107, 7, 12}, "pbfs: chunk at byte 100: torn: the file ends after 7 of at least 12 bytes"},
		{&Error{AbsurdLength, 0, 4, math.MaxUint64, 10}, "pbfs: chunk at byte 0: length 18446744073709551615, at most 10 is possible: damaged, or over the limit"},
		{&Error{BadChecksum, 5, 5, 0xab, 1}, "pbfs: chunk at byte 5: damaged: checksum 000000ab, header says 00000001"},
		{&Error{Malformed, 5, 20, 9, 8}, "pbfs: chunk at byte 5: message length 9 at byte 20, but 8 bytes are left"},
		{&Error{Malformed, -1, 20, 0, 3}, "pbfs: body: 3 bytes left at byte 20, too few for a message length"},
		{&Error{LargeMessage, 5, 20, 9, 8}, "pbfs: chunk at byte 5: message of 9 bytes at byte 20, over the limit of 8"},
		{&Error{Kind: 99}, "pbfs: chunk at byte 0: kind 99"},
		{&Hole{From: 3, To: 9, Cause: &Error{BadChecksum, 3, 3, 1, 2}}, "pbfs: bytes 3 to 9 are not readable: damaged: checksum 00000001, header says 00000002"},
	}
	for _, tt := range tests {
		assert.EqualError(t, tt.err, tt.want)
	}
	for _, k := range []Kind{TornTail, AbsurdLength, BadChecksum, Malformed, LargeMessage} {
		assert.NotContains(t, k.String(), "kind")
	}
	cause, ok := errors.AsType[*Error](error(&Hole{Cause: &Error{Kind: BadChecksum}}))
	assert.True(t, ok && cause.Kind == BadChecksum, "a hole's cause can be asked for")
}
