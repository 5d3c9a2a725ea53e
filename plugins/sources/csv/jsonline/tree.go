package jsonline

import "fmt"

// Kind is what a value is.
type Kind uint8

// The kinds.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Value is the value of a column in a line. Text is the content of a string, and
// of all others what stands in the line.
type Value struct {
	Kind Kind
	Text []byte
}

// Tree is a set of paths. Each has a column, numbered from 0.
type Tree struct {
	root    node
	columns []*node
	values  []Value
	learn   int // how many columns there may be; 0 = not learning
	unknown func(name string)
	scratch []byte
}

type node struct {
	name     string // from the root, with dots
	path     Path
	keys     map[string]*node
	elements map[int]*node
	column   int // -1: not wanted itself
	declared bool
	element  bool // of an array, or below one
}

func (n *node) inner() bool { return len(n.keys)+len(n.elements) > 0 }

// NewTree returns an empty tree.
func NewTree() *Tree { return &Tree{root: node{column: -1}} }

// Add makes a path wanted and returns its column; the same path has the same one.
func (t *Tree) Add(p Path) (column int) {
	n := t.node(p)
	n.declared = true
	return t.want(n)
}

// AddLearned is Add for a path that was learned before.
func (t *Tree) AddLearned(p Path) (column int) { return t.want(t.node(p)) }

func (t *Tree) node(p Path) *node {
	n := &t.root
	for _, s := range p {
		n = n.step(s)
	}
	return n
}

func (n *node) step(s Step) *node {
	if !s.Element {
		return n.key(s.Key)
	}
	next := n.elements[s.Index]
	if next == nil {
		next = &node{name: fmt.Sprintf("%s[%d]", n.name, s.Index), path: n.path.with(s), column: -1, element: true}
		if n.elements == nil {
			n.elements = map[int]*node{}
		}
		n.elements[s.Index] = next
	}
	return next
}

func (n *node) key(key string) *node {
	next := n.keys[key]
	if next == nil {
		next = &node{name: joined(n.name, key), path: n.path.with(Step{Key: key}), column: -1, element: n.element}
		if n.keys == nil {
			n.keys = map[string]*node{}
		}
		n.keys[key] = next
	}
	return next
}

func joined(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
}

func (t *Tree) want(n *node) int {
	if n.column < 0 {
		n.column = len(t.columns)
		t.columns = append(t.columns, n)
		t.values = append(t.values, Value{})
	}
	return n.column
}

// Ignore makes a column known, but not wanted: it stays absent.
func (t *Tree) Ignore(column int) { t.columns[column].column = -1 }

// Len returns how many columns there are.
func (t *Tree) Len() int { return len(t.columns) }

// Name returns the keys to a column with dots between them.
func (t *Tree) Name(column int) string { return t.columns[column].name }

// Path returns the path of a column.
func (t *Tree) Path(column int) Path { return t.columns[column].path }

// Parts reports whether there are columns below a column.
func (t *Tree) Parts(column int) bool { return t.columns[column].inner() }

// Learn makes a column of every value that the following lines have in nested
// objects, up to a number of columns; an array is one value, whatever is in it.
// With 0 it stops.
func (t *Tree) Learn(limit int) { t.learn = limit }

// OnUnknown sets what is called with the name of a value that is in a line and in
// no column, where it is not below a column or an array. Nil: nothing is.
func (t *Tree) OnUnknown(f func(name string)) { t.unknown = f }
