package replay

import (
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Batch is consecutive messages of one flow with the same ids.
type Batch struct {
	Flow             string
	Target           *Target     // what is to take the place of placeholders; nil: nothing
	Binding          sdk.Binding // that the messages carry
	Body             []byte      // the messages, each behind its length
	Count            int
	MinTime, MaxTime int64 // ns since the Unix epoch
}

func (b *Batch) add(m *message) {
	stamp := m.stamp()
	if b.Count == 0 {
		b.MinTime, b.MaxTime = stamp, stamp
	}
	b.MinTime, b.MaxTime = min(b.MinTime, stamp), max(b.MaxTime, stamp)
	b.Body = pbfs.AppendMessage(b.Body, m.raw)
	b.Count++
}

// fits reports whether the message may follow in this batch.
func (b *Batch) fits(m *message) bool {
	return b.Count < sdk.MaxRowsInBatch && len(b.Body)+pbfs.PrefixSize+len(m.raw) <= sdk.MaxBatchBytes &&
		b.Binding.ConfigID == string(m.config) && b.Binding.RunID == string(m.run) && b.Target == m.target
}

// Bounds of what waits to become full.
const (
	maxOpenBatches = 1024
	maxOpenBytes   = 8 << 20
)

// gatherer makes batches of messages. The order within a flow stays; that of
// different flows does not.
type gatherer struct {
	send  func(*Batch) error
	open  map[string]*Batch // by flow
	order []*Batch          // of open, by their first message
	bytes int
	spare [][]byte // bodies to be used again
}

func newGatherer(send func(*Batch) error) *gatherer {
	return &gatherer{send: send, open: map[string]*Batch{}}
}

func (g *gatherer) add(m *message) error {
	b := g.open[string(m.flow)]
	if b != nil && !b.fits(m) {
		if err := g.flushOne(b); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		b = g.begin(m)
	}
	before := len(b.Body)
	b.add(m)
	g.bytes += len(b.Body) - before
	if len(g.order) > maxOpenBatches || g.bytes > maxOpenBytes {
		return g.flush()
	}
	return nil
}

func (g *gatherer) begin(m *message) *Batch {
	b := &Batch{Flow: string(m.flow), Binding: m.binding(), Target: m.target}
	if n := len(g.spare); n > 0 {
		b.Body, g.spare = g.spare[n-1][:0], g.spare[:n-1]
	}
	g.open[b.Flow] = b
	g.order = append(g.order, b)
	return b
}

// flush sends all batches.
func (g *gatherer) flush() error {
	for len(g.order) > 0 {
		if err := g.flushOne(g.order[0]); err != nil {
			return err
		}
	}
	return nil
}

func (g *gatherer) flushOne(b *Batch) error {
	delete(g.open, b.Flow)
	for i, other := range g.order {
		if other == b {
			g.order = append(g.order[:i], g.order[i+1:]...)
			break
		}
	}
	g.bytes -= len(b.Body)
	err := g.send(b)
	if len(g.spare) < 4 {
		g.spare = append(g.spare, b.Body)
	}
	return err
}
