package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// sourceStream is a source plugin as the pipeline sees it; *wire.SourceStream
// outside tests.
type sourceStream interface {
	Recv() (wire.SourceEvent, error)
	Ack(through uint64) error
	Stop() error
	CloseSend() error
}

// job is a flow batch on its way to the tracks. A source's batch that would be too
// large once encoded makes several jobs.
type job struct {
	source   *source
	sequence uint64 // of the source's batch
	flow     *knownFlow
	rows     delivery.Buffer // the flow batch
	count    int
	minTime  int64
	maxTime  int64
	more     bool        // further parts of the batch follow
	position []byte      // of the source behind the batch; nil: none
	binding  sdk.Binding // that its messages are encoded with
}

// admitted tells the source that the job's rows have their ids.
func (j *job) admitted(lastID uint64) {
	if !j.more { // parts are admitted in order
		j.source.admitted(j.sequence, lastID)
	}
}

// source receives from one source plugin and acknowledges to it.
type source struct {
	block   *config.Source
	plugin  *plugin
	name    string
	stream  sourceStream
	cut     context.CancelFunc // ends the stream at once
	flows   *flowTable
	logger  *slog.Logger
	ledger  *ledger
	submit  func(context.Context, job) error
	wantAck func(id uint64) // asks all tracks
	active  chan struct{}   // holds a token after something was handed on
	busy    atomic.Bool     // receive hands something on
	isCut   atomic.Bool     // it did not stop in time

	finished chan struct{} // closed when no job follows
	stopOnce sync.Once

	mu struct { // shared with the admitter
		sync.Mutex
		wanted   uint64 // sequence that the plugin wants acknowledged
		admitted uint64 // sequence up to which rows have ids
		lastID   uint64 // greatest id at that time
		position []byte // behind rows that need no storing, until the next that do
	}

	numbers map[uint32]*announced // owned by receive
}

// announced is a flow under the source's own number.
type announced struct {
	flow    *knownFlow
	refused string // why its rows are refused; empty: they are not
}

// stop asks the plugin to emit nothing more.
func (s *source) stop() {
	s.stopOnce.Do(func() {
		if err := s.stream.Stop(); err != nil {
			s.logger.Debug("source cannot be asked to stop", "source", s.name, "error", err)
		}
	})
}

// cutOff ends the stream of a plugin that was asked to stop and does not. One whose
// rows wait for room is not at fault.
func (s *source) cutOff() {
	select {
	case <-s.finished:
		return
	default:
	}
	if !s.busy.Load() {
		s.logger.Warn("source does not stop; it is cut off", "source", s.name)
		s.isCut.Store(true)
		s.cut()
	}
}

// receive runs until the plugin has ended its stream. It returns an error when the
// plugin failed or broke its contract.
func (s *source) receive(ctx context.Context) error {
	var once sync.Once
	finish := func() { once.Do(func() { close(s.finished) }) }
	defer finish()
	for {
		event, err := s.stream.Recv()
		if err != nil {
			return s.ended(err)
		}
		s.busy.Store(true)
		switch e := event.(type) {
		case *wire.FlowAnnounced:
			err = s.announce(ctx, e)
			s.noteActive()
		case *wire.SourceBatch:
			err = s.take(ctx, e)
			s.noteActive()
		case *wire.Dropped:
			s.dropped(e)
		case *wire.AckWanted:
			s.ackWanted(e.Sequence)
		case *wire.Finished:
			finish()
			if e.Failure != nil {
				err = e.Failure
			}
		}
		s.busy.Store(false)
		if err != nil {
			return err
		}
	}
}

func (s *source) noteActive() {
	select {
	case s.active <- struct{}{}:
	default:
	}
}

// ended translates the end of the stream: it is right after Finished only.
func (s *source) ended(err error) error {
	if s.isCut.Load() {
		return nil
	}
	select {
	case <-s.finished:
		return nil
	default:
		return fmt.Errorf("it ended without saying that it has finished: %w", err)
	}
}

// announce makes the flow known everywhere before its first batch.
func (s *source) announce(ctx context.Context, e *wire.FlowAnnounced) error {
	known, err := s.flows.add(*e.Flow, s.block.Description.Source.Replayable)
	if err != nil {
		return err
	}
	a := &announced{flow: known}
	s.numbers[e.Number] = a
	if err := s.flows.ready(ctx, known); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.refused = err.Error()
		s.logger.Error("rows of a flow are refused", "source", s.name, "flow", e.Flow.Name, "reason", err)
	}
	return nil
}

