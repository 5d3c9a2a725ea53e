package pbfs

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The checksum of each range is that of computing it directly.
func TestRangeSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stride := rapid.IntRange(1, 40).Draw(t, "stride")
		data := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "data")
		base := rapid.Int64Range(0, 1<<50).Draw(t, "base")
		r := rangeSum{stride: int64(stride)}
		at := 0
		for range 30 {
			at += rapid.IntRange(0, 150).Draw(t, "advance")
			if at+stride+1 > len(data) {
				return
			}
			end := rapid.IntRange(at+stride+1, len(data)).Draw(t, "end")
			require.Equal(t, crc32.ChecksumIEEE(data[at:end]), r.sum(base+int64(at), data[at:end]))
		}
	})
}

// Lengths of many bits: n zero bytes behind a stream.
func TestRangeSumShift(t *testing.T) {
	var r rangeSum
	const seed = 0x12345678
	zeros := make([]byte, 1<<20)
	// Appending bytes d to a stream with checksum s gives shift(s, len(d)) ^ crc(d).
	for _, n := range []int{0, 1, 2, 255, 256, 257, 65535, 65536, 70001, 1 << 20} {
		want := crc32.Update(seed, crc32.IEEETable, zeros[:n]) ^ crc32.ChecksumIEEE(zeros[:n])
		require.Equal(t, want, r.shift(seed, int64(n)), "%d bytes", n)
	}
	const big = 600 << 20 // over the size of any real test data: by parts
	half := r.shift(seed, big/2)
	require.Equal(t, r.shift(seed, big), r.shift(half, big/2))
}
