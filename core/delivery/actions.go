package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// do carries out what the machine decided.
func (t *Track) do(actions []checkpoint.Action) {
	for _, a := range actions {
		switch a.Kind {
		case checkpoint.Open:
			t.streams[a.Stream] = newSent()
			t.command(func(context.Context) error { return t.transport.Open(a.Stream, a.NewConnection) })
		case checkpoint.Finish:
			s := t.streams[a.Stream]
			t.command(func(context.Context) error {
				if s.life.Err() != nil {
					return nil // it may not have got everything, so no answer may confirm it
				}
				s.finished.Store(true)
				return t.transport.Finish(a.Stream)
			})
			t.note(func(s *State) { s.Checkpoints++ })
		case checkpoint.Abort:
			s := t.streams[a.Stream]
			s.end()
			t.command(func(context.Context) error {
				s.aborted.Store(time.Now().UnixNano())
				return t.transport.Abort(a.Stream)
			})
		case checkpoint.Wake:
			t.deadlines[a.Stream] = time.Now().Add(a.After)
		case checkpoint.Confirm:
			t.confirm(a)
		case checkpoint.Missing:
			t.missing(a)
		case checkpoint.Hung:
			t.checkHung(a.Stream)
		}
	}
}

// hungAfter is the least time that a transport has for the answer to an Abort. It
// needs no network for it, but perhaps a busy machine.
const hungAfter = 10 * time.Second

// checkHung ends the track if the transport owes an answer for too long. Its time
// counts from when it was told: as long as it gives no credit, because its
// destination takes nothing, it cannot be.
func (t *Track) checkHung(stream uint64) {
	aborted := t.streams[stream].aborted.Load()
	if aborted == 0 || time.Since(time.Unix(0, aborted)) < max(hungAfter, t.settings.Timeout) {
		t.deadlines[stream] = time.Now().Add(t.settings.Timeout)
		return
	}
	t.hung = fmt.Errorf("the plugin does not answer: delivery stream %d was finished and then given up, and neither had an answer in time", stream)
}

func (t *Track) command(c func(context.Context) error) { t.outbox = append(t.outbox, c) }

// confirm releases what the stream was given, except what an earlier answer
// released.
func (t *Track) confirm(a checkpoint.Action) {
	if a.Late {
		t.note(func(s *State) { s.Late++ })
		t.settings.Logger.Warn("checkpoint answered after its timeout; the timeout is too short",
			"track", t.settings.Name, "stream", a.Stream, "timeout", t.settings.Timeout.String())
	}
	for _, e := range t.streams[a.Stream].entries {
		if e.confirmed {
			continue
		}
		e.confirmed = true
		t.unconfirmed -= e.batch.bytes()
		t.account(e.batch).Delivered.Add(e.batch.count())
	}
	confirmed := t.takeConfirmed()
	for _, e := range confirmed {
		e.batch.confirm()
	}
}

// takeConfirmed removes the confirmed entries from those that a census sees.
func (t *Track) takeConfirmed() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	var confirmed []*entry
	t.mu.entries = slices.DeleteFunc(t.mu.entries, func(e *entry) bool {
		if e.confirmed {
			confirmed = append(confirmed, e)
		}
		return e.confirmed
	})
	return confirmed
}

// missing queues what the stream was given to be sent again, oldest first.
func (t *Track) missing(a checkpoint.Action) {
	for _, e := range t.streams[a.Stream].entries {
		if e.confirmed || e.waiting {
			continue
		}
		e.waiting = true
		t.resend = append(t.resend, e)
		t.note(func(s *State) { s.Resent += e.batch.count() })
	}
	slices.SortFunc(t.resend, func(a, b *entry) int {
		return int(int64(a.batch.Ids.First - b.batch.Ids.First))
	})
	if len(t.resend) > 0 {
		t.asked = min(t.asked, t.resend[0].batch.Ids.First-1)
	}
	t.settings.Logger.Warn("messages will be sent again", "track", t.settings.Name, "messages", a.Ids.Count(),
		"reason", a.Reason.String())
	t.do(t.machine.Resume())
}

func (t *Track) account(b *Batch) *telemetry.Track {
	return &b.Flow.Account.Tracks[t.settings.Index]
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
