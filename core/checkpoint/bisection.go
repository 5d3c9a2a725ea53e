package checkpoint

import (
	"math/bits"
	"slices"
	"strings"
)

// Refusal is why a stream failed.
type Refusal struct {
	Permanent bool   // the same stream would fail again
	Code      uint32 // gRPC status code
	Text      string // what the destination said
}

// gRPC status codes that speak of the client, never of a message.
const (
	codePermissionDenied = 7
	codeUnauthenticated  = 16
)

// blames reports whether messages of the stream can be the reason.
func (r Refusal) blames() bool {
	return r.Permanent && r.Code != codePermissionDenied && r.Code != codeUnauthenticated
}

// Letter is a message that the destination refuses for good.
type Letter struct {
	ID   uint64
	Code uint32 // gRPC status code of the last refusal
	Text string // what the destination said, at most maxText bytes
}

const (
	// enoughFailures is how often a range, or a message alone, must be refused.
	enoughFailures = 3
	// maxDoubts bounds how often that number is doubled.
	maxDoubts = 3
	// patience is how many refusals in a row may go on halving a range. They take
	// apart a cluster of refused messages that is all that is left.
	patience = 256
	// maxSuspects bounds the ranges, and apart from them the dead messages. Ranges
	// beyond are merged.
	maxSuspects = 1000
	// maxText bounds what is kept of a destination's words.
	maxText = 1024
)

// Bisection finds the messages that a destination refuses among those that it
// takes. All that is known are the ids of a stream that failed, not which of them
// was refused.
//
// The ids of a stream that was refused become a suspect: a range that is sent in
// streams of its own. If it fails three times, while others succeed, it is halved,
// and each half again when it fails once. A message that failed alone three times,
// with a success of others between these failures, is dead.
//
// A destination that refuses everything is not a reason to halve anything: until
// something succeeds, single messages are tried, one at a time, and none is dead.
//
// It promises that nothing else is dead but such messages; that an id which is
// missing for good is returned by Next again and again, unless it is dead; that its
// memory is bounded. It forgets at a restart, and begins anew then. It has no clock
// and is not safe for concurrent use.
type Bisection struct {
	suspects  []*suspect // apart from each other, in ascending order
	dead      []Letter
	successes uint64 // streams that were confirmed
	refusals  uint64 // streams that were refused since the last success
	doubts    int    // how often ranges failed while others succeeded, and then succeeded
	tests     uint64 // numbers what Next returned
	probe     uint64 // id that is tried while everything is refused; 0: none
	testLast  bool   // Next returned a suspect the last time
}

// suspect is a range of ids with messages that may be refused.
type suspect struct {
	Range
	root    bool   // not a part of another one: it is halved later
	witness bool   // a message that is kept back, see split
	tested  uint64 // number of the last test
	pending uint64 // how many ids the test has that goes on; 0: none does

	failures uint64
	rounds   uint64 // failures with a success since the one before
	first    uint64 // successes at the first failure, of it or what it is part of
	last     uint64 // successes at the last failure of its own
}

// NewBisection returns a Bisection without suspects.
func NewBisection() *Bisection { return &Bisection{} }

// RefusesAll reports whether nothing succeeded for some time. Everything is sent as
// single messages then, to find one that the destination takes.
func (b *Bisection) RefusesAll() bool { return b.refusals >= enoughFailures }

// Suspects returns the number of ranges that are under suspicion.
func (b *Bisection) Suspects() int { return len(b.suspects) }

// Dead returns the messages that are refused for good, in the order of the verdicts.
// They are not returned by Next any more; the caller stores them, and then calls
// Forget.
func (b *Bisection) Dead() []Letter { return slices.Clone(b.dead) }

// Forget drops what is known of ids which will not be sent again: those that are
// stored as dead letters, or lost.
func (b *Bisection) Forget(ids Set) {
	b.dead = slices.DeleteFunc(b.dead, func(l Letter) bool { return ids.Contains(Range{l.ID, l.ID}) })
	b.over(ids)
}

// Confirmed notes that a stream with these ids was confirmed.
func (b *Bisection) Confirmed(ids Set) {
	if ids.Empty() {
		return
	}
	b.successes++
	b.refusals = 0
	b.suspects = slices.DeleteFunc(b.suspects, func(s *suspect) bool {
		done := s.pending > 0 && ids.Within(s.Range).Count() >= s.pending
		if done && s.rounds > 1 {
			// It was refused while others were not, and is fine: the destination refuses
			// at random, and more failures are needed to be sure.
			b.doubts = min(b.doubts+1, maxDoubts)
		}
		return done
	})
	b.Forget(ids)
}

