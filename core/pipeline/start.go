package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// lingerTimes is how many timeouts a stream may linger for a late answer.
const lingerTimes = 3

// start launches all plugins at once and then connects them, consumers first.
func (p *Pipeline) start(s *stages) error {
	if err := p.openStore(); err != nil {
		return err
	}
	launched, err := p.launchAll(s.flow)
	if err != nil {
		return err
	}
	for _, pl := range p.plugins {
		s.watchers.Go(func() { p.watch(s.watching, pl) })
	}
	if err := p.openTracks(s, launched); err != nil {
		return err
	}
	if p.store != nil {
		p.startStore(s)
	}
	admit := &admitter{tracks: p.tracks, store: p.store, memory: p.memory, keepRows: p.takesRows()}
	submit := admit.submitRows
	if p.config.Encoder != nil {
		if err := p.openEncoder(s, launched[&p.config.Encoder.PluginBlock], admit); err != nil {
			return err
		}
		submit = p.encode.submit
	}
	return p.openSources(s, launched, submit)
}

// launchAll starts every plugin of the pipeline; their order does not matter yet.
func (p *Pipeline) launchAll(ctx context.Context) (map[*config.PluginBlock]*plugin, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var starts sync.WaitGroup
	var mu sync.Mutex
	launched := map[*config.PluginBlock]*plugin{}
	launch := func(b *config.PluginBlock, gather time.Duration, directions ...shm.Direction) {
		starts.Go(func() {
			pl, err := p.launch(ctx, b, gather, directions...)
			mu.Lock()
			defer mu.Unlock()
			if pl != nil {
				p.plugins = append(p.plugins, pl)
				launched[b] = pl
			}
			if err != nil {
				cancel(err) // the first error is the cause of the others
			}
		})
	}
	for _, t := range p.config.Transports {
		directions := []shm.Direction{shm.ToPlugin}
		if p.store != nil { // one region for what is sent live, one for what is sent again
			directions = append(directions, shm.ToPlugin)
		}
		launch(&t.PluginBlock, 0, directions...)
	}
	if e := p.config.Encoder; e != nil {
		launch(&e.PluginBlock, 0, shm.ToPlugin, shm.ToHost)
	}
	for _, src := range p.config.Sources {
		launch(&src.PluginBlock, src.Gather, shm.ToHost)
	}
	starts.Wait()
	return launched, context.Cause(ctx)
}

func (p *Pipeline) takesRows() bool {
	for _, t := range p.config.Transports {
		if t.Description.Transport.Input == sdk.InputRows {
			return true
		}
	}
	return false
}

