package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/control"
	"github.com/pipelined/pipelined/sdk"
)

// do carries out what the machine decided.
func (l *lane) do(actions []checkpoint.Action) {
	for _, a := range actions {
		switch a.Kind {
		case checkpoint.Open:
			l.streams[a.Stream] = newSent()
			l.command(func(context.Context) error { return l.transport.Open(a.Stream, a.NewConnection) })
		case checkpoint.Finish:
			l.finish(a.Stream)
		case checkpoint.Abort:
			s := l.streams[a.Stream]
			s.end()
			l.command(func(context.Context) error {
				now := time.Now()
				s.aborted.Store(&now)
				return l.transport.Abort(a.Stream)
			})
		case checkpoint.Wake:
			l.deadlines[a.Stream] = time.Now().Add(a.After)
		case checkpoint.Confirm:
			l.confirm(a)
		case checkpoint.Missing:
			l.missing(a)
		case checkpoint.Hung:
			l.checkHung(a.Stream)
		}
	}
}

func (l *lane) command(c func(context.Context) error) { l.outbox = append(l.outbox, c) }

func (l *lane) finish(stream uint64) {
	s := l.streams[stream]
	s.asked = time.Now()
	l.command(func(context.Context) error {
		if s.life.Err() != nil {
			return nil // it may not have got everything, so no answer may confirm it
		}
		s.finished.Store(true)
		return l.transport.Finish(stream)
	})
	timed := s.timed
	l.note(func(s *State) {
		s.Live.Checkpoints++
		s.Live.Unanswered++
		s.Live.Stream = StreamState{}
		if timed {
			s.Live.Timed++
		}
	})
}

// hungAfter is the least time that a transport has for the answer to an Abort. It
// needs no network for it, but perhaps a busy machine.
const hungAfter = 10 * time.Second

// checkHung ends the lane if the transport owes an answer for too long. Its time
// counts from when it was told: as long as it gives no credit, because its
// destination takes nothing, it cannot be.
func (l *lane) checkHung(stream uint64) {
	aborted := l.streams[stream].aborted.Load()
	if timeout := l.track.settings.Timeout; aborted == nil || time.Since(*aborted) < max(hungAfter, timeout) {
		l.deadlines[stream] = time.Now().Add(timeout)
		return
	}
	l.hung = fmt.Errorf("the plugin does not answer: delivery stream %d was finished and then given up, and neither had an answer in time", stream)
}

// confirm settles what the stream was given, except what an earlier answer settled.
func (l *lane) confirm(a checkpoint.Action) {
	s := l.streams[a.Stream]
	if a.Late {
		l.note(func(s *State) { s.Live.Late++ })
		l.track.settings.Logger.Warn("checkpoint answered after its timeout; the timeout is too short",
			"track", l.track.settings.Name, "stream", a.Stream, "timeout", l.track.settings.Timeout.String())
	}
	if l.kept() {
		l.confirmKept(s)
	} else {
		l.confirmStored(s)
	}
	l.track.publish(control.CheckpointComplete, a.Ids)
}

func (l *lane) confirmKept(s *sent) {
	for _, e := range s.entries {
		if e.confirmed {
			continue
		}
		e.confirmed = true
		l.unconfirmed -= e.batch.Bytes()
		l.track.account(e.flow).Delivered.Add(e.ids.Count())
	}
	for _, e := range l.takeConfirmed() {
		e.batch.Release()
		e.batch.confirm()
	}
}

// takeConfirmed removes the confirmed entries from those that a census sees.
func (l *lane) takeConfirmed() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var confirmed []*entry
	l.mu.entries = slices.DeleteFunc(l.mu.entries, func(e *entry) bool {
		if e.confirmed {
			confirmed = append(confirmed, e)
		}
		return e.confirmed
	})
	return confirmed
}