// take hands a batch on; the stream has checked it.
func (s *source) take(ctx context.Context, e *wire.SourceBatch) error {
	a := s.numbers[e.Flow]
	account := a.flow.flow.Account
	account.Received.Add(uint64(e.Count))
	if a.refused != "" {
		s.passed(e.Position)
		e.Payload.Release()
		account.Refused.Add(a.refused, uint64(e.Count))
		s.ledger.begin(0)
		s.admitted(e.Sequence, 0)
		return nil
	}
	jobs := []job{{
		source: s, sequence: e.Sequence, flow: a.flow, rows: e.Payload,
		count: e.Count, minTime: e.MinTime, maxTime: e.MaxTime, position: slices.Clone(e.Position),
	}}
	if e.WireBound > sdk.MaxBatchBytes {
		var err error
		if jobs, err = cut(jobs[0]); err != nil {
			return err
		}
	}
	s.ledger.begin(len(jobs))
	if len(jobs) == 0 {
		s.passed(e.Position)
		s.admitted(e.Sequence, 0)
	}
	for _, j := range jobs {
		if err := s.submit(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// passed notes the position behind rows that are settled without being stored.
func (s *source) passed(position []byte) {
	if len(position) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.position = slices.Clone(position)
}

// cursor returns the position that is to be stored with a job, if any.
func (j *job) cursor() []backup.Cursor {
	s := j.source
	s.mu.Lock()
	defer s.mu.Unlock()
	position := s.mu.position
	if !j.more && len(j.position) > 0 {
		position = j.position
	}
	if len(position) == 0 {
		return nil
	}
	s.mu.position = nil
	return []backup.Cursor{{Source: s.name, Position: position}}
}

// settledPosition returns the position behind the newest rows, if all are settled
// and it was not stored with any.
func (s *source) settledPosition() (settledPosition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := len(s.mu.position) > 0 && s.ledger.allSettled()
	return settledPosition{id: s.mu.lastID, position: s.mu.position}, ok
}

// cut splits a batch that could be too large once encoded. Rows that are too large
// by themselves are refused.
func cut(j job) ([]job, error) {
	defer j.rows.Release()
	flow := &j.flow.flow.Flow
	batch, err := sdk.ParseBatch(flow, j.rows.Bytes())
	if err != nil {
		return nil, err
	}
	var jobs []job
	builder := sdk.NewBuilder(flow)
	emit := func() {
		if builder.Rows() == 0 {
			return
		}
		part := j
		part.rows, part.count = wire.BufferOf(builder.Append(nil)), builder.Rows()
		part.minTime, part.maxTime = builder.TimeSpan()
		builder.Reset()
		jobs = append(jobs, part)
	}
	for row := range batch.Rows() {
		if builder.Full() {
			emit()
		}
		if err := builder.CopyRow(batch, row); err != nil {
			return nil, err
		}
		if builder.TooLarge() && builder.Rows() > 1 {
			builder.DropRow()
			emit()
			if err := builder.CopyRow(batch, row); err != nil {
				return nil, err
			}
		}
		if builder.TooLarge() {
			builder.DropRow()
			j.flow.flow.Account.Refused.Add(fmt.Sprintf("row of more than %d bytes", sdk.MaxPayloadBytes), 1)
		}
	}
	emit()
	for i := range len(jobs) - 1 {
		jobs[i].more = true
	}
	return jobs, nil
}

// dropped adds what the source lost or refused itself to the account.
func (s *source) dropped(e *wire.Dropped) {
	account := s.accountOf(e.Flow)
	reason := s.plugin.process.Scrub(e.Reason)
	if e.Refused {
		account.Received.Add(e.Rows)
		account.Refused.Add(reason, e.Rows)
		return
	}
	account.Dropped.Add(reason, e.Rows)
}

// accountOf returns the account of a flow by the source's own number; rows of a
// number that it never announced have one, too.
func (s *source) accountOf(number sdk.FlowNumber) *telemetry.Flow {
	if a := s.numbers[uint32(number)]; a != nil {
		return a.flow.flow.Account
	}
	return s.flows.unknown()
}

// ackWanted notes that the plugin wants an ack soon.
func (s *source) ackWanted(sequence uint64) {
	if s.ledger.settled() >= sequence {
		return
	}
	s.mu.Lock()
	s.mu.wanted = max(s.mu.wanted, sequence)
	id := s.mu.lastID
	ready := s.mu.admitted >= sequence
	s.mu.Unlock()
	if ready {
		s.wantAck(id)
	}
}

// admitted tells that the rows of a batch have their ids, the last of which is
// given; 0 = none of them got one.
func (s *source) admitted(sequence, lastID uint64) {
	s.mu.Lock()
	before := s.mu.admitted
	s.mu.admitted = sequence
	s.mu.lastID = max(s.mu.lastID, lastID)
	id := s.mu.lastID
	wanted := s.mu.wanted > before && s.mu.wanted <= sequence
	s.mu.Unlock()
	if wanted && id > 0 {
		s.wantAck(id)
	}
}

// acknowledge sends acks to the plugin until ctx is done; then it sends the last.
func (s *source) acknowledge(ctx context.Context) {
	sent := uint64(0)
	for {
		if through := s.ledger.settled(); through > sent {
			if s.stream.Ack(through) != nil {
				return // the plugin is gone; receive says why
			}
			sent = through
			continue
		}
		select {
		case <-s.ledger.moved:
		case <-ctx.Done():
			if through := s.ledger.settled(); through > sent {
				_ = s.stream.Ack(through) // the plugin is being stopped anyway
			}
			return
		}
	}
}

// watchIdle stops the source when no batch came for the time that its block says.
func (s *source) watchIdle(ending <-chan struct{}) {
	timer := time.NewTimer(s.block.IdleExit)
	defer timer.Stop()
	for {
		select {
		case <-s.active:
			timer.Reset(s.block.IdleExit)
		case <-timer.C:
			if s.busy.Load() || len(s.active) > 0 { // held up is not idle
				timer.Reset(s.block.IdleExit)
				continue
			}
			s.stop()
			return
		case <-s.finished:
			return
		case <-ending:
			return
		}
	}
}
