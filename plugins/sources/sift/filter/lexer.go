package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	end tokenKind = iota
	name
	quoted // text is what the literal stands for
	symbol
)

type token struct {
	kind tokenKind
	text string
	at   int // byte, from 0
}

// shown is the most of a token that an error message repeats, in bytes.
const shown = 40

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	text := t.text
	if len(text) > shown {
		text = strings.ToValidUTF8(text[:shown], "") + "…"
	}
	return strconv.Quote(text)
}

type lexer struct {
	text string
	at   int
}

func (l *lexer) token() (token, error) {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n\f", l.text[l.at]) >= 0 {
		l.at++
	}
	t := token{at: l.at}
	if l.at == len(l.text) {
		return t, nil
	}
	c := l.text[l.at]
	switch {
	case c == '\'' || c == '"':
		return l.quoted(c)
	case isLetter(c):
		for l.at < len(l.text) && (isLetter(l.text[l.at]) || isDigit(l.text[l.at])) {
			l.at++
		}
		t.kind, t.text = name, l.text[t.at:l.at]
		return t, nil
	}
	for _, s := range [...]string{"==", "!=", "&&", "||", "!", "(", ")", "[", "]", ",", "."} {
		if strings.HasPrefix(l.text[l.at:], s) {
			l.at += len(s)
			t.kind, t.text = symbol, s
			return t, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.text[l.at:])
	return t, fmt.Errorf("at byte %d: %q is not understood", l.at, r)
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// quoted reads a string literal.
func (l *lexer) quoted(quote byte) (token, error) {
	t := token{kind: quoted, at: l.at}
	l.at++
	var text strings.Builder
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch c {
		case quote:
			l.at++
			t.text = text.String()
			return t, nil
		case '\n', '\r':
			return t, fmt.Errorf("at byte %d: a line ends inside a string; write \\n", l.at)
		case '\\':
			if err := l.escape(&text); err != nil {
				return t, err
			}
		default:
			text.WriteByte(c)
			l.at++
		}
	}
	return t, fmt.Errorf("at byte %d: the string has no end; a quote inside it needs a backslash before it", t.at)
}

// escape reads an escape sequence.
func (l *lexer) escape(text *strings.Builder) error {
	at := l.at
	bad := fmt.Errorf("at byte %d: unknown escape sequence in a string", at)
	if l.at+1 >= len(l.text) {
		return bad
	}
	c := l.text[l.at+1]
	l.at += 2
	if i := strings.IndexByte(`abfnrtv\?"'`+"`", c); i >= 0 {
		text.WriteByte("\a\b\f\n\r\t\v\\?\"'`"[i])
		return nil
	}
	digits, base := 0, 16
	switch {
	case c == 'x' || c == 'X':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '3':
		digits, base = 3, 8
		l.at--
	default:
		return bad
	}
	if l.at+digits > len(l.text) {
		return bad
	}
	code, err := strconv.ParseUint(l.text[l.at:l.at+digits], base, 32)
	if err != nil || code > utf8.MaxRune || !utf8.ValidRune(rune(code)) {
		return bad
	}
	l.at += digits
	text.WriteRune(rune(code))
	return nil
}
