package jsonline

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// maxDepth is how deep values may be nested.
const maxDepth = 100

// Error says why a line cannot be read.
type Error struct {
	Reason string // the same for all lines with the same fault
	At     int    // byte of the line
}

// Error returns the reason with its place.
func (e *Error) Error() string { return fmt.Sprintf("%s (byte %d)", e.Reason, e.At+1) }

// The reasons.
const (
	NotJSON   = "line is not JSON"
	NotObject = "line is not a JSON object"
	NotUTF8   = "line is not UTF-8"
	TooDeep   = "values are nested too deep"
	TooMany   = "line has too many different keys"
	LoneHalf  = "string has half a character"
	TrailedBy = "text follows the JSON object"
)

// Read returns the values of all columns in a line, or an *Error.
func (t *Tree) Read(line []byte) ([]Value, error) {
	clear(t.values)
	t.scratch = t.scratch[:0]
	r := reader{tree: t, line: line}
	r.space()
	if r.peek() != '{' {
		return nil, &Error{NotObject, r.at}
	}
	if !utf8.Valid(line) {
		return nil, &Error{NotUTF8, invalidAt(line)}
	}
	r.object(&t.root)
	r.space()
	if r.reason == "" && r.at < len(line) {
		r.fail(TrailedBy)
	}
	if r.reason != "" {
		return nil, &Error{r.reason, r.failedAt}
	}
	return t.values, nil
}

func invalidAt(line []byte) int {
	for at := 0; at < len(line); {
		c, n := utf8.DecodeRune(line[at:])
		if c == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return len(line)
}

// reader goes through one line. After a failure it stands at the end, so that all
// loops end.
type reader struct {
	tree     *Tree
	line     []byte
	at       int
	depth    int
	reason   string
	failedAt int
}

func (r *reader) fail(reason string) {
	if r.reason == "" {
		r.reason, r.failedAt = reason, r.at
	}
	r.at = len(r.line)
}

// peek returns the next byte, 0 at the end: it is not valid anywhere in JSON.
func (r *reader) peek() byte {
	if r.at < len(r.line) {
		return r.line[r.at]
	}
	return 0
}

func (r *reader) space() {
	for r.at < len(r.line) {
		switch r.line[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// expect takes a byte after spaces.
func (r *reader) expect(c byte) {
	r.space()
	if r.peek() != c {
		r.fail(NotJSON)
		return
	}
	r.at++
}

// value reads a value for a node; nil: it is only checked.
func (r *reader) value(n *node) {
	r.space()
	start := r.at
	var v Value
	switch c := r.peek(); {
	case c == '{':
		v.Kind = Object
		r.object(n)
	case c == '[':
		v.Kind = Array
		r.array(n)
	case c == '"':
		v.Kind = String
		v.Text = r.string(n != nil && (n.column >= 0 || r.tree.learn > 0))
	case c == 'n':
		v.Kind = Null
		r.word("null")
	case c == 't':
		v.Kind = Bool
		r.word("true")
	case c == 'f':
		v.Kind = Bool
		r.word("false")
	default:
		v.Kind = Number
		r.number()
	}
	if r.reason != "" || n == nil {
		return
	}
	if v.Kind != String {
		v.Text = r.line[start:r.at]
	}
	r.tree.set(n, v)
}

// set keeps a value. An object whose parts are columns is none itself unless it
// was asked for.
func (t *Tree) set(n *node, v Value) {
	if v.Kind >= Array && n.inner() && !n.declared {
		return
	}
	plain := v.Kind != Null && v.Kind < Array
	if n.column < 0 && t.learn > 0 && (plain || !n.inner()) {
		t.want(n)
	}
	if n.column >= 0 {
		t.values[n.column] = v
		return
	}
	if plain && n.inner() && t.unknown != nil {
		t.unknown(n.name)
	}
}

// object reads an object; the values of the node's keys are kept.
func (r *reader) object(n *node) {
	if !r.enter() {
		return
	}
	defer r.leave()
	r.at++
	if r.space(); r.peek() == '}' {
		r.at++
		return
	}
	for {
		r.space()
		if r.peek() != '"' {
			r.fail(NotJSON)
			return
		}
		key := r.string(n != nil)
		r.expect(':')
		r.value(r.child(n, key))
		r.space()
		if r.peek() == ',' {
			r.at++
			continue
		}
		r.expect('}')
		return
	}
}

// child returns the node of a key, nil if its value is not wanted.
func (r *reader) child(n *node, key []byte) *node {
	if n == nil || r.reason != "" {
		return nil
	}
	if next, ok := n.keys[string(key)]; ok {
		return next
	}
	whole := n.declared || n.column >= 0 && !n.inner() && r.tree.learn == 0
	switch {
	case whole || n.element: // the object itself is the value, or part of one
	case r.tree.learn > len(r.tree.columns):
		return n.key(string(key))
	case r.tree.learn > 0:
		r.fail(TooMany)
	case r.tree.unknown != nil:
		r.tree.unknown(joined(n.name, string(key)))
	}
	return nil
}

// array reads an array; the values of the node's elements are kept.
func (r *reader) array(n *node) {
	if !r.enter() {
		return
	}
	defer r.leave()
	r.at++
	if r.space(); r.peek() == ']' {
		r.at++
		return
	}
	for i := 0; ; i++ {
		var next *node
		if n != nil {
			next = n.elements[i]
		}
		r.value(next)
		r.space()
		if r.peek() == ',' {
			r.at++
			continue
		}
		r.expect(']')
		return
	}
}

func (r *reader) enter() bool {
	r.depth++
	if r.depth > maxDepth {
		r.fail(TooDeep)
		return false
	}
	return true
}

func (r *reader) leave() { r.depth-- }

func (r *reader) word(word string) {
	if !bytes.HasPrefix(r.line[r.at:], []byte(word)) {
		r.fail(NotJSON)
		return
	}
	r.at += len(word)
}

func (r *reader) number() {
	if r.peek() == 'N' {
		r.word("NaN")
		return
	}
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == 'I' {
		r.word("Infinity")
		return
	}
	if r.peek() == '0' {
		r.at++
	} else {
		r.digits()
	}
	if r.peek() == '.' {
		r.at++
		r.digits()
	}
	if r.peek()|0x20 == 'e' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		r.digits()
	}
}

// digits takes at least one.
func (r *reader) digits() {
	start := r.at
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	if r.at == start {
		r.fail(NotJSON)
	}
}
