package checkpoint

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestSetEqualsAModel compares a Set with a plain map after random changes.
func TestSetEqualsAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const ids = 60
		var set Set
		model := map[uint64]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "operations") {
			first := rapid.Uint64Range(0, ids-1).Draw(t, "first")
			r := Range{first, rapid.Uint64Range(first, ids-1).Draw(t, "last")}
			add := rapid.Bool().Draw(t, "add")
			if add {
				set.Add(r)
			} else {
				set.Remove(r)
			}
			for id := r.First; id <= r.Last; id++ {
				model[id] = add
			}
			requireEqualToModel(t, set, model, ids)
		}
	})
}

func requireEqualToModel(t *rapid.T, set Set, model map[uint64]bool, ids uint64) {
	count := uint64(0)
	within := set.Within(Range{10, 20})
	for id := range ids {
		one := Range{id, id}
		require.Equal(t, model[id], set.Contains(one), "id %d in %s", id, set)
		require.Equal(t, model[id], set.Overlaps(one), "id %d in %s", id, set)
		require.Equal(t, model[id] && id >= 10 && id <= 20, within.Contains(one), "id %d in %s", id, set)
		if model[id] {
			count++
		}
	}
	require.Equal(t, count, set.Count())
	require.Equal(t, count == 0, set.Empty())
	require.True(t, set.ContainsSet(within))
	require.Equal(t, within.Count() > 0, set.Overlaps(Range{10, 20}))
	require.Equal(t, within.Count() == 11, set.Contains(Range{10, 20}))
	var last *Range
	for r := range set.Ranges() {
		require.LessOrEqual(t, r.First, r.Last)
		if last != nil {
			require.Greater(t, r.First, last.Last+1, "ranges are apart: %s", set)
		}
		last = &r
	}
	if last != nil {
		require.Equal(t, last.Last, set.Last())
		require.True(t, set.Contains(Range{set.First(), set.First()}))
	}
}

// someSet draws a set, often of more ranges than fewRanges.
func someSet(t *rapid.T, name string) Set {
	var s Set
	for range rapid.IntRange(0, 30).Draw(t, name) {
		first := rapid.Uint64Range(0, 150).Draw(t, "first")
		s.Add(Range{first, first + rapid.Uint64Range(0, 5).Draw(t, "more")})
	}
	return s
}

// TestSetsOfSets compares operations on whole sets with those on each of their
// ranges.
func TestSetsOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someSet(t, "a"), someSet(t, "b")
		before, other := a.String(), b.String()
		union, rest := a.Clone(), a.Clone()
		union.AddSet(b)
		rest.RemoveSet(b)
		require.Equal(t, before, a.String(), "a clone shares nothing")
		require.Equal(t, other, b.String(), "the other one is only read")

		one, less := a.Clone(), a.Clone()
		for r := range b.Ranges() {
			one.Add(r)
			less.Remove(r)
		}
		require.Equal(t, one.String(), union.String())
		require.Equal(t, less.String(), rest.String())
		require.True(t, union.ContainsSet(a) && union.ContainsSet(b))
		require.Equal(t, rest.Count() == a.Count(), !overlap(a, b))

		// What is made of a set can be changed without it.
		union.Add(Range{1000, 1000})
		rest.Remove(Range{0, 200})
		require.Equal(t, before, a.String())
		require.Equal(t, other, b.String())
	})
}

func overlap(a, b Set) bool {
	for r := range b.Ranges() {
		if a.Overlaps(r) {
			return true
		}
	}
	return false
}

func TestSetAsText(t *testing.T) {
	a := SetOf(Range{9, 9}, Range{1, 5})
	assert.Equal(t, "1-5 9", a.String())
	a.AddSet(SetOf(Range{6, 8}, Range{20, 21}))
	assert.Equal(t, "1-9 20-21", a.String())
	assert.Equal(t, "", Set{}.String())
}

func TestSetAtTheLimits(t *testing.T) {
	const most = ^uint64(0)
	var s Set
	assert.Zero(t, s.First())
	assert.Zero(t, s.Last())
	s.Add(Range{most, most})
	s.Add(Range{0, 0})
	s.Add(Range{most - 1, most - 1})
	assert.Equal(t, []Range{{0, 0}, {most - 1, most}}, slices.Collect(s.Ranges()))
	s.Remove(Range{0, most})
	assert.True(t, s.Empty())
	s.Add(Range{1, MaxID})
	assert.Equal(t, uint64(MaxID), s.Count())
}

func TestRangesOfMessages(t *testing.T) {
	assert.True(t, Range{1, MaxID}.Valid())
	assert.False(t, Range{0, 1}.Valid())
	assert.False(t, Range{2, 1}.Valid())
	assert.False(t, Range{1, MaxID + 1}.Valid())
}
