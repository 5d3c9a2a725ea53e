package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
	"unicode/utf8"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/sdk"
)

// gRPC codes of a key that is refused.
const (
	codePermissionDenied = 7
	codeUnauthenticated  = 16
)

const (
	// triesBeforeHalving is how often a range is sent that is refused for good, until
	// the message is looked for that is the reason.
	triesBeforeHalving = 3
	// maxRefusedInRow is how many messages may be refused without any being taken.
	maxRefusedInRow = 20
	// minLimit is the least size of a stream in bytes of the file.
	minLimit = 64 << 10
)

// fileRun delivers one file.
type fileRun struct {
	*Replayer
	src     *Source
	record  Record
	sum     hash.Hash // of what is in front of the record's position
	outcome Outcome
	wait    backoff.Backoff

	limit         int64 // bytes of the file for the next stream
	most          int64 // messages for it; 0: no limit
	tries         int   // permanent failures of the same range
	refusedInRow  int
	newConnection bool
	lastFailure   string
}

// open looks up how far a file has been delivered.
func (r *Replayer) open(src *Source) (*fileRun, error) {
	f := &fileRun{
		Replayer: r, src: src, sum: sha256.New(), limit: r.settings.CheckpointBytes,
		wait: backoff.New(r.settings.Retry),
	}
	key := r.settings.Filter.key()
	found, sum, err := r.settings.Store.find(src.File, src.Identity, key)
	if err != nil {
		return nil, &SourceError{err}
	}
	own := found != nil && found.Filter == key && sameFile(found.Identity, src.Identity)
	switch {
	case r.settings.Again:
		if own {
			f.record.number = found.number // it is replaced with the first confirmation
		}
	case found != nil:
		f.record, f.sum = *found, sum
		f.record.Damage = found.Damage.clone()
		if !own {
			f.record.number = 0
		}
	}
	f.record.Filter, f.record.File, f.record.Identity = key, src.Path, src.Identity
	f.outcome.Before = f.record.Sent
	f.show()
	return f, nil
}

// sameFile reports whether two identities are of one file at different times.
func sameFile(a, b Identity) bool { return a.Device == b.Device && a.Inode == b.Inode }

// show takes what is confirmed into the outcome.
func (f *fileRun) show() {
	f.outcome.Sent = f.record.Sent - f.outcome.Before
	f.outcome.Left = f.record.Left
	f.outcome.Position = f.record.Position
	f.outcome.Damage = f.record.Damage.clone()
	if f.settings.Progress != nil {
		f.settings.Progress(f.src, f.outcome)
	}
}

// piece is what one stream carries, until it is confirmed.
type piece struct {
	run      *fileRun
	ctx      context.Context // of sending; a piece lives within one call
	session  Session         // nil: nothing was sent yet
	gatherer *gatherer
	reader   *reader
	begun    time.Time

	sent, left int64
	passed     DamageList // damage in front of the reader's position
	behind     DamageList // damage behind it, at the end of what can be read
	firstAt    int64      // offset of the first message that is sent
	firstFlow  string
	at         Position // behind everything that is in the piece
	finished   bool     // the stream was asked for its answer
	end        bool     // that is the end of the file
	problem    error    // why nothing behind it can be sent
}

// advance sends the next piece of the file and waits for the answer.
func (f *fileRun) advance(ctx context.Context, stop <-chan struct{}) (end bool, err error) {
	p := &piece{run: f, ctx: ctx, begun: time.Now()}
	p.reader = newReader(f.src.File, f.src.Identity.Size, f.record.Position, f.settings.Resync, f.src.Borders)
	p.gatherer = newGatherer(func(b *Batch) error { return p.send(stop, b) })
	err = p.fill(stop)
	if err == nil {
		err = p.gatherer.flush()
	}
	if err == nil || errors.Is(err, ErrAnswered) {
		err = p.finish(err)
	}
	if err != nil {
		return false, f.failed(ctx, stop, p, err)
	}
	if err := f.confirmed(p); err != nil {
		return false, err
	}
	return p.end, p.problem
}

