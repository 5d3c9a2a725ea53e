package filter

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is the type of a field.
type Kind uint8

// The kinds.
const (
	String Kind = iota + 1
	// Strings is a field with several values: a test holds if it holds for any of
	// them, and != if none is equal.
	Strings
	// Bool is a field whose one value is "true" or "false".
	Bool
)

// Fields names the fields that a filter may use.
type Fields map[string]Kind

// Lookup returns the values of a field of the record at hand.
type Lookup func(field string) []string

// Filter is a parsed filter. It may be used from many goroutines.
type Filter struct{ root node }

// Match reports whether the record passes.
func (f *Filter) Match(record Lookup) bool {
	return f.root == nil || f.root.match(record)
}

// Parse reads a filter over the fields. Empty text passes every record.
func Parse(text string, fields Fields) (*Filter, error) {
	p := &parser{lexer: lexer{text: text}, fields: fields}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.token.kind == end {
		return &Filter{}, nil
	}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.token.kind != end {
		return nil, p.unexpected("the end")
	}
	return &Filter{root: root}, nil
}

type node interface{ match(Lookup) bool }

type not struct{ of node }

func (n not) match(l Lookup) bool { return !n.of.match(l) }

type both []node

func (n both) match(l Lookup) bool {
	return !slices.ContainsFunc(n, func(of node) bool { return !of.match(l) })
}

type either []node

func (n either) match(l Lookup) bool {
	return slices.ContainsFunc(n, func(of node) bool { return of.match(l) })
}

// is holds if any value of the field is in the set.
type is struct {
	field string
	set   map[string]struct{}
}

func (n is) match(l Lookup) bool {
	return slices.ContainsFunc(l(n.field), func(v string) bool {
		_, ok := n.set[v]
		return ok
	})
}

// part holds if the test holds for any value of the field.
type part struct {
	field, text string
	test        func(value, text string) bool
}

func (n part) match(l Lookup) bool {
	return slices.ContainsFunc(l(n.field), func(v string) bool { return n.test(v, n.text) })
}

const maxDepth = 64

type parser struct {
	lexer
	token  token
	fields Fields
}

// next reads the next token.
func (p *parser) next() (err error) {
	p.token, err = p.lexer.token()
	return err
}

func (p *parser) unexpected(want string) error {
	return fmt.Errorf("at byte %d: expected %s, found %s", p.token.at, want, p.token)
}

// take reads on if the current token is the symbol.
func (p *parser) take(text string) (bool, error) {
	if p.token.kind != symbol || p.token.text != text {
		return false, nil
	}
	return true, p.next()
}

func (p *parser) expect(text string) error {
	ok, err := p.take(text)
	if err == nil && !ok {
		err = p.unexpected("'" + text + "'")
	}
	return err
}

func (p *parser) or(depth int) (node, error) {
	return p.chain("||", func() (node, error) { return p.and(depth) }, func(of []node) node { return either(of) })
}

func (p *parser) and(depth int) (node, error) {
	return p.chain("&&", func() (node, error) { return p.unary(depth) }, func(of []node) node { return both(of) })
}

// chain reads operands with an operator between them.
func (p *parser) chain(operator string, operand func() (node, error), join func([]node) node) (node, error) {
	var all []node
	for {
		n, err := operand()
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		more, err := p.take(operator)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return join(all), nil
}

func (p *parser) unary(depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("at byte %d: nested more than %d deep", p.token.at, maxDepth)
	}
	if ok, err := p.take("!"); err != nil {
		return nil, err
	} else if ok {
		n, err := p.unary(depth + 1)
		return not{n}, err
	}
	if ok, err := p.take("("); err != nil {
		return nil, err
	} else if ok {
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	}
	return p.test()
}

// test reads a field and what is asked of it.
func (p *parser) test() (node, error) {
	field := p.token
	if field.kind != name {
		return nil, p.unexpected("a field")
	}
	kind, ok := p.fields[field.text]
	if !ok {
		return nil, fmt.Errorf("at byte %d: no field %s; there are %s", field.at, field, p.known())
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	switch {
	case p.token.kind == symbol && (p.token.text == "==" || p.token.text == "!="):
		return p.equal(field.text, kind)
	case p.token.kind == symbol && p.token.text == ".":
		return p.call(field.text, kind)
	case p.token.kind == name && p.token.text == "in":
		return p.in(field.text, kind)
	case kind == Bool:
		return is{field.text, map[string]struct{}{"true": {}}}, nil
	}
	return nil, p.unexpected("'==', '!=', 'in' or '.'")
}

func (p *parser) equal(field string, kind Kind) (node, error) {
	unequal := p.token.text == "!="
	if err := p.next(); err != nil {
		return nil, err
	}
	value, err := p.literal(kind)
	if err != nil {
		return nil, err
	}
	n := is{field, map[string]struct{}{value: {}}}
	if unequal {
		return not{n}, nil
	}
	return n, nil
}

func (p *parser) in(field string, kind Kind) (node, error) {
	n := is{field, map[string]struct{}{}}
	if err := p.next(); err != nil {
		return nil, err
	}
	if err := p.expect("["); err != nil {
		return nil, err
	}
	if empty, err := p.take("]"); err != nil || empty {
		return n, err
	}
	for {
		value, err := p.literal(kind)
		if err != nil {
			return nil, err
		}
		n.set[value] = struct{}{}
		more, err := p.take(",")
		if err != nil {
			return nil, err
		}
		if !more {
			return n, p.expect("]")
		}
	}
}

func (p *parser) call(field string, kind Kind) (node, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	n := part{field: field}
	switch {
	case kind == Bool || p.token.kind != name:
	case p.token.text == "contains":
		n.test = strings.Contains
	case p.token.text == "startsWith":
		n.test = strings.HasPrefix
	case p.token.text == "endsWith":
		n.test = strings.HasSuffix
	}
	if n.test == nil {
		return nil, p.unexpected("contains, startsWith or endsWith of a string field")
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	text, err := p.literal(kind)
	if err != nil {
		return nil, err
	}
	n.text = text
	return n, p.expect(")")
}

// literal reads a literal of the field's kind.
func (p *parser) literal(kind Kind) (string, error) {
	text := p.token.text
	switch {
	case kind == Bool && p.token.kind == name && (text == "true" || text == "false"):
	case kind != Bool && p.token.kind == quoted:
	case kind == Bool:
		return "", p.unexpected("true or false")
	default:
		return "", p.unexpected("a string in quotes")
	}
	return text, p.next()
}

func (p *parser) known() string {
	var names []string
	for name := range p.fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
