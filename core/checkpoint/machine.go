package checkpoint

import (
	"slices"
	"time"
)

// maxHalfClosed bounds the streams that wait for their answer. Further triggers
// wait until one of them is over.
const maxHalfClosed = 3

// Options are the track's settings.
type Options struct {
	// Overlap: the next stream opens before the last one has answered.
	Overlap bool
	// Timeout is how long a half-closed stream may wait for its answer.
	Timeout time.Duration
	// Linger is how much longer it stays half-closed for a late answer.
	Linger time.Duration
}

// Outcome is how a stream ended.
type Outcome uint8

// The outcomes.
const (
	// Confirmed: the destination has taken everything.
	Confirmed Outcome = iota + 1
	// EndedEarly: OK came before the stream was finished; it confirms nothing.
	EndedEarly
	// Failed: an error status, or the connection was lost.
	Failed
	// Aborted: we gave it up.
	Aborted
)

// Reason says why ids are missing.
type Reason uint8

// The reasons.
const (
	ReasonFailed Reason = iota + 1
	ReasonEndedEarly
	ReasonTimeout
	ReasonAborted
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case ReasonFailed:
		return "the stream failed"
	case ReasonEndedEarly:
		return "the destination ended the stream early"
	case ReasonTimeout:
		return "no answer to the checkpoint in time"
	case ReasonAborted:
		return "the stream was given up"
	}
	return "unknown"
}

// Action is something that the owner shall do. Exactly one kind is meant.
type Action struct {
	Kind          ActionKind
	Stream        uint64
	NewConnection bool          // with Open
	After         time.Duration // with Wake
	Ids           Set           // with Confirm and Missing
	Late          bool          // with Confirm: after the timeout
	Reason        Reason        // with Missing
}

// ActionKind is the kind of an Action.
type ActionKind uint8

// The kinds of actions.
const (
	// Open: open the stream; batches go to it from now on.
	Open ActionKind = iota + 1
	// Finish: everything handed to the stream is sent, then it is half-closed.
	Finish
	// Abort: give the stream up. It still answers.
	Abort
	// Wake: call Expired for the stream after a time.
	Wake
	// Confirm: these ids are confirmed.
	Confirm
	// Missing: these ids must be sent again.
	Missing
	// Hung: the transport does not answer, not even to an Abort. It is of no use any
	// more.
	Hung
)

type phase uint8

const (
	open phase = iota + 1
	halfClosed
	overdue // half-closed, its ids are already missing
	aborted // given up; it still owes an answer
)

type stream struct {
	number uint64
	phase  phase
	ids    Set // handed to the stream and not yet settled
}

// Machine follows the streams of one track.
type Machine struct {
	options Options
	last    uint64 // number of the newest stream
	streams []*stream
	due     bool // a checkpoint waits for room
	renew   bool // the next stream uses a new connection
	held    bool // Hold: no new stream for now
	stopped bool // Stop: no new stream ever
}

// NewMachine returns a machine without streams. Call Start to open the first.
func NewMachine(options Options) *Machine {
	return &Machine{options: options}
}

// Current returns the stream that batches go to; 0 = there is none.
func (m *Machine) Current() uint64 {
	if s := m.current(); s != nil {
		return s.number
	}
	return 0
}

// Waiting returns how many streams wait for their answer in time.
func (m *Machine) Waiting() int { return m.count(halfClosed) }

// Full reports whether a checkpoint has to wait for the answer of another one.
func (m *Machine) Full() bool { return m.count(halfClosed) >= maxHalfClosed }

// Streams returns how many streams have not answered.
func (m *Machine) Streams() int { return len(m.streams) }

// Owned returns the ids in streams that may still confirm them in time.
func (m *Machine) Owned() Set {
	var owned Set
	for _, s := range m.streams {
		if s.phase == open || s.phase == halfClosed {
			owned.AddSet(s.ids)
		}
	}
	return owned
}

// Start opens a stream if there is none and may be one.
func (m *Machine) Start() []Action {
	if m.current() != nil || m.held || m.stopped {
		return nil
	}
	if !m.options.Overlap && m.count(halfClosed) > 0 {
		return nil
	}
	return []Action{m.open()}
}

// Hold keeps new streams from being opened until Release: the owner backs off.
func (m *Machine) Hold() { m.held = true }

// Release ends Hold and opens a stream.
func (m *Machine) Release() []Action {
	m.held = false
	return m.Start()
}

