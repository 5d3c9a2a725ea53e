package backup

import (
	"iter"
	"slices"
	"sort"
)

// maxID is the greatest message id; the first is 1.
const maxID = 1 << 62

// Range is a run of message ids, both ends included. It has the form of
// checkpoint.Range, so that one converts to the other.
type Range struct{ First, Last uint64 }

// Count returns the number of ids in the range.
func (r Range) Count() uint64 { return r.Last - r.First + 1 }

func (r Range) valid() bool { return 1 <= r.First && r.First <= r.Last && r.Last <= maxID }

// Set is a set of message ids. The zero value is empty. It is not safe for
// concurrent use.
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

// from returns the index of the first range that ends at or after id.
func (s *Set) from(id uint64) int {
	return sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].Last >= id })
}

// Add puts the ids of r into the set.
func (s *Set) Add(r Range) {
	i := s.from(r.First - 1) // also what ends just before it
	j := i
	for ; j < len(s.ranges) && s.ranges[j].First <= r.Last+1; j++ {
		r.First = min(r.First, s.ranges[j].First)
		r.Last = max(r.Last, s.ranges[j].Last)
	}
	s.ranges = slices.Replace(s.ranges, i, j, r)
}

// Remove takes the ids of r out of the set.
func (s *Set) Remove(r Range) {
	i := s.from(r.First)
	var left []Range
	j := i
	for ; j < len(s.ranges) && s.ranges[j].First <= r.Last; j++ {
		if old := s.ranges[j]; old.First < r.First {
			left = append(left, Range{old.First, r.First - 1})
		}
		if old := s.ranges[j]; old.Last > r.Last {
			left = append(left, Range{r.Last + 1, old.Last})
		}
	}
	s.ranges = slices.Replace(s.ranges, i, j, left...)
}

// AddSet puts the ids of other into the set.
func (s *Set) AddSet(other Set) {
	for _, r := range other.ranges {
		s.Add(r)
	}
}

// RemoveSet takes the ids of other out of the set.
func (s *Set) RemoveSet(other Set) {
	for _, r := range other.ranges {
		s.Remove(r)
	}
}

// Within returns those ids of r that are in the set.
func (s *Set) Within(r Range) Set {
	var in Set
	for i := s.from(r.First); i < len(s.ranges) && s.ranges[i].First <= r.Last; i++ {
		in.ranges = append(in.ranges, Range{max(r.First, s.ranges[i].First), min(r.Last, s.ranges[i].Last)})
	}
	return in
}

// Overlaps reports whether an id of r is in the set.
func (s *Set) Overlaps(r Range) bool {
	i := s.from(r.First)
	return i < len(s.ranges) && s.ranges[i].First <= r.Last
}

// Contains reports whether all ids of r are in the set.
func (s *Set) Contains(r Range) bool {
	i := s.from(r.First)
	return i < len(s.ranges) && s.ranges[i].First <= r.First && s.ranges[i].Last >= r.Last
}

// ContainsSet reports whether all ids of other are in the set.
func (s *Set) ContainsSet(other Set) bool {
	for _, r := range other.ranges {
		if !s.Contains(r) {
			return false
		}
	}
	return true
}

// Empty reports whether the set has no ids.
func (s *Set) Empty() bool { return len(s.ranges) == 0 }

// Count returns the number of ids.
func (s *Set) Count() uint64 {
	n := uint64(0)
	for _, r := range s.ranges {
		n += r.Count()
	}
	return n
}

// last returns the greatest id, 0 if the set is empty.
func (s *Set) last() uint64 {
	if s.Empty() {
		return 0
	}
	return s.ranges[len(s.ranges)-1].Last
}

// Ranges yields the ranges in ascending order.
func (s *Set) Ranges() iter.Seq[Range] { return slices.Values(s.ranges) }

// Clone returns a copy that shares nothing.
func (s *Set) Clone() Set { return Set{slices.Clone(s.ranges)} }
