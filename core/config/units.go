package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// unit is a suffix of a number in a pipeline file.
type unit struct {
	name  string
	value int64
}

func durationUnits() []unit {
	return []unit{
		{"ns", int64(time.Nanosecond)},
		{"us", int64(time.Microsecond)},
		{"µs", int64(time.Microsecond)}, // micro sign
		{"μs", int64(time.Microsecond)}, // Greek letter mu
		{"ms", int64(time.Millisecond)},
		{"s", int64(time.Second)},
		{"m", int64(time.Minute)},
		{"h", int64(time.Hour)},
		{"d", int64(24 * time.Hour)},
	}
}

func sizeUnits() []unit {
	return []unit{
		{"B", 1},
		{"KB", 1e3},
		{"kB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
	}
}

var (
	errDuration  = errors.New(`a duration is a number with a unit, such as "250ms", "1.5s" or "1h30m"; units are ns, us, ms, s, m, h and d (24 hours)`)
	errSize      = errors.New(`a size is a number with a unit, such as "512B", "10KB" (10,000 bytes) or "1.5GiB"; units are B, KB, MB, GB, TB (powers of 1,000) and KiB, MiB, GiB, TiB (powers of 1,024)`)
	errTime      = errors.New(`a time is written as in RFC 3339, such as "2026-05-01T12:00:00Z" or "2026-05-01T14:00:00.25+02:00"`)
	errTimeRange = errors.New("a time must be between the years 1678 and 2262")
	errRange     = errors.New("it is too large, or has a fraction finer than the smallest unit")
)

// parseDuration reads one or more numbers with units, such as "1h30m" or "-1.5s".
func parseDuration(text string) (time.Duration, error) {
	rest, negative := strings.CutPrefix(text, "-")
	if rest == "0" {
		return 0, nil
	}
	total := int64(0)
	for first := true; first || rest != ""; first = false {
		var part int64
		var err error
		part, rest, err = parseQuantity(rest, durationUnits(), errDuration)
		if err != nil {
			return 0, err
		}
		if part > math.MaxInt64-total {
			return 0, errRange
		}
		total += part
	}
	if negative {
		total = -total
	}
	return time.Duration(total), nil
}

// parseSize reads a number of bytes such as "500MiB".
func parseSize(text string) (int64, error) {
	size, rest, err := parseQuantity(text, sizeUnits(), errSize)
	if err != nil {
		return 0, err
	}
	if rest != "" {
		return 0, errSize
	}
	return size, nil
}

// parseQuantity reads one number with its unit from the start of text and
// returns what follows.
func parseQuantity(text string, units []unit, format error) (int64, string, error) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789."))
	number, rest := text[:digits], text[digits:]
	letters := strings.IndexAny(rest, "0123456789.")
	if letters < 0 {
		letters = len(rest)
	}
	const longest = 32 // digits; more are no number that anybody means
	if number == "" || strings.Trim(number, ".") == "" || len(number) > longest {
		return 0, "", format
	}
	for _, u := range units {
		if u.name == rest[:letters] {
			value, err := scale(number, u.value, format)
			return value, rest[letters:], err
		}
	}
	return 0, "", format
}

// scale multiplies a decimal number exactly.
func scale(number string, by int64, format error) (int64, error) {
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, format
	}
	r.Mul(r, new(big.Rat).SetInt64(by))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, errRange
	}
	return r.Num().Int64(), nil
}

// parseTime reads a time of RFC 3339 and returns ns since the Unix epoch.
func parseTime(text string) (int64, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, errTime
	}
	if at.Before(time.Unix(0, math.MinInt64)) || at.After(time.Unix(0, math.MaxInt64)) {
		return 0, errTimeRange
	}
	return at.UnixNano(), nil
}

// formatDuration is the shortest text that parseDuration reads as d.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// formatSize is a short text that parseSize reads as size.
func formatSize(size int64) string {
	best := unit{"B", 1}
	for _, u := range sizeUnits() {
		if u.value > best.value && size != 0 && size%u.value == 0 {
			best = u
		}
	}
	return fmt.Sprintf("%d%s", size/best.value, best.name)
}
