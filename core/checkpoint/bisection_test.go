package checkpoint

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// refused is an answer that can be a message's fault.
var refused = Refusal{Permanent: true, Code: 3, Text: "bad value"}

// TestBisectionTranscripts runs the stories in testdata: the destination refuses what
// the command poison said.
func TestBisectionTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/bisection", func(t *testing.T, path string) {
		w := newPoisoned()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			ids := func() Set {
				var r Range
				d.ScanArgs(t, "ids", &r.First, &r.Last)
				return SetOf(r)
			}
			switch d.Cmd {
			case "new":
				w = newPoisoned()
				w.missing = ids()
			case "poison":
				w.poison = ids()
			case "cured":
				w.poison = Set{}
			case "live": // a stream of the live lane
				return w.answer(ids(), w.why)
			case "code":
				w.why = Refusal{Permanent: !d.HasArg("transient"), Text: "no"}
				d.ScanArgs(t, "is", &w.why.Code)
			case "run": // the feeder sends what it is told to
				n := 1
				d.MaybeScanArgs(t, "streams", &n)
				var out strings.Builder
				for range n {
					part, alone := w.b.Next(w.missing)
					if part.Empty() {
						out.WriteString("nothing\n")
						break
					}
					if alone {
						out.WriteString("alone ")
					}
					out.WriteString(w.answer(part, w.why))
				}
				return out.String()
			case "stored": // dead letters are
				for _, l := range w.b.Dead() {
					w.missing.Remove(Range{l.ID, l.ID})
					w.b.Forget(SetOf(Range{l.ID, l.ID}))
				}
			case "state":
				return fmt.Sprintf("missing %s\nsuspects %d, refuses all %t\n", w.missing.String(), w.b.Suspects(), w.b.RefusesAll())
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			return ""
		})
	})
}

// poisoned is a destination that refuses some messages, and what is to be sent to it.
type poisoned struct {
	b         *Bisection
	poison    Set
	missing   Set
	why       Refusal
	dead      Set
	confirmed Set
	streams   int
}

func newPoisoned() *poisoned { return &poisoned{b: NewBisection(), why: refused} }

// refuses reports whether a stream fails.
func (w *poisoned) refuses(ids Set) bool {
	for r := range ids.Ranges() {
		if w.poison.Overlaps(r) {
			return true
		}
	}
	return false
}

// answer is what happens to a stream.
func (w *poisoned) answer(ids Set, why Refusal) string {
	if w.refuses(ids) {
		return w.fail(ids, why)
	}
	return w.confirm(ids)
}

func (w *poisoned) fail(ids Set, why Refusal) string {
	w.streams++
	w.missing.AddSet(ids)
	w.b.Failed(ids, why)
	text := "refused " + ids.String() + "\n"
	for _, l := range w.b.Dead() {
		if !w.dead.Contains(Range{l.ID, l.ID}) {
			w.dead.Add(Range{l.ID, l.ID})
			text += fmt.Sprintf("dead %d: %d %s\n", l.ID, l.Code, l.Text)
		}
	}
	return text
}

func (w *poisoned) confirm(ids Set) string {
	w.streams++
	w.confirmed.AddSet(ids)
	w.missing.RemoveSet(ids)
	w.b.Confirmed(ids)
	return "confirmed " + ids.String() + "\n"
}

// drain sends until nothing but dead letters is left; each stream has at most most
// messages. It fails after too many streams.
func (w *poisoned) drain(t require.TestingT, most uint64, limit int) {
	for !w.dead.ContainsSet(w.missing) {
		part, _ := w.b.Next(w.missing)
		require.False(t, part.Empty(), "nothing to send, missing %s", w.missing.String())
		w.answer(prefix(part, most), w.why)
		require.LessOrEqual(t, w.streams, limit, "missing %s, dead %s", w.missing.String(), w.dead.String())
	}
}

func prefix(ids Set, n uint64) Set {
	return ids.Within(Range{ids.First(), ids.at(n - 1)})
}

