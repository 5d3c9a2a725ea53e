package sdk

// Schema describes the body of a plugin's block.
type Schema struct {
	Attributes []Attribute
	Blocks     []Block
	OneOf      []OneOf
}

// ValueType is the type of an attribute.
type ValueType uint8

// The value types, numbered as in the plugin contract.
const (
	TypeString ValueType = iota + 1
	TypeInteger
	TypeNumber
	TypeBool
	TypeDuration // "250ms"; an Integer of ns in a Value
	TypeSize     // "500MiB"; an Integer of bytes in a Value
	TypeTime     // RFC 3339; an Integer of ns since the Unix epoch in a Value
)

// Collection says whether an attribute holds one value or many.
type Collection uint8

// The collections.
const (
	Single Collection = iota
	List
	Map // with string keys
)

// Grant is what a sandboxed plugin may reach because an attribute names it.
type Grant uint8

// The grants.
const (
	GrantNone Grant = iota
	GrantPathRead
	GrantPathWrite
	GrantTCPConnect
	GrantTCPBind
	GrantDevice
)

// Attribute describes one attribute.
type Attribute struct {
	Name        string
	Type        ValueType
	Collection  Collection
	Grant       Grant
	Required    bool
	Sensitive   bool
	Default     *Value
	Description string
	Allowed     []string // if not empty, the only strings allowed
	Keywords    []string // strings that stand for special values of another type
}

// Block describes a nested block.
type Block struct {
	Type        string
	Labels      []string
	Body        Schema
	Min, Max    int // how often it may stand; Max 0 = no limit
	Description string
}

// OneOf says that exactly one, or at most one, of the names may be present.
type OneOf struct {
	Names    []string
	Required bool
}

// Value is the value of an attribute: exactly one member is meant, told by Kind.
type Value struct {
	Kind    ValueKind
	String  string
	Integer int64
	Number  float64
	Bool    bool
	List    []Value
	Map     map[string]Value
}

// ValueKind says which member of a Value is meant.
type ValueKind uint8

// The kinds of values.
const (
	KindString ValueKind = iota + 1
	KindInteger
	KindNumber
	KindBool
	KindList
	KindMap
)

// Body is a checked configuration: attributes have the types of the schema and
// defaults are filled in.
type Body struct {
	Attributes map[string]Value
	Blocks     []BlockBody
}

// BlockBody is a nested block with its content.
type BlockBody struct {
	Type   string
	Labels []string
	Body   Body
}

// Severity of a Diagnostic.
type Severity uint8

// The severities.
const (
	SeverityError Severity = iota + 1
	SeverityWarning
)

// Diagnostic is a problem of a configuration; the host maps Path to the place in
// the user's file.
type Diagnostic struct {
	Severity     Severity
	Summary      string // a few words, upper case first
	Detail       string // what is wrong and what to do, in sentences
	Path         []Step // from the block's body inwards; empty = the block itself
	Line, Column int    // inside a text attribute, from 1; 0 = unknown
}

// Step is one step of a path: exactly one member is meant.
type Step struct {
	Attribute  string
	Block      string // type of a nested block …
	BlockIndex int    // … and which one of that type, from 0
	Key        string // of a map
	Index      int    // of a list, from 1; 0 = not meant
}

// Problem returns an error diagnostic for an attribute of the body or, with two
// names, for an attribute in its first block of that type.
func Problem(summary, detail string, path ...string) Diagnostic {
	d := Diagnostic{Severity: SeverityError, Summary: summary, Detail: detail}
	for i, name := range path {
		if i < len(path)-1 {
			d.Path = append(d.Path, Step{Block: name})
		} else {
			d.Path = append(d.Path, Step{Attribute: name})
		}
	}
	return d
}
