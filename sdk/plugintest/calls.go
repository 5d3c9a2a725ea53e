package plugintest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// checkTwoCalls has two Deliver calls at a time, as a host that delivers old rows
// beside new ones: each with its own region and its own numbers. Neither waits for
// the other, and the end of one leaves the other alone.
func checkTwoCalls(ctx context.Context, k *kit) error {
	err := k.configured(ctx, func(l *Launched) error {
		return k.twoCalls(ctx, l, nil, nil)
	})
	if err != nil {
		return err
	}
	err = k.withRegions(ctx, []shm.Direction{shm.ToPlugin, shm.ToPlugin}, func(l *Launched, r []*shm.Region) error {
		return k.twoCalls(ctx, l, r[0], r[1])
	})
	if errors.Is(err, errSkipped) {
		return nil
	}
	return err
}

func (k *kit) twoCalls(ctx context.Context, l *Launched, first, second *shm.Region) error {
	a, err := k.deliverer(ctx, l, wire.StreamRegions{In: first})
	if err != nil {
		return err
	}
	b, err := k.deliverer(ctx, l, wire.StreamRegions{In: second})
	if err != nil {
		return fmt.Errorf("a second Deliver call beside the first: %w", err)
	}
	left := map[string]bool{}
	for stream := range uint64(3) {
		var ofA, ofB []string
		err := beside(ctx, func(ctx context.Context) (err error) {
			ofA, err = a.deliver(ctx, stream+1, stream == 1)
			return err
		}, func(ctx context.Context) (err error) {
			ofB, err = b.deliver(ctx, stream+1, false)
			return err
		})
		if err == nil {
			err = noteFiles(left, append(ofA, ofB...))
		}
		if err != nil {
			return fmt.Errorf("stream %d of two calls: %w", stream+1, err)
		}
	}
	if err := k.endOne(ctx, a, b, left); err != nil {
		return fmt.Errorf("one of two calls ends with an open delivery stream: %w", err)
	}
	// What the call that has ended used is free for another one.
	c, err := k.deliverer(ctx, l, wire.StreamRegions{In: first})
	if err != nil {
		return fmt.Errorf("a Deliver call after one has ended: %w", err)
	}
	paths, err := c.deliver(ctx, 1, false)
	if err != nil {
		return fmt.Errorf("a Deliver call after one has ended: %w", err)
	}
	return errors.Join(noteFiles(left, paths), c.end(), b.end())
}

// endOne ends the call a while it has a delivery stream open, and so has b. Before
// that, while only a has one open, streams of b are confirmed.
func (k *kit) endOne(ctx context.Context, a, b *deliverer, left map[string]bool) error {
	const open, last = 4, 6 // numbers of streams
	if err := errors.Join(a.Open(open, false), a.sendAll(ctx, open)); err != nil {
		return err
	}
	for stream := uint64(open); stream < last; stream++ {
		paths, err := b.deliver(ctx, stream, false)
		if err == nil {
			err = noteFiles(left, paths)
		}
		if err != nil {
			return fmt.Errorf("while a delivery stream of another call is open: %w", err)
		}
	}
	if err := errors.Join(b.Open(last, false), b.sendAll(ctx, last), a.CloseSend()); err != nil {
		return err
	}
	answer, err := a.answer()
	if err != nil {
		return err
	}
	if answer.Outcome == wire.OutcomeConfirmed {
		return errors.New("a delivery stream is confirmed that was never finished")
	}
	if err := errors.Join(a.end(), b.Finish(last)); err != nil {
		return err
	}
	paths, err := b.confirmed()
	if err != nil {
		return fmt.Errorf("after the end of another call: %w", err)
	}
	return noteFiles(left, paths)
}

// deliver sends everything in a stream of its own and wants it confirmed. It returns
// the files that were written.
func (d *deliverer) deliver(ctx context.Context, stream uint64, newConnection bool) (paths []string, err error) {
	err = beside(ctx, func(ctx context.Context) error {
		return d.send(ctx, stream, newConnection)
	}, func(context.Context) (err error) {
		paths, err = d.confirmed()
		return err
	})
	return paths, err
}

// sendAll hands everything to an open delivery stream. There is nobody to take
// credit meanwhile, so it is what there is room for without.
func (d *deliverer) sendAll(ctx context.Context, stream uint64) error {
	for _, b := range d.batches[:min(len(d.batches), slots-1)] {
		if err := d.Send(ctx, stream, b, d.binding); err != nil {
			return err
		}
	}
	return nil
}

// confirmed reads an answer, which must confirm, and returns the files.
func (d *deliverer) confirmed() ([]string, error) {
	a, err := d.answer()
	if err != nil {
		return nil, err
	}
	return a.Paths, confirmed(a)
}

// noteFiles wants files that are there and that no stream has named before.
func noteFiles(left map[string]bool, paths []string) error {
	for _, path := range paths {
		if left[path] {
			return fmt.Errorf("two delivery streams have written %s", path)
		}
		left[path] = true
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("a confirmed file is not there: %w", err)
		}
	}
	return nil
}
