package stamp_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/csv/stamp"
)

func parser(t testing.TB, f stamp.Format) *stamp.Parser {
	t.Helper()
	p, err := stamp.NewParser(f)
	require.NoError(t, err)
	return p
}

func TestNumbers(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		unit, in string
		start    time.Time
		want     int64
		err      error
	}{
		{unit: "s", in: "0", want: 0},
		{unit: "s", in: "-0.756", want: -756_000_000},
		{unit: "s", in: "46410.296848124", want: 46_410_296_848_124},
		{unit: "s", in: "1533180079.646123456", want: 1_533_180_079_646_123_456},
		{unit: "s", in: "0.09999999999999432", want: 100_000_000},
		{unit: "s", in: "0.0000000005", want: 1},
		{unit: "s", in: "-0.0000000005", want: -1},
		{unit: "s", in: "0.00000000049999999999999999999999999", want: 0},
		{unit: "s", in: "+1.5e3", want: 1500_000_000_000},
		{unit: "s", in: "15E-1", want: 1_500_000_000},
		{unit: "s", in: " 1.\t", want: 1_000_000_000},
		{unit: "s", in: ".5", want: 500_000_000},
		{unit: "s", in: "0e999999999999999999999", want: 0},
		{unit: "s", in: "1e-999999999999999999999", want: 0},
		{unit: "ms", in: "1647930186151", want: 1_647_930_186_151_000_000},
		{unit: "us", in: "112574307.25", want: 112_574_307_250},
		{unit: "ns", in: "9223372036854775807", want: 9223372036854775807},
		{unit: "ns", in: "-9223372036854775808", want: -9223372036854775808},
		{unit: "ns", in: "0.5", want: 1},
		{unit: "min", in: "1.5", want: 90_000_000_000},
		{unit: "h", in: "2", want: 7200_000_000_000},
		{unit: "s", in: "-1", start: start, want: start.UnixNano() - 1e9},
		{unit: "s", in: "1", start: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), want: -631_151_999_000_000_000},

		{unit: "ns", in: "9223372036854775808", err: stamp.ErrRange},
		{unit: "ns", in: "-9223372036854775809", err: stamp.ErrRange},
		{unit: "s", in: "9223372037", err: stamp.ErrRange},
		{unit: "s", in: "9000000000", start: start, err: stamp.ErrRange},
		{unit: "s", in: "-9000000000", start: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), err: stamp.ErrRange},
		{unit: "s", in: "1e400", err: stamp.ErrRange},
		{unit: "h", in: strings.Repeat("9", 500), err: stamp.ErrRange},
		{unit: "s", in: "", err: stamp.ErrNotNumber},
		{unit: "s", in: "-", err: stamp.ErrNotNumber},
		{unit: "s", in: ".", err: stamp.ErrNotNumber},
		{unit: "s", in: "1e", err: stamp.ErrNotNumber},
		{unit: "s", in: "1e+", err: stamp.ErrNotNumber},
		{unit: "s", in: "1.2.3", err: stamp.ErrNotNumber},
		{unit: "s", in: "1 2", err: stamp.ErrNotNumber},
		{unit: "s", in: "NaN", err: stamp.ErrNotNumber},
		{unit: "s", in: "inf", err: stamp.ErrNotNumber},
		{unit: "s", in: "0x10", err: stamp.ErrNotNumber},
		{unit: "s", in: "1_000", err: stamp.ErrNotNumber},
		{unit: "s", in: "2013-07-04 00:00:00", err: stamp.ErrNotNumber},
	} {
		t.Run(tc.unit+" "+tc.in[:min(40, len(tc.in))], func(t *testing.T) {
			got, err := parser(t, stamp.Format{Unit: tc.unit, Start: tc.start}).Parse([]byte(tc.in))
			assert.Equal(t, tc.err, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

// TestNumbersExactly compares with arithmetic of unlimited precision.
func TestNumbersExactly(t *testing.T) {
	scale := map[string]int64{"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?[0-9]{1,20}(\.[0-9]{1,25})?(e-?[0-9]{1,2})?`).Draw(t, "text")
		unit := rapid.SampledFrom([]string{"ns", "us", "ms", "s", "min", "h"}).Draw(t, "unit")
		p, err := stamp.NewParser(stamp.Format{Unit: unit})
		require.NoError(t, err)

		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		exact.Mul(exact, new(big.Rat).SetInt64(scale[unit]))
		// To the nearest, halves away from zero.
		half := big.NewRat(int64(exact.Sign()), 2)
		want := new(big.Int)
		exact.Add(exact, half)
		want.Quo(exact.Num(), exact.Denom())

		got, err := p.Parse([]byte(text))
		if !want.IsInt64() {
			require.ErrorIs(t, err, stamp.ErrRange)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want.Int64(), got)
	})
}

func TestText(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	for _, tc := range []struct {
		name   string
		format stamp.Format
		in     string
		want   string
		err    error
	}{
		{"rfc3339", stamp.Format{Unit: "rfc3339"}, "2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z", nil},
		{"fraction", stamp.Format{Unit: "rfc3339"}, "2026-05-01T12:00:00.123456789+02:00", "2026-05-01T10:00:00.123456789Z", nil},
		{"space, small letters", stamp.Format{Unit: "rfc3339"}, " 2026-05-01 12:00:00.5z ", "2026-05-01T12:00:00.5Z", nil},
		{"no zone", stamp.Format{Unit: "rfc3339"}, "2026-05-01T12:00:00", "", stamp.ErrNoZone},
		{"zone given", stamp.Format{Unit: "rfc3339", Zone: berlin}, "2026-05-01 12:00:00.25", "2026-05-01T10:00:00.25Z", nil},
		{"the text's zone counts", stamp.Format{Unit: "rfc3339", Zone: berlin}, "2026-05-01T12:00:00-05:00", "2026-05-01T17:00:00Z", nil},
		{"number", stamp.Format{Unit: "rfc3339"}, "1647930186", "", stamp.ErrNotTime},
		{"month 13", stamp.Format{Unit: "rfc3339"}, "2026-13-01T12:00:00", "", stamp.ErrNotTime},
		{"year 1", stamp.Format{Unit: "rfc3339"}, "0001-01-01T00:00:00Z", "", stamp.ErrRange},
		{"year 9999", stamp.Format{Unit: "rfc3339"}, "9999-01-01T00:00:00Z", "", stamp.ErrRange},
		{"long", stamp.Format{Unit: "rfc3339"}, "2026-05-01T12:00:00." + strings.Repeat("0", 200) + "Z", "", stamp.ErrNotTime},
		{"empty", stamp.Format{Unit: "rfc3339"}, "", "", stamp.ErrNotTime},
		{"layout", stamp.Format{Unit: "layout", Layout: "02.01.2006 15:04:05"}, "31.12.2025 23:59:59.5", "2025-12-31T23:59:59.5Z", nil},
		{"layout, zone", stamp.Format{Unit: "layout", Layout: "2006-01-02 15:04", Zone: berlin}, "2026-01-01 00:30", "2025-12-31T23:30:00Z", nil},
		{"strftime", stamp.Format{Unit: "layout", Layout: "%Y-%m-%dT%H:%M:%S.%f"}, "2026-05-01T12:00:00.25", "2026-05-01T12:00:00.25Z", nil},
		{"strftime, comma", stamp.Format{Unit: "layout", Layout: "%d/%b/%y %I:%M:%S,%f %p %z"}, "01/May/26 01:02:03,5 PM +0200", "2026-05-01T11:02:03.5Z", nil},
		{"strftime, short", stamp.Format{Unit: "layout", Layout: "%F %T"}, "2026-05-01 12:00:00", "2026-05-01T12:00:00Z", nil},
		{"strftime, day of the year", stamp.Format{Unit: "layout", Layout: "%Y-%j"}, "2026-032", "2026-02-01T00:00:00Z", nil},
		{"layout misfit", stamp.Format{Unit: "layout", Layout: "%F %T"}, "12:00:00", "", stamp.ErrNotTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parser(t, tc.format).Parse([]byte(tc.in))
			require.Equal(t, tc.err, err)
			if err == nil {
				assert.Equal(t, tc.want, time.Unix(0, got).UTC().Format(time.RFC3339Nano))
			}
		})
	}
}

func TestBadFormats(t *testing.T) {
	for _, tc := range []struct {
		format stamp.Format
		want   string
	}{
		{stamp.Format{Unit: "seconds"}, `unknown unit "seconds"; there are s, ms, us, ns, min, h, rfc3339, layout`},
		{stamp.Format{Unit: "s", Start: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, "start: time is outside the years 1678 to 2261"},
		{stamp.Format{Unit: "layout"}, "empty layout"},
		{stamp.Format{Unit: "layout", Layout: "15:04:05"}, `layout "15:04:05" has no year or no day; an example is "2006-01-02 15:04:05"`},
		{stamp.Format{Unit: "layout", Layout: "%H:%M:%S"}, `layout "15:04:05" has no year or no day; an example is "2006-01-02 15:04:05"`},
		{stamp.Format{Unit: "layout", Layout: "YYYY-MM-DD"}, `layout "YYYY-MM-DD" has no year or no day; an example is "2006-01-02 15:04:05"`},
		{stamp.Format{Unit: "layout", Layout: "%Y-%m-%d %q"}, `layout "%Y-%m-%d %q": unknown directive %q`},
		{stamp.Format{Unit: "layout", Layout: "%Y-%m-%d %"}, `layout "%Y-%m-%d %" ends with %`},
		{stamp.Format{Unit: "layout", Layout: "%Y%m%d %f"}, `layout "%Y%m%d %f": %f is only known as %S.%f or %S,%f`},
		{stamp.Format{Unit: "layout", Layout: "%Y-%m-%d 1"}, `layout "%Y-%m-%d 1": '1' cannot stand for itself`},
	} {
		t.Run(fmt.Sprint(tc.format.Unit, " ", tc.format.Layout), func(t *testing.T) {
			_, err := stamp.NewParser(tc.format)
			require.EqualError(t, err, tc.want)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1.5e3", uint8(0))
	f.Add("2026-05-01T12:00:00.5+02:00", uint8(6))
	f.Add("2026-05-01 12:00:00", uint8(7))
	f.Fuzz(func(t *testing.T, text string, unit uint8) {
		units := stamp.Units()
		p, err := stamp.NewParser(stamp.Format{Unit: units[int(unit)%len(units)], Layout: "%F %T"})
		require.NoError(t, err)
		in := []byte(text)
		ns, err := p.Parse(in)
		require.Equal(t, text, string(in), "the text is left as it is")
		if err != nil {
			require.Zero(t, ns)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for unit, text := range map[string]string{"s": "46408.580034294", "rfc3339": "2026-05-01T12:00:00.123456Z", "layout": "2026-05-01 12:00:00"} {
		b.Run(unit, func(b *testing.B) {
			p := parser(b, stamp.Format{Unit: unit, Layout: "%F %T"})
			in := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Parse(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
