package plugintest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

func checkDecode(ctx context.Context, k *kit) error {
	return k.checkDecoding(ctx, func(batch output) []part { return []part{wholeOf(batch)} }, 1, 100, 4096, 3, 500)
}

// checkDecodeParts decodes some messages of a batch, as a host does for rows that were
// read from its log and of which others have been confirmed.
func checkDecodeParts(ctx context.Context, k *kit) error {
	return k.checkDecoding(ctx, func(batch output) []part {
		m := newMaker(uint64(batch.Sequence))
		last := batch.Count - 1
		parts := []part{partOf(batch, func(i int) bool { return i == 0 }), partOf(batch, func(i int) bool { return i == last })}
		for _, one := range []int{2, 3, 100} {
			parts = append(parts, partOf(batch, func(int) bool { return m.random.IntN(one) == 0 }))
		}
		return parts
	}, 1, 100, 3, 500)
}

// part is some messages of a batch.
type part struct {
	messages []int // positions in the batch, from 0
	body     []byte
}

func wholeOf(batch output) part { return partOf(batch, func(int) bool { return true }) }

// partOf takes the wanted messages of a batch whose lengths have been checked.
func partOf(batch output, want func(i int) bool) part {
	var p part
	i := 0
	for m := range pbfs.Messages(batch.body) {
		if want(i) {
			p.messages = append(p.messages, i)
			p.body = pbfs.AppendMessage(p.body, m)
		}
		i++
	}
	return p
}

// checkDecoding encodes batches of these sizes and decodes parts of them.
func (k *kit) checkDecoding(ctx context.Context, parts func(batch output) []part, sizes ...int) error {
	if !k.description.Encoder.Decodes {
		return skip("the encoder does not decode")
	}
	inputs, err := k.inputs(2, sizes...)
	if err != nil {
		return err
	}
	for _, f := range forms() {
		err := k.inForm(ctx, f, func(l *Launched, r wire.StreamRegions) error {
			outputs, err := k.encode(ctx, l, r, bindingA, inputs)
			if err != nil {
				return err
			}
			return k.decode(ctx, l, r, inputs, outputs, parts)
		})
		if err != nil && !(f.shared && errors.Is(err, errSkipped)) {
			return err
		}
	}
	return nil
}

// decode holds what comes back against what was encoded.
func (k *kit) decode(
	ctx context.Context, l *Launched, r wire.StreamRegions, inputs []input, outputs []output, parts func(output) []part,
) error {
	d, err := wire.OpenDecoder(ctx, l.Conn(), r)
	if err != nil {
		return err
	}
	flows := k.flows()
	for i := range flows {
		if err := d.Announce(uint32(i+1), &flows[i]); err != nil {
			return err
		}
	}
	for i, o := range outputs {
		if o.Count == 0 {
			continue
		}
		for _, p := range parts(o) {
			if len(p.messages) == 0 {
				continue
			}
			err := decodePart(ctx, d, o, p, &flows[o.Flow-1], inputs[i].rows)
			if err != nil {
				return fmt.Errorf("%d of %d messages of batch %d, decoded: %w", len(p.messages), o.Count, i+1, err)
			}
		}
	}
	return d.Close()
}

func decodePart(ctx context.Context, d *wire.Decoder, o output, p part, flow *sdk.Flow, want *sdk.Batch) error {
	decoded, err := d.Decode(ctx, wire.Batch{
		Flow: o.Flow, Count: len(p.messages), MinTime: o.MinTime, MaxTime: o.MaxTime, Format: o.Format, Payload: p.body,
	})
	if err != nil {
		return err
	}
	defer decoded.Payload.Release()
	got, err := sdk.ParseBatch(flow, decoded.Payload.Bytes())
	if err != nil {
		return err
	}
	rows := encodedRows(want, o.Refused)
	for at, message := range p.messages {
		if d := difference(want, rows[message], got, at); d != "" {
			return fmt.Errorf("row %d: %s", rows[message], d)
		}
	}
	return nil
}

// encodedRows returns the rows of a batch that were not refused.
func encodedRows(batch *sdk.Batch, refused []sdk.Refused) []int {
	var out []int
	for row := range batch.Rows() {
		if !slices.ContainsFunc(refused, func(r sdk.Refused) bool { return r.Row == row }) {
			out = append(out, row)
		}
	}
	return out
}

// checkDecodeJunk wants an answer to bytes that are no messages of the format, and
// that the call goes on.
func checkDecodeJunk(ctx context.Context, k *kit) error {
	if !k.description.Encoder.Decodes {
		return skip("the encoder does not decode")
	}
	return k.configured(ctx, func(l *Launched) error {
		d, err := wire.OpenDecoder(ctx, l.Conn(), wire.StreamRegions{})
		if err != nil {
			return err
		}
		flows := k.flows()
		if err := d.Announce(1, &flows[0]); err != nil {
			return err
		}
		m := newMaker(3)
		for i := range 50 {
			junk := pbfs.AppendMessage(nil, m.bytes(i*7))
			_, err := d.Decode(ctx, wire.Batch{
				Flow: 1, Count: 1, MinTime: 1, MaxTime: 1, Format: k.description.Encoder.Format, Payload: junk,
			})
			if _, answered := errors.AsType[*sdk.Error](err); err != nil && !answered {
				return fmt.Errorf("decode junk: %w", err)
			}
		}
		return d.Close()
	})
}