func poisonAmong(t *rapid.T, n uint64, most int) Set {
	var poison Set
	for range rapid.IntRange(0, most).Draw(t, "poisons") {
		first := rapid.Uint64Range(1, n).Draw(t, "poison")
		poison.Add(Range{first, min(n, first+rapid.SampledFrom([]uint64{0, 0, 1, 5}).Draw(t, "more"))})
	}
	return poison
}

// bound is how many streams are enough for k poisoned messages among n, sent in
// streams of at most most messages.
func bound(k, n, most uint64) int {
	roots := n/most + 1
	return int(2*roots + (k+1)*(3*uint64(math.Ceil(math.Log2(float64(n+1))))+12))
}

// TestBisectionFindsExactlyThePoison: with nothing to be sent but what is there.
// The messages are stuck, and not dead, only if no success is left to compare with.
func TestBisectionFindsExactlyThePoison(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(8, 3000).Draw(t, "messages")
		w := newPoisoned()
		w.poison = poisonAmong(t, n-2, 8)
		w.poison.Remove(Range{1, 1})
		w.poison.Remove(Range{n - 1, n})
		w.missing = SetOf(Range{1, n})
		w.drain(t, n, bound(w.poison.Count(), n, n))
		require.Equal(t, w.poison.String(), w.dead.String())
		require.Equal(t, n-w.poison.Count(), w.confirmed.Count())
	})
}

// TestBisectionAmongOthers has streams of any length, several at a time, that are
// answered in any order, and new messages that are fine or not.
func TestBisectionAmongOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 2000).Draw(t, "messages")
		most := rapid.Uint64Range(1, n).Draw(t, "longest stream")
		lanes := rapid.IntRange(1, 4).Draw(t, "streams at a time")
		w := newPoisoned()
		w.poison = poisonAmong(t, n, 8)
		w.missing = SetOf(Range{1, n})
		k := w.poison.Count()
		limit := 3 * bound(k, n, most)
		var flying []Set
		last := n
		for !w.dead.ContainsSet(w.missing) || len(flying) > 0 {
			for len(flying) < lanes {
				part, _ := w.b.Next(w.missing)
				if part.Empty() {
					break
				}
				part = prefix(part, most)
				w.missing.RemoveSet(part)
				flying = append(flying, part)
			}
			if len(flying) > 0 {
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "answer")
				w.answer(flying[i], w.why)
				flying = append(flying[:i], flying[i+1:]...)
			}
			w.missing.RemoveSet(w.dead)
			if rapid.IntRange(0, 3).Draw(t, "live") == 0 {
				last++
				w.answer(SetOf(Range{last, last}), w.why)
				limit++
			}
			require.LessOrEqual(t, w.streams, limit, "missing %s, dead %s of %s", w.missing.String(), w.dead.String(), w.poison.String())
		}
		require.Equal(t, w.poison.String(), w.dead.String())
		require.Equal(t, last-k, w.confirmed.Count())
	})
}

// TestBisectionWithAnyEvents: whatever happens, nothing that is fine is dead.
func TestBisectionWithAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 60
		w := newPoisoned()
		w.poison = poisonAmong(t, n, 5)
		w.missing = SetOf(Range{1, n})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			first := rapid.Uint64Range(1, n).Draw(t, "first")
			ids := SetOf(Range{first, rapid.Uint64Range(first, n).Draw(t, "last")})
			ids.AddSet(SetOf(Range{1 + (first*7)%n, 1 + (first*7)%n}))
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0: // anything, of lanes that do not ask
				w.answer(ids, w.why)
			case 1:
				w.fail(ids, Refusal{Permanent: true, Code: codeUnauthenticated})
			case 2:
				w.fail(ids, Refusal{Code: 14})
			case 3:
				ids.RemoveSet(w.poison)
				if !ids.Empty() {
					w.confirm(ids)
				}
			default:
				part, _ := w.b.Next(w.missing)
				if !part.Empty() {
					w.answer(part, w.why)
				}
			}
			require.True(t, w.poison.ContainsSet(w.dead), "dead %s", w.dead.String())
			w.check(t)
		}
		w.drainLoosely(t, 2000)
		require.True(t, w.poison.ContainsSet(w.dead))
	})
}

