package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// The ids that made-up messages carry.
var (
	bindingA = sdk.Binding{ConfigID: "0f8fad5b-d9cb-469f-a165-70867728950e", RunID: "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
	bindingB = sdk.Binding{ConfigID: "1b4e28ba-2fa1-41d2-883f-0016d3cca427", RunID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}
)

func encoderChecks() []check {
	return []check{
		{"encode", checkEncode},
		{"decode", checkDecode},
		{"decode junk", checkDecodeJunk},
		{"rebind", checkRebind},
	}
}

// input is a batch for an encoder with its rows.
type input struct {
	batch wire.Batch
	rows  *sdk.Batch
}

// flows returns those of the options and each again under another name, so that
// streams carry several.
func (k *kit) flows() []sdk.Flow {
	out := slices.Clone(k.options.Flows)
	for _, f := range k.options.Flows {
		f.Name += "_again"
		out = append(out, f)
	}
	return out
}

// inputs makes up batches of all flows in turn. Flow numbers are positions from 1.
func (k *kit) inputs(seed uint64, sizes ...int) ([]input, error) {
	flows := k.flows()
	m := newMaker(seed)
	var out []input
	for _, n := range sizes {
		for i := range flows {
			b := m.batch(&flows[i], n)
			least, greatest := b.TimeSpan()
			in := input{batch: wire.Batch{
				Sequence: uint64(len(out) + 1), Flow: uint32(i + 1), Count: b.Rows(),
				MinTime: least, MaxTime: greatest, Payload: b.Append(nil),
			}}
			var err error
			if in.rows, err = sdk.ParseBatch(&flows[i], in.batch.Payload); err != nil {
				return nil, fmt.Errorf("made-up batch: %w", err)
			}
			out = append(out, in)
		}
	}
	return out, nil
}

// output is an encoder's answer with a copy of its body.
type output struct {
	wire.Encoded
	body []byte
}

// encode sends the batches through one call.
func (k *kit) encode(ctx context.Context, l *Launched, regions wire.StreamRegions, binding sdk.Binding, inputs []input) ([]output, error) {
	s, err := wire.OpenEncoder(ctx, l.Conn(), regions)
	if err != nil {
		return nil, err
	}
	flows := k.flows()
	for i := range flows {
		if err := errors.Join(s.Announce(uint32(i+1), &flows[i]), s.Bind(uint32(i+1), binding)); err != nil {
			return nil, err
		}
	}
	var outputs []output
	err = beside(ctx, func(ctx context.Context) error {
		for _, in := range inputs {
			if err := s.Send(ctx, in.batch); err != nil {
				return err
			}
		}
		return s.CloseSend()
	}, func(context.Context) error {
		for {
			e, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("encode: %w", err)
			}
			out := output{Encoded: e}
			if e.Payload != nil {
				out.body = bytes.Clone(e.Payload.Bytes())
				e.Payload.Release()
			}
			outputs = append(outputs, out)
		}
	})
	if err == nil && len(outputs) != len(inputs) {
		err = fmt.Errorf("%d batches were sent, %d answered", len(inputs), len(outputs))
	}
	return outputs, err
}

// checkEncode wants one answer for each batch, in order, the same in both forms and
// in two processes.
func checkEncode(ctx context.Context, k *kit) error {
	inputs, err := k.inputs(1, 1, 2, 100, 4096, 7, 1000, 64)
	if err != nil {
		return err
	}
	return inEachForm(ctx, k, func(l *Launched, r wire.StreamRegions) ([]output, error) {
		out, err := k.encode(ctx, l, r, bindingA, inputs)
		if err != nil {
			return nil, err
		}
		for i, o := range out {
			if o.Count > 0 && o.Format != k.description.Encoder.Format {
				return nil, fmt.Errorf("batch %d has format %q, the encoder said %q", i+1, o.Format, k.description.Encoder.Format)
			}
		}
		return out, nil
	}, sameOutputs)
}

