package backoff

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestWaitsGrowToTheirLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{
			Initial:    time.Duration(rapid.IntRange(1, 1000).Draw(t, "initial")),
			Max:        time.Duration(rapid.IntRange(1000, 100_000).Draw(t, "max")),
			Multiplier: rapid.Float64Range(1, 10).Draw(t, "multiplier"),
		}
		b := New(policy)
		for step := policy.Initial; ; step = min(policy.Max, time.Duration(float64(step)*policy.Multiplier)) {
			d := b.Next(0)
			assert.GreaterOrEqual(t, d, step/2)
			assert.LessOrEqual(t, d, step)
			if step == policy.Max || rapid.Bool().Draw(t, "enough") {
				break
			}
		}
		assert.GreaterOrEqual(t, b.Longest(0), policy.Max/2)
		assert.GreaterOrEqual(t, b.Next(time.Hour), time.Hour, "what was asked for is honoured")
		b.Reset()
		assert.LessOrEqual(t, b.Next(0), policy.Initial)
	})
}