// over ends the tests of ids.
func (b *Bisection) over(ids Set) {
	if b.probe != 0 && ids.Overlaps(Range{b.probe, b.probe}) {
		b.probe = 0
	}
	for _, s := range b.suspects {
		if s.pending > 0 && ids.Overlaps(s.Range) {
			s.pending = 0
		}
	}
}

// Failed notes that a stream with these ids failed: all of those that were handed to
// it, also if it was refused before it had got them.
func (b *Bisection) Failed(ids Set, why Refusal) {
	if ids.Empty() {
		return
	}
	probing := ids.Count() == 1 && ids.First() == b.probe
	var touched []*suspect
	for _, s := range b.suspects {
		if ids.Overlaps(s.Range) {
			touched = append(touched, s)
		}
	}
	switch {
	case !why.blames():
	case len(touched) == 0:
		b.refusals++
		if !probing { // it says nothing of the message, but of the destination
			b.suspect(ids)
		}
	case len(touched) == 1 && touched[0].pending > 0 && within(ids, touched[0].Range):
		b.refusals++
		if ids.Count() >= touched[0].pending || !probing {
			b.tested(touched[0], ids, why)
		}
	default:
		b.refusals++ // what was a suspect before explains it
	}
	b.over(ids)
	b.merge()
}

func within(ids Set, r Range) bool { return r.First <= ids.First() && ids.Last() <= r.Last }

// tested notes that the test of a suspect has failed; ids are all its ids, or those
// that went with one stream.
func (b *Bisection) tested(s *suspect, ids Set, why Refusal) {
	if ids.Count() < s.pending {
		s = b.cut(s, Range{ids.First(), ids.Last()})
	}
	s.Range = Range{ids.First(), ids.Last()}
	s.witness = false
	if s.failures == 0 || s.last != b.successes {
		s.rounds++
	}
	s.failures++
	s.last = b.successes
	switch {
	case s.single():
		b.judge(s, why)
	case s.failures >= enoughFailures || !s.root:
		if b.successes > s.first {
			b.split(s, ids)
		}
	}
}

// cut makes a suspect of a part of another one.
func (b *Bisection) cut(s *suspect, part Range) *suspect {
	pieces := []*suspect{}
	if s.First < part.First {
		before := *s
		before.Last = part.First - 1
		pieces = append(pieces, &before)
	}
	middle := *s
	middle.Range = part
	pieces = append(pieces, &middle)
	if s.Last > part.Last {
		after := *s
		after.First = part.Last + 1
		pieces = append(pieces, &after)
	}
	for _, p := range pieces {
		p.pending = 0
	}
	b.replace(s, pieces...)
	return &middle
}

func (s *suspect) single() bool { return s.First == s.Last }

// judge decides whether a message that failed alone is dead.
func (b *Bisection) judge(s *suspect, why Refusal) {
	if s.failures < b.needed() || len(b.dead) >= maxSuspects {
		return
	}
	// Others succeeded after a failure of it and before another one; or it is the
	// only one that is left of what failed, while the others have succeeded since.
	if s.rounds < 2 && (b.successes == s.first || len(b.suspects) > 1) {
		return
	}
	b.replace(s)
	text := why.Text
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	b.dead = append(b.dead, Letter{ID: s.First, Code: why.Code, Text: text})
}

// needed is how often a message must fail alone.
func (b *Bisection) needed() uint64 { return enoughFailures << b.doubts }

// split replaces a suspect by its halves. Of a new one the outermost messages are
// kept back: one that is taken, when all that is left is refused, shows that the
// destination does not just refuse everything now.
func (b *Bisection) split(s *suspect, ids Set) {
	n := ids.Count()
	borders := []uint64{n / 2, n} // numbers of ids before the end of each part
	keep := s.root && n > 3
	if keep {
		borders = []uint64{1, n / 2, n - 1, n}
	}
	var parts []*suspect
	from := uint64(0)
	for i, to := range borders {
		parts = append(parts, &suspect{
			Range: Range{ids.at(from), ids.at(to - 1)}, witness: keep && (i == 0 || i == 3), first: s.first, tested: b.tests,
		})
		from = to
	}
	b.replace(s, parts...)
}

// at returns the nth id, from 0.
func (s Set) at(n uint64) uint64 {
	for _, r := range s.ranges {
		if n < r.Count() {
			return r.First + n
		}
		n -= r.Count()
	}
	return s.Last()
}

