package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// processStop is how long plugins have to end after their work is done.
const processStop = 5 * time.Second

// sourcesShare is the part of the drain timeout that sources have for stopping.
const sourcesShare = 3

// Pipeline is one pipeline of a configuration.
type Pipeline struct {
	config   *config.Pipeline
	dataDir  string
	memory   *channel.Share // for batches that are not safe
	bus      *control.Bus
	launcher Launcher
	logger   *slog.Logger
	account  *telemetry.Account

	plugins []*plugin // in the order of their start
	tracks  []*track
	sources []*source
	flows   *flowTable
	encode  *encodeStage // nil without an encoder
	store   *store       // nil without a backup

	started chan struct{} // closed when data may flow
	stopped chan struct{} // closed by Stop
	once    sync.Once
	done    chan struct{} // closed when Run returns

	mu struct {
		sync.Mutex
		phase   Phase
		err     error
		tracks  []*track // all of them, once they are connected
		sources []*source
		store   *store
		started time.Time
	}
	failure chan struct{} // closed at the first failure
}

// Phase is what a pipeline is doing.
type Phase string

// The phases in their order.
const (
	Starting Phase = "starting"
	Running  Phase = "running"
	Draining Phase = "draining"
	Finished Phase = "finished"
)

// New returns a pipeline; Run starts it.
func New(c *config.Pipeline, dataDir string, memory *channel.Share, launcher Launcher, logger *slog.Logger) *Pipeline {
	var names []string
	for _, t := range c.Transports {
		names = append(names, t.Plugin+"."+t.Label)
	}
	p := &Pipeline{
		config: c, dataDir: dataDir, memory: memory, launcher: launcher,
		logger:  logger.With("pipeline", c.Name),
		account: telemetry.NewAccount(names),
		bus:     control.NewBus(c.Queues.Control),
		started: make(chan struct{}),
		stopped: make(chan struct{}),
		done:    make(chan struct{}),
		failure: make(chan struct{}),
	}
	p.mu.phase = Starting
	p.flows = newFlowTable(p.account)
	p.flows.register = p.register
	return p
}

// Name returns the pipeline's name.
func (p *Pipeline) Name() string { return p.config.Name }

// Stop asks the pipeline to finish: sources emit nothing more, what they emitted is
// delivered. It does not wait.
func (p *Pipeline) Stop() { p.once.Do(func() { close(p.stopped) }) }

// Done is closed when Run has returned.
func (p *Pipeline) Done() <-chan struct{} { return p.done }

// Ready is closed when the pipeline takes data.
func (p *Pipeline) Ready() <-chan struct{} { return p.started }

