package sifttest

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// filter is the subset of CEL that clients send: `field == 'text'` and
// `field in ['a', 'b']`, joined by &&.
type filter []condition

type condition struct {
	field  string
	values []string // one of them
}

// parseFilter refuses what is not in the subset and fields that cannot be
// filtered by.
func parseFilter(text string, fields ...string) (filter, error) {
	p := &filterParser{rest: text}
	p.blanks()
	if p.rest == "" {
		return nil, nil
	}
	var out filter
	for {
		c, err := p.condition()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(fields, c.field) {
			return nil, status.Errorf(codes.InvalidArgument, "filter: no field %q", c.field)
		}
		out = append(out, c)
		if p.rest == "" {
			return out, nil
		}
		if !p.take("&&") {
			return nil, p.unexpected()
		}
	}
}

// matches reports whether a resource with these fields passes the filter.
func (f filter) matches(fields map[string]string) bool {
	for _, c := range f {
		if !slices.Contains(c.values, fields[c.field]) {
			return false
		}
	}
	return true
}

type filterParser struct{ rest string }

func (p *filterParser) unexpected() error {
	return status.Errorf(codes.InvalidArgument, "filter: unexpected %.40q", p.rest)
}

func (p *filterParser) blanks() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

// take consumes a token and the blanks behind it.
func (p *filterParser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
		p.blanks()
	}
	return ok
}

func (p *filterParser) condition() (condition, error) {
	field, err := p.identifier()
	if err != nil {
		return condition{}, err
	}
	switch {
	case p.take("=="):
		value, err := p.literal()
		return condition{field, []string{value}}, err
	case p.take("in"):
		values, err := p.list()
		return condition{field, values}, err
	}
	return condition{}, p.unexpected()
}

func (p *filterParser) identifier() (string, error) {
	end := strings.IndexFunc(p.rest, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
	if end <= 0 {
		return "", p.unexpected()
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	p.blanks()
	return name, nil
}

func (p *filterParser) list() ([]string, error) {
	if !p.take("[") {
		return nil, p.unexpected()
	}
	var values []string
	for !p.take("]") {
		if len(values) > 0 && !p.take(",") {
			return nil, p.unexpected()
		}
		value, err := p.literal()
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// literal reads a quoted string. As in CEL it cannot hold a line break as such.
func (p *filterParser) literal() (string, error) {
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", p.unexpected()
	}
	quote := p.rest[0]
	var out strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			p.blanks()
			if !utf8.ValidString(out.String()) {
				return "", status.Error(codes.InvalidArgument, "filter: not UTF-8")
			}
			return out.String(), nil
		case '\n', '\r':
			return "", status.Error(codes.InvalidArgument, "filter: line break in a string")
		case '\\':
			i++
			if i == len(p.rest) {
				return "", p.unexpected()
			}
			plain, ok := unescape(p.rest[i])
			if !ok {
				return "", status.Errorf(codes.InvalidArgument, "filter: unknown escape \\%c", p.rest[i])
			}
			out.WriteByte(plain)
		default:
			out.WriteByte(c)
		}
	}
	return "", status.Error(codes.InvalidArgument, "filter: string without end")
}

// unescape knows the escapes of one character.
func unescape(c byte) (byte, bool) {
	const escapes = `abfnrtv\'"` + "`?"
	const meanings = "\a\b\f\n\r\t\v\\'\"`?"
	i := strings.IndexByte(escapes, c)
	if i < 0 {
		return 0, false
	}
	return meanings[i], true
}