func (l *lane) confirmStored(s *sent) {
	var sentIDs checkpoint.Set
	count := func(e *entry, ids checkpoint.Set) {
		account := l.track.account(e.flow)
		if e.filtered {
			account.Filtered.Add(ids.Count())
		} else {
			account.Delivered.Add(ids.Count())
		}
	}
	for _, e := range s.entries {
		count(e, l.track.store.Confirm(checkpoint.SetOf(e.ids)))
		if !e.filtered {
			sentIDs.Add(e.ids)
		}
	}
	l.disown(s.ids())
	for _, e := range s.entries { // the store takes no confirmation of these any more
		for _, d := range l.track.takeDropped(checkpoint.SetOf(e.ids)) {
			count(e, d.ids)
		}
	}
	l.track.feeder.confirmed(sentIDs)
}

// passFiltered settles a stream that was given nothing to send.
func (l *lane) passFiltered(s *sent) {
	if s == nil || s.messages > 0 || len(s.entries) == 0 {
		return
	}
	l.confirmStored(s)
	s.entries = nil
}

// passBy settles those of some entries that the track does not take. No destination has
// to be there for that: the store need not keep them until it is.
func (l *lane) passBy(entries ...*entry) {
	filtered := slices.DeleteFunc(entries, func(e *entry) bool { return !e.filtered })
	if len(filtered) > 0 {
		l.confirmStored(&sent{entries: filtered})
	}
}

// ids returns what the stream was given, also what was filtered.
func (s *sent) ids() checkpoint.Set {
	var ids checkpoint.Set
	for _, e := range s.entries {
		ids.Add(e.ids)
	}
	return ids
}

// missing notes that the stream may not confirm in time what it was given. It is
// sent again, from memory or from the store.
func (l *lane) missing(a checkpoint.Action) {
	l.track.settings.Logger.Warn("messages will be sent again", "track", l.track.settings.Name,
		"messages", a.Ids.Count(), "reason", a.Reason.String())
	s := l.streams[a.Stream]
	if !l.kept() {
		l.leave(s, a.Reason)
		return
	}
	for _, e := range s.entries {
		if e.confirmed || e.waiting {
			continue
		}
		e.waiting = true
		l.resend = append(l.resend, e)
		l.note(func(s *State) { s.Resent += e.ids.Count() })
	}
	slices.SortFunc(l.resend, func(a, b *entry) int { return int(int64(a.ids.First - b.ids.First)) })
	if len(l.resend) > 0 {
		l.asked = min(l.asked, l.resend[0].ids.First-1)
	}
	l.do(l.machine.Resume())
}

// leave gives up what the stream was given: it is in the store, or it was dropped
// from there meanwhile.
func (l *lane) leave(s *sent, reason checkpoint.Reason) {
	ids := s.ids()
	l.note(func(state *State) { state.Resent += s.messages })
	l.leaveToStore(ids)
	failure := l.failure
	if reason != checkpoint.ReasonFailed || failure == nil {
		failure = &sdk.Error{Class: sdk.ClassRetry, Message: reason.String()}
	}
	l.track.feeder.failed(ids, failure)
	l.track.publish(control.CheckpointNeedsReingestion, ids)
}

// reasonDropped is in the account for what nothing has any more.
const reasonDropped = "dropped from the full backup before it was delivered"

// checkpointIfDue asks for an answer when time, size, a source or the store wants it.
func (l *lane) checkpointIfDue(now time.Time) {
	s := l.streams[l.machine.Current()]
	if s == nil || len(s.entries) == 0 {
		l.urgent = false
		return
	}
	drained := l.flush.Load() && l.queueIsEmpty() && l.nothingWaits()
	full := l.settings.streamBytes > 0 && s.bytes >= l.settings.streamBytes
	switch {
	case s.whole, full, drained, l.urgent:
	case !now.Before(l.began.Add(l.interval())):
		s.timed = true
	case l.ackWanted() && !now.Before(l.lastAsked.Add(ackSpacing)):
		l.lastAsked = now
	default:
		return
	}
	l.urgent = false
	if s.messages == 0 {
		l.passFiltered(s)
		return
	}
	l.asked = l.handed
	if l.settings.lazy {
		l.machine.Hold()
	}
	l.do(l.machine.Checkpoint())
}