func (p *Pipeline) openTracks(s *stages, launched map[*config.PluginBlock]*plugin) error {
	for i, block := range p.config.Transports {
		pl := launched[&block.PluginBlock]
		t := &track{
			index: i, block: block, plugin: pl, pipeline: p.config, logger: p.logger, started: p.started,
			introduce: make(chan struct{}, 1),
		}
		t.register = pl.register
		live, err := p.openDeliver(s, t, 0)
		if err != nil {
			return err
		}
		settings := p.trackSettings(t)
		if p.store == nil {
			t.delivery = delivery.NewTrack(settings, live)
			p.tracks = append(p.tracks, t)
			continue
		}
		again, err := p.openDeliver(s, t, 1)
		if err != nil {
			return err
		}
		t.encoder = p.encoderPlugin()
		t.store = &trackStore{store: p.store, track: t, name: settings.Name}
		t.delivery = delivery.NewStoredTrack(settings, t.store, live, again)
		p.tracks = append(p.tracks, t)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.tracks, p.mu.store = p.tracks, p.store
	return nil
}

// openDeliver opens a call of a transport with a region of its own.
func (p *Pipeline) openDeliver(s *stages, t *track, region int) (*deliverAdapter, error) {
	ctx, cancel := context.WithCancel(s.delivery)
	stream, err := wire.OpenDeliver(ctx, t.plugin.process.Conn(), t.plugin.region(region))
	if err != nil {
		cancel()
		return nil, t.plugin.explain(err)
	}
	return &deliverAdapter{
		stream: stream, cancel: cancel, track: t, input: t.input(),
		openRebinder: func() (*wire.Rebinder, error) { return p.openRebinder(ctx) },
		numbers:      map[*delivery.Flow]uint32{},
	}, nil
}

// startStore starts the tasks of the backup, and what tells destinations of flows.
func (p *Pipeline) startStore(s *stages) {
	p.store.drop = func(f *delivery.Flow, ids checkpoint.Set) {
		for _, t := range p.tracks {
			t.delivery.Drop(f, ids, "dropped from the full backup")
		}
	}
	p.store.register = func(f *delivery.Flow) {
		for _, t := range p.tracks {
			t.ask([]*delivery.Flow{f}, func() {})
		}
	}
	s.store.Go(func() {
		if err := p.store.run(s.keeping); err != nil && s.keeping.Err() == nil {
			p.fail(err)
			s.stopFlow()
		}
	})
	// What cannot be stored in the time for the end stays unsafe.
	context.AfterFunc(s.delivery, func() { time.AfterFunc(closeTimeout, s.stopKeeping) })
	for _, t := range p.tracks {
		s.tracks.Go(func() { t.introduceFlows(s.introducing) })
	}
}

func (p *Pipeline) trackSettings(track *track) delivery.Settings {
	t := track.block
	memory := p.memory.Own() / len(p.config.Transports)
	return delivery.Settings{
		Name: p.account.Tracks()[track.index], Index: track.index,
		Queue:    channel.Size{Messages: t.Queues.Ingestion, Bytes: memory / 4},
		Memory:   memory,
		Interval: t.Checkpoint.Interval,
		Timeout:  t.Checkpoint.Timeout,
		Linger:   lingerTimes * t.Checkpoint.Timeout,
		Overlap:  t.Description.Transport.Overlap,
		Retry:    backoff.Policy(t.Retry),
		Wants:    track.wants,
		Sendable: track.sendable,
		Bury: func(b *delivery.Batch, l checkpoint.Letter) error {
			return p.store.bury(p.account.Tracks()[track.index], b, l)
		},
		Bus:    p.bus,
		Logger: p.logger,
	}
}

func (p *Pipeline) openEncoder(s *stages, pl *plugin, admit *admitter) error {
	stream, err := wire.OpenEncoder(s.flow, pl.process.Conn(), wire.StreamRegions{In: pl.region(0), Out: pl.region(1)})
	if err != nil {
		return pl.explain(err)
	}
	primary := -1
	for i, t := range p.config.Transports {
		if t.Description.Transport.Binds {
			primary = i
			break
		}
	}
	p.encode = newEncodeStage(p.config.Encoder.Description.Encoder.Format, stream, admit, primary)
	p.encode.hasRun = p.config.Run.Name != "" || p.config.Run.ID != ""
	return nil
}

// openRebinder opens a call that replaces the ids in batches by those of another
// destination.
func (p *Pipeline) openRebinder(ctx context.Context) (*wire.Rebinder, error) {
	pl := p.encoderPlugin()
	r, err := wire.OpenRebinder(ctx, pl.process.Conn(), wire.StreamRegions{}, p.encode.format)
	if err != nil {
		return nil, pl.explain(err)
	}
	return r, nil
}

func (p *Pipeline) openSources(s *stages, launched map[*config.PluginBlock]*plugin, submit func(context.Context, job) error) error {
	discovered, err := p.discover(s.flow, launched)
	if err != nil {
		return err
	}
	if err := p.flows.ready(s.flow, discovered...); err != nil {
		return err
	}
	for _, block := range p.config.Sources {
		pl := launched[&block.PluginBlock]
		ctx, cut := context.WithCancel(s.flow)
		stream, err := wire.OpenSource(ctx, pl.process.Conn(), wire.SourceStart{Region: pl.region(0), Resume: p.resumeAt(block)})
		if err != nil {
			cut()
			return pl.explain(err)
		}
		p.sources = append(p.sources, &source{
			block: block, plugin: pl, name: block.Plugin + "." + block.Label,
			stream: stream, cut: cut, flows: p.flows, logger: p.logger, ledger: newLedger(), submit: submit,
			wantAck: p.wantAck, active: make(chan struct{}, 1), finished: make(chan struct{}),
			numbers: map[uint32]*announced{},
		})
	}
	return nil
}

// discover asks every source for its flows, so that destinations know them before
// the first row.
func (p *Pipeline) discover(ctx context.Context, launched map[*config.PluginBlock]*plugin) ([]*knownFlow, error) {
	var all []*knownFlow
	seen := map[*knownFlow]bool{}
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	for _, block := range p.config.Sources {
		pl := launched[&block.PluginBlock]
		d, err := wire.Discover(ctx, pl.process.Conn())
		if err != nil {
			return nil, pl.explain(err)
		}
		for _, f := range d.Flows {
			added, err := p.flows.add(f, block.Description.Source.Replayable)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", pl.name, err)
			}
			if !seen[added] { // sources may have flows in common
				seen[added] = true
				all = append(all, added)
			}
		}
	}
	return all, nil
}

// resumeAt returns the position that a source goes on from; nil: from the beginning.
func (p *Pipeline) resumeAt(block *config.Source) []byte {
	if p.store == nil {
		return nil
	}
	name := block.Plugin + "." + block.Label
	position := p.store.resume[name]
	if position != nil {
		p.logger.Info("source goes on where it was", "source", name)
	}
	return position
}

// register makes flows known to all destinations that get them. With a backup that
// goes on in the background.
func (p *Pipeline) register(ctx context.Context, flows []*delivery.Flow) error {
	if p.store != nil {
		return p.introduceTo(ctx, flows)
	}
	calls, ctx := errgroup.WithContext(ctx)
	for _, t := range p.tracks {
		calls.Go(func() error { return t.announceAll(ctx, flows) })
	}
	return calls.Wait()
}

// wantAck asks for everything up to the id to be safe soon: on the disk, or, without
// one that does its work, confirmed by all destinations.
func (p *Pipeline) wantAck(id uint64) {
	if p.store != nil {
		p.store.manager.WantSync()
		if !p.store.manager.Lagging() {
			return
		}
	}
	for _, t := range p.tracks {
		t.delivery.WantAck(id)
	}
}
