package telemetry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pipelined/pipelined/core/telemetry"
)

func TestHistogram(t *testing.T) {
	h := telemetry.NewHistogram(time.Millisecond, time.Second)
	assert.Zero(t, h.Durations().Count())
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Minute, time.Second} {
		h.Observe(d)
	}
	assert.Equal(t, telemetry.Durations{
		Bounds: []time.Duration{time.Millisecond, time.Second},
		Counts: []uint64{2, 2, 1},
		Sum:    time.Minute + time.Second + 2*time.Millisecond + 1,
		Last:   time.Second,
		Max:    time.Minute,
	}, h.Durations())
	assert.Equal(t, uint64(5), h.Durations().Count())
	assert.IsIncreasing(t, telemetry.DiskBounds())
}
