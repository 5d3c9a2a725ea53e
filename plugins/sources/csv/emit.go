package csv

import (
	"context"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// emitter hands the rows of the files to the host. Its position is always that
// behind everything emitted.
type emitter interface {
	// announce makes the flow of a file known.
	announce(f *file) error
	// row emits the row at hand of a file, with its event time as stamp.
	row(ctx context.Context, f *file, stamp int64) error
	// flush emits what is gathered.
	flush(ctx context.Context) error
	// close flushes and ends.
	close(ctx context.Context) error
}

// bulk emits batches that are as full as can be.
type bulk struct {
	out      sdk.Output
	files    []*file // with a flow
	position func() []byte
}

func (b *bulk) announce(f *file) error {
	number, err := b.out.Announce(f.schema.flow)
	if err != nil {
		return err
	}
	f.number, f.rows = number, sdk.NewBuilder(&f.schema.flow)
	b.files = append(b.files, f)
	return nil
}

func (b *bulk) row(ctx context.Context, f *file, stamp int64) error {
	if f.rows.Full() {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	if f.rows.Rows() == 0 {
		f.before = f.done
	}
	f.rows.Row(stamp)
	f.put(f.rows, stamp)
	f.waiting = f.rows.Rows() > 0
	return nil
}

// flush emits the rows of all files, so that flows stay together in time. The
// position of each batch covers it and those before; the files whose rows are still
// to be emitted go on before these.
func (b *bulk) flush(ctx context.Context) error {
	for _, f := range b.files {
		if f.rows.Rows() == 0 {
			continue
		}
		f.waiting = false
		_, err := b.out.Emit(ctx, f.number, f.rows, b.position())
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bulk) close(ctx context.Context) error { return b.flush(ctx) }

// gather emits rows soon after their time has come.
type gather struct {
	*sdk.Gatherer
	position func() []byte
}

func newGather(out sdk.Output, interval time.Duration, position func() []byte) *gather {
	return &gather{sdk.NewGatherer(out, interval), position}
}

func (g *gather) announce(f *file) error {
	number, err := g.Announce(f.schema.flow)
	f.number = number
	return err
}

func (g *gather) row(ctx context.Context, f *file, stamp int64) error {
	f.done = f.reader.Mark()
	return g.Row(ctx, f.number, stamp, g.position(), func(rows *sdk.Builder) {
		f.put(rows, stamp)
	})
}

func (g *gather) flush(ctx context.Context) error {
	_, err := g.Flush(ctx)
	return err
}

func (g *gather) close(ctx context.Context) error { return g.Close(ctx) }
