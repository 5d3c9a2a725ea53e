package siftserver

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	"github.com/pipelined/pipelined/sdk"
)

// Streams of one flow share its definition, runs of it the channels.
func TestDefinitionsAreShared(t *testing.T) {
	h := newHost(t.Context(), nil, newOutput(), nil, nil, nil)
	flow := func(run string) *registry.Flow {
		f := testFlow("f", sdk.Double, sdk.String)
		f.Origin.Run = run
		return f
	}
	first := h.share("config/f", 1, flow("a"))
	assert.Same(t, first, h.share("config/f", 1, flow("a")))
	second := h.share("config/f", 2, flow("b"))
	assert.Equal(t, "b", second.Origin.Run)
	assert.Same(t, &first.Channels[0], &second.Channels[0])
	other := h.share("config2/f", 3, flow("a"))
	assert.NotSame(t, &first.Channels[0], &other.Channels[0])
}

// Health is blocked while any emission has waited for long.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []sdk.HealthState
		h := &health{after: time.Second, report: func(h sdk.Health) { told = append(told, h.State) }}
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		quick := h.wait()
		wait(900 * time.Millisecond)
		quick()
		assert.Empty(t, told)
		one := h.wait()
		wait(500 * time.Millisecond)
		two := h.wait()
		wait(600 * time.Millisecond)
		assert.Equal(t, []sdk.HealthState{sdk.HealthBlocked}, told)
		wait(time.Second)
		one()
		assert.Len(t, told, 1, "the other one still waits")
		two()
		assert.Equal(t, []sdk.HealthState{sdk.HealthBlocked, sdk.HealthOK}, told)
	})
}

func TestToStatus(t *testing.T) {
	assert.ErrorContains(t, toStatus(errors.New("gone")), "the pipeline takes no rows: gone")
	assert.Equal(t, errStopping, toStatus(errStopping))
}
