package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/backup/deadletter"
	"github.com/pipelined/pipelined/core/backup/manager"
	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// maxDeadLetters bounds the bytes of messages that destinations refuse for good.
const maxDeadLetters = 1 << 30

// closeTimeout bounds what is written when the tasks of the backup are over.
const closeTimeout = 5 * time.Second

// store is the backup of a pipeline with what the pipeline knows of its content.
type store struct {
	backup  *backup.Backup
	manager *manager.Manager
	letters *deadletter.Store
	dir     string
	tracks  []string
	format  string // of the messages
	logger  *slog.Logger
	resume  map[string][]byte         // positions of the sources at the start
	firstID uint64                    // ids below are of earlier runs
	adopted map[string]*delivery.Flow // by definition; used at the start only
	before  func() *telemetry.Flow    // their account, opened when first needed

	drop     func(*delivery.Flow, checkpoint.Set) // tells the tracks what is lost
	register func(*delivery.Flow)                 // makes a flow of an earlier run known to the destinations

	mu struct {
		sync.Mutex
		numbers   map[*delivery.Flow]uint32 // as in the backup
		flows     map[uint32]*delivery.Flow
		earlier   map[string]*delivery.Flow // by definition
		bindings  map[sdk.Binding]uint32
		confirmed []checkpoint.Set // by each track, since the start
		unsafe    map[*stored]struct{}

		dropped    uint64 // messages that no log line has told of yet
		dropLogged time.Time
	}
}

// openStore opens the backup that the pipeline's block asks for.
func (p *Pipeline) openStore() error {
	place, ok := PlaceOfBackup(p.config, p.dataDir)
	if !ok {
		return nil
	}
	block := p.config.Backup
	b, recovered, err := backup.Open(vfs.OS{}, place.Dir, backup.Options{
		StateDir: place.StateDir, Name: place.Name, Tracks: place.Tracks, Retain: block.Retain,
		MaxFileSize: int64(block.MaxFileSize), MaxFileCount: block.MaxFileCount,
		MaxDisk: int64(block.MaxDisk), MinFree: int64(block.MinFree),
		OnFull: map[string]backup.OnFull{
			"block": backup.Block, "drop_oldest": backup.DropOldest, "drop_newest": backup.DropNewest,
		}[block.OnFull],
	})
	if err != nil {
		return err
	}
	s := &store{
		backup: b, dir: place.Dir, tracks: place.Tracks, format: p.config.Encoder.Description.Encoder.Format,
		logger: p.logger, resume: recovered.Cursors,
	}
	s.mu.numbers, s.mu.flows = map[*delivery.Flow]uint32{}, map[uint32]*delivery.Flow{}
	s.adopted = map[string]*delivery.Flow{}
	s.mu.earlier, s.mu.bindings = map[string]*delivery.Flow{}, map[sdk.Binding]uint32{}
	s.mu.unsafe = map[*stored]struct{}{}
	s.mu.confirmed = make([]checkpoint.Set, len(place.Tracks))
	s.before = sync.OnceValue(func() *telemetry.Flow { return p.account.Flow(sdk.Origin{}, telemetry.StoredBefore) })
	p.store = s
	if err := refuseStrangers(place, recovered); err != nil {
		return err
	}
	s.letters, err = deadletter.Open(vfs.OS{}, filepath.Join(p.dataDir, p.config.Name, "dead-letter"), maxDeadLetters)
	if err != nil {
		return err
	}
	s.report(recovered)
	s.adoptOrphans(recovered.Orphans)
	s.firstID = b.Stats().NextID
	s.openAccount(recovered)
	s.manager = manager.New(b, manager.Settings{
		Queue: channel.Size{Messages: p.config.Queues.Backup, Bytes: p.memory.Limit() / 2},
		Block: p.config.Queues.OnBackupLag == config.LagBlock,
		Sync:  syncPolicy(block),
		Lost:  s.lost,
		Full: func() {
			p.bus.Publish(control.Notice{Kind: control.BackupFull, Track: control.AllTracks})
		},
		Logger: p.logger,
	})
	return nil
}

func syncPolicy(b *config.Backup) manager.Sync {
	switch b.Sync {
	case "always":
		return manager.Sync{Mode: manager.Always}
	case "rotate":
		return manager.Sync{Mode: manager.Rotate}
	}
	return manager.Sync{Mode: manager.Within, Longest: b.SyncDelay}
}