func sameOutputs(a, b []output) error {
	for i := range a {
		if !bytes.Equal(a[i].body, b[i].body) || a[i].Count != b[i].Count || !slices.Equal(a[i].Refused, b[i].Refused) {
			return fmt.Errorf("batch %d", i+1)
		}
		if a[i].MinTime != b[i].MinTime || a[i].MaxTime != b[i].MaxTime {
			return fmt.Errorf("stamps of batch %d", i+1)
		}
	}
	return nil
}

func checkDecode(ctx context.Context, k *kit) error {
	if !k.description.Encoder.Decodes {
		return skip("the encoder does not decode")
	}
	inputs, err := k.inputs(2, 1, 100, 4096, 3, 500)
	if err != nil {
		return err
	}
	for _, f := range forms() {
		err := k.inForm(ctx, f, func(l *Launched, r wire.StreamRegions) error {
			outputs, err := k.encode(ctx, l, r, bindingA, inputs)
			if err != nil {
				return err
			}
			return k.decode(ctx, l, r, inputs, outputs)
		})
		if err != nil && !(f.shared && errors.Is(err, errSkipped)) {
			return err
		}
	}
	return nil
}

// decode holds what comes back against what was encoded.
func (k *kit) decode(ctx context.Context, l *Launched, r wire.StreamRegions, inputs []input, outputs []output) error {
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
		decoded, err := d.Decode(ctx, wire.Batch{
			Flow: o.Flow, Count: o.Count, MinTime: o.MinTime, MaxTime: o.MaxTime, Format: o.Format, Payload: o.body,
		})
		if err != nil {
			return fmt.Errorf("decode batch %d: %w", i+1, err)
		}
		rows, err := sdk.ParseBatch(&flows[o.Flow-1], decoded.Payload.Bytes())
		if err != nil {
			return fmt.Errorf("decoded batch %d: %w", i+1, err)
		}
		if err := sameRows(inputs[i].rows, rows, o.Refused); err != nil {
			return fmt.Errorf("batch %d, decoded: %w", i+1, err)
		}
		decoded.Payload.Release()
	}
	return d.Close()
}

func sameRows(want, got *sdk.Batch, refused []sdk.Refused) error {
	at := 0
	for row := range want.Rows() {
		if slices.ContainsFunc(refused, func(r sdk.Refused) bool { return r.Row == row }) {
			continue
		}
		if d := difference(want, row, got, at); d != "" {
			return fmt.Errorf("row %d: %s", row, d)
		}
		at++
	}
	return nil
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

func checkRebind(ctx context.Context, k *kit) error {
	if !k.description.Encoder.Rebinds {
		return skip("the encoder does not rebind")
	}
	inputs, err := k.inputs(4, 1, 50, 4096, 700)
	if err != nil {
		return err
	}
	return inEachForm(ctx, k, func(l *Launched, r wire.StreamRegions) ([]output, error) {
		a, err := k.encode(ctx, l, r, bindingA, inputs)
		if err != nil {
			return nil, err
		}
		b, err := k.encode(ctx, l, r, bindingB, inputs)
		if err != nil {
			return nil, err
		}
		return a, k.rebind(ctx, l, r, a, b)
	}, sameOutputs)
}

// rebind wants messages bound to A, rebound to B, to be what encoding for B gives.
func (k *kit) rebind(ctx context.Context, l *Launched, r wire.StreamRegions, a, b []output) error {
	rebinder, err := wire.OpenRebinder(ctx, l.Conn(), r, k.description.Encoder.Format)
	if err != nil {
		return err
	}
	for i := range a {
		if a[i].Count == 0 {
			continue
		}
		got, err := rebinder.Rebind(ctx, a[i].body, a[i].Count, bindingA, bindingB)
		if err != nil {
			return fmt.Errorf("rebind batch %d: %w", i+1, err)
		}
		if !bytes.Equal(got.Bytes(), b[i].body) {
			return fmt.Errorf("batch %d, rebound, is not what encoding with the new ids gives", i+1)
		}
		got.Release()
	}
	return rebinder.Close()
}