// interval is how long a stream may take at most. While batches are in memory only
// because the disk lags, it is short.
func (l *lane) interval() time.Duration {
	if !l.kept() && l.track.store.Lagging() {
		return min(l.track.settings.Interval, laggingInterval)
	}
	return l.track.settings.Interval
}

func (l *lane) queueIsEmpty() bool {
	_, waits := l.queue.Peek()
	return !waits
}

// ackWanted reports whether a source waits for ids that are all handed over and
// that no checkpoint was asked for.
func (l *lane) ackWanted() bool {
	wanted := l.wanted.Load()
	return wanted > l.asked && l.nothingWaits() && (l.handed >= wanted || l.queueIsEmpty())
}

// answered handles the end of a stream.
func (l *lane) answered(event Event) {
	s := l.streams[event.Stream]
	// The machine counts a stream as finished when it decides so; what is still on
	// its way to the transport then is not covered by an OK that comes before it.
	if s != nil && event.Outcome == checkpoint.Confirmed && !s.finished.Load() {
		event.Outcome = checkpoint.EndedEarly
	}
	l.failure = nil
	if event.Outcome == checkpoint.Confirmed {
		l.backoff.Reset()
		l.logged = ""
	} else {
		l.hold(time.Now(), event)
	}
	l.passFiltered(s)
	l.do(l.machine.Answered(event.Stream, event.Outcome))
	if s != nil {
		s.end()
	}
	l.noteAnswer(event, s)
	delete(l.streams, event.Stream)
	delete(l.deadlines, event.Stream)
}

// hold backs off: no new stream opens before the time is over.
func (l *lane) hold(now time.Time, event Event) {
	if event.Outcome == checkpoint.Aborted {
		return
	}
	err := failureOf(event)
	l.failure = err
	delay := waitAfter(&l.backoff, err)
	if err.Message != l.logged {
		l.logged = err.Message // repeats are counted in State.Failures
		l.track.settings.Logger.Warn("delivery stream ended", "track", l.track.settings.Name+l.settings.name,
			"stream", event.Stream, "error", err.Text(), "retry_in", delay.String())
	}
	l.machine.Hold()
	l.holding.Store(true)
	if at := now.Add(delay); at.After(l.retryAt) {
		l.retryAt = at
	}
}

// expire does everything whose time has come.
func (l *lane) expire(now time.Time) {
	if !l.retryAt.IsZero() && !now.Before(l.retryAt) {
		l.retryAt = time.Time{}
		l.holding.Store(false)
		l.track.publish(control.ReingestBackups, checkpoint.Set{})
		if !l.settings.lazy { // a lazy lane opens a stream when it has something to send
			l.do(l.machine.Release())
		}
	}
	for stream, at := range l.deadlines {
		if !now.Before(at) {
			delete(l.deadlines, stream)
			l.do(l.machine.Expired(stream))
		}
	}
}

// nextDeadline returns when expire or a due checkpoint has something to do.
func (l *lane) nextDeadline(now time.Time) time.Time {
	next := now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if !l.retryAt.IsZero() {
		sooner(l.retryAt)
	}
	for _, at := range l.deadlines {
		sooner(at)
	}
	if s := l.streams[l.machine.Current()]; s != nil && len(s.entries) > 0 && !l.machine.Full() {
		sooner(l.began.Add(l.interval()))
		if !l.kept() {
			sooner(now.Add(laggingInterval)) // the store may begin to lag
		}
		if l.ackWanted() {
			sooner(l.lastAsked.Add(ackSpacing))
		}
	}
	return next
}

func failureOf(event Event) *sdk.Error {
	switch {
	case event.Err != nil:
		return event.Err
	case event.Outcome == checkpoint.EndedEarly:
		return sdk.AsError(sdk.ErrEndedEarly)
	}
	return &sdk.Error{Class: sdk.ClassRetry, Code: sdk.CodeUnknown, Message: "the stream failed without saying why"}
}
