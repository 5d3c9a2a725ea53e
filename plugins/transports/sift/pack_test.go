package sift

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// collector keeps what is written and fails after some writes.
type collector struct {
	bytes.Buffer
	writes  []int
	allowed int // writes; 0 = any number
}

var errFull = errors.New("full")

func (c *collector) Write(_ context.Context, p []byte) error {
	if c.allowed > 0 && len(c.writes) == c.allowed {
		return errFull
	}
	c.writes = append(c.writes, len(p))
	c.Buffer.Write(p)
	return nil
}

// unpack reads gRPC messages.
func unpack(t require.TestingT, stream []byte) [][]byte {
	var out [][]byte
	for len(stream) > 0 {
		require.GreaterOrEqual(t, len(stream), 5)
		n := binary.BigEndian.Uint32(stream[1:])
		m := stream[5 : 5+n]
		if stream[0] == 1 {
			z, err := gzip.NewReader(bytes.NewReader(m))
			require.NoError(t, err)
			m, err = io.ReadAll(z)
			require.NoError(t, err)
		} else {
			require.Zero(t, stream[0])
		}
		out = append(out, m)
		stream = stream[5+n:]
	}
	return out
}

// TestPack: messages come out as they went in, in few writes, whatever their
// sizes.
func TestPack(t *testing.T) {
	plain, zipped := newPacker(false), newPacker(true)
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(
			rapid.IntRange(0, 300), rapid.IntRange(largeMessage-2, largeMessage+2), rapid.IntRange(packBytes-10, packBytes+10),
		), 0, 60).Draw(t, "sizes")
		fill := rapid.Byte().Draw(t, "fill")
		var messages [][]byte
		for i, size := range sizes {
			m := bytes.Repeat([]byte{fill}, size)
			if i%2 == 0 { // does not compress
				for j := range m {
					m[j] = byte(j*j*7 + i*j>>3)
				}
			}
			messages = append(messages, m)
		}
		body := encoded(messages...)
		n, err := countMessages(body)
		require.NoError(t, err)
		require.Equal(t, len(messages), n)
		for _, p := range []*packer{plain, zipped} {
			var c collector
			total, err := p.send(t.Context(), &c, body)
			require.NoError(t, err)
			require.Equal(t, c.Len(), total)
			got := unpack(t, c.Bytes())
			require.Len(t, got, len(messages))
			for i := range got {
				require.True(t, bytes.Equal(messages[i], got[i]), "message %d", i)
			}
			for _, size := range c.writes {
				require.LessOrEqual(t, size, packBytes+largeMessage)
			}
		}
	})
}

func TestPackStopsAtAnError(t *testing.T) {
	p := newPacker(false)
	body := encoded(make([]byte, packBytes), make([]byte, packBytes), make([]byte, 10))
	for allowed := 1; allowed <= 4; allowed++ {
		c := collector{allowed: allowed}
		_, err := p.send(t.Context(), &c, body)
		require.ErrorIs(t, err, errFull)
		assert.Len(t, c.writes, allowed)
	}
}

// TestPackFewWrites: small messages share writes.
func TestPackFewWrites(t *testing.T) {
	var messages [][]byte
	for range 4096 {
		messages = append(messages, make([]byte, 160))
	}
	var c collector
	_, err := newPacker(false).send(t.Context(), &c, encoded(messages...))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(c.writes), c.Len()/packBytes+1)
}

// FuzzCountMessages: a body is accepted only if it is a sequence of messages, as
// another reader of the same form sees it.
func FuzzCountMessages(f *testing.F) {
	f.Add(encoded([]byte("a"), nil, []byte("bc")))
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := countMessages(body)
		var got [][]byte
		wantErr := error(nil)
		for m, mErr := range pbfs.Messages(body) {
			if mErr != nil {
				wantErr = mErr
				break
			}
			got = append(got, bytes.Clone(m))
		}
		assert.Equal(t, wantErr == nil, err == nil, "%v, %v", err, wantErr)
		if err != nil {
			return
		}
		assert.Len(t, got, n)
		var c collector
		_, err = newPacker(false).send(t.Context(), &c, body)
		require.NoError(t, err)
		out := unpack(t, c.Bytes())
		assert.Equal(t, encoded(got...), encoded(out...))
	})
}