// check holds what is always true.
func (w *poisoned) check(t require.TestingT) {
	last := uint64(0)
	for _, s := range w.b.suspects {
		if s.First <= last || s.Last < s.First {
			require.Fail(t, "suspects overlap", "%d-%d behind %d", s.First, s.Last, last)
		}
		last = s.Last
	}
	require.LessOrEqual(t, len(w.b.suspects), maxSuspects)
}

// drainLoosely sends until all that is fine is confirmed.
func (w *poisoned) drainLoosely(t require.TestingT, limit int) {
	for range limit {
		if w.poison.ContainsSet(w.missing) {
			return
		}
		part, _ := w.b.Next(w.missing)
		require.False(t, part.Empty())
		w.answer(part, w.why)
	}
	require.Fail(t, "something that is fine was not delivered", "missing %s", w.missing.String())
}

// TestBisectionWhileEverythingIsRefused: few whole streams, then single messages, and
// nobody is dead, also when it works again.
func TestBisectionWhileEverythingIsRefused(t *testing.T) {
	const n = 100_000
	w := newPoisoned()
	w.poison = SetOf(Range{1, 10 * n})
	w.missing = SetOf(Range{1, n})
	big := 0
	tried := Set{}
	for i := range uint64(1000) {
		part, _ := w.b.Next(w.missing)
		require.False(t, part.Empty())
		if part.Count() > 1 {
			big++
		} else {
			tried.AddSet(part)
		}
		w.answer(part, w.why)
		live := n + 1 + 100*i
		w.answer(SetOf(Range{live, live + 99}), w.why)
		require.Empty(t, w.b.Dead())
	}
	assert.LessOrEqual(t, big, 3)
	assert.Greater(t, tried.Count(), uint64(900), "different messages are tried")
	assert.LessOrEqual(t, w.b.Suspects(), 2)
	assert.True(t, w.b.RefusesAll())

	w.poison = Set{}
	w.streams = 0
	w.drain(t, 1<<40, 10)
	assert.Empty(t, w.b.Dead())
	assert.False(t, w.b.RefusesAll())
}

// TestBisectionAndAnOutageInBetween: it begins at any moment of a bisection, lasts,
// and ends. What is fine is not dead.
func TestBisectionAndAnOutageInBetween(t *testing.T) {
	const n = 500
	longest := 0
	for begin := range 45 {
		w := newPoisoned()
		w.poison = SetOf(Range{77, 77}, Range{300, 301})
		poison := w.poison
		w.missing = SetOf(Range{1, n})
		for range begin {
			part, _ := w.b.Next(w.missing)
			if part.Empty() {
				break
			}
			w.answer(part, w.why)
		}
		w.poison = SetOf(Range{1, n})
		big := 0
		for range 2000 {
			part, _ := w.b.Next(w.missing)
			if part.Empty() {
				break
			}
			if part.Count() > 1 {
				big++
			}
			w.answer(part, w.why)
		}
		longest = max(longest, big)
		w.poison = poison
		w.drainLoosely(t, 2000)
		w.confirm(SetOf(Range{n + 1, n + 1})) // somebody else, so that it can end
		for range 20 {
			if part, _ := w.b.Next(w.missing); !part.Empty() {
				w.answer(part, w.why)
				n := uint64(n + 2 + w.streams)
				w.confirm(SetOf(Range{n, n}))
			}
		}
		require.Equal(t, poison.String(), w.dead.String(), "outage after %d streams", begin)
	}
	assert.LessOrEqual(t, longest, 2*patience)
}

// TestBisectionAndTransientFailures: they say nothing of messages.
func TestBisectionAndTransientFailures(t *testing.T) {
	for _, why := range []Refusal{
		{Code: 14, Text: "unavailable"},
		{Code: 8},
		{Permanent: true, Code: codeUnauthenticated},
		{Permanent: true, Code: codePermissionDenied},
	} {
		w := newPoisoned()
		w.missing = SetOf(Range{1, 100})
		w.poison = SetOf(Range{50, 50})
		w.why = why
		for range 100 {
			part, alone := w.b.Next(w.missing)
			require.Equal(t, "1-100", part.String())
			require.False(t, alone)
			w.answer(part, w.why)
			w.confirm(SetOf(Range{200, 200}))
		}
		assert.Zero(t, w.b.Suspects())
		assert.Empty(t, w.b.Dead())
	}
}

