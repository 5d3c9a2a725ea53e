package checkpoint

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestTranscripts runs the stories in testdata: each command is an event, its
// output the actions that follow.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		var m *Machine
		var confirmed Set
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			stream := func() (n uint64) {
				d.ScanArgs(t, "stream", &n)
				return n
			}
			switch d.Cmd {
			case "new":
				m = NewMachine(Options{Overlap: !d.HasArg("no-overlap"), Timeout: 10 * time.Second, Linger: 30 * time.Second})
				return describe(m.Start())
			case "sent":
				var r Range
				d.ScanArgs(t, "ids", &r.First, &r.Last)
				m.Sent(r)
				return fmt.Sprintf("stream %d\n", m.Current())
			case "checkpoint":
				return describe(m.Checkpoint())
			case "expired":
				return describe(m.Expired(stream()))
			case "answered":
				actions := m.Answered(stream(), outcomeNamed(t, d))
				for _, a := range actions {
					if a.Kind == Confirm {
						confirmed.AddSet(a.Ids)
					}
				}
				return describe(actions)
			case "hold":
				m.Hold()
				return ""
			case "release":
				return describe(m.Release())
			case "stop":
				return describe(m.Stop())
			case "resume":
				return describe(m.Resume())
			case "confirmed":
				return confirmed.String() + "\n"
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

func outcomeNamed(t *testing.T, d *datadriven.TestData) Outcome {
	for name, outcome := range map[string]Outcome{"ok": Confirmed, "early": EndedEarly, "failed": Failed, "aborted": Aborted} {
		if d.HasArg(name) {
			return outcome
		}
	}
	t.Fatalf("no outcome in %q", d.Input)
	return 0
}

func describe(actions []Action) string {
	var b strings.Builder
	for _, a := range actions {
		switch a.Kind {
		case Open:
			fmt.Fprintf(&b, "open %d", a.Stream)
			if a.NewConnection {
				b.WriteString(" on a new connection")
			}
		case Finish:
			fmt.Fprintf(&b, "finish %d", a.Stream)
		case Abort:
			fmt.Fprintf(&b, "abort %d", a.Stream)
		case Wake:
			fmt.Fprintf(&b, "wake %d after %s", a.Stream, a.After)
		case Confirm:
			fmt.Fprintf(&b, "confirm %s", a.Ids.String())
			if a.Late {
				b.WriteString(" (late)")
			}
		case Missing:
			fmt.Fprintf(&b, "missing %s: %s", a.Ids.String(), a.Reason)
		case Hung:
			fmt.Fprintf(&b, "hung: stream %d owes an answer", a.Stream)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// world is what a machine's owner knows: it carries out actions and remembers what
// the destination really took.
type world struct {
	m         *Machine
	next      uint64
	handed    map[uint64]Set // by stream that has not answered
	finished  map[uint64]bool
	everOwned Set // ids that were handed to any stream
	confirmed Set
	missing   Set // waiting to be sent again
	openCount int
}

func newWorld(o Options) *world {
	w := &world{m: NewMachine(o), handed: map[uint64]Set{}, finished: map[uint64]bool{}}
	w.do(w.m.Start())
	return w
}

func (w *world) do(actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case Open:
			w.openCount++
			w.handed[a.Stream] = Set{}
		case Finish:
			w.finished[a.Stream] = true
		case Confirm:
			w.confirmed.AddSet(a.Ids)
			w.missing.RemoveSet(a.Ids)
		case Missing:
			for r := range a.Ids.Ranges() {
				w.missing.Add(r)
			}
			w.missing.RemoveSet(w.confirmed)
		}
	}
}

// send hands a new id, or one that is missing, to the current stream.
func (w *world) send(again bool) {
	stream := w.m.Current()
	if stream == 0 {
		return
	}
	id := w.next + 1
	if again && !w.missing.Empty() {
		for r := range w.missing.Ranges() {
			id = r.First
			break
		}
		w.missing.Remove(Range{id, id})
	} else {
		w.next = id
	}
	w.m.Sent(Range{id, id})
	s := w.handed[stream]
	s.Add(Range{id, id})
	w.handed[stream] = s
	w.everOwned.Add(Range{id, id})
}

// answer ends a stream; only a finished stream's OK is a promise of the
// destination.
func (w *world) answer(stream uint64, outcome Outcome) (promised Set) {
	if outcome == Confirmed && w.finished[stream] {
		promised = w.handed[stream]
	}
	w.do(w.m.Answered(stream, outcome))
	delete(w.handed, stream)
	delete(w.finished, stream)
	return promised
}

// check holds the machine's promises against the world.
func (w *world) check(t require.TestingT, promised *Set) {
	require.Equal(t, promised.String(), w.confirmed.String(), "confirmed is exactly what the destination promised")

	// Nothing is forgotten: every id is confirmed, missing, or owned by a stream.
	rest := w.everOwned.Clone()
	rest.RemoveSet(w.confirmed)
	rest.RemoveSet(w.missing)
	owned := w.m.Owned()
	rest.RemoveSet(owned)
	require.True(t, rest.Empty(), "ids %s are nowhere", rest.String())
}

// step does the event number n and says whether it was possible.
func (w *world) step(event, which int, promised *Set) {
	streams := make([]uint64, 0, len(w.handed))
	for s := range w.m.last {
		if _, ok := w.handed[s+1]; ok {
			streams = append(streams, s+1)
		}
	}
	var stream uint64
	if len(streams) > 0 {
		stream = streams[which%len(streams)]
	}
	switch event {
	case 0:
		w.send(false)
	case 1:
		w.send(true)
	case 2:
		w.do(w.m.Checkpoint())
	case 3:
		w.do(w.m.Expired(stream))
	case 4, 5, 6:
		p := w.answer(stream, Outcome(event-3))
		promised.AddSet(p)
	case 7:
		w.m.Hold()
	case 8:
		w.do(w.m.Release())
	case stopEvent:
		w.do(w.m.Stop())
	case 10:
		w.do(w.m.Resume())
	}
}

const (
	events    = 11
	stopEvent = 9
)

// TestMachineAtRandom drives the machine with any events in any order.
func TestMachineAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(Options{Overlap: rapid.Bool().Draw(t, "overlap")})
		var promised Set
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			event := rapid.IntRange(0, events-1).Draw(t, "event")
			before := w.m.Waiting()
			w.step(event, rapid.IntRange(0, 5).Draw(t, "which"), &promised)
			if event != stopEvent { // which asks the last stream however many wait
				require.LessOrEqual(t, w.m.Waiting(), max(before, maxHalfClosed))
			}
			w.check(t, &promised)
		}
		w.settle(t, &promised)
	})
}

