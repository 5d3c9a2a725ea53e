package manager

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pipelined/pipelined/core/backup"
)

// effects are what a task owes to others for a change that it made, to be done without
// the lock.
type effects struct {
	lost []backup.Loss
	safe []Batch // with the reference that the tail held
	full bool
	logs []logLine
}

type logLine struct {
	level slog.Level
	text  string
	attrs []any
}

func (x *effects) log(level slog.Level, text string, attrs ...any) {
	x.logs = append(x.logs, logLine{level, text, attrs})
}

// carryOut does what is owed. What is lost is told before it is safe.
func (m *Manager) carryOut(x effects) {
	for _, l := range x.logs {
		m.log.Log(context.Background(), l.level, l.text, l.attrs...)
	}
	if len(x.lost) > 0 && m.settings.Lost != nil {
		m.settings.Lost(x.lost)
	}
	for _, b := range x.safe {
		b.Safe()
		b.Release()
	}
	if x.full && m.settings.Full != nil {
		m.settings.Full()
	}
}

// free makes an entry safe and lets go of its payload. mu is held.
func (m *Manager) free(e *entry, x *effects) {
	if e.batch == nil {
		return
	}
	x.safe = append(x.safe, e.batch)
	m.mu.tail.count(e, -1)
	e.batch, e.size.Bytes = nil, 0
	m.mu.tail.count(e, 1)
}

// settle ends an entry that is confirmed or lost. mu is held, and advance follows.
func (m *Manager) settle(e *entry, x *effects) {
	m.free(e, x)
	e.settled = true
	m.mu.tail.move(e, done)
}

// advance lets the tail begin with what is not done, and wakes who waits for that. mu
// is held.
func (m *Manager) advance() {
	for _, e := range m.mu.tail.pop() {
		m.mu.confirmations.noteCursors(e.meta)
		m.journal.signal()
	}
	if m.settings.Block {
		m.wakePushers()
	}
	if m.mu.closed && len(m.mu.tail.entries) == 0 {
		m.write.signal()
		m.sync.signal()
	}
}

// fault is a kind of call to the disk that fails, and since when.
type fault struct {
	name  string
	since time.Time // zero: it works
	err   error     // the newest
	full  bool      // there is no room, otherwise it works
	retry time.Time // when it is tried again
	tries int       // that failed

	skipped, dropped uint64 // of counts, when it began
}

func (f *fault) active() bool { return !f.since.IsZero() }

// fail notes a failure. It is tried again after a while. mu is held.
func (m *Manager) fail(f *fault, err error, after time.Duration, x *effects) {
	now := time.Now()
	if !f.active() {
		f.since, f.tries = now, 0
		f.skipped, f.dropped = m.mu.counts.skipped, m.mu.counts.dropped
		x.log(slog.LevelError, "backup: "+f.name+" fails, it is tried again until it works", "error", err)
	}
	f.err, f.full = err, errors.Is(err, backup.ErrFull)
	f.retry = now.Add(after)
	f.tries++
}

// works notes that a call succeeded. mu is held.
func (m *Manager) works(f *fault, x *effects) {
	if !f.active() {
		return
	}
	x.log(slog.LevelInfo, "backup: "+f.name+" works again",
		"duration", time.Since(f.since), "attempts", f.tries, "error", f.err,
		"messages_waiting", m.mu.tail.waiting.Messages,
		"messages_confirmed_meanwhile", m.mu.counts.skipped-f.skipped,
		"messages_dropped", m.mu.counts.dropped-f.dropped)
	*f = fault{name: f.name}
}
