package stamp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What can be wrong with a time.
var (
	ErrNotNumber = errors.New("time is not a number")
	ErrNotTime   = errors.New("time does not have the form it should have")
	ErrNoZone    = errors.New("time has no zone; set timezone")
	ErrRange     = errors.New("time is outside the years 1678 to 2261")
)

// Format is how event times are written. The zero value is not one.
type Format struct {
	Unit   string // one of Units
	Layout string // for unit "layout": that of package time, or with % as in strftime
	// Start is added to numbers; the zero value is the Unix epoch.
	Start time.Time
	// Zone is that of times without one; nil: for RFC 3339 they are refused, for
	// layouts it is UTC.
	Zone *time.Location
}

// The units that are not numbers.
const (
	RFC3339 = "rfc3339"
	Layout  = "layout"
)

// Units lists the units.
func Units() []string { return []string{"s", "ms", "us", "ns", "min", "h", RFC3339, Layout} }

// IsText reports whether times of the unit are text.
func IsText(unitName string) bool { return unitName == RFC3339 || unitName == Layout }

func units(name string) (unit, bool) {
	u, ok := map[string]unit{
		"ns": {1, 0}, "us": {1, 3}, "ms": {1, 6}, "s": {1, 9}, "min": {6, 10}, "h": {36, 11},
	}[name]
	return u, ok
}

// Parser reads times of one format.
type Parser struct {
	unit   unit
	start  int64
	layout string // empty: numbers
	rfc    bool
	zone   *time.Location
}

// NewParser returns a parser, or what is wrong with the format.
func NewParser(f Format) (*Parser, error) {
	p := &Parser{zone: f.Zone}
	switch {
	case f.Unit == RFC3339:
		p.rfc, p.layout = true, time.RFC3339
	case f.Unit == Layout:
		layout, err := goLayout(f.Layout)
		if err != nil {
			return nil, err
		}
		p.layout = layout
		if p.zone == nil {
			p.zone = time.UTC
		}
	default:
		u, ok := units(f.Unit)
		if !ok {
			return nil, fmt.Errorf("unknown unit %q; there are %s", f.Unit, strings.Join(Units(), ", "))
		}
		p.unit = u
		if !f.Start.IsZero() {
			start, err := nanoseconds(f.Start)
			if err != nil {
				return nil, fmt.Errorf("start: %w", err)
			}
			p.start = start
		}
	}
	return p, nil
}

// Parse returns the time in nanoseconds since the Unix epoch, or one of the
// errors of this package. Spaces around it do not count.
func (p *Parser) Parse(text []byte) (int64, error) {
	text = bytes.Trim(text, " \t")
	if p.layout != "" {
		return p.parseText(text)
	}
	d, ok := parseDecimal(text)
	if !ok {
		return 0, ErrNotNumber
	}
	ns, ok := d.nanoseconds(p.unit)
	sum := ns + p.start
	if !ok || (sum > ns) != (p.start > 0) && p.start != 0 {
		return 0, ErrRange
	}
	return sum, nil
}

// maxText is the length of the longest time; RFC 3339 has no limit, but sense.
const maxText = 128

func (p *Parser) parseText(text []byte) (int64, error) {
	if len(text) > maxText {
		return 0, ErrNotTime
	}
	layout, zone := p.layout, p.zone
	if p.rfc {
		var buf [maxText]byte
		text = append(buf[:0], text...)
		if len(text) < len("2006-01-02T15:04:05") {
			return 0, ErrNotTime
		}
		if text[10] == ' ' || text[10] == 't' {
			text[10] = 'T'
		}
		if text[len(text)-1] == 'z' {
			text[len(text)-1] = 'Z'
		}
		if !bytes.ContainsAny(text[19:], "Z+-") {
			layout = "2006-01-02T15:04:05"
			if zone == nil {
				if _, err := time.Parse(layout, string(text)); err != nil {
					return 0, ErrNotTime
				}
				return 0, ErrNoZone
			}
		}
	}
	if zone == nil {
		zone = time.UTC
	}
	t, err := time.ParseInLocation(layout, string(text), zone)
	if err != nil {
		return 0, ErrNotTime
	}
	return nanoseconds(t)
}

// nanoseconds is UnixNano with a check of its range.
func nanoseconds(t time.Time) (int64, error) {
	const last = math.MaxInt64/int64(time.Second) - 1
	if s := t.Unix(); s < -last || s > last {
		return 0, ErrRange
	}
	return t.UnixNano(), nil
}

// directives of strftime and what they are in layouts of package time.
func directive(c byte) (string, bool) {
	layout, ok := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'j': "002", 'b': "Jan", 'h': "Jan", 'B': "January",
		'a': "Mon", 'A': "Monday", 'H': "15", 'I': "03", 'p': "PM", 'M': "04", 'S': "05", 'z': "-0700", 'Z': "MST",
		'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", '%': "%",
	}[c]
	return layout, ok
}

// goLayout translates a layout with % directives; others it returns as they are.
// Fractions of seconds need no directive: they may follow the seconds anyway.
func goLayout(layout string) (string, error) {
	if layout == "" {
		return "", errors.New("empty layout")
	}
	if !strings.Contains(layout, "%") {
		return layout, checkLayout(layout)
	}
	var out strings.Builder
	for i := 0; i < len(layout); i++ {
		c := layout[i]
		if c != '%' {
			if strings.IndexByte("0123456789JMPp_", c) >= 0 {
				return "", fmt.Errorf("layout %q: %q cannot stand for itself", layout, c)
			}
			out.WriteByte(c)
			continue
		}
		i++
		if i == len(layout) {
			return "", fmt.Errorf("layout %q ends with %%", layout)
		}
		if layout[i] == 'f' {
			before := strings.TrimRight(out.String(), ".,")
			if !strings.HasSuffix(before, "05") || len(before) != out.Len()-1 {
				return "", fmt.Errorf("layout %q: %%f is only known as %%S.%%f or %%S,%%f", layout)
			}
			out.Reset()
			out.WriteString(before)
			continue
		}
		d, ok := directive(layout[i])
		if !ok {
			return "", fmt.Errorf("layout %q: unknown directive %%%c", layout, layout[i])
		}
		out.WriteString(d)
	}
	return out.String(), checkLayout(out.String())
}

// checkLayout wants at least a day: times without one are in the year 0.
func checkLayout(layout string) error {
	// Two times that differ in year and day look different.
	a := time.Date(2011, 3, 4, 5, 6, 7, 0, time.UTC).Format(layout)
	times := []time.Time{time.Date(2012, 3, 4, 5, 6, 7, 0, time.UTC), time.Date(2011, 3, 9, 5, 6, 7, 0, time.UTC)}
	if slices.ContainsFunc(times, func(t time.Time) bool { return t.Format(layout) == a }) {
		return fmt.Errorf("layout %q has no year or no day; an example is %q", layout, "2006-01-02 15:04:05")
	}
	return nil
}
