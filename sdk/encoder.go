package sdk

import "strings"

// Encoder turns flow batches into encoded batches. It is pure: it uses no
// network, disk, clock or secrets, and the same input gives the same bytes. Its
// methods are called from several goroutines.
type Encoder interface {
	Component
	// Encode appends one message for each row to dst, each behind its length (u32
	// little-endian). Rows that cannot be encoded are left out and returned in
	// order. An error means that the batch itself cannot be read.
	Encode(dst []byte, batch *Batch, binding Binding) (Encoded, error)
	// Decode appends the messages of an encoded body as rows to the builder.
	Decode(rows *Builder, body []byte) error
	// Rebind replaces the ids of every message in body, in place.
	Rebind(body []byte, from, to Binding) error
}

// Encoded is the result of Encode.
type Encoded struct {
	Body             []byte // dst with the messages appended
	Count            int    // messages
	MinTime, MaxTime int64  // stamps of the messages, ns since the Unix epoch
	Refused          []Refused
}

// Binding holds the ids that a destination gave and that its messages carry.
type Binding struct {
	ConfigID string
	RunID    string // empty: messages carry no run
}

// BindingIDBytes is the length of the ids of destinations whose messages can be
// bound later.
const BindingIDBytes = 36

// UnboundPrefix begins every reserved placeholder id.
const UnboundPrefix = "ffffffff-7069-7065-6c69-"

// Placeholder returns ids that stand for those that are not known yet. Transports
// refuse messages that carry them: no destination has such ids. Whether the messages
// belong to a run must be known when they are encoded, because Rebind cannot make
// them longer or shorter; without a run they carry no run id, as they will not later.
// The last digits tell the two ids apart.
func Placeholder(run bool) Binding {
	b := Binding{ConfigID: UnboundPrefix + "00000000c0f1"}
	if run {
		b.RunID = UnboundPrefix + "0000000000a1"
	}
	return b
}

// Unbound returns the placeholders of messages that belong to a run.
func Unbound() Binding { return Placeholder(true) }

// IsPlaceholder reports whether an id is reserved, in small or capital letters.
func IsPlaceholder(id string) bool {
	return len(id) >= len(UnboundPrefix) && strings.EqualFold(id[:len(UnboundPrefix)], UnboundPrefix)
}

// IsUnbound reports whether one of the ids is a placeholder.
func (b Binding) IsUnbound() bool { return IsPlaceholder(b.ConfigID) || IsPlaceholder(b.RunID) }

// CanRebind reports whether messages that carry these ids can get those of to, in
// place: ids take as many bytes as the ones that they replace. Where they cannot, the
// messages have to be decoded and encoded again.
func (b Binding) CanRebind(to Binding) bool {
	return len(b.ConfigID) == len(to.ConfigID) && len(b.RunID) == len(to.RunID)
}
