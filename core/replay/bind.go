package replay

import (
	"context"

	"github.com/pipelined/pipelined/sdk"
)

// Binder gives messages the ids of a destination that carry placeholders instead.
type Binder interface {
	// Bind returns what the messages of a flow are bound to. At is the offset of one
	// of them, from what it carries. An error that wraps ErrUnbound says why they
	// cannot be bound; an *sdk.Error of another class than permanent is worth trying
	// again.
	Bind(ctx context.Context, src *Source, at int64, flow string, from sdk.Binding) (*Target, error)
	// Rebind returns count messages with other ids. They may lie in body's memory.
	Rebind(ctx context.Context, body []byte, count int, from, to sdk.Binding) ([]byte, error)
}

// Target is what messages are bound to.
type Target struct {
	Binding sdk.Binding
	Flow    *sdk.Flow
}

// bind looks up what a message is bound to.
func bind(ctx context.Context, b Binder, src *Source, m *message) (*Target, error) {
	if b == nil {
		return nil, ErrUnbound
	}
	return b.Bind(ctx, src, m.at, string(m.flow), m.binding())
}

// rebind gives a batch the ids of its target, if it has one.
func (b *Batch) rebind(ctx context.Context, binder Binder) error {
	if b.Target == nil {
		return nil
	}
	body, err := binder.Rebind(ctx, b.Body, b.Count, b.Binding, b.Target.Binding)
	if err != nil {
		return err
	}
	b.Body, b.Binding = body, b.Target.Binding
	return nil
}
