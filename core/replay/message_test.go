package replay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/internal/pbfsview"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// A message of the reference client: config c, flow f, 1 s 2 ns, a double and nothing,
// run r.
const golden = "0a01631201661a0408011002220911000000000000f83f22025a002a0172"

func TestParse(t *testing.T) {
	raw, err := hex.DecodeString(golden)
	require.NoError(t, err)
	h, err := parse(raw)
	require.NoError(t, err)
	assert.Equal(t, "f", string(h.flow))
	assert.Equal(t, sdk.Binding{ConfigID: "c", RunID: "r"}, h.binding())
	at, ok := h.time()
	assert.True(t, ok)
	assert.Equal(t, time.Unix(1, 2).UTC(), at)
	assert.Equal(t, int64(1e9+2), h.stamp())
	assert.False(t, h.unbound())

	unbound := sdk.Unbound()
	h, err = parse(rowOf(1, "f", unbound.ConfigID, unbound.RunID))
	require.NoError(t, err)
	assert.True(t, h.unbound())
}

func TestStamps(t *testing.T) {
	for _, tc := range []struct {
		seconds int64
		nanos   int32
		valid   bool
		stamp   int64
	}{
		{0, 0, true, 0},
		{-1, 5, true, -1e9 + 5},
		{minSeconds, 0, true, math.MinInt64},
		{maxSeconds, 999_999_999, true, math.MaxInt64},
		{maxSeconds + 1, 0, false, 0},
		{minSeconds - 1, 0, false, 0},
		{1, -1, false, 0},
		{1, 1e9, false, 0},
		{math.MaxInt64, 0, false, 0},
		{maxStamp - 1, 1, true, (maxStamp-1)*1_000_000_000 + 1},
	} {
		h := header{seconds: tc.seconds, nanos: tc.nanos, hasTime: true}
		_, ok := h.time()
		assert.Equal(t, tc.valid, ok, "%+v", tc)
		assert.Equal(t, tc.stamp, h.stamp(), "%+v", tc)
	}
	h := header{}
	_, ok := h.time()
	assert.False(t, ok)
}

// FuzzParse: what this package sends is what the view of the same file can decode, and
// both find the same in it.
func FuzzParse(f *testing.F) {
	raw, err := hex.DecodeString(golden)
	require.NoError(f, err)
	f.Add(raw)
	f.Add(row(77, "flow"))
	f.Add([]byte{})
	f.Add([]byte("\x0a\x01\xff"))
	f.Add([]byte("\x22\x03\x0a\x01\xff"))
	f.Add([]byte("\x22\x03\x5a\x01\x08"))
	f.Add([]byte("\x1a\x02\x08\x80"))
	f.Add([]byte("\x3a\x01\xff"))
	f.Add([]byte("\x13\x14"))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, fieldFlow, protowire.VarintType), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<20 {
			t.Skip("longer messages may have more values than are decoded")
		}
		file := pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, raw))
		m, problem := pbfsview.NewReader(bytes.NewReader(file), int64(len(file))).Next()
		h, err := parse(raw)
		if damage, bad := errors.AsType[*pbfsview.Damage](problem); bad {
			require.Error(t, err, "%v", damage)
			return
		}
		require.NoError(t, err)
		require.NotErrorIs(t, problem, io.EOF)
		require.Equal(t, m.Flow(), string(h.flow))
		want, timed := m.Time()
		got, ok := h.time()
		require.Equal(t, timed, ok)
		require.Equal(t, want, got)
	})
}
