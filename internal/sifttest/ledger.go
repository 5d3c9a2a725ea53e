package sifttest

import (
	"iter"
	"math/bits"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxLedgerRow bounds the memory of a ledger: 128 MiB for a flow.
const maxLedgerRow = 1 << 30

// Numbering tells the flow of a message and the number of its row, as whoever made
// the rows has put it in. It is false for messages without one. It keeps nothing of
// the message.
type Numbering func(message []byte) (flow []byte, row uint64, ok bool)

// Ledger is an exact record of numbered rows: which came, which were confirmed, and
// how often. It takes two bits for each row up to the greatest number, so millions of
// rows are cheap. Give it to one or more servers, also one after another, by
// Options.Ledger. Its methods may be called from any goroutine.
type Ledger struct {
	number Numbering

	mu    sync.Mutex
	flows map[string]*ledgerFlow
	odd   uint64
}

type ledgerFlow struct{ received, confirmed Rows }

// NewLedger returns an empty ledger.
func NewLedger(n Numbering) *Ledger {
	return &Ledger{number: n, flows: make(map[string]*ledgerFlow)}
}

// Received returns a copy of the record of a flow's rows that came.
func (l *Ledger) Received(flow string) Rows {
	return l.rows(flow, func(f *ledgerFlow) *Rows { return &f.received })
}

// Confirmed returns a copy of the record of a flow's rows that were confirmed: by OK
// after the client had half-closed the stream.
func (l *Ledger) Confirmed(flow string) Rows {
	return l.rows(flow, func(f *ledgerFlow) *Rows { return &f.confirmed })
}

func (l *Ledger) rows(flow string, which func(*ledgerFlow) *Rows) Rows {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flows[flow]
	if f == nil {
		return Rows{}
	}
	r := *which(f)
	r.words = slices.Clone(r.words)
	return r
}

// Flows returns the names of the flows that rows came of, sorted.
func (l *Ledger) Flows() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for name := range l.flows {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Odd returns how many messages had no number, or one of 2^30 and more.
func (l *Ledger) Odd() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.odd
}

// leaf is what a ledger keeps of a stream until its end: ranges of rows, since rows
// come in their order as a rule.
type leaf struct {
	flow *ledgerFlow
	rows []span
}

type span struct{ first, last uint64 }

// note records a message that came.
func (l *Ledger) note(leaves []*leaf, message []byte) []*leaf {
	flow, row, ok := l.number(message)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok || row >= maxLedgerRow {
		l.odd++
		return leaves
	}
	f := l.flows[string(flow)]
	if f == nil {
		f = new(ledgerFlow)
		l.flows[string(flow)] = f
	}
	f.received.add(row)
	i := slices.IndexFunc(leaves, func(p *leaf) bool { return p.flow == f })
	if i < 0 {
		leaves, i = append(leaves, &leaf{flow: f}), len(leaves)
	}
	p := leaves[i]
	if n := len(p.rows); n > 0 && p.rows[n-1].last+1 == row {
		p.rows[n-1].last = row
	} else {
		p.rows = append(p.rows, span{row, row})
	}
	return leaves
}

// confirm records that what came in a stream is confirmed.
func (l *Ledger) confirm(leaves []*leaf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range leaves {
		for _, s := range p.rows {
			for row := s.first; row <= s.last; row++ {
				p.flow.confirmed.add(row)
			}
		}
	}
}

// Rows is a set of row numbers that knows how often some were added again.
type Rows struct {
	words []uint64
	count uint64
	again uint64
}

func (r *Rows) add(row uint64) {
	word, bit := row/64, uint64(1)<<(row%64)
	if word >= uint64(len(r.words)) {
		r.words = slices.Grow(r.words, int(word)+1-len(r.words))[:word+1]
	}
	if r.words[word]&bit != 0 {
		r.again++
		return
	}
	r.words[word] |= bit
	r.count++
}

// Count returns how many different rows there are.
func (r *Rows) Count() uint64 { return r.count }

// Again returns how many came more often than once, each time counted.
func (r *Rows) Again() uint64 { return r.again }

// Has reports whether a row is there.
func (r *Rows) Has(row uint64) bool {
	word := row / 64
	return word < uint64(len(r.words)) && r.words[word]&(1<<(row%64)) != 0
}

// End returns the greatest row + 1; 0 if there is none.
func (r *Rows) End() uint64 {
	for i := len(r.words) - 1; i >= 0; i-- {
		if r.words[i] != 0 {
			return uint64(i*64 + bits.Len64(r.words[i]))
		}
	}
	return 0
}

// Missing visits the rows below end that are not there, in order.
func (r *Rows) Missing(end uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for row := uint64(0); row < end; row++ {
			if word := row / 64; row%64 == 0 && word < uint64(len(r.words)) && r.words[word] == ^uint64(0) {
				row += 63
				continue
			}
			if !r.Has(row) && !yield(row) {
				return
			}
		}
	}
}

// Fields of an ingest message and of a channel value.
const (
	fieldFlow  = 2
	fieldValue = 4

	valueInt32  = 5
	valueUint32 = 6
	valueInt64  = 7
	valueUint64 = 8
)

// ByChannel takes the value of the channel at a position, from 0, for the row's
// number; it must be an integer.
func ByChannel(position int) Numbering {
	return func(message []byte) (flow []byte, row uint64, ok bool) {
		for at := 0; len(message) > 0; {
			number, kind, n := protowire.ConsumeTag(message)
			if n < 0 {
				return nil, 0, false
			}
			message = message[n:]
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
				return nil, 0, false
			}
			field := message[:n]
			message = message[n:]
			if kind != protowire.BytesType {
				continue
			}
			content, _ := protowire.ConsumeBytes(field)
			switch number {
			case fieldFlow:
				flow = content
			case fieldValue:
				if at == position {
					row, ok = integer(content)
					return flow, row, ok && flow != nil
				}
				at++
			}
		}
		return nil, 0, false
	}
}

func integer(value []byte) (uint64, bool) {
	number, kind, n := protowire.ConsumeTag(value)
	if n < 0 || kind != protowire.VarintType || number < valueInt32 || number > valueUint64 {
		return 0, false
	}
	v, n := protowire.ConsumeVarint(value[n:])
	return v, n > 0
}