// Run starts the pipeline and returns when it has finished, was stopped or failed,
// and all its processes are gone. Canceling ctx ends it at once.
func (p *Pipeline) Run(ctx context.Context) error {
	defer close(p.done)
	defer p.setPhase(Finished)
	s := newStages(ctx)
	s.watchers.Go(func() { p.cancelStart(s) })
	if err := p.start(s); err != nil {
		p.startFailed(err)
	} else {
		p.noteStarted()
		p.work(s)
	}
	s.end()
	p.closeStore(s)
	p.stopPlugins()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// cancelStart ends a start that is no longer wanted.
func (p *Pipeline) cancelStart(s *stages) {
	select {
	case <-p.stopped:
		select {
		case <-p.started:
		default:
			s.stopTracks()
		}
	case <-p.failure: // a plugin is gone that the start may wait for
		select {
		case <-p.started:
		default:
			s.stopTracks()
		}
	case <-p.started:
	case <-s.ending:
	}
}

// startFailed notes why the pipeline did not start.
func (p *Pipeline) startFailed(err error) {
	select {
	case <-p.stopped:
		err = fmt.Errorf("stopped before it had started: %w", err)
	default:
	}
	p.fail(err)
}

// closeStore closes the backup, when its tasks have ended.
func (p *Pipeline) closeStore(s *stages) {
	if p.store == nil {
		return
	}
	positions := map[string]settledPosition{}
	for _, src := range p.sources {
		if position, ok := src.settledPosition(); ok {
			positions[src.name] = position
		}
	}
	p.store.close(positions)
	p.store.leave(p.tracks)
}

// fail notes the first failure and begins the end of the run.
func (p *Pipeline) fail(err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.err == nil {
		p.mu.err = err
		close(p.failure)
		return
	}
	p.logger.Debug("further failure", "error", err)
}

func (p *Pipeline) noteStarted() {
	p.mu.Lock()
	p.mu.phase, p.mu.started, p.mu.sources = Running, time.Now(), p.sources
	p.mu.Unlock()
	close(p.started)
}

func (p *Pipeline) setPhase(phase Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.phase = phase
}

// stopPlugins ends all processes, at the same time: nothing flows between them any
// more. A source that has to be killed may have had rows that nobody will get.
func (p *Pipeline) stopPlugins() {
	// The processes end even when the run was canceled, so that none is orphaned.
	ctx, cancel := context.WithTimeout(context.Background(), processStop)
	defer cancel()
	var stops sync.WaitGroup
	for _, pl := range p.plugins {
		stops.Go(func() {
			if err := pl.stop(ctx); err != nil {
				p.logger.Warn("plugin did not end by itself", "plugin", pl.name, "error", err)
				if pl.block.Kind == sdk.KindSource {
					p.fail(fmt.Errorf("%s: %w; rows that it had not handed over yet are lost", pl.name, err))
				}
			}
		})
	}
	stops.Wait()
}

// stateDir returns the directory that belongs to a block alone.
func (p *Pipeline) stateDir(b *config.PluginBlock) (string, error) {
	dir := filepath.Join(p.dataDir, p.config.Name, "state", fmt.Sprintf("%s-%s-%s", b.Kind, b.Plugin, b.Label))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%s %s.%s: state directory: %w", b.Kind, b.Plugin, b.Label, err)
	}
	return dir, nil
}

// work runs all stages until everything is delivered or nothing more can be.
func (p *Pipeline) work(s *stages) {
	for _, t := range p.tracks {
		s.deliveries.Go(func() { p.runTrack(s, t) })
	}
	if p.encode != nil {
		s.encoder.Go(func() { p.stageFailed(s, p.encoderPlugin(), p.encode.feed(s.flow)) })
		s.encoder.Go(func() { p.stageFailed(s, p.encoderPlugin(), p.encode.collect(s.flow)) })
	}
	if p.store != nil {
		s.tracks.Go(func() { p.rewriteUnbound(s.introducing) })
	}
	for _, src := range p.sources {
		if src.block.IdleExit > 0 {
			s.watchers.Go(func() { src.watchIdle(s.ending) })
		}
		s.sources.Go(func() { p.runSource(s, src) })
		s.acks.Go(func() { src.acknowledge(s.ackUntil) })
	}
	p.conduct(s)
}

// conduct waits for the end of the data and brings the pipeline to its end, stage
// by stage.
func (p *Pipeline) conduct(s *stages) {
	all := make(chan struct{})
	s.watchers.Go(func() {
		defer close(all)
		for _, src := range p.sources {
			<-src.finished
		}
	})
	select {
	case <-all:
	case <-p.stopped:
		s.drainWithin(p.config.DrainTimeout)
	case <-p.failure:
		s.drainWithin(p.config.DrainTimeout)
	case <-s.flow.Done():
	}
	p.setPhase(Draining)
	// From here on a stop or a failure bounds the rest, if nothing has yet.
	s.watchers.Go(func() { s.boundWhen(p.stopped, p.failure, p.config.DrainTimeout) })
	for _, src := range p.sources {
		src.stop()
	}
	s.watchers.Go(func() { p.cutSources(s) })
	<-all
	if p.encode != nil {
		p.encode.close()
	}
	s.encoder.Wait()
	p.bus.Publish(control.Notice{Kind: control.Shutdown, Track: control.AllTracks})
	if p.store != nil {
		p.store.manager.CloseQueue()
	}
	for _, t := range p.tracks {
		t.delivery.CloseQueue()
	}
	s.deliveries.Wait()
	s.stopIntroducing()
	s.tracks.Wait()
	s.store.Wait()
	s.stopAcks()
	s.acks.Wait()
	s.beginEnd()
	for _, src := range p.sources {
		if err := src.stream.CloseSend(); err != nil {
			p.logger.Debug("source is gone already", "source", src.name, "error", err)
		}
	}
}