// Sent notes that a batch with these ids is handed to the current stream.
func (m *Machine) Sent(ids Range) {
	m.current().ids.Add(ids)
}

// Checkpoint asks for the answer of the current stream. Without ids in it there is
// nothing to ask for. With too many streams waiting it happens as soon as one is
// over.
func (m *Machine) Checkpoint() []Action {
	s := m.current()
	if s == nil || s.ids.Empty() {
		m.due = false
		return nil
	}
	if m.Full() {
		m.due = true
		return nil
	}
	m.due = false
	s.phase = halfClosed
	var actions []Action
	if m.options.Overlap && !m.held && !m.stopped {
		actions = append(actions, m.open())
	}
	return append(actions,
		Action{Kind: Finish, Stream: s.number},
		Action{Kind: Wake, Stream: s.number, After: m.options.Timeout})
}

// Stop makes the current stream the last one and asks for its answer, even if it
// is empty and however many wait for theirs.
func (m *Machine) Stop() []Action {
	m.stopped = true
	m.due = false
	s := m.current()
	if s == nil {
		return nil
	}
	s.phase = halfClosed
	return []Action{
		{Kind: Finish, Stream: s.number},
		{Kind: Wake, Stream: s.number, After: m.options.Timeout},
	}
}

// Resume ends Stop: something must be sent again. It opens a stream.
func (m *Machine) Resume() []Action {
	m.stopped = false
	return m.Start()
}

// Expired tells that the time of a Wake is over. The first time the stream's ids
// become missing and the stream lingers for a late answer; the second time it is
// given up; a transport that does not answer that in time either is hung.
func (m *Machine) Expired(number uint64) []Action {
	s := m.find(number)
	if s == nil {
		return nil
	}
	switch s.phase {
	case halfClosed:
		s.phase = overdue
		m.renew = true
		actions := []Action{{Kind: Wake, Stream: number, After: m.options.Linger}}
		if !s.ids.Empty() {
			actions = append(actions, Action{Kind: Missing, Stream: number, Ids: s.ids.Clone(), Reason: ReasonTimeout})
		}
		return append(actions, m.next()...)
	case overdue:
		s.phase = aborted
		return []Action{
			{Kind: Abort, Stream: number},
			{Kind: Wake, Stream: number, After: m.options.Timeout},
		}
	case aborted:
		return []Action{{Kind: Hung, Stream: number}}
	}
	return nil
}

// Answered tells how a stream ended. An answer of an unknown stream is ignored.
func (m *Machine) Answered(number uint64, outcome Outcome) []Action {
	s := m.find(number)
	if s == nil {
		return nil
	}
	m.streams = slices.DeleteFunc(m.streams, func(other *stream) bool { return other == s })
	var actions []Action
	switch {
	case s.ids.Empty():
	case outcome == Confirmed && s.phase != open:
		actions = append(actions, Action{Kind: Confirm, Stream: number, Ids: s.ids, Late: s.phase != halfClosed})
	case s.phase == open || s.phase == halfClosed: // else its ids are missing already
		actions = append(actions, Action{Kind: Missing, Stream: number, Ids: s.ids, Reason: reasonOf(outcome)})
	}
	return append(actions, m.next()...)
}

// reasonOf translates an outcome that confirmed nothing. A confirmation of a
// stream that we never finished is an early end.
func reasonOf(outcome Outcome) Reason {
	switch outcome {
	case Confirmed, EndedEarly:
		return ReasonEndedEarly
	case Aborted:
		return ReasonAborted
	}
	return ReasonFailed
}

// next does what waited for room: a checkpoint, or a new stream.
func (m *Machine) next() []Action {
	actions := m.Start()
	if m.due && !m.Full() {
		actions = append(actions, m.Checkpoint()...)
	}
	return actions
}

func (m *Machine) open() Action {
	m.last++
	m.streams = append(m.streams, &stream{number: m.last, phase: open})
	action := Action{Kind: Open, Stream: m.last, NewConnection: m.renew}
	m.renew = false
	return action
}

func (m *Machine) current() *stream {
	for _, s := range m.streams {
		if s.phase == open {
			return s
		}
	}
	return nil
}

func (m *Machine) find(number uint64) *stream {
	for _, s := range m.streams {
		if s.number == number {
			return s
		}
	}
	return nil
}

func (m *Machine) count(p phase) int {
	n := 0
	for _, s := range m.streams {
		if s.phase == p {
			n++
		}
	}
	return n
}
