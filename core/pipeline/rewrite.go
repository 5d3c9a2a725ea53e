package pipeline

import (
	"context"
	"errors"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/sdk/wire"
)

// errUnbound: the destination does not know a flow of the file yet.
var errUnbound = errors.New("a flow has no ids of the destination yet")

// rewriteUnbound gives files that are kept after their delivery the ids of the
// destination, so that other tools can send them: as long as it was not known they
// were written with placeholders. It returns when ctx is done.
func (p *Pipeline) rewriteUnbound(ctx context.Context) {
	if !p.config.Backup.Retain || p.encode == nil || p.encode.primary < 0 {
		return
	}
	notices := p.bus.Subscribe(control.AllTracks, control.CheckpointComplete)
	defer notices.Close()
	for {
		p.rewriteAll(ctx)
		select {
		case <-notices.Ready():
			notices.Take()
		case <-ctx.Done():
			return
		}
	}
}

// rewriteAll rewrites what can be rewritten now. What cannot is tried with the next
// checkpoint.
func (p *Pipeline) rewriteAll(ctx context.Context) {
	segments := p.store.backup.Rewritable()
	if len(segments) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the rebinder
	rebinder, err := p.openRebinder(ctx)
	for _, segment := range segments {
		if err == nil {
			err = p.rewriteOne(ctx, rebinder, segment)
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errUnbound):
			err = nil
		case err != nil:
			p.logger.Warn("a file with placeholders stays as it is", "segment", segment, "error", err)
			return
		}
	}
}

func (p *Pipeline) rewriteOne(ctx context.Context, rebinder *wire.Rebinder, segment uint64) error {
	var rebound *wire.Buffer
	release := func() {
		if rebound != nil {
			rebound.Release()
		}
	}
	defer func() { release() }()
	return p.store.backup.Rewrite(segment, func(c backup.Chunk) ([]byte, uint32, error) {
		own, known := p.store.flowOf(c.Ids.First, c.Flow, c.Definition).Binding(p.encode.primary)
		if !known || !c.Target.CanRebind(own) {
			return nil, 0, errUnbound
		}
		number, err := p.store.bindingNumber(own)
		if err != nil {
			return nil, 0, err
		}
		release()
		rebound, err = rebinder.Rebind(ctx, c.Body, int(c.Ids.Count()), c.Target, own)
		if err != nil {
			return nil, 0, err
		}
		return rebound.Bytes(), number, nil
	})
}
