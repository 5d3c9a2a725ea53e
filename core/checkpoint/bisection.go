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
	// maxDoubts bounds how often that number is doubled for messages.
	maxDoubts = 3
	// patience is how many refusals in a row may go on halving a range. They take
	// apart a cluster of refused messages that is all that is left.
	patience = 256
	// maxSuspects bounds the ranges, and apart from them the dead messages.
	maxSuspects = 1000
	// maxText bounds what is kept of a destination's words, in bytes.
	maxText = 1024
)

// Bisection finds the messages that a destination refuses among those that it
// takes. All that is known are the ids of a stream that failed, not which of them
// was refused.
//
// The ids of a stream that was refused become a suspect: a range that is sent in
// streams of its own. If it fails three times, while others succeed, it is halved,
// and each half again when it fails once. A message that failed alone three times,
// with a success of others between these failures, is dead. If a range fails while
// others succeed, and then is fine, the destination refuses at random: then a
// message must fail more often.
//
// A destination that refuses everything is no reason to halve anything: until
// something succeeds, single messages are tried, one at a time, and none is dead.
//
// It promises that nothing else is dead but such messages; that Next comes back to
// every id that is missing, unless it is dead; that its memory is bounded. It knows
// nothing of earlier runs, and begins anew then. It has no clock and is not safe for
// concurrent use.
type Bisection struct {
	suspects  []*suspect // apart from each other, in ascending order
	dead      []Letter
	successes uint64 // streams that were confirmed
	refusals  uint64 // streams that were refused since the last success
	doubts    int    // how often a range was refused while others were not, and then fine
	tests     uint64 // numbers what Next returned
	probe     uint64 // id that is tried while everything is refused; 0: none
	took      choice // what Next returned the last time
}

// choice is a kind of what Next returns; the kinds take turns.
type choice struct{ suspect, root bool }

// NewBisection returns a Bisection without suspects.
func NewBisection() *Bisection { return &Bisection{} }

// RefusesAll reports whether nothing succeeded for some time. Then everything waits
// for a single message that the destination takes.
func (b *Bisection) RefusesAll() bool { return b.refusals >= enoughFailures }

// Suspects returns the number of ranges that are under suspicion.
func (b *Bisection) Suspects() int { return len(b.suspects) }

// Dead returns the messages that are refused for good, in the order of the verdicts.
// Next does not return them any more. The caller stores them, and then calls Forget.
func (b *Bisection) Dead() []Letter { return slices.Clone(b.dead) }

// Forget drops what is known of ids that will not be sent again: those that are
// stored as dead letters, or lost.
func (b *Bisection) Forget(ids Set) {
	b.dead = slices.DeleteFunc(b.dead, func(l Letter) bool { return ids.Contains(Range{l.ID, l.ID}) })
	b.testsOver(ids)
}

// Confirmed notes that a stream with these ids was confirmed.
func (b *Bisection) Confirmed(ids Set) {
	if ids.Empty() {
		return
	}
	b.successes++
	b.refusals = 0
	b.suspects = slices.DeleteFunc(b.suspects, func(s *suspect) bool {
		fine := s.pending > 0 && ids.Within(s.Range).Count() >= s.pending
		if fine && s.rounds > 1 {
			b.doubts = min(b.doubts+1, maxDoubts)
		}
		return fine
	})
	b.Forget(ids)
}

// Failed notes that a stream failed, or was given up. The ids are all that it was
// given, or would have been given.
func (b *Bisection) Failed(ids Set, why Refusal) {
	if ids.Empty() {
		return
	}
	if why.blames() {
		b.refused(ids, why)
	}
	b.testsOver(ids)
	b.merge()
}

func (b *Bisection) refused(ids Set, why Refusal) {
	b.refusals++
	var touched []*suspect
	for _, s := range b.suspects {
		if ids.Overlaps(s.Range) {
			touched = append(touched, s)
		}
	}
	probe := ids.Count() == 1 && ids.First() == b.probe
	switch {
	case len(touched) == 0 && !probe: // the probe would say nothing of the message
		b.accuse(ids)
	case len(touched) == 1 && touched[0].isTest(ids, probe):
		b.testFailed(touched[0], ids, why)
	}
	// Otherwise the stream held a suspect and others: that explains it.
}

// testFailed notes that the test of a suspect has failed. ids are all of its ids that
// were missing, or those of them that one stream had room for.
func (b *Bisection) testFailed(s *suspect, ids Set, why Refusal) {
	whole := Range{ids.First(), ids.Last()}
	if ids.Count() < s.pending {
		s = b.cut(s, whole)
	}
	s.Range = whole
	s.witness = false
	if s.failures == 0 || s.last != b.successes {
		s.rounds++
	}
	s.failures++
	s.last = b.successes
	switch {
	case s.single():
		b.judge(s, why)
	case b.ripe(s) && !b.crowded(s):
		b.split(s, ids)
	}
}

// judge decides whether a message that failed alone is dead.
func (b *Bisection) judge(s *suspect, why Refusal) {
	if s.failures < b.needed() || len(b.dead) >= maxSuspects {
		return
	}
	// Others succeeded between two of its failures. Or it is all that is left of what
	// was refused with it, and the others are fine.
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

// Next returns which of the missing ids may be sent now: missing are all ids that
// the destination has not confirmed and that are not on their way. If alone is true,
// the part goes into a stream of its own; if that has no room for all of it, into
// several such streams. Otherwise it may be cut in any way, but not be mixed with
// other ids. An empty part means that nothing is to be sent before an answer comes.
func (b *Bisection) Next(missing Set) (part Set, alone bool) {
	free := missing.Clone()
	for _, l := range b.dead {
		free.Remove(Range{l.ID, l.ID})
	}
	s, part := b.pick(&free)
	probing := b.probe != 0 && !missing.Contains(Range{b.probe, b.probe})
	switch {
	case b.RefusesAll() && probing:
		return Set{}, false // one at a time
	case !free.Empty() && (s == nil || b.took.suspect || b.rank(s) >= patient):
		b.took.suspect = false
		if b.RefusesAll() {
			return b.single(free), true
		}
		return free, false
	case s == nil:
		return Set{}, false
	}
	b.took = choice{suspect: true, root: s.root}
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

// single returns one id, another one each time; all come up, since the multiplier
// is the golden ratio.
func (b *Bisection) single(ids Set) Set {
	b.tests++
	n, _ := bits.Mul64(b.tests*0x9e3779b97f4a7c15, ids.Count())
	b.probe = ids.at(n)
	return SetOf(Range{b.probe, b.probe})
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
