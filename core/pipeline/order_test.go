package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestTwoSourcesWithOneFlow(t *testing.T) {
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	one, two := &counter{rows: 100, perEach: 10}, &counter{rows: 100, perEach: 7}
	m := newMachine(t, one.plugin("one", true), two.plugin("two", false), enc, to.plugin("to"))
	c := blocks("p", m.plugins["one"], &enc, m.plugins["to"])
	c.Sources = append(c.Sources, blocks("p", m.plugins["two"], &enc).Sources...)
	h := newTestHost(t, m, c)
	require.NoError(t, run(t, h))
	assert.Len(t, to.got(), 200)
	p := h.Pipelines()[0]
	assert.Len(t, p.Status().Flows, 1)
	assert.False(t, p.isReplayable(p.Status().Flows[0]), "one of its sources cannot be read again")
}

func TestStopWhileTheAwaitedOneStillWaits(t *testing.T) {
	enc := (&plain{}).plugin()
	first, second := &sink{input: sdk.InputEncoded}, &sink{input: sdk.InputEncoded}
	tried := make(chan struct{}, 1)
	second.unready = func() error {
		select {
		case tried <- struct{}{}:
		default:
		}
		return sdk.Retry(errors.New("not here"), 0)
	}
	src, endless := &counter{perEach: 1}, &counter{perEach: 1}
	m := newMachine(t, src.plugin("src", true), endless.plugin("endless", false), enc,
		first.plugin("first"), second.plugin("second"))
	receiver := blocks("receiver", m.plugins["endless"], &enc, m.plugins["second"])
	receiver.Sources[0].Until = "sender"
	receiver.DependsOn = []string{"sender"}
	h := newTestHost(t, m, blocks("sender", m.plugins["src"], &enc, m.plugins["first"]), receiver)
	go func() {
		<-tried
		h.Stop()
	}()
	assert.ErrorContains(t, run(t, h), "not here")
}

func TestATransportThatDiesWhileItsDestinationIsDown(t *testing.T) {
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	tried := make(chan struct{}, 1)
	to.unready = func() error {
		select {
		case tried <- struct{}{}:
		default:
		}
		return sdk.Retry(errors.New("not here"), 0)
	}
	src := &counter{perEach: 1}
	m := newMachine(t, src.plugin("src", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["src"], &enc, m.plugins["to"]))
	go func() {
		<-tried
		m.process("to.x").crash()
	}()
	assert.ErrorContains(t, run(t, h), "transport to.x: killed")
}

// A source that cannot hand over its rows is not idle.
func TestBackpressureIsNotIdleness(t *testing.T) {
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	until := time.Now().Add(time.Second)
	to.unready = func() error {
		if time.Now().Before(until) {
			return sdk.Retry(errors.New("not here"), 0)
		}
		return nil
	}
	src := &lateSource{counter{rows: 500, perEach: 1}}
	m := newMachine(t, src.plugin(), enc, to.plugin("to"))
	c := blocks("p", m.plugins["late"], &enc, m.plugins["to"])
	c.Sources[0].IdleExit = 500 * time.Millisecond
	require.NoError(t, run(t, newTestHost(t, m, c)))
	assert.Equal(t, upTo(500, nil), to.got())
}

// lateSource announces its flow when it runs.
type lateSource struct{ counter }

func (s *lateSource) plugin() sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "late"}, sdk.SourceCapabilities{}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return s, nil })
}

func (s *lateSource) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Dynamic: true, Finite: true}, nil
}

func TestACutBatchIsAdmittedWithItsLastPart(t *testing.T) {
	var asked []uint64
	s := &source{ledger: newLedger(), wantAck: func(id uint64) { asked = append(asked, id) }}
	s.ledger.begin(2)
	s.ackWanted(1)
	first, last := job{source: s, sequence: 1, more: true}, job{source: s, sequence: 1}
	first.admitted(5)
	assert.Empty(t, asked)
	last.admitted(9)
	assert.Equal(t, []uint64{9}, asked)
}
