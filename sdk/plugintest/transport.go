package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// madeUpFormat is the format of messages that the kit makes up.
const madeUpFormat = "plugintest"

// progressWait is how long a stream is waited for that should tell of its progress.
const progressWait = time.Second

func transportChecks() []check {
	return []check{
		{"deliver", checkDeliver},
		{"empty stream", checkEmptyStream},
		{"abort", checkAbort},
		{"several streams", checkSeveralStreams},
		{"host closes the call", checkCloseDeliver},
		{"two calls", checkTwoCalls},
	}
}

// deliverer is a Deliver call with what it needs.
type deliverer struct {
	*wire.DeliverStream
	binding sdk.Binding
	batches []wire.Batch
}

// deliverer registers what is to be delivered, if it can, and opens the call.
func (k *kit) deliverer(ctx context.Context, l *Launched, r wire.StreamRegions) (*deliverer, error) {
	flows := k.flows()
	d := &deliverer{binding: bindingA}
	if k.options.Registration != nil {
		registration := *k.options.Registration
		registration.Flows = flows
		registered, err := wire.Register(ctx, l.Conn(), registration)
		if err != nil {
			return nil, fmt.Errorf("register: %w", err)
		}
		if k.description.Transport.Binds {
			d.binding = registered.Binding
		}
	}
	var err error
	if d.batches, err = k.deliveries(d.binding); err != nil {
		return nil, err
	}
	if d.DeliverStream, err = wire.OpenDeliver(ctx, l.Conn(), r.In); err != nil {
		return nil, err
	}
	for i := range flows {
		if err := d.Announce(uint32(i+1), &flows[i]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// deliveries makes up batches in the form that the transport takes.
func (k *kit) deliveries(binding sdk.Binding) ([]wire.Batch, error) {
	inputs, err := k.inputs(5, 1, 100, 1000, 10)
	if err != nil {
		return nil, err
	}
	caps := k.description.Transport
	if caps.Input == sdk.InputEncoded && len(caps.Formats) > 0 && k.options.Encode == nil {
		return nil, skip("the transport takes only messages of %v, and Options.Encode is not set", caps.Formats)
	}
	var out []wire.Batch
	for _, in := range inputs {
		b := in.batch
		switch {
		case caps.Input == sdk.InputRows:
		case k.options.Encode != nil:
			e, err := k.options.Encode(nil, in.rows, binding)
			if err != nil {
				return nil, fmt.Errorf("encode for the transport: %w", err)
			}
			if e.Count == 0 {
				continue
			}
			b.Count, b.MinTime, b.MaxTime, b.Payload, b.Format = e.Count, e.MinTime, e.MaxTime, e.Body, madeUpFormat
			if len(caps.Formats) > 0 {
				b.Format = caps.Formats[0]
			}
		default:
			b.Payload, b.Format = nil, madeUpFormat
			for row := range b.Count {
				b.Payload = pbfs.AppendMessage(b.Payload, []byte(printRow(in.rows, row)))
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// send opens a delivery stream and hands everything to it.
func (d *deliverer) send(ctx context.Context, stream uint64, newConnection bool) error {
	if err := d.Open(stream, newConnection); err != nil {
		return err
	}
	for _, b := range d.batches {
		if err := d.Send(ctx, stream, b, d.binding); err != nil {
			return err
		}
	}
	return d.Finish(stream)
}

// answer reads until the answer to some delivery stream.
func (d *deliverer) answer() (*wire.Answer, error) {
	for {
		event, err := d.Recv()
		if err != nil {
			return nil, fmt.Errorf("deliver: %w", err)
		}
		if a, ok := event.(*wire.Answer); ok {
			return a, nil
		}
	}
}

// end closes the call; nothing may be answered any more.
func (d *deliverer) end() error {
	if err := d.CloseSend(); err != nil {
		return err
	}
	for {
		event, err := d.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("end of the call: %w", err)
		}
		if a, ok := event.(*wire.Answer); ok {
			return fmt.Errorf("delivery stream %d is answered, and all had been", a.Stream)
		}
	}
}

func confirmed(a *wire.Answer) error {
	if a.Outcome == wire.OutcomeConfirmed {
		return nil
	}
	if a.Failure != nil {
		return fmt.Errorf("delivery stream %d %s: %w", a.Stream, a.Outcome, a.Failure)
	}
	return fmt.Errorf("delivery stream %d %s, and nothing was wrong", a.Stream, a.Outcome)
}

// checkDeliver wants everything confirmed, in both forms.
func checkDeliver(ctx context.Context, k *kit) error {
	return inEachForm(ctx, k, func(l *Launched, r wire.StreamRegions) (int, error) {
		d, err := k.deliverer(ctx, l, r)
		if err != nil {
			return 0, err
		}
		for stream := range uint64(2) {
			err := beside(ctx, func(ctx context.Context) error {
				return d.send(ctx, stream+1, stream == 1)
			}, func(context.Context) error {
				a, err := d.answer()
				if err != nil {
					return err
				}
				return confirmed(a)
			})
			if err != nil {
				return 0, err
			}
		}
		return 2, d.end()
	}, func(a, b int) error { return nil })
}

// checkEmptyStream finishes a delivery stream that was given nothing.
func checkEmptyStream(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		d, err := k.deliverer(ctx, l, wire.StreamRegions{})
		if err != nil {
			return err
		}
		if err := errors.Join(d.Open(1, false), d.Finish(1)); err != nil {
			return err
		}
		a, err := d.answer()
		if err != nil {
			return err
		}
		if err := confirmed(a); err != nil {
			return fmt.Errorf("an empty delivery stream: %w", err)
		}
		if len(a.Paths) > 0 {
			return fmt.Errorf("an empty delivery stream has left %q", a.Paths)
		}
		return d.end()
	})
}

// checkAbort gives delivery streams up at once and after some data, and wants the
// transport to go on.
func checkAbort(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		d, err := k.deliverer(ctx, l, wire.StreamRegions{})
		if err != nil {
			return err
		}
		for stream := uint64(1); stream <= 4; stream++ {
			moved := make(chan struct{}) // closed when the stream has told of its progress
			err := beside(ctx, func(ctx context.Context) error {
				if err := d.Open(stream, false); err != nil {
					return err
				}
				for _, b := range d.batches[:min(len(d.batches), int(stream-1))] {
					if err := d.Send(ctx, stream, b, d.binding); err != nil {
						return err
					}
				}
				if stream == 4 { // the others may not have begun
					select {
					case <-moved:
					case <-time.After(progressWait):
					}
				}
				return d.Abort(stream)
			}, func(context.Context) error {
				return d.aborted(moved)
			})
			if err != nil {
				return err
			}
		}
		err = beside(ctx, func(ctx context.Context) error {
			return d.send(ctx, 5, true)
		}, func(context.Context) error {
			a, err := d.answer()
			if err != nil {
				return err
			}
			return confirmed(a)
		})
		if err != nil {
			return fmt.Errorf("after aborts: %w", err)
		}
		return d.end()
	})
}

// aborted reads until the answer of a stream that was given up. It closes moved at
// the first progress.
func (d *deliverer) aborted(moved chan<- struct{}) error {
	tell := sync.OnceFunc(func() { close(moved) })
	for {
		event, err := d.Recv()
		if err != nil {
			return fmt.Errorf("aborted: %w", err)
		}
		switch e := event.(type) {
		case *wire.StreamProgress:
			tell()
		case *wire.Answer:
			if e.Outcome == wire.OutcomeConfirmed {
				return errors.New("a delivery stream is confirmed that was aborted and never finished")
			}
			return nil
		}
	}
}

// checkSeveralStreams has several delivery streams open at once.
func checkSeveralStreams(ctx context.Context, k *kit) error {
	if !k.description.Transport.Overlap {
		return skip("streams of the transport do not overlap")
	}
	const streams = 3
	return k.configured(ctx, func(l *Launched) error {
		d, err := k.deliverer(ctx, l, wire.StreamRegions{})
		if err != nil {
			return err
		}
		err = beside(ctx, func(ctx context.Context) error {
			for stream := range uint64(streams) {
				if err := d.send(ctx, stream+1, false); err != nil {
					return err
				}
			}
			return nil
		}, func(context.Context) error {
			for range streams {
				a, err := d.answer()
				if err != nil {
					return err
				}
				if err := confirmed(a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return d.end()
	})
}

// checkCloseDeliver ends the call with a delivery stream open, which is answered.
func checkCloseDeliver(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		d, err := k.deliverer(ctx, l, wire.StreamRegions{})
		if err != nil {
			return err
		}
		if err := errors.Join(d.Open(1, false), d.CloseSend()); err != nil {
			return err
		}
		a, err := d.answer()
		if err != nil {
			return fmt.Errorf("the host has closed the call: %w", err)
		}
		if a.Outcome == wire.OutcomeConfirmed {
			return errors.New("a delivery stream is confirmed that was never finished")
		}
		return d.end()
	})
}
