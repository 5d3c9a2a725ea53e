package siftserver

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	"github.com/pipelined/pipelined/sdk"
)

// lane is one flow of a stream: rows that are gathered for it.
type lane struct {
	flow    *registry.Flow
	number  sdk.FlowNumber
	members []uint8 // for each channel, the member that its values are in
	rows    *sdk.Builder
	cost    int // estimate of the memory that it keeps
	peak    int // most that its rows have taken, part of cost
}

func newLane(flow *registry.Flow, number sdk.FlowNumber) *lane {
	l := &lane{flow: flow, number: number, rows: sdk.NewBuilder(&flow.Flow)}
	l.members = make([]uint8, len(flow.Channels))
	l.cost = 512 + 160*len(flow.Channels)
	for i := range flow.Channels {
		l.members[i] = memberOf(flow.Channels[i].Type)
	}
	return l
}

// misfit says why a row is not taken. It is not an error of the connection.
type misfit struct {
	reason string
	// crowded: the row fits into a batch of its own.
	crowded bool
}

func refused(format string, args ...any) *misfit {
	return &misfit{reason: fmt.Sprintf(format, args...)}
}

// add appends the request's row. If it returns a misfit or an error, the rows are
// as before.
func (l *lane) add(r *request, message []byte) (*misfit, error) {
	if r.values != len(l.members) {
		return refused("%d values, flow %s has %d channels", r.values, shown(l.flow.Name), len(l.members)), nil
	}
	at, ok := r.time()
	switch {
	case !r.stamped:
		return refused("no timestamp"), nil
	case !ok:
		return refused("timestamp of %d s and %d ns is not a time between 1678 and 2261", r.seconds, r.nanos), nil
	}
	l.rows.Row(at)
	wrong, err := l.set(message[r.first:])
	if wrong == nil && err == nil {
		wrong = l.crowded()
	}
	if wrong != nil || err != nil {
		l.rows.DropRow()
		if l.rows.Rows() == 0 {
			l.rows.Reset() // also the width of a bit field that only this row had
		}
		return wrong, err
	}
	return nil, nil
}

// crowded finds a last row that made the batch too large.
func (l *lane) crowded() *misfit {
	switch {
	case l.rows.Rows() > 1 && l.rows.Bytes() > sdk.MaxBatchBytes:
		return &misfit{crowded: true}
	case l.rows.TooLarge():
		return refused("a row of flow %s takes %d bytes, the limit is %d", shown(l.flow.Name), l.rows.Bytes(), sdk.MaxPayloadBytes)
	}
	return nil
}

// grown notes what the rows take now, and returns by how much the cost grew.
func (l *lane) grown() int {
	by := max(0, l.rows.Bytes()-l.peak)
	l.peak += by
	l.cost += by
	return by
}

// set gives the last row its values. The message was scanned: its fields are
// well-formed, its values need not be.
func (l *lane) set(b []byte) (*misfit, error) {
	var wrong *misfit
	for channel := 0; channel < len(l.members); {
		if bits, ok := usualDouble(b); ok && l.members[channel] == memberDouble {
			l.rows.Double(channel, math.Float64frombits(bits))
			b = b[doubleBytes:]
			channel++
			continue
		}
		tag, n := consumeTag(b)
		if tag != tagValue {
			b = b[n+skip(tag, b[n:]):]
			continue
		}
		part, m := consumeBytes(b[n:])
		b = b[n+m:]
		var v value
		if !v.scan(part) {
			return nil, errMalformed
		}
		// Go on after a misfit: a later value may be malformed.
		if w := l.setOne(channel, &v); wrong == nil {
			wrong = w
		}
		channel++
	}
	return wrong, nil
}

// setOne gives a channel its value in the last row.
func (l *lane) setOne(channel int, v *value) *misfit {
	if v.member == memberEmpty {
		return nil
	}
	c := &l.flow.Channels[channel]
	if v.member != l.members[channel] {
		return refused("channel %s is of type %s, the value is of type %s", shown(c.Name), c.Type, memberName(v.member))
	}
	switch c.Type {
	case sdk.Double:
		l.rows.Double(channel, math.Float64frombits(v.bits))
	case sdk.Float:
		l.rows.Float(channel, math.Float32frombits(uint32(v.bits)))
	case sdk.Int32:
		l.rows.Int32(channel, int32(v.bits))
	case sdk.Uint32, sdk.Enum:
		l.rows.Uint32(channel, uint32(v.bits))
	case sdk.Int64:
		l.rows.Int64(channel, int64(v.bits))
	case sdk.Uint64:
		l.rows.Uint64(channel, v.bits)
	case sdk.Bool:
		l.rows.Bool(channel, v.bits != 0)
	case sdk.String, sdk.Bytes:
		l.rows.SetBytes(channel, v.bytes)
	case sdk.BitField:
		if len(v.bytes) == 0 {
			return refused("bit field %s has no bytes", shown(c.Name))
		}
		if err := l.rows.BitField(channel, v.bytes); err != nil {
			return &misfit{crowded: true} // another width than the rows before
		}
	}
	return nil
}

// shown quotes a client's text for people, in bounded length.
func shown[T string | []byte](text T) string {
	const most = 80
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	n := most
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return fmt.Sprintf("%q…", text[:n])
}
