package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pipelined/pipelined/sdk"
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
		{"bind again", checkBindAgain},
		{"decode", checkDecode},
		{"decode parts", checkDecodeParts},
		{"decode junk", checkDecodeJunk},
		{"rebind", checkRebind},
		{"rebind placeholders", checkRebindPlaceholders},
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
	return k.encodeBound(ctx, l, regions, func(int) sdk.Binding { return binding }, inputs)
}

// encodeBound is encode with the binding of each batch.
func (k *kit) encodeBound(
	ctx context.Context, l *Launched, regions wire.StreamRegions, binding func(batch int) sdk.Binding, inputs []input,
) ([]output, error) {
	s, err := wire.OpenEncoder(ctx, l.Conn(), regions)
	if err != nil {
		return nil, err
	}
	flows := k.flows()
	for i := range flows {
		if err := s.Announce(uint32(i+1), &flows[i]); err != nil {
			return nil, err
		}
	}
	bound := make([]*sdk.Binding, len(flows))
	var outputs []output
	err = beside(ctx, func(ctx context.Context) error {
		for i, in := range inputs {
			b, of := binding(i), in.batch.Flow
			if now := bound[of-1]; now == nil || *now != b {
				if err := s.Bind(of, b); err != nil {
					return err
				}
				bound[of-1] = &b
			}
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

// checkBindAgain changes the binding in the middle of a call: each batch carries what
// its flow was bound to when it was sent.
func checkBindAgain(ctx context.Context, k *kit) error {
	inputs, err := k.inputs(5, 10, 1, 300, 20, 500, 2, 50, 5)
	if err != nil {
		return err
	}
	bindings := []sdk.Binding{sdk.Placeholder(true), bindingA, sdk.Placeholder(false), {ConfigID: bindingB.ConfigID}, bindingB}
	binding := func(batch int) sdk.Binding { return bindings[batch*len(bindings)/len(inputs)] }
	return inEachForm(ctx, k, func(l *Launched, r wire.StreamRegions) ([]output, error) {
		out, err := k.encodeBound(ctx, l, r, binding, inputs)
		if err != nil {
			return nil, err
		}
		for _, b := range bindings {
			want, err := k.encode(ctx, l, r, b, inputs)
			if err != nil {
				return nil, err
			}
			for i := range out {
				if binding(i) == b && !bytes.Equal(out[i].body, want[i].body) {
					return nil, fmt.Errorf("batch %d, sent after its flow was bound again, does not carry the new ids", i+1)
				}
			}
		}
		return out, nil
	}, sameOutputs)
}

func checkRebind(ctx context.Context, k *kit) error {
	return k.checkRebinding(ctx, [][2]sdk.Binding{{bindingA, bindingB}}, 1, 50, 4096, 700)
}

// checkRebindPlaceholders wants messages that were encoded before the destination was
// known to get its ids, with a run and without one, and to lose them again.
func checkRebindPlaceholders(ctx context.Context, k *kit) error {
	var pairs [][2]sdk.Binding
	for _, run := range []bool{true, false} {
		real := bindingA
		if !run {
			real.RunID = ""
		}
		pairs = append(pairs, [2]sdk.Binding{sdk.Placeholder(run), real}, [2]sdk.Binding{real, sdk.Placeholder(run)})
	}
	return k.checkRebinding(ctx, pairs, 1, 50, 500)
}

// checkRebinding rebinds batches of these sizes from the first to the second of each
// pair.
func (k *kit) checkRebinding(ctx context.Context, pairs [][2]sdk.Binding, sizes ...int) error {
	if !k.description.Encoder.Rebinds {
		return skip("the encoder does not rebind")
	}
	inputs, err := k.inputs(4, sizes...)
	if err != nil {
		return err
	}
	for _, f := range forms() {
		err := k.inForm(ctx, f, func(l *Launched, r wire.StreamRegions) error {
			for _, pair := range pairs {
				if err := k.rebind(ctx, l, r, pair[0], pair[1], inputs); err != nil {
					return fmt.Errorf("from %v to %v: %w", pair[0], pair[1], err)
				}
			}
			return nil
		})
		if err != nil && !(f.shared && errors.Is(err, errSkipped)) {
			return err
		}
	}
	return nil
}

// rebind wants messages bound to from, rebound, to be what encoding for to gives.
func (k *kit) rebind(ctx context.Context, l *Launched, r wire.StreamRegions, from, to sdk.Binding, inputs []input) error {
	a, err := k.encode(ctx, l, r, from, inputs)
	if err != nil {
		return err
	}
	b, err := k.encode(ctx, l, r, to, inputs)
	if err != nil {
		return err
	}
	rebinder, err := wire.OpenRebinder(ctx, l.Conn(), r, k.description.Encoder.Format)
	if err != nil {
		return err
	}
	for i := range a {
		if a[i].Count == 0 {
			continue
		}
		got, err := rebinder.Rebind(ctx, a[i].body, a[i].Count, from, to)
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
