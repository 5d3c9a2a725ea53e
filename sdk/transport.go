package sdk

import "context"

// Transport delivers batches to a destination.
type Transport interface {
	Component
	// Register makes flows and run known to the destination. It is called again
	// when new flows come. The deadline of ctx bounds it.
	Register(ctx context.Context, r Registration) (Registered, error)
	// OpenStream begins a conversation with the destination that ends with an
	// answer. An error is the stream's answer. It is called when the first batch is
	// there: a stream that is finished without any is confirmed without it.
	OpenStream(ctx context.Context, o StreamOptions) (Stream, error)
}

// Registration is what a destination shall know before data comes.
type Registration struct {
	Asset         string
	ClientKey     string
	Flows         []Flow // with the channel names that the destination shall see
	Run           Run
	AssetTags     []string
	AssetMetadata []Metadata
}

// Run is a named period of work that data is attached to. With an ID it exists
// already; the zero value is no run.
type Run struct {
	ID          string
	Name        string
	ClientKey   string
	Description string
	Tags        []string
	Metadata    []Metadata
}

// Metadata is a named value of a run or an asset; Value is a string, float64 or
// bool.
type Metadata struct {
	Name  string
	Value any
}

// Registered is the destination's answer.
type Registered struct {
	// Destination is the same for as long as the ids stay valid.
	Destination string
	Binding     Binding
	Conflicts   []FlowConflict
}

// FlowConflict is a flow that the destination has with other content.
type FlowConflict struct {
	Flow       string
	Difference string
}

// CallEnder is implemented by transports that keep something for the streams of a
// Deliver call, such as a connection.
type CallEnder interface {
	// CallEnded comes when all streams of the call have been answered and no other
	// one of it will be opened.
	CallEnded(call uint64)
}

// StreamOptions belongs to OpenStream.
type StreamOptions struct {
	// Call is the number of the host's Deliver call that the stream belongs to. The
	// host has several at a time (live rows, and rows that are delivered again): a
	// stream that makes no progress must hold no stream of another call up.
	Call uint64
	// NewConnection: use a connection that no earlier stream used.
	NewConnection bool
}

// Stream is one conversation with the destination. Send and Finish are called
// from one goroutine; Abort may come at any time.
type Stream interface {
	// Send takes a batch. It may return before the batch has left; it must not keep
	// the delivery's memory after it returns. An error ends the stream.
	Send(ctx context.Context, d *Delivery) error
	// Finish returns nil when the destination has taken everything that was sent,
	// ErrEndedEarly, or the error that ended the stream. It comes last and once,
	// also after a failed Send.
	Finish(ctx context.Context) (Finished, error)
	// Abort makes Send and Finish return soon. Nothing is confirmed.
	Abort()
}

// Finished tells what a confirmed stream left behind.
type Finished struct {
	Paths []string // finished files
}

// Watcher is implemented by streams that notice by themselves when the
// destination ends them. Finish is called soon after Done is closed.
type Watcher interface {
	Done() <-chan struct{}
}

// Delivery is a batch for a destination.
type Delivery struct {
	Flow             *Flow
	Count            int
	Format           string  // of encoded messages
	Body             []byte  // encoded messages, each behind its length; nil for rows
	Rows             *Batch  // nil for encoded messages
	Binding          Binding // ids that the messages carry
	MinTime, MaxTime int64   // ns since the Unix epoch
}
