package torture

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The harness itself: what it reads and counts.

func TestParseAccount(t *testing.T) {
	a, err := parseAccount(`data directory: /x

pipeline torture
                          flow   read  refused  accepted      destination  delivered  pending   lost
    (stored before this start)      0        0         0        sift.live          0    1,600      0
                                                           parquet.second      1,234        0      0
                          load  1,031        1     1,030        sift.live      1,030        0  2,000
                                                           parquet.second         30    1,000      0
  lost on sift.live of (stored before this start): 1 row: refused by the destination: InvalidArgument
pipelined: 1600 messages are safe on the disk
`)
	require.NoError(t, err)
	assert.Equal(t, account{read: 1031, refused: 1, tracks: map[string]trackAccount{
		"sift.live": {1030, 1600, 2000}, "parquet.second": {1264, 1000, 0},
	}, inexact: a.inexact}, a)
	require.Len(t, a.inexact, 1, "3030 of 1030")
	assert.Contains(t, a.inexact[0], "sift.live")
	assert.Equal(t, uint64(1600), a.pending())
	assert.Equal(t, uint64(2000), a.lost())

	a, err = parseAccount("\npipeline torture\n  no flows came in\n")
	require.NoError(t, err)
	assert.Empty(t, a.tracks)
	_, err = parseAccount("\npipeline torture\n")
	assert.Error(t, err)
	_, err = parseAccount("nothing")
	assert.Error(t, err)
}

func TestTally(t *testing.T) {
	c := newTally(3)
	c.add(0)
	c.add(2)
	c.add(2)
	c.add(3)
	assert.True(t, c.has(0))
	assert.False(t, c.has(1))
	assert.Equal(t, 2, c.distinct())
	assert.Equal(t, 1, c.duplicates())
	assert.Len(t, c.odd, 1, "a row that nobody made")
	c.addMessage([]byte("junk"))
	assert.Len(t, c.odd, 2)
	assert.Equal(t, "1-3 5-5", ranges([]int{1, 2, 3, 5}))
}

func TestPlans(t *testing.T) {
	for seed := range uint64(200) {
		p := makePlan(seed, killsOfScenario, true)
		assert.Equal(t, p, makePlan(seed, killsOfScenario, true), "a seed is a plan")
		kills := 0
		for _, s := range p.steps {
			kills += s.kills()
		}
		assert.GreaterOrEqual(t, kills, killsOfScenario)
		assert.Positive(t, p.rows)
	}
}
