package ingestionconfig

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/pipelined/pipelined/sdk"
)

// Encode appends the batch's messages to dst. It returns an error if they take
// more than sdk.MaxPayloadBytes together: the host cuts batches by
// Batch.WireBound, and a batch of one row never does.
func (e *encoder) Encode(dst []byte, batch *sdk.Batch, binding sdk.Binding) (sdk.Encoded, error) {
	p, ok := e.plans.Get().(*plan)
	if !ok {
		p = new(plan)
	}
	p.set(batch, binding)
	out, err := p.encode(dst)
	p.clear()
	e.plans.Put(p)
	return out, err
}

// plan is how the rows of one batch are encoded, found out once for all of them.
// Its memory is used again.
type plan struct {
	batch    *sdk.Batch
	head     []byte // of each message: config and flow
	tail     []byte // of each message: run
	segments []segment
	doubles  [][]float64
}

// segment is a run of neighbouring channels that are encoded alike. One of these
// holds: doubles is set, a run of double channels that have all their values;
// column is set, any other single channel; neither, empty channels without any
// values.
type segment struct {
	doubles [][]float64
	column  *sdk.Column
	append  appender
	channel int // the first one
	empty   int
}

func (p *plan) set(batch *sdk.Batch, binding sdk.Binding) {
	flow := batch.Flow()
	p.batch = batch
	p.head = appendString(p.head[:0], tagConfigID, binding.ConfigID)
	p.head = appendString(p.head, tagFlow, flow.Name)
	p.tail = appendString(p.tail[:0], tagRunID, binding.RunID)
	// Segments refer to p.doubles, which must not move while it is filled.
	p.doubles = slices.Grow(p.doubles[:0], len(flow.Channels))
	for i := range flow.Channels {
		p.add(i, batch.Column(i))
	}
}

// add extends the last segment by a channel or begins another one.
func (p *plan) add(channel int, col *sdk.Column) {
	var last *segment
	if n := len(p.segments); n > 0 {
		last = &p.segments[n-1]
	}
	switch {
	case !col.Present():
		if last != nil && last.empty > 0 {
			last.empty++
			return
		}
		p.segments = append(p.segments, segment{channel: channel, empty: 1})
	case col.Type() == sdk.Double && col.AllValid():
		p.doubles = append(p.doubles, col.Doubles())
		n := len(p.doubles)
		if last != nil && last.doubles != nil {
			last.doubles = p.doubles[n-1-len(last.doubles) : n]
			return
		}
		p.segments = append(p.segments, segment{channel: channel, doubles: p.doubles[n-1 : n]})
	default:
		p.segments = append(p.segments, segment{channel: channel, column: col, append: appenderOf(col.Type())})
	}
}

// clear drops what refers to the batch.
func (p *plan) clear() {
	p.batch = nil
	clear(p.doubles)
	clear(p.segments)
	p.segments = p.segments[:0]
}

func (p *plan) encode(dst []byte) (sdk.Encoded, error) {
	out := sdk.Encoded{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	start := len(dst)
	for row, stamp := range p.batch.Times() {
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = append(dst, p.head...)
		dst = appendTimestamp(dst, stamp)
		var refused int
		if dst, refused = p.appendValues(dst, row); refused >= 0 {
			dst = dst[:at]
			out.Refused = append(out.Refused, p.refusal(row, refused, "the value is not UTF-8"))
			continue
		}
		dst = append(dst, p.tail...)
		size := len(dst) - at - prefixBytes
		if size > MaxMessageBytes {
			dst = dst[:at]
			out.Refused = append(out.Refused, p.refusal(row, p.longest(row), fmt.Sprintf(
				"the row takes %d bytes, the limit is %d; this is its longest value", size, MaxMessageBytes)))
			continue
		}
		binary.LittleEndian.PutUint32(dst[at:], uint32(size))
		out.Count++
		out.MinTime, out.MaxTime = min(out.MinTime, stamp), max(out.MaxTime, stamp)
		if len(dst)-start > sdk.MaxPayloadBytes {
			return sdk.Encoded{Body: dst[:start]}, fmt.Errorf(
				"batch of %d rows of flow %q takes more than %d bytes encoded: it must be cut before",
				p.batch.Rows(), p.batch.Flow().Name, sdk.MaxPayloadBytes)
		}
	}
	if out.Count == 0 {
		out.MinTime, out.MaxTime = 0, 0
	}
	out.Body = dst
	return out, nil
}

// appendValues appends the values of a row. If the value of a channel cannot be
// encoded it returns that channel, else -1.
func (p *plan) appendValues(dst []byte, row int) ([]byte, int) {
	for i := range p.segments {
		s := &p.segments[i]
		switch {
		case s.doubles != nil:
			dst = appendDoubles(dst, s.doubles, row)
		case s.column == nil:
			dst = appendEmpty(dst, s.empty)
		case !s.column.Valid(row):
			dst = appendEmpty(dst, 1)
		default:
			next := s.append(dst, s.column, row)
			if next == nil {
				return dst, s.channel
			}
			dst = next
		}
	}
	return dst, -1
}

func (p *plan) refusal(row, channel int, reason string) sdk.Refused {
	return sdk.Refused{Row: row, Channel: p.batch.Flow().Channels[channel].Name, Reason: reason}
}

// longest returns the channel whose value takes most bytes in a row.
func (p *plan) longest(row int) int {
	channel, most := 0, 0
	for i := range p.batch.Flow().Channels {
		col := p.batch.Column(i)
		switch col.Type() {
		case sdk.String, sdk.Bytes, sdk.BitField:
			if col.Valid(row) && len(col.Bytes(row)) > most {
				channel, most = i, len(col.Bytes(row))
			}
		}
	}
	return channel
}
