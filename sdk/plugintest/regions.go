package plugintest

import (
	"context"
	"errors"
	"fmt"

	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// Small and few, so that plugins run out of them.
const (
	slotBytes = 256 << 10
	slots     = 4
)

// form is a way for payloads to travel.
type form struct {
	name   string
	shared bool
}

func forms() []form { return []form{{"inline", false}, {"shared memory", true}} }

// inForm runs f with a configured process and with regions for both directions, nil
// if payloads go inline.
func (k *kit) inForm(ctx context.Context, f form, run func(*Launched, wire.StreamRegions) error) error {
	if !f.shared {
		return k.configured(ctx, func(l *Launched) error { return run(l, wire.StreamRegions{}) })
	}
	err := k.withRegions(ctx, []shm.Direction{shm.ToPlugin, shm.ToHost}, func(l *Launched, r []*shm.Region) error {
		return run(l, wire.StreamRegions{In: r[0], Out: r[1]})
	})
	if err != nil {
		return fmt.Errorf("payloads by %s: %w", f.name, err)
	}
	return nil
}

// withRegions runs f with a configured process that has inherited regions.
func (k *kit) withRegions(ctx context.Context, directions []shm.Direction, run func(*Launched, []*shm.Region) error) error {
	var regions []*shm.Region
	defer func() {
		for _, r := range regions {
			_ = r.Close()
		}
	}()
	for _, d := range directions {
		r, err := shm.Create(d, slotBytes, slots)
		if errors.Is(err, errors.ErrUnsupported) {
			return skip("there are no sealed memory files here")
		}
		if err != nil {
			return err
		}
		regions = append(regions, r)
	}
	return k.configured(ctx, func(l *Launched) error { return run(l, regions) }, regions...)
}

// inEachForm runs f once for each form. Results must be equal.
func inEachForm[T any](ctx context.Context, k *kit, run func(*Launched, wire.StreamRegions) (T, error), equal func(a, b T) error) error {
	var first T
	for i, f := range forms() {
		var got T
		err := k.inForm(ctx, f, func(l *Launched, r wire.StreamRegions) (err error) {
			got, err = run(l, r)
			return err
		})
		if errors.Is(err, errSkipped) && i > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if i == 0 {
			first = got
		} else if err := equal(first, got); err != nil {
			return fmt.Errorf("payloads inline and by shared memory do not give the same: %w", err)
		}
	}
	return nil
}

// beside runs work in a goroutine while f runs, and joins it. Work ends when f
// fails.
func beside(ctx context.Context, work, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	err := f(ctx)
	if err != nil {
		cancel()
		<-done
		return err
	}
	return <-done
}
