package jsonline

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a string and returns its content if it is wanted.
func (r *reader) string(wanted bool) []byte {
	r.at++
	start := r.at
	for r.at < len(r.line) {
		switch c := r.line[r.at]; {
		case c == '"':
			r.at++
			return r.line[start : r.at-1]
		case c == '\\':
			return r.escaped(start, wanted)
		case c < 0x20:
			r.fail(NotJSON)
			return nil
		}
		r.at++
	}
	r.fail(NotJSON)
	return nil
}

// escaped reads on at the first backslash of a string. The content is built in
// the tree's scratch memory: the line stays as it is.
func (r *reader) escaped(start int, wanted bool) []byte {
	t := r.tree
	begin := len(t.scratch)
	if wanted {
		t.scratch = append(t.scratch, r.line[start:r.at]...)
	}
	for r.at < len(r.line) {
		c := r.line[r.at]
		switch {
		case c == '"':
			r.at++
			return t.scratch[begin:]
		case c < 0x20:
			r.fail(NotJSON)
			return nil
		case c == '\\':
			char := r.escape()
			if r.reason != "" {
				return nil
			}
			if wanted {
				t.scratch = utf8.AppendRune(t.scratch, char)
			}
			continue
		}
		r.at++
		if wanted {
			t.scratch = append(t.scratch, c)
		}
	}
	r.fail(NotJSON)
	return nil
}

// escape reads what a backslash stands for.
func (r *reader) escape() rune {
	r.at++
	c := r.peek()
	r.at++
	switch c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		return r.unicode()
	}
	r.at--
	r.fail(NotJSON)
	return 0
}

// unicode reads the four digits after \u, and a second \u for characters that
// need two.
func (r *reader) unicode() rune {
	char := r.hex()
	if !utf16.IsSurrogate(char) {
		return char
	}
	at := r.at
	if r.peek() == '\\' {
		r.at++
		if r.peek() == 'u' {
			r.at++
			if both := utf16.DecodeRune(char, r.hex()); both != utf8.RuneError {
				return both
			}
		}
	}
	if r.reason == "" {
		r.at = at
		r.fail(LoneHalf)
	}
	return 0
}

func (r *reader) hex() rune {
	if len(r.line)-r.at < 4 {
		r.fail(NotJSON)
		return 0
	}
	n, err := strconv.ParseUint(string(r.line[r.at:r.at+4]), 16, 16)
	if err != nil {
		r.fail(NotJSON)
		return 0
	}
	r.at += 4
	return rune(n)
}