// cutSources cuts off sources that do not stop, so that they leave time for the rest.
func (p *Pipeline) cutSources(s *stages) {
	timer := time.NewTimer(p.config.DrainTimeout / sourcesShare)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ending:
		return
	}
	for _, src := range p.sources {
		src.cutOff()
	}
}

func (p *Pipeline) encoderPlugin() *plugin {
	for _, pl := range p.plugins {
		if pl.block.Kind == sdk.KindEncoder {
			return pl
		}
	}
	return nil
}

// stageFailed notes a stage's failure and ends the flow of data, since nothing
// behind the stage gets any.
func (p *Pipeline) stageFailed(s *stages, pl *plugin, err error) {
	if err == nil || s.flow.Err() != nil {
		return
	}
	p.fail(pl.explain(err))
	s.stopFlow()
}

func (p *Pipeline) runTrack(s *stages, t *track) {
	err := t.delivery.Run(s.delivery)
	if err == nil || s.delivery.Err() != nil {
		return
	}
	p.fail(t.plugin.explain(err))
}

func (p *Pipeline) runSource(s *stages, src *source) {
	err := src.receive(s.flow)
	if err == nil || s.flow.Err() != nil {
		return
	}
	p.fail(src.plugin.explain(err))
}

// watch notes when a process ends before it was asked to, and says when it does not
// answer: it may be stopped, or the machine too busy for it.
func (p *Pipeline) watch(ctx context.Context, pl *plugin) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	answers := true
	for {
		select {
		case <-pl.process.Exited():
			if ctx.Err() == nil {
				p.fail(pl.exitError())
			}
			return
		case <-ticker.C:
			alive := pl.answers(ctx)
			if alive != answers {
				answers = alive
				p.noteAnswers(pl, alive)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (p *Pipeline) noteAnswers(pl *plugin, alive bool) {
	if alive {
		p.logger.Info("plugin answers again", "plugin", pl.name)
		return
	}
	p.logger.Warn("plugin does not answer: it may be stopped or hung; its data waits", "plugin", pl.name)
}

// stages are the goroutines of a running pipeline and the contexts that end them.
type stages struct {
	flow       context.Context // sources and encoder
	stopFlow   context.CancelFunc
	delivery   context.Context // tracks
	stopTracks context.CancelFunc
	ackUntil   context.Context
	stopAcks   context.CancelFunc
	ending     chan struct{}   // processes may end
	watching   context.Context // until then
	stopWatch  context.CancelFunc
	endOnce    sync.Once
	timer      *time.Timer
	bound      sync.Once

	introducing     context.Context // flows to destinations
	stopIntroducing context.CancelFunc
	keeping         context.Context // the tasks of the backup
	stopKeeping     context.CancelFunc

	sources, encoder, deliveries, tracks, store, acks, watchers sync.WaitGroup
}

func newStages(ctx context.Context) *stages {
	s := &stages{ending: make(chan struct{})}
	s.delivery, s.stopTracks = context.WithCancel(ctx)
	s.flow, s.stopFlow = context.WithCancel(s.delivery)
	s.introducing, s.stopIntroducing = context.WithCancel(s.delivery)
	s.keeping, s.stopKeeping = context.WithCancel(context.WithoutCancel(ctx))
	s.ackUntil, s.stopAcks = context.WithCancel(context.WithoutCancel(ctx))
	s.watching, s.stopWatch = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// drainWithin ends everything after a time, once.
func (s *stages) drainWithin(d time.Duration) {
	s.bound.Do(func() { s.timer = time.AfterFunc(d, s.stopTracks) })
}

func (s *stages) boundWhen(stopped, failed <-chan struct{}, d time.Duration) {
	select {
	case <-stopped:
	case <-failed:
	case <-s.ending:
		return
	}
	s.drainWithin(d)
}

func (s *stages) beginEnd() {
	s.endOnce.Do(func() {
		close(s.ending)
		s.stopWatch()
	})
}

// end joins everything that is left.
func (s *stages) end() {
	s.beginEnd()
	s.drainWithin(processStop)
	s.sources.Wait()
	s.watchers.Wait()
	s.timer.Stop()
	s.stopTracks()
	s.deliveries.Wait()
	s.tracks.Wait()
	s.stopKeeping()
	s.store.Wait()
	s.stopAcks()
}
