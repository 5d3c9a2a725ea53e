package config

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want time.Duration
	}{
		{"0", 0},
		{"0s", 0},
		{"250ms", 250 * time.Millisecond},
		{"1.5s", 1500 * time.Millisecond},
		{"1h30m", 90 * time.Minute},
		{"30m1h", 90 * time.Minute},
		{"7d", 7 * 24 * time.Hour},
		{"1d12h", 36 * time.Hour},
		{"3us", 3 * time.Microsecond},
		{"3µs", 3 * time.Microsecond},
		{"3μs", 3 * time.Microsecond},
		{"5ns", 5},
		{"-1.5s", -1500 * time.Millisecond},
		{"-1m30s", -90 * time.Second},
		{".5s", 500 * time.Millisecond},
		{"1.s", time.Second},
		{"0.000000001s", 1},
		{"106751d", 106751 * 24 * time.Hour},
	} {
		got, err := parseDuration(tc.in)
		require.NoError(t, err, tc.in)
		assert.Equal(t, tc.want, got, tc.in)
	}
	for _, in := range []string{
		"", "-", "5", "1h 30m", " 1s", "1s ", "s", "ms", ".", "..s", "1..5s", "1.5.2s", "1S", "1M", "1w", "1e3s", "+1s", "--1s", "1h-30m",
		"five seconds", "0.5ns", "0.0000000001s", "106752d", "9999999999999999999999999999999999999999s", "1s1", "0x10s", "1_000s", "∞s",
	} {
		_, err := parseDuration(in)
		assert.Error(t, err, in)
	}
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int64
	}{
		{"0B", 0},
		{"512B", 512},
		{"10KB", 10_000},
		{"10kB", 10_000},
		{"10KiB", 10_240},
		{"1.5GiB", 3 << 29},
		{"500MiB", 500 << 20},
		{"2TB", 2e12},
		{"1TiB", 1 << 40},
		{"0.001kB", 1},
		{"8388607TiB", 8388607 << 40},
	} {
		got, err := parseSize(tc.in)
		require.NoError(t, err, tc.in)
		assert.Equal(t, tc.want, got, tc.in)
	}
	for _, in := range []string{
		"", "5", "5 MB", "MB", "5mb", "5Mb", "5M", "5K", "-5MB", "1.5B", "0.0001kB", "8388608TiB", "1MB1KB", "5MBx", "1e3B", "5PB",
	} {
		_, err := parseSize(in)
		assert.Error(t, err, in)
	}
}

func TestParseTime(t *testing.T) {
	got, err := parseTime("2026-05-01T14:00:00.25+02:00")
	require.NoError(t, err)
	assert.Equal(t, time.Date(2026, 5, 1, 12, 0, 0, 250e6, time.UTC).UnixNano(), got)
	for _, ns := range []int64{0, math.MinInt64, math.MaxInt64} {
		got, err := parseTime(time.Unix(0, ns).UTC().Format(time.RFC3339Nano))
		require.NoError(t, err)
		assert.Equal(t, ns, got)
	}
	for _, in := range []string{"", "now", "2026-05-01", "2026-05-01 12:00:00Z", "2026-05-01T12:00:00", "1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z"} {
		_, err := parseTime(in)
		assert.Error(t, err, in)
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(math.MinInt64+1).Draw(t, "ns"))
		got, err := parseDuration(formatDuration(d))
		require.NoError(t, err)
		assert.Equal(t, d, got)
		size := rapid.Int64Min(0).Draw(t, "bytes")
		back, err := parseSize(formatSize(size))
		require.NoError(t, err)
		assert.Equal(t, size, back)
	})
	assert.Equal(t, "1h", formatDuration(time.Hour))
	assert.Equal(t, "1h30m", formatDuration(90*time.Minute))
	assert.Equal(t, "1m", formatDuration(time.Minute))
	assert.Equal(t, "0s", formatDuration(0))
	assert.Equal(t, "10s", formatDuration(10*time.Second))
	assert.Equal(t, "256MiB", formatSize(256<<20))
	assert.Equal(t, "10KB", formatSize(10_000))
	assert.Equal(t, "0B", formatSize(0))
}