func stopped(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// fill reads and sends until the piece is large enough, or nothing more can be sent.
func (p *piece) fill(stop <-chan struct{}) error {
	for n := int64(1); !p.full(n, stop); n++ {
		p.at = p.reader.position()
		m, err := p.reader.next()
		if damage, ok := errors.AsType[*damageError](err); ok {
			if damage.passed {
				p.passed.add(damage.Damage)
			} else {
				p.behind.add(damage.Damage)
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			p.end = true
			break
		}
		if err != nil {
			p.problem = &SourceError{err}
			return nil
		}
		if err := p.add(m); err != nil || p.problem != nil {
			return err
		}
	}
	p.at = p.reader.position()
	return nil
}

// full reports whether the piece is large enough; n counts the calls.
func (p *piece) full(n int64, stop <-chan struct{}) bool {
	f := p.run
	if p.reader.position().Through-f.record.Position.Through >= f.limit || f.most > 0 && p.sent >= f.most {
		return true
	}
	return n%256 == 0 && (time.Since(p.begun) >= f.settings.Interval || stopped(p.ctx, stop) ||
		p.session != nil && p.session.Full())
}

// add puts a message into a batch, unless it is left out or cannot be sent.
func (p *piece) add(m *message) error {
	f := p.run
	if !f.settings.Filter.takes(&m.header) {
		p.left++
		return nil
	}
	if m.unbound() {
		target, err := bind(p.ctx, f.settings.Binder, f.src, m)
		if errors.Is(err, ErrUnbound) {
			p.problem = fmt.Errorf("from byte %d on: %w", m.at, err)
			return nil
		}
		if err != nil {
			return bindFailure(err)
		}
		m.target = target
	}
	if reason := f.unsendable(m); reason != "" {
		p.passed.add(Damage{Kind: Unsendable, From: m.at, To: m.at + int64(len(m.raw)), Messages: 1, Reason: reason})
		return nil
	}
	if p.sent == 0 {
		p.firstAt, p.firstFlow = m.at, string(m.flow)
	}
	p.sent++
	return p.gatherer.add(m)
}

// bindFailure is the error of a Bind. A permanent one is not about messages.
func bindFailure(err error) error {
	if failure, ok := errors.AsType[*sdk.Error](err); ok && failure.Class == sdk.ClassPermanent {
		return &UnavailableError{failure}
	}
	return err
}

// unsendable says why a message cannot be sent, whatever the destination is.
func (r *Replayer) unsendable(m *message) string {
	switch {
	case len(m.flow) == 0:
		return "it names no flow"
	case len(m.flow) > sdk.MaxNameBytes:
		return fmt.Sprintf("the name of its flow has %d bytes, at most %d are possible", len(m.flow), sdk.MaxNameBytes)
	case !utf8.Valid(m.flow):
		return "the name of its flow is not UTF-8"
	case len(m.config) == 0:
		return "it names no ingestion config"
	case len(m.raw) > r.settings.MaxMessage:
		return fmt.Sprintf("it has %d bytes, at most %d are possible", len(m.raw), r.settings.MaxMessage)
	}
	return ""
}

// send hands over a batch; the first one opens the stream.
func (p *piece) send(stop <-chan struct{}, b *Batch) error {
	f := p.run
	if err := b.rebind(p.ctx, f.settings.Binder); err != nil {
		return err
	}
	if p.session == nil {
		session, err := f.connect(p.ctx, stop)
		if err != nil {
			return err
		}
		if err := session.Open(f.newConnection); err != nil {
			return err
		}
		p.session = session
		p.begun = time.Now()
	}
	return p.session.Send(p.ctx, b)
}

// finish waits for the answer, if anything was sent.
func (p *piece) finish(err error) error {
	if p.session == nil {
		return err
	}
	p.finished = true
	if answer := p.session.Finish(p.ctx, p.run.settings.Patience); answer != nil {
		return answer
	}
	return err // not everything was sent
}

// confirmed notes a piece.
func (f *fileRun) confirmed(p *piece) error {
	if p.session != nil {
		f.wait.Reset()
		f.broken, f.tries, f.refusedInRow, f.newConnection, f.lastFailure = 0, 0, 0, false, ""
		f.limit = min(f.settings.CheckpointBytes, 2*f.limit)
		if f.most > 0 {
			f.tries = triesBeforeHalving - 1
			if f.most *= 2; f.most > sdk.MaxRowsInBatch {
				f.most = 0
			}
		}
	}
	err := f.note(p.at, func(r *Record) {
		r.Sent += p.sent
		r.Left += p.left
		r.Damage.addAll(&p.passed)
	})
	f.outcome.Damage = f.record.Damage.clone()
	f.outcome.Damage.addAll(&p.behind)
	return err
}

// note makes progress durable.
func (f *fileRun) note(at Position, change func(*Record)) error {
	if at == f.record.Position {
		return nil
	}
	from := f.record.Position.Through
	if _, err := io.Copy(f.sum, io.NewSectionReader(f.src.File, from, at.Through-from)); err != nil {
		return &SourceError{err}
	}
	if f.record.Head == "" || from < headSize {
		head := sha256.New()
		if _, err := io.Copy(head, io.NewSectionReader(f.src.File, 0, min(headSize, at.Through))); err != nil {
			return &SourceError{err}
		}
		f.record.Head = hex.EncodeToString(head.Sum(nil))
	}
	change(&f.record)
	if err := f.record.note(at, f.sum); err != nil {
		return err
	}
	stored := f.record
	stored.Damage = f.record.Damage.clone()
	if err := f.settings.Store.save(&stored); err != nil {
		return err
	}
	f.record.number = stored.number
	f.show()
	return nil
}

// failed decides how to go on after a piece that is not confirmed. Nil means: try
// again.
func (f *fileRun) failed(ctx context.Context, stop <-chan struct{}, p *piece, err error) error {
	failure, answered := errors.AsType[*sdk.Error](err)
	if p.session != nil && !p.finished {
		f.Close() // what is open in it is of no use
	}
	_, unavailable := errors.AsType[*UnavailableError](err)
	_, source := errors.AsType[*SourceError](err)
	switch {
	case source, unavailable, errors.Is(err, ErrStopped), errors.Is(err, ErrUnbound):
		return err
	case ctx.Err() != nil:
		f.Close()
		return ErrStopped
	case !answered:
		if err := f.lost(err); err != nil {
			return err
		}
		failure = sdk.AsError(err)
	case failure.Code == codeUnauthenticated || failure.Code == codePermissionDenied:
		return &UnavailableError{failure}
	case failure.Class == sdk.ClassPermanent:
		if err := f.halve(p, failure); err != nil {
			return err
		}
	case failure.Code == codeDeadline:
		f.newConnection = true
		f.limit = max(minLimit, f.limit/2)
	}
	if text := failure.Text(); text != f.lastFailure {
		f.lastFailure = text
		f.settings.Logger.Warn("messages are sent again", "file", f.src.Path, "messages", p.sent, "error", text)
	}
	if !pause(ctx, stop, f.wait.Next(failure.Delay)) {
		return ErrStopped
	}
	return nil
}

// halve looks for the message that is the reason why a piece is refused for good,
// and leaves it out when it is found.
func (f *fileRun) halve(p *piece, failure *sdk.Error) error {
	if f.tries++; f.tries < triesBeforeHalving {
		return nil
	}
	f.wait.Reset() // this is no longer waiting for somebody
	if p.sent > 1 {
		f.most = max(1, p.sent/2)
		return nil
	}
	if f.refusedInRow++; f.refusedInRow > maxRefusedInRow {
		return fmt.Errorf("%w: flow %.100q: %s", ErrRefusing, p.firstFlow, failure.Text())
	}
	f.tries = triesBeforeHalving - 1
	f.most = 1
	return f.note(p.at, func(r *Record) {
		r.Left += p.left
		r.Damage.addAll(&p.passed)
		r.Damage.add(Damage{
			Kind: Refused, From: p.firstAt, To: p.at.Through, Messages: 1,
			Reason: fmt.Sprintf("flow %.100q: %.300s", p.firstFlow, failure.Text()),
		})
	})
}