// ErrRemoved is returned by Run when a transport is no longer in the pipeline, and the
// backup has messages that it has not confirmed.
var ErrRemoved = errors.New("which is no longer in the pipeline")

// refuseStrangers fails if a transport was taken out that is still owed something:
// it would be kept for ever, or given up without a word.
func refuseStrangers(place BackupPlace, r backup.Recovered) error {
	for track, owed := range r.Strangers {
		if !owed.Empty() {
			return fmt.Errorf("the backup in %s has %d messages for transport %s, %w: "+
				"put it back until they are delivered, or give them up with `pipelined backup forget`",
				place.Dir, owed.Count(), track, ErrRemoved)
		}
	}
	return nil
}

// report logs what the start found.
func (s *store) report(r backup.Recovered) {
	for _, text := range r.Damage {
		s.logger.Error("state of the backup is damaged", "damage", text)
	}
	for _, h := range r.Holes {
		s.logger.Error("part of a backup file cannot be read", "file", h.File, "from", h.From, "to", h.To,
			"ids", h.Ids.String(), "reason", h.Reason)
	}
	if r.Journal != nil {
		s.logger.Error("state of the backup cannot be written", "error", r.Journal)
	}
	if r.Segments > 0 {
		s.logger.Info("backup was found", "dir", s.dir, "files", r.Segments, "bytes", r.Bytes, "clean", r.Clean)
	}
}

// openAccount notes what each track has from before.
func (s *store) openAccount(r backup.Recovered) {
	for i, track := range s.tracks {
		var lost checkpoint.Set
		for ids := range r.Lost.Ranges() {
			lost.AddSet(s.backup.Unconfirmed(track, ids))
		}
		missing := s.backup.Missing(track)
		if missing.Empty() && lost.Empty() {
			continue
		}
		s.before().Tracks[i].Taken.Add(missing.Count() + lost.Count())
		if !lost.Empty() {
			s.before().Tracks[i].Lost.Add("not readable in the backup", lost.Count())
		}
	}
}

// run has the tasks of the backup until everything is stored, or ctx is done.
func (s *store) run(ctx context.Context) error { return s.manager.Run(ctx) }

// close writes down what is still to be written, and lets go of the directory.
// Positions are those that the sources have reached.
func (s *store) close(positions map[string]settledPosition) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.manager != nil {
		if err := s.manager.Flush(ctx); err != nil {
			s.logger.Warn("confirmations are not on the disk: what they confirm is sent again", "error", err)
		}
	}
	for source, p := range positions {
		if err := s.backup.Advance(source, p.id, p.position); err != nil {
			s.logger.Warn("position of a source is not noted", "source", source, "error", err)
		}
	}
	if s.letters != nil {
		s.letters.Close()
	}
	if err := s.backup.Close(); err != nil {
		s.logger.Error("backup is not closed in order", "error", err)
	}
}

// settledPosition is a source's position up to which all its rows are settled.
type settledPosition struct {
	id       uint64 // the greatest that a row of it, or before it, has
	position []byte
}

// stored is a batch on its way to the disk.
type stored struct {
	*delivery.Batch
	store *store
	meta  backup.Meta
}

func (b *stored) Meta() backup.Meta { return b.meta }

func (b *stored) Body() []byte { return b.Encoded.Bytes() }

// Safe notes that nothing can lose the batch any more.
func (b *stored) Safe() {
	b.store.mu.Lock()
	delete(b.store.mu.unsafe, b)
	b.store.mu.Unlock()
	b.Batch.Safe()
}

// push hands a batch to the disk. The tracks have claimed it.
func (s *store) push(ctx context.Context, b *stored) error {
	s.mu.Lock()
	s.mu.unsafe[b] = struct{}{}
	s.mu.Unlock()
	b.Retain()
	err := s.manager.Push(ctx, b)
	if err != nil {
		b.Release()
		s.mu.Lock()
		delete(s.mu.unsafe, b)
		s.mu.Unlock()
	}
	return err
}

// leave takes what was not stored out of the accounts of tracks that are over: it was
// not accepted, and nothing has it any more.
func (s *store) leave(tracks []*track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batches []*delivery.Batch
	for b := range s.mu.unsafe {
		batches = append(batches, b.Batch)
	}
	for _, t := range tracks {
		t.delivery.Leave(batches)
	}
	clear(s.mu.unsafe)
}