// TestBisectionAndAFlappingDestination refuses everything for some time, again and
// again, with a permanent code.
func TestBisectionAndAFlappingDestination(t *testing.T) {
	for _, phase := range []int{1, 2, 3, 4, 7, 20, 300} {
		w := newPoisoned()
		w.missing = SetOf(Range{1, 5000})
		next := uint64(10_000)
		for i := range 5000 {
			part, _ := w.b.Next(w.missing)
			if part.Empty() {
				part = SetOf(Range{next, next + 9})
				next += 10
			} else {
				part = prefix(part, 700)
			}
			if i/phase%2 == 0 {
				w.fail(part, refused)
			} else {
				w.confirm(part)
			}
			if i%100 == 0 {
				w.missing.Add(Range{next, next + 99})
				next += 100
			}
		}
		assert.Empty(t, w.dead.String(), "%d refused, %d taken", phase, phase)
	}
}

// TestBisectionAtRandomRefusals: when half of the streams are refused, whatever is in
// them, next to nothing dies.
func TestBisectionAtRandomRefusals(t *testing.T) {
	seed := uint64(1)
	coin := func() bool {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed>>63 == 0
	}
	w := newPoisoned()
	next := uint64(1)
	for range 20_000 {
		if w.missing.Count() < 1000 {
			w.missing.Add(Range{next, next + 999})
			next += 1000
		}
		w.missing.RemoveSet(w.dead)
		part, _ := w.b.Next(w.missing)
		if part.Empty() {
			continue
		}
		if coin() {
			w.fail(part, refused)
		} else {
			w.confirm(part)
		}
	}
	t.Logf("%d of %d messages dead", w.dead.Count(), next-1)
	assert.LessOrEqual(t, w.dead.Count(), uint64(3))
}

// TestBisectionIsBounded: more suspects than there is room for.
func TestBisectionIsBounded(t *testing.T) {
	w := newPoisoned()
	var all Set
	for i := range uint64(3 * maxSuspects) {
		id := 10*i + 1
		all.Add(Range{id, id + 1})
		w.poison.Add(Range{id, id})
		w.answer(SetOf(Range{id, id + 1}), Refusal{Permanent: true, Code: 3, Text: strings.Repeat("é", 4000)})
		w.confirm(SetOf(Range{1 << 40, 1<<40 + i}))
		w.check(t)
	}
	for n := 0; !w.poison.Empty(); n++ {
		require.Less(t, n, 100_000, "missing %d, dead %d", w.missing.Count(), w.dead.Count())
		part, _ := w.b.Next(w.missing)
		w.answer(part, w.why)
		w.confirm(SetOf(Range{1 << 41, 1 << 41}))
		for _, l := range w.b.Dead() {
			require.LessOrEqual(t, len(l.Text), maxText)
			require.True(t, w.poison.Contains(Range{l.ID, l.ID}))
			w.b.Forget(SetOf(Range{l.ID, l.ID}))
			w.poison.Remove(Range{l.ID, l.ID})
			w.missing.Remove(Range{l.ID, l.ID})
		}
		if n%100 == 0 {
			w.check(t)
		}
	}
}

// TestBisectionKeepsTheDead until they are stored, and no longer.
func TestBisectionKeepsTheDead(t *testing.T) {
	w := newPoisoned()
	w.missing = SetOf(Range{1, 10})
	w.poison = SetOf(Range{5, 5})
	w.drain(t, 10, 100)
	require.Equal(t, []Letter{{5, 3, "bad value"}}, w.b.Dead())
	part, _ := w.b.Next(w.missing)
	assert.True(t, part.Empty(), "withheld while nobody has stored it")
	w.b.Forget(SetOf(Range{5, 5}))
	assert.Empty(t, w.b.Dead())

	// A late confirmation is a fact.
	w = newPoisoned()
	w.missing = SetOf(Range{1, 10})
	w.poison = SetOf(Range{5, 5})
	w.drain(t, 10, 100)
	w.confirm(SetOf(Range{5, 5}))
	assert.Empty(t, w.b.Dead())
}