// settle brings a world whose destination has recovered to its end: everything is
// confirmed in a bounded number of steps.
func (w *world) settle(t require.TestingT, promised *Set) {
	w.do(w.m.Resume())
	for range 200 {
		w.do(w.m.Release())
		for !w.missing.Empty() && w.m.Current() != 0 {
			w.send(true)
		}
		w.do(w.m.Checkpoint())
		for s := range w.m.last {
			if _, open := w.handed[s+1]; open && w.finished[s+1] {
				p := w.answer(s+1, Confirmed)
				promised.AddSet(p)
			}
		}
		if w.confirmed.Count() == w.everOwned.Count() {
			return
		}
	}
	require.Fail(t, "not everything was confirmed", "confirmed %s of %s", w.confirmed.String(), w.everOwned.String())
}

// TestMachineExhaustively tries every sequence of events up to a length.
func TestMachineExhaustively(t *testing.T) {
	depth := 5
	if testing.Short() {
		depth = 4
	}
	for _, overlap := range []bool{true, false} {
		sequence := make([]int, depth)
		for {
			w := newWorld(Options{Overlap: overlap})
			var promised Set
			for _, event := range sequence {
				w.step(event, 0, &promised)
				w.check(t, &promised)
			}
			if t.Failed() {
				t.Fatalf("overlap %v, events %v", overlap, sequence)
			}
			if !increment(sequence, events) {
				break
			}
		}
	}
}

// increment counts the sequence up in the given base; false after the last one.
func increment(digits []int, base int) bool {
	for i := range digits {
		if digits[i]++; digits[i] < base {
			return true
		}
		digits[i] = 0
	}
	return false
}
