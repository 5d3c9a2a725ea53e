package delivery

import (
	"slices"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/sdk"
)

// State is what a track has done and how it is.
type State struct {
	Checkpoints uint64     // asked for
	Confirmed   uint64     // answered OK
	Late        uint64     // answered OK after the timeout
	Failures    uint64     // streams that ended without a confirmation
	Resent      uint64     // messages to be sent again
	LastError   *sdk.Error // of the newest stream that failed; nil after a confirmation
	Paths       []string   // files that were finished, the newest maxPaths
	FileCount   uint64     // files that were finished in total
}

// maxPaths bounds the paths that are remembered for people.
const maxPaths = 1_000

// State returns a copy of the track's state.
func (t *Track) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.mu.state
	s.Paths = slices.Clone(s.Paths)
	return s
}

func (t *Track) note(change func(*State)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.mu.state)
}

func (t *Track) noteAnswer(event Event) {
	t.note(func(s *State) {
		s.FileCount += uint64(len(event.Paths))
		s.Paths = append(s.Paths, event.Paths...)
		s.Paths = s.Paths[max(0, len(s.Paths)-maxPaths):]
		switch event.Outcome {
		case checkpoint.Confirmed:
			s.Confirmed++
			s.LastError = nil
		case checkpoint.Aborted:
		default:
			s.Failures++
			s.LastError = failureOf(event)
		}
	})
}

// Pending counts the messages in the track that are not confirmed by looking at
// each batch; it uses no counter.
func (t *Track) Pending() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := uint64(0)
	for _, e := range t.mu.entries {
		n += e.batch.count()
	}
	for b := range t.queue.All() {
		n += b.count()
	}
	return n
}
