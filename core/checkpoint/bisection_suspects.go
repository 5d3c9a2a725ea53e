package checkpoint

import "slices"

// suspect is a range of ids with messages that may be refused.
type suspect struct {
	Range
	root    bool   // not a part of another one
	witness bool   // kept back, see split
	tested  uint64 // number of the last test, or of the one that made it
	pending uint64 // how many ids the test has that goes on; 0: none does

	failures uint64
	rounds   uint64 // failures with a success since the one before
	first    uint64 // successes at the first failure, its own or of what it is part of
	last     uint64 // successes at its own last failure
}

func (s *suspect) single() bool { return s.First == s.Last }

// isTest reports whether a stream with these ids was a test of the suspect.
func (s *suspect) isTest(ids Set, probe bool) bool {
	inside := s.First <= ids.First() && ids.Last() <= s.Last
	return inside && s.pending > 0 && (!probe || ids.Count() >= s.pending)
}

// ripe reports whether a range has failed often enough to be halved, once more than
// others have succeeded.
func (b *Bisection) ripe(s *suspect) bool {
	return b.successes > s.first && (!s.root || s.failures >= enoughFailures)
}

// maxParts is how many suspects there may be that are parts of others if one more is
// to be taken apart. Each of those adds as many as it has messages that are
// refused; maxSuspects has room for them.
const maxParts = 128

// crowded reports whether a suspect cannot be taken apart now.
func (b *Bisection) crowded(s *suspect) bool {
	return s.root && len(b.suspects)-b.roots() > maxParts
}

func (b *Bisection) roots() int {
	n := 0
	for _, s := range b.suspects {
		if s.root {
			n++
		}
	}
	return n
}

// testsOver ends the tests of ids.
func (b *Bisection) testsOver(ids Set) {
	if b.probe != 0 && ids.Contains(Range{b.probe, b.probe}) {
		b.probe = 0
	}
	for _, s := range b.suspects {
		if s.pending > 0 && ids.Overlaps(s.Range) {
			s.pending = 0
		}
	}
}

// accuse makes suspects of ids, as few as the others leave room for.
func (b *Bisection) accuse(ids Set) {
	next := 0 // the suspect behind
	for _, r := range ids.ranges {
		for next < len(b.suspects) && b.suspects[next].Last < r.First {
			next++
		}
		if next > 0 && b.extend(b.suspects[next-1], r) || next < len(b.suspects) && b.extend(b.suspects[next], r) {
			continue
		}
		b.suspects = slices.Insert(b.suspects, next, &suspect{
			Range: r, root: true, tested: b.tests, failures: 1, rounds: 1, first: b.successes, last: b.successes,
		})
		next++
	}
}

// extend puts a range to a suspect if there is nothing that tells them apart: nothing
// succeeded since its first failure.
func (b *Bisection) extend(s *suspect, r Range) bool {
	if !s.root || s.first != b.successes {
		return false
	}
	s.Range = Range{min(s.First, r.First), max(s.Last, r.Last)}
	return true
}

// split replaces a suspect by its halves. Of a root the outermost messages are kept
// back: if all the rest is confirmed or refused in the end, one of them that is taken
// shows that the destination did not just begin to refuse everything.
func (b *Bisection) split(s *suspect, ids Set) {
	n := ids.Count()
	ends := []uint64{n / 2, n} // of the parts, in ids
	keep := s.root && n > 3
	if keep {
		ends = []uint64{1, n / 2, n - 1, n}
	}
	var parts []*suspect
	from := uint64(0)
	for i, to := range ends {
		parts = append(parts, &suspect{
			Range: Range{ids.at(from), ids.at(to - 1)}, witness: keep && (i == 0 || i == 3), tested: b.tests, first: s.first,
		})
		from = to
	}
	b.replace(s, parts...)
}

// cut makes a part of a suspect one of its own, with the same past.
func (b *Bisection) cut(s *suspect, part Range) *suspect {
	piece := func(r Range) *suspect {
		p := *s
		p.Range, p.pending = r, 0
		return &p
	}
	middle := piece(part)
	pieces := []*suspect{middle}
	if s.First < part.First {
		pieces = slices.Insert(pieces, 0, piece(Range{s.First, part.First - 1}))
	}
	if part.Last < s.Last {
		pieces = append(pieces, piece(Range{part.Last + 1, s.Last}))
	}
	b.replace(s, pieces...)
	return middle
}

// replace puts others in the place of a suspect.
func (b *Bisection) replace(s *suspect, by ...*suspect) {
	i := slices.Index(b.suspects, s)
	b.suspects = slices.Replace(b.suspects, i, i+1, by...)
}

// merge puts neighbours together while there are too many: roots, which have not cost
// much, as long as there are such neighbours.
func (b *Bisection) merge() {
	for len(b.suspects) > maxSuspects || b.roots() > maxSuspects/2 {
		best, price := 0, ^uint64(0)
		for i, s := range b.suspects[:len(b.suspects)-1] {
			p := b.suspects[i+1].Last - s.First
			if !s.root || !b.suspects[i+1].root {
				p += MaxID
			}
			if p < price {
				best, price = i, p
			}
		}
		one, other := b.suspects[best], b.suspects[best+1]
		b.suspects = slices.Replace(b.suspects, best, best+2, &suspect{
			Range: Range{one.First, other.Last}, root: true, tested: min(one.tested, other.tested),
			failures: min(one.failures, other.failures), first: min(one.first, other.first),
		})
	}
}

// pick chooses the suspect that is to be tested next, with its ids, and takes the
// ids of all suspects out of free. It drops those that have no ids any more.
func (b *Bisection) pick(free *Set) (best *suspect, part Set) {
	var all Set
	b.suspects = slices.DeleteFunc(b.suspects, func(s *suspect) bool {
		all.Add(s.Range)
		return s.pending == 0 && !free.Overlaps(s.Range)
	})
	for _, s := range b.suspects {
		if free.Overlaps(s.Range) && (best == nil || b.before(s, best)) {
			best = s
		}
	}
	if best != nil {
		part = free.Within(best.Range)
	}
	free.RemoveSet(all)
	return best, part
}

// The order in which suspects are tested: what comes to an end first. Roots and parts
// take turns.
const (
	retry   = iota // others succeeded since this message was refused
	fresh          // never tested
	again          // tested, and nothing succeeded since
	blocked        // crowded
	kept           // a witness
	patient        // a success of others is waited for, before it fails for the last time
)

func (b *Bisection) rank(s *suspect) int {
	switch {
	case s.witness && b.tests-s.tested < 4*patience: // it is not kept for ever
		return kept
	case s.single() && s.failures > 0 && (s.rounds > 1 || s.last != b.successes) && len(b.dead) < maxSuspects:
		return retry
	case s.single() && s.failures+1 >= b.needed():
		return patient
	case b.ripe(s) && b.crowded(s):
		return blocked
	case s.failures == 0:
		return fresh
	}
	return again
}

func (b *Bisection) before(s, than *suspect) bool {
	r, q := b.rank(s), b.rank(than)
	if min(r, q) < blocked && max(r, q) < blocked && s.root != than.root {
		return s.root != b.took.root
	}
	switch {
	case r != q:
		return r < q
	case s.root || r != fresh:
		return s.tested < than.tested // each gets its turn
	}
	return s.tested > than.tested // first deep, so that there are few
}