// Confirmed reports whether every track has confirmed the batch.
func (b *stored) Confirmed() bool {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return !slices.ContainsFunc(b.store.mu.confirmed, func(s checkpoint.Set) bool { return !s.Contains(b.Ids) })
}

// wrap prepares a batch for the disk; cursors are positions of sources behind it.
func (s *store) wrap(b *delivery.Batch, cursors []backup.Cursor) (*stored, error) {
	flow, err := s.flowNumber(b.Flow)
	if err != nil {
		return nil, err
	}
	binding, err := s.bindingNumber(b.Binding)
	if err != nil {
		return nil, err
	}
	return &stored{Batch: b, store: s, meta: backup.Meta{
		Ids: b.Ids, Flow: flow, Binding: binding, MinTime: b.MinTime, MaxTime: b.MaxTime, Cursors: cursors,
	}}, nil
}

// flowNumber returns the number of a flow in the backup.
func (s *store) flowNumber(f *delivery.Flow) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number := s.mu.numbers[f]; number != 0 {
		return number, nil
	}
	definition, err := wire.MarshalFlow(&f.Flow)
	if err != nil {
		return 0, err
	}
	number := uint32(len(s.mu.flows) + 1)
	if err := s.backup.DefineFlow(number, definition); err != nil {
		return 0, err
	}
	s.mu.numbers[f], s.mu.flows[number] = number, f
	return number, nil
}

func (s *store) bindingNumber(b sdk.Binding) (uint32, error) {
	if b == (sdk.Binding{}) {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if number := s.mu.bindings[b]; number != 0 {
		return number, nil
	}
	number := uint32(len(s.mu.bindings) + 1)
	if err := s.backup.DefineBinding(number, b); err != nil {
		return 0, err
	}
	s.mu.bindings[b] = number
	return number, nil
}

// flowOf returns the flow of a chunk. One of an earlier run is another flow than
// that of this run with its name: it has its own account, and its channels may
// differ.
func (s *store) flowOf(id uint64, number uint32, definition []byte) *delivery.Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id >= s.firstID {
		return s.mu.flows[number]
	}
	if f := s.mu.earlier[string(definition)]; f != nil {
		return f
	}
	f := delivery.NewFlow(sdk.Flow{Name: "(definition is not readable)"}, s.before(), len(s.tracks))
	if def, err := wire.UnmarshalFlow(definition); err == nil && len(definition) > 0 {
		f.Flow = *def
		s.register(f)
	} else {
		s.logger.Error("what a backup file says of a flow cannot be read; its messages stay there", "id", id, "error", err)
	}
	s.mu.earlier[string(definition)] = f
	return f
}

// lost tells the tracks what was dropped.
func (s *store) lost(losses []backup.Loss) {
	for _, l := range losses {
		flow := s.flowToBlame(l.Flow)
		s.noteDropped(flow.Flow.Name, l.Ids.Count())
		s.drop(flow, l.Ids)
	}
}

// dropSpacing is the least time between log lines about what is dropped; all of it is
// in the account.
const dropSpacing = 5 * time.Second

func (s *store) noteDropped(flow string, messages uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.dropped += messages
	if time.Since(s.mu.dropLogged) < dropSpacing {
		return
	}
	s.logger.Error("messages are dropped from the full backup", "flow", flow, "messages", s.mu.dropped)
	s.mu.dropped, s.mu.dropLogged = 0, time.Now()
}

// flowToBlame returns the flow of a number of this run that something was lost of; of
// number 0, which is of an earlier one, it is the flow that stands for all of these.
func (s *store) flowToBlame(number uint32) *delivery.Flow {
	s.mu.Lock()
	flow := s.mu.flows[number]
	s.mu.Unlock()
	if flow == nil {
		flow = delivery.NewFlow(sdk.Flow{Name: telemetry.StoredBefore}, s.before(), len(s.tracks))
	}
	return flow
}

// bury puts a message aside that a destination refuses for good.
func (s *store) bury(track string, b *delivery.Batch, l checkpoint.Letter) error {
	definition, err := wire.MarshalFlow(&b.Flow.Flow)
	if err != nil {
		return err
	}
	message := firstMessage(b.Encoded.Bytes())
	return s.letters.Put(deadletter.Letter{
		Track: track, ID: l.ID, Flow: b.Flow.Flow.Name, Code: l.Code, Text: l.Text, Time: addressOf(message).time,
		GivenUp: time.Now().UnixNano(), Definition: definition, Target: b.Binding, Message: message,
	})
}
