package sdk

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

// Unbound is the placeholder for ids that are not known yet. Transports refuse
// messages that carry it: no destination has such ids. The last digits tell the
// two ids apart.
func Unbound() Binding {
	return Binding{
		ConfigID: UnboundPrefix + "00000000c0f1",
		RunID:    UnboundPrefix + "0000000000a1",
	}
}

// UnboundPrefix begins every reserved placeholder id.
const UnboundPrefix = "ffffffff-7069-7065-6c69-"