// suspect makes suspects of ids, as few as the others leave room for.
func (b *Bisection) suspect(ids Set) {
	next := 0 // suspect behind
	for _, r := range ids.ranges {
		for next < len(b.suspects) && b.suspects[next].Last < r.First {
			next++
		}
		if next > 0 && b.suspects[next-1].joins(b.successes) {
			b.suspects[next-1].extend(r)
			continue
		}
		if next < len(b.suspects) && b.suspects[next].joins(b.successes) {
			b.suspects[next].extend(r)
			continue
		}
		s := &suspect{Range: r, root: true, failures: 1, rounds: 1, first: b.successes, last: b.successes, tested: b.tests}
		b.suspects = slices.Insert(b.suspects, next, s)
		next++
	}
}

// joins reports whether nothing speaks for or against a suspect: nothing succeeded
// since it failed first. Others like it are put together.
func (s *suspect) joins(successes uint64) bool { return s.root && s.first == successes }

func (s *suspect) extend(r Range) {
	s.First, s.Last = min(s.First, r.First), max(s.Last, r.Last)
}

// replace puts others in the place of a suspect.
func (b *Bisection) replace(s *suspect, by ...*suspect) {
	i := slices.Index(b.suspects, s)
	b.suspects = slices.Replace(b.suspects, i, i+1, by...)
}

// merge puts neighbours together while there are too many suspects.
func (b *Bisection) merge() {
	for len(b.suspects) > maxSuspects {
		best, span := 0, ^uint64(0)
		for i, s := range b.suspects[:len(b.suspects)-1] {
			if n := b.suspects[i+1].Last - s.First; n < span {
				best, span = i, n
			}
		}
		one, other := b.suspects[best], b.suspects[best+1]
		both := &suspect{Range: Range{one.First, other.Last}, root: one.root && other.root, first: min(one.first, other.first), tested: b.tests}
		b.suspects = slices.Replace(b.suspects, best, best+2, both)
	}
}

// Next returns which of the missing ids may be sent now: missing are all ids that
// the destination has not confirmed and that are not on their way. If alone is true,
// the part goes into a stream of its own; if that cannot hold all of it, into several
// such streams. Otherwise it may be cut in any way, but must not be mixed with other
// ids. An empty part means that nothing is to be sent before an answer has come.
func (b *Bisection) Next(missing Set) (part Set, alone bool) {
	free := missing.Clone()
	for _, l := range b.dead {
		free.Remove(Range{l.ID, l.ID})
	}
	s, part := b.pick(&free)
	if b.RefusesAll() && b.probe != 0 && !missing.Contains(Range{b.probe, b.probe}) {
		return Set{}, false // one at a time
	}
	if !free.Empty() && (s == nil || b.testLast || b.rank(s) == waiting) {
		b.testLast = false
		if b.RefusesAll() {
			return b.single(free), true
		}
		return free, false
	}
	if s == nil {
		return Set{}, false
	}
	b.testLast = true
	b.tests++
	s.tested, s.pending = b.tests, part.Count()
	if b.hopeless(s) {
		return b.single(part), true
	}
	return part, true
}

// hopeless reports whether the whole of a suspect is not worth a stream.
func (b *Bisection) hopeless(s *suspect) bool {
	return b.RefusesAll() && (b.successes == s.first || b.refusals >= patience)
}

// single returns one id, a different one each time. Each comes up at last: the
// multiplier is the golden ratio.
func (b *Bisection) single(ids Set) Set {
	b.tests++
	n, _ := bits.Mul64(b.tests*0x9e3779b97f4a7c15, ids.Count())
	b.probe = ids.at(n)
	return SetOf(Range{b.probe, b.probe})
}

// pick chooses the suspect that is to be tested next, with its ids, and takes the
// ids of all suspects out of free. Those that have no ids any more are dropped.
func (b *Bisection) pick(free *Set) (best *suspect, part Set) {
	var gone []*suspect
	for _, s := range b.suspects {
		ids := free.Within(s.Range)
		free.Remove(s.Range)
		switch {
		case !ids.Empty():
			if best == nil || b.before(s, best) {
				best, part = s, ids
			}
		case s.pending == 0:
			gone = append(gone, s)
		}
	}
	b.suspects = slices.DeleteFunc(b.suspects, func(s *suspect) bool { return slices.Contains(gone, s) })
	return best, part
}

func (b *Bisection) before(s, than *suspect) bool {
	if a, c := b.rank(s), b.rank(than); a != c {
		return a < c
	}
	return s.tested < than.tested
}

// The order in which suspects are tested.
const (
	ordinary = iota
	witness
	waiting // for a success of others, before it fails for the last time
)

func (b *Bisection) rank(s *suspect) int {
	switch {
	case s.witness && b.tests-s.tested < 4*patience:
		return witness
	case s.single() && s.failures+1 >= b.needed() && s.rounds < 2 && s.last == b.successes:
		return waiting
	}
	return ordinary
}
