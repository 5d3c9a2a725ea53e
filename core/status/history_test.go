package status

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/telemetry"
)

// moment is a pipeline with one track.
func moment(delivered, pending, bytes uint64) Pipeline {
	return Pipeline{
		Name:   "p",
		Flows:  []Flow{{Name: "imu", Tracks: []FlowTrack{{Delivered: delivered, Pending: pending}}}},
		Tracks: []Track{{Name: "t", Delivered: delivered, Pending: pending, Live: Lane{Bytes: bytes}}},
	}
}

func TestRates(t *testing.T) {
	var h history
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	assert.Nil(t, h.rates(start, moment(0, 0, 0), 0), "nothing is known")

	h.add(start, []Pipeline{moment(0, 5000, 0)})
	assert.Nil(t, h.rates(at(1), moment(100, 5000, 0), 0), "too early")

	// 100 come in and 200 are delivered in each second.
	for s := 5; s <= 300; s += 5 {
		n := uint64(s)
		p := moment(200*n, 50_000-100*n, 1000*n)
		r := h.rates(at(s), p, 0)
		require.NotNil(t, r)
		assert.InDelta(t, 200, r.Delivered, 0.01)
		assert.InDelta(t, 1000, r.Bytes, 0.01)
		if s > 65 { // the first sample had 5,000 pending, not 50,000
			assert.InDelta(t, 100, r.Taken, 0.01)
			assert.LessOrEqual(t, time.Duration(r.Window), rateWindow+sampleEvery)
			assert.GreaterOrEqual(t, time.Duration(r.Window), rateWindow-sampleEvery)
			d := drain(p.Tracks[0].Pending, r)
			require.NotNil(t, d)
			assert.InDelta(t, float64(50_000-100*s)/100, time.Duration(*d).Seconds(), 0.1)
		}
		h.add(at(s), []Pipeline{p})
		assert.LessOrEqual(t, len(h.mu.samples), int(rateWindow/sampleEvery)+1)
	}
	assert.Nil(t, h.rates(at(305), moment(0, 0, 0), 0), "counters that went back")
	other := moment(0, 0, 0)
	other.Name = "another"
	assert.Nil(t, h.rates(at(305), other, 0))
}

func TestWhatWasStoredBeforeIsNoIntake(t *testing.T) {
	p := moment(10, 5, 0)
	p.Flows = append(p.Flows, Flow{Name: telemetry.StoredBefore, Tracks: []FlowTrack{{Pending: 1e6}}})
	assert.Equal(t, uint64(15), count(p, 0).taken)
}

func TestDrain(t *testing.T) {
	assert.Equal(t, new(Seconds), drain(0, nil), "nothing to drain")
	assert.Nil(t, drain(1, nil), "nothing known")
	assert.Nil(t, drain(1, &Rates{Delivered: 5, Taken: 5}), "never")
	assert.Equal(t, Seconds(4*time.Second), *drain(20, &Rates{Delivered: 10, Taken: 5}))
	assert.Equal(t, Seconds(1000*24*time.Hour), *drain(1<<63, &Rates{Delivered: 1e-9}), "no overflow")
}
