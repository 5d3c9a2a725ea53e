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
			requireEqualToModel(t, &set, model, ids)
		}
	})
}

func requireEqualToModel(t *rapid.T, set *Set, model map[uint64]bool, ids uint64) {
	count := uint64(0)
	for id := range ids {
		require.Equal(t, model[id], set.Contains(Range{id, id}), "id %d in %s", id, set)
		if model[id] {
			count++
		}
	}
	require.Equal(t, count, set.Count())
	require.Equal(t, count == 0, set.Empty())
	var last *Range
	for r := range set.Ranges() {
		require.LessOrEqual(t, r.First, r.Last)
		if last != nil {
			require.Greater(t, r.First, last.Last+1, "ranges are apart: %s", set)
		}
		last = &r
	}
}

func TestSetsOfSets(t *testing.T) {
	set := func(ranges ...Range) *Set {
		s := &Set{}
		for _, r := range ranges {
			s.Add(r)
		}
		return s
	}
	a := set(Range{1, 5}, Range{9, 9})
	b := a.Clone()
	b.AddSet(set(Range{6, 8}, Range{20, 21}))
	assert.Equal(t, "1-9 20-21", b.String())
	assert.Equal(t, "1-5 9", a.String(), "a clone shares nothing")
	b.RemoveSet(a)
	assert.Equal(t, "6-8 20-21", b.String())
	assert.Equal(t, uint64(5), b.Count())
}

func TestSetAtTheLimits(t *testing.T) {
	const most = ^uint64(0)
	var s Set
	s.Add(Range{most, most})
	s.Add(Range{0, 0})
	s.Add(Range{most - 1, most - 1})
	assert.Equal(t, []Range{{0, 0}, {most - 1, most}}, slices.Collect(s.Ranges()))
	s.Remove(Range{0, most})
	assert.True(t, s.Empty())
}
