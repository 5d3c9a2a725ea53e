package checkpoint

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// MaxID is the greatest message id; the first is 1.
const MaxID = 1 << 62

// Range is a run of message ids, both ends included.
type Range struct{ First, Last uint64 }

// Count returns the number of ids in the range.
func (r Range) Count() uint64 { return r.Last - r.First + 1 }

// Valid reports whether the range has ids, and only such as are given to messages.
func (r Range) Valid() bool { return 1 <= r.First && r.First <= r.Last && r.Last <= MaxID }

// Set is a set of message ids. The zero value is empty. It is not safe for
// concurrent use. A copy shares what it holds: only one of the two may be changed,
// see Clone.
type Set struct {
	ranges []Range // ascending, with gaps between them
}

// SetOf returns the set of the ids in some ranges.
func SetOf(ranges ...Range) Set {
	var s Set
	for _, r := range ranges {
		s.Add(r)
	}
	return s
}

// search returns the position of the first range that ends at or after id.
func (s Set) search(id uint64) int {
	i, _ := slices.BinarySearchFunc(s.ranges, id, func(r Range, id uint64) int {
		switch {
		case r.Last < id:
			return -1
		case r.Last > id:
			return 1
		}
		return 0
	})
	return i
}

// Add puts all ids of r into the set.
func (s *Set) Add(r Range) {
	from := s.search(r.First)
	if r.First > 0 && from > 0 && s.ranges[from-1].Last == r.First-1 {
		from--
	}
	to := from
	for to < len(s.ranges) && (s.ranges[to].First <= r.Last || s.ranges[to].First-1 == r.Last) {
		r.First = min(r.First, s.ranges[to].First)
		r.Last = max(r.Last, s.ranges[to].Last)
		to++
	}
	s.ranges = slices.Replace(s.ranges, from, to, r)
}

// Remove takes all ids of r out of the set.
func (s *Set) Remove(r Range) {
	from := s.search(r.First)
	var rest []Range
	to := from
	for to < len(s.ranges) && s.ranges[to].First <= r.Last {
		if have := s.ranges[to]; have.First < r.First {
			rest = append(rest, Range{have.First, r.First - 1})
		}
		if have := s.ranges[to]; have.Last > r.Last {
			rest = append(rest, Range{r.Last + 1, have.Last})
		}
		to++
	}
	s.ranges = slices.Replace(s.ranges, from, to, rest...)
}

// fewRanges is how many ranges are put in or taken out one by one; more are merged.
const fewRanges = 8

// AddSet puts all ids of other into the set.
func (s *Set) AddSet(other Set) {
	if len(other.ranges) <= fewRanges || other.ranges[0].First > s.Last() {
		for _, r := range other.ranges {
			s.Add(r)
		}
		return
	}
	merged := Set{make([]Range, 0, len(s.ranges)+len(other.ranges))}
	for mine, others := s.ranges, other.ranges; len(mine)+len(others) > 0; {
		if len(others) == 0 || len(mine) > 0 && mine[0].First <= others[0].First {
			merged.push(mine[0])
			mine = mine[1:]
		} else {
			merged.push(others[0])
			others = others[1:]
		}
	}
	*s = merged
}

// push adds a range that begins nowhere before the last one.
func (s *Set) push(r Range) {
	n := len(s.ranges)
	if n > 0 && (r.First <= s.ranges[n-1].Last || r.First-1 == s.ranges[n-1].Last) {
		s.ranges[n-1].Last = max(s.ranges[n-1].Last, r.Last)
		return
	}
	s.ranges = append(s.ranges, r)
}

// RemoveSet takes all ids of other out of the set.
func (s *Set) RemoveSet(other Set) {
	if s.Empty() {
		return
	}
	others := other.ranges[other.search(s.First()):] // those before do not matter
	if len(others) <= fewRanges {
		for _, r := range others {
			s.Remove(r)
		}
		return
	}
	others = others[:min(len(others), Set{others}.search(s.Last())+1)]
	left := Set{make([]Range, 0, len(s.ranges)+len(others))}
	for _, r := range s.ranges {
		for len(others) > 0 && others[0].Last < r.First {
			others = others[1:]
		}
		for len(others) > 0 && others[0].First <= r.Last && r.First <= r.Last {
			if others[0].First > r.First {
				left.ranges = append(left.ranges, Range{r.First, others[0].First - 1})
			}
			if others[0].Last >= r.Last { // it may reach into the next one
				r.First, r.Last = 1, 0
				break
			}
			r.First = others[0].Last + 1
			others = others[1:]
		}
		if r.First <= r.Last {
			left.ranges = append(left.ranges, r)
		}
	}
	*s = left
}

// Within returns those ids of r that are in the set. It shares nothing with it.
func (s Set) Within(r Range) Set {
	var in Set
	for i := s.search(r.First); i < len(s.ranges) && s.ranges[i].First <= r.Last; i++ {
		in.ranges = append(in.ranges, Range{max(r.First, s.ranges[i].First), min(r.Last, s.ranges[i].Last)})
	}
	return in
}

// Overlaps reports whether an id of r is in the set.
func (s Set) Overlaps(r Range) bool {
	i := s.search(r.First)
	return i < len(s.ranges) && s.ranges[i].First <= r.Last
}

// Contains reports whether all ids of r are in the set.
func (s Set) Contains(r Range) bool {
	i := s.search(r.First)
	return i < len(s.ranges) && s.ranges[i].First <= r.First && s.ranges[i].Last >= r.Last
}

// ContainsSet reports whether all ids of other are in the set.
func (s Set) ContainsSet(other Set) bool {
	for _, r := range other.ranges {
		if !s.Contains(r) {
			return false
		}
	}
	return true
}

// Empty reports whether the set has no ids.
func (s Set) Empty() bool { return len(s.ranges) == 0 }

// Count returns the number of ids.
func (s Set) Count() uint64 {
	n := uint64(0)
	for _, r := range s.ranges {
		n += r.Count()
	}
	return n
}

// First returns the least id, 0 if the set is empty.
func (s Set) First() uint64 {
	if s.Empty() {
		return 0
	}
	return s.ranges[0].First
}

// Last returns the greatest id, 0 if the set is empty.
func (s Set) Last() uint64 {
	if s.Empty() {
		return 0
	}
	return s.ranges[len(s.ranges)-1].Last
}

// Ranges yields the set's ranges in ascending order.
func (s Set) Ranges() iter.Seq[Range] { return slices.Values(s.ranges) }

// Clone returns a copy that shares nothing.
func (s Set) Clone() Set { return Set{slices.Clone(s.ranges)} }

// String returns the set as "1-5 9 12-14".
func (s Set) String() string {
	var parts []string
	for _, r := range s.ranges {
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(parts, " ")
}
