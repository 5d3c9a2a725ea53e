package replay

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// ExportSettings say what is exported.
type ExportSettings struct {
	Filter Filter
	Binder Binder // nil: messages with placeholders are left out
}

// Exported says what became of the messages of a file.
type Exported struct {
	Messages int64
	Bound    int64 // of these, messages that carried placeholders
	Left     int64 // that the filter left out
	Unbound  int64 // that were left out because they cannot be bound
	Why      error // the first of them
	Damage   DamageList
}

// Export writes the messages of a file to out, as chunks of a PBFS file, in their
// order; also what was found by searching behind damage. An error of out is returned
// as it is.
func Export(ctx context.Context, src *Source, s ExportSettings, out io.Writer) (Exported, error) {
	e := &exporter{ExportSettings: s, ctx: ctx, out: out}
	rd := newReader(src.File, src.Identity.Size, Position{}, true, src.Borders)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return e.done, ctx.Err()
		}
		m, err := rd.next()
		if damage, ok := errors.AsType[*damageError](err); ok {
			e.done.Damage.add(damage.Damage)
			continue
		}
		if errors.Is(err, io.EOF) {
			return e.done, e.flush()
		}
		if err != nil {
			return e.done, errors.Join(&SourceError{err}, e.flush())
		}
		if err := e.add(src, m); err != nil {
			return e.done, err
		}
	}
}

// exporter gathers messages into chunks. It lives within one call.
type exporter struct {
	ExportSettings
	ctx   context.Context
	out   io.Writer
	batch Batch // messages with one target, or any messages without
	chunk []byte
	done  Exported
}

func (e *exporter) add(src *Source, m *message) error {
	if !e.Filter.takes(&m.header) {
		e.done.Left++
		return nil
	}
	if m.unbound() {
		target, err := bind(e.ctx, e.Binder, src, m)
		if errors.Is(err, ErrUnbound) {
			e.done.Unbound++
			if e.done.Why == nil {
				e.done.Why = fmt.Errorf("flow %.100q: %w", m.flow, err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		m.target = target
		e.done.Bound++
	}
	if !e.fits(m) {
		if err := e.flush(); err != nil {
			return err
		}
	}
	if e.batch.Count == 0 {
		e.batch.Target, e.batch.Binding = m.target, m.binding()
	}
	e.batch.add(m)
	e.done.Messages++
	return nil
}

func (e *exporter) fits(m *message) bool {
	if m.target == nil && e.batch.Target == nil {
		return len(e.batch.Body)+len(m.raw) <= sdk.MaxBatchBytes
	}
	return e.batch.fits(m)
}

func (e *exporter) flush() error {
	if e.batch.Count == 0 {
		return nil
	}
	if err := e.batch.rebind(e.ctx, e.Binder); err != nil {
		return err
	}
	e.chunk = pbfs.AppendChunk(e.chunk[:0], e.batch.Body)
	e.batch = Batch{Body: e.batch.Body[:0]}
	_, err := e.out.Write(e.chunk)
	return err
}
