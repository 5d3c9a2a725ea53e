package delivery

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// State is what a track has done and how it is.
type State struct {
	Resent     uint64     // messages to be sent again
	Evicted    uint64     // messages that left the live queue for the store
	LastError  *sdk.Error // of the newest stream that failed; nil after a confirmation
	StuckSince time.Time  // since when the destination refuses for good; zero: it does not
	Paths      []string   // files that were finished, the newest maxPaths
	FileCount  uint64     // files that were finished in total
	// Streams counts ended streams by the name of their gRPC status code.
	Streams     map[string]uint64
	Queue       channel.Size // waiting to be sent live
	Live, Again LaneState    // sent as they come; sent from the store
}

// LaneState is what one lane of a track has done.
type LaneState struct {
	Messages    uint64 // sent; each time that they were sent
	Bytes       uint64 // of those
	Checkpoints uint64 // asked for: of these Timed by the interval, the others by what happened
	Timed       uint64
	Confirmed   uint64 // answered OK
	Late        uint64 // of these, after the timeout
	Failures    uint64 // streams that ended without a confirmation
	Retries     uint64 // streams that failed since the last one that was confirmed
	Unanswered  int    // ended streams that wait for their answer

	Stream         StreamState         // the open one
	CheckpointTime telemetry.Durations // from the end of a stream to its answer
}

// StreamState is an open stream. The zero value: there is none.
type StreamState struct {
	Since    time.Time
	Messages uint64 // sent on it
	Bytes    uint64
}

// maxPaths bounds the paths that are remembered for people.
const maxPaths = 1_000

// State returns how the track is.
func (t *Track) State() State {
	s := t.live.copyState()
	s.Queue = t.live.queue.Used()
	if t.again == nil {
		return s
	}
	again := t.again.copyState()
	s.Again = again.Live
	s.Resent += again.Resent
	if s.LastError == nil {
		s.LastError, s.StuckSince = again.LastError, again.StuckSince
	}
	s.Paths = append(s.Paths, again.Paths...)
	s.FileCount += again.FileCount
	for code, n := range again.Streams {
		s.Streams[code] += n
	}
	return s
}

// copyState returns the lane's part of the track's state; the lane itself is in Live.
func (l *lane) copyState() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.state
	s.Paths = slices.Clone(s.Paths)
	s.Streams = map[string]uint64{}
	for code, n := range l.mu.codes {
		s.Streams[code.String()] = n
	}
	s.Live.CheckpointTime = l.mu.answerTimes.Durations()
	return s
}

func (l *lane) note(change func(*State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.mu.state)
}

func (l *lane) noteAnswer(event Event, s *sent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := &l.mu.state
	state.FileCount += uint64(len(event.Paths))
	state.Paths = append(state.Paths, event.Paths...)
	state.Paths = state.Paths[max(0, len(state.Paths)-maxPaths):]
	if s != nil && !s.asked.IsZero() {
		state.Live.Unanswered--
		l.mu.answerTimes.Observe(time.Since(s.asked))
	}
	switch event.Outcome {
	case checkpoint.Confirmed:
		l.mu.codes[codes.OK]++
		state.Live.Confirmed++
		state.Live.Retries = 0
		state.LastError, state.StuckSince = nil, time.Time{}
	case checkpoint.Aborted:
		l.mu.codes[codes.Canceled]++
	default:
		err := failureOf(event)
		l.mu.codes[codes.Code(err.Code)]++
		state.Live.Failures++
		state.Live.Retries++
		state.LastError = err
		if err.Class != sdk.ClassPermanent {
			state.StuckSince = time.Time{}
		} else if state.StuckSince.IsZero() {
			state.StuckSince = time.Now()
		}
	}
}

// Pending counts the messages that are not confirmed, by looking at each of them;
// it uses no counter.
func (t *Track) Pending() uint64 {
	if t.store == nil {
		return t.live.pending()
	}
	return t.stored().Count()
}

// firstPending returns the least id that is not confirmed; 0: there is none.
func (t *Track) firstPending() uint64 {
	if t.store == nil {
		return t.live.firstPending()
	}
	return t.stored().First()
}

// stored returns what is not settled: what the store has or is about to have, and what
// only a lane has.
func (t *Track) stored() checkpoint.Set {
	t.mu.Lock()
	pending := t.mu.claimed.Clone()
	for _, d := range t.mu.dropped {
		pending.AddSet(d.ids)
	}
	t.mu.Unlock()
	pending.AddSet(t.store.Missing())
	return pending
}

// OnDisk counts the pending messages that only the store has.
func (t *Track) OnDisk() uint64 {
	if t.store == nil {
		return 0
	}
	missing, _ := t.feeder.missing()
	return missing.Count()
}

func (l *lane) firstPending() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.entries) > 0 {
		return l.mu.entries[0].ids.First
	}
	if i, ok := l.queue.Peek(); ok {
		return i.batch.Ids.First
	}
	return 0
}

func (l *lane) pending() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(0)
	for _, e := range l.mu.entries {
		n += e.ids.Count()
	}
	for i := range l.queue.All() {
		n += i.batch.count()
	}
	return n
}

// OldestPending returns for how long something has been waiting for its confirmation;
// 0: nothing is.
func (t *Track) OldestPending() time.Duration {
	return t.ages.age(t.firstPending(), time.Now())
}
