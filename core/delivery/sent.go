package delivery

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// entry is what a stream was given: a batch that is kept, or the ids of batches of
// one flow that are not.
type entry struct {
	ids       checkpoint.Range
	flow      *Flow
	batch     *Batch // nil: not kept
	filtered  bool
	confirmed bool
	waiting   bool // in resend
}

// sent is what a stream was given.
type sent struct {
	entries  []*entry
	bytes    int
	messages uint64                    // that were sent, without those that are filtered
	group    uint64                    // of its batches
	whole    bool                      // it has the last of its group
	asked    time.Time                 // when its answer was asked for
	timed    bool                      // because its time was over
	finished atomic.Bool               // the transport was asked for the answer
	aborted  atomic.Pointer[time.Time] // when the transport was told to give it up; nil: it was not

	life context.Context // ends when the stream is to be given up, or has ended
	end  context.CancelFunc
}

func newSent() *sent {
	s := &sent{}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// add notes an entry; batches of a flow that follow each other and are not kept
// become one.
func (s *sent) add(e *entry) {
	if n := len(s.entries); n > 0 && e.batch == nil {
		last := s.entries[n-1]
		if last.batch == nil && last.flow == e.flow && last.filtered == e.filtered && last.ids.Last+1 == e.ids.First {
			last.ids.Last = e.ids.Last
			return
		}
	}
	s.entries = append(s.entries, e)
}
