package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

func TestEverythingArrives(t *testing.T) {
	src := &counter{rows: 10_000, perEach: 7}
	enc := (&plain{refuse: 10}).plugin()
	encoded, rows := &sink{input: sdk.InputEncoded}, &sink{input: sdk.InputRows}
	m := newMachine(t, src.plugin("count", true), enc, encoded.plugin("a"), rows.plugin("b"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["a"], m.plugins["b"]))
	require.NoError(t, run(t, h))

	want := upTo(10_000, func(n int64) bool { return n%10 != 0 })
	assert.Equal(t, want, encoded.got())
	assert.Equal(t, want, rows.got(), "refused rows reach no destination")
	f := h.Pipelines()[0].Status().Flows[0]
	assert.Equal(t, uint64(10_000), f.Received)
	assert.Equal(t, uint64(9_000), f.Accepted)
	assert.Equal(t, map[string]uint64{`channel "n": it is a multiple`: 1_000}, f.Refused)
	for _, track := range f.Tracks {
		assert.Equal(t, uint64(9_000), track.Delivered, track.Track)
		assert.Zero(t, track.Pending+telemetry.Sum(track.Lost))
	}
	replayable, gone := h.Pipelines()[0].Undelivered()
	assert.Zero(t, replayable+gone)
	requireBalanced(t, h)
}

func TestWithoutEncoder(t *testing.T) {
	src := &counter{rows: 500, perEach: 3}
	rows := &sink{input: sdk.InputRows}
	m := newMachine(t, src.plugin("count", true), rows.plugin("rows"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], nil, m.plugins["rows"]))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(500, nil), rows.got())
}

func TestStopDeliversWhatWasRead(t *testing.T) {
	src := &counter{perEach: 5}
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	m := newMachine(t, src.plugin("count", false), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	enough := make(chan struct{})
	to.onConfirm = func() { // the first checkpoint
		to.onConfirm = nil
		close(enough)
	}
	go func() {
		<-enough
		h.Stop()
	}()
	require.NoError(t, run(t, h))
	got := to.got()
	require.NotEmpty(t, got)
	assert.Equal(t, upTo(int64(len(got)), nil), got)
	f := h.Pipelines()[0].Status().Flows[0]
	assert.Equal(t, f.Received, f.Accepted, "what was read before the stop is delivered")
	assert.Equal(t, uint64(len(got)), f.Received)
}

func TestASourceGetsTheAckItWants(t *testing.T) {
	src := &counter{rows: 100, perEach: 10, wantAck: true, acked: make(chan struct{})}
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	m := newMachine(t, src.plugin("count", false), enc, to.plugin("to"))
	c := blocks("p", m.plugins["count"], &enc, m.plugins["to"])
	c.Transports[0].Checkpoint.Interval = time.Hour
	h := newTestHost(t, m, c)
	require.NoError(t, run(t, h))
	<-src.acked
	assert.Equal(t, upTo(100, nil), to.got())
}

func TestFailedCheckpointsAreSentAgain(t *testing.T) {
	var attempts atomic.Int32
	to := &sink{input: sdk.InputEncoded}
	to.finishErr = func() error {
		if attempts.Add(1)%3 != 0 {
			return sdk.Retry(errors.New("busy"), 0)
		}
		return nil
	}
	src := &counter{rows: 3_000, perEach: 10}
	enc := (&plain{}).plugin()
	m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(3_000, nil), to.got())
	requireBalanced(t, h)
}

func TestADestinationThatComesLate(t *testing.T) {
	var attempts atomic.Int32
	to := &sink{input: sdk.InputEncoded}
	to.unready = func() error {
		if attempts.Add(1) < 4 {
			return sdk.Disconnected(errors.New("connection refused"))
		}
		return nil
	}
	src := &counter{rows: 50, perEach: 10}
	enc := (&plain{}).plugin()
	m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(50, nil), to.got())
}

func TestADestinationThatRefuses(t *testing.T) {
	to := &sink{input: sdk.InputEncoded}
	to.unready = func() error { return sdk.Permanent(errors.New("the key is unknown")) }
	src := &counter{rows: 50, perEach: 10}
	enc := (&plain{}).plugin()
	m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	err := run(t, h)
	require.ErrorContains(t, err, `pipeline "p"`)
	require.ErrorContains(t, err, "to.x cannot register")
	require.ErrorContains(t, err, "the key is unknown")
}

func TestStopWhileTheDestinationIsDown(t *testing.T) {
	to := &sink{input: sdk.InputEncoded}
	asked := make(chan struct{}, 100)
	to.unready = func() error {
		asked <- struct{}{}
		return sdk.Disconnected(errors.New("connection refused"))
	}
	src := &counter{rows: 50, perEach: 10}
	enc := (&plain{}).plugin()
	m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	go func() {
		<-asked
		<-asked // the first answer is known
		h.Stop()
	}()
	require.ErrorContains(t, run(t, h), "connection refused")
}

// TestADeadPluginEndsTheRun kills one plugin after the other while data flows: the
// run ends with its name, and what was confirmed is in the account.
func TestADeadPluginEndsTheRun(t *testing.T) {
	for _, victim := range []string{"count.x", "plain.x", "to.x"} {
		t.Run(victim, func(t *testing.T) {
			src := &counter{perEach: 5}
			enc := (&plain{}).plugin()
			to := &sink{input: sdk.InputEncoded}
			m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
			c := blocks("p", m.plugins["count"], &enc, m.plugins["to"])
			c.DrainTimeout = time.Second
			h := newTestHost(t, m, c)
			enough := make(chan struct{})
			to.onConfirm = func() {
				to.onConfirm = nil
				close(enough)
			}
			go func() {
				<-enough
				m.process(victim).crash()
			}()
			require.ErrorContains(t, run(t, h), "killed")
			f := h.Pipelines()[0].Status().Flows[0]
			confirmed := uint64(len(to.got()))
			assert.LessOrEqual(t, f.Tracks[0].Delivered, confirmed, "delivered is what the destination confirmed")
			if victim != "to.x" { // whose last answer may be lost
				assert.Equal(t, confirmed, f.Tracks[0].Delivered)
			}
			assert.GreaterOrEqual(t, f.Received, f.Accepted)
			replayable, gone := h.Pipelines()[0].Undelivered()
			assert.Equal(t, f.Received-f.Accepted, replayable)
			assert.Zero(t, gone)
		})
	}
}

func TestASourceThatFailsIsNamed(t *testing.T) {
	src := &counter{rows: 20, perEach: 10, fail: sdk.Permanent(errors.New("the file is broken"))}
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	m := newMachine(t, src.plugin("count", true), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["count"], &enc, m.plugins["to"]))
	err := run(t, h)
	require.ErrorContains(t, err, "count.x")
	require.ErrorContains(t, err, "the file is broken")
	assert.Equal(t, upTo(20, nil), to.got(), "what it had emitted is delivered")
}

func TestUntilEndsAfterTheOtherHasDrained(t *testing.T) {
	enc := (&plain{}).plugin()
	first, second := &sink{input: sdk.InputEncoded}, &sink{input: sdk.InputEncoded}
	finite, endless := &counter{rows: 300, perEach: 10}, &counter{perEach: 1}
	m := newMachine(t, finite.plugin("finite", true), endless.plugin("endless", false), enc,
		first.plugin("first"), second.plugin("second"))
	receiver := blocks("receiver", m.plugins["endless"], &enc, m.plugins["second"])
	receiver.Sources[0].Until = "sender"
	receiver.DependsOn = []string{"sender"}
	sender := blocks("sender", m.plugins["finite"], &enc, m.plugins["first"])
	h := newTestHost(t, m, sender, receiver)
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(300, nil), first.got())
	f := h.Pipelines()[1].Status().Flows[0]
	assert.Equal(t, f.Received, f.Accepted)
}

func TestIdleExit(t *testing.T) {
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	quiet := &quietSource{}
	m := newMachine(t, quiet.plugin(), enc, to.plugin("to"))
	c := blocks("p", m.plugins["quiet"], &enc, m.plugins["to"])
	c.Sources[0].IdleExit = 20 * time.Millisecond
	require.NoError(t, run(t, newTestHost(t, m, c)))
}

// quietSource never emits anything.
type quietSource struct{ counter }

func (q *quietSource) plugin() sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "quiet"}, sdk.SourceCapabilities{}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return q, nil })
}

func (q *quietSource) Run(_ context.Context, out sdk.Output) error {
	<-out.Stopping()
	return nil
}

func TestFlowFilters(t *testing.T) {
	src := &counter{rows: 100, perEach: 10}
	enc := (&plain{}).plugin()
	all, none := &sink{input: sdk.InputEncoded}, &sink{input: sdk.InputEncoded}
	m := newMachine(t, src.plugin("count", true), enc, all.plugin("all"), none.plugin("none"))
	c := blocks("p", m.plugins["count"], &enc, m.plugins["all"], m.plugins["none"])
	c.Transports[1].Flows = []string{"other"}
	h := newTestHost(t, m, c)
	require.NoError(t, run(t, h))
	assert.Equal(t, upTo(100, nil), all.got())
	assert.Empty(t, none.got())
	assert.Empty(t, none.registered, "a destination hears only of the flows that it gets")
}

func TestChannelNames(t *testing.T) {
	t1 := &track{block: &config.Transport{}}
	t1.block.Description.Transport.Input = sdk.InputEncoded
	foreign := numbers
	foreign.Origin = sdk.Origin{Asset: "theirs"}
	assert.Equal(t, "numbers.n", visibleFlow(t1.block, numbers).Channels[0].Name, "our own flows are qualified")
	assert.Equal(t, "n", visibleFlow(t1.block, foreign).Channels[0].Name, "others keep their names")
	assert.Equal(t, "n", numbers.Channels[0].Name, "the flow itself is not changed")
	t1.block.ChannelNames = config.ChannelNamesPlain
	assert.Equal(t, "n", visibleFlow(t1.block, numbers).Channels[0].Name)
	t1.block.Description.Transport.Input = sdk.InputRows
	t1.block.ChannelNames = config.ChannelNamesAuto
	assert.Equal(t, "n", visibleFlow(t1.block, numbers).Channels[0].Name, "tables have plain columns")
}

// refuser reports rows that it refused itself, some of no flow that anybody knows.
type refuser struct{ quietSource }

func (r *refuser) plugin() sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "refuser"}, sdk.SourceCapabilities{}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Source, error) { return r, nil })
}

func (r *refuser) Run(_ context.Context, out sdk.Output) error {
	flow, err := out.Announce(numbers)
	if err != nil {
		return err
	}
	return errors.Join(
		out.Dropped(sdk.Dropped{Flow: flow, Rows: 3, Reason: "bad number", Refused: true}),
		out.Dropped(sdk.Dropped{Flow: flow, Rows: 4, Reason: "the line was down"}),
		out.Dropped(sdk.Dropped{Rows: 5, Reason: "unknown flow", Refused: true}),
	)
}

func TestWhatASourceRefusesIsInTheAccount(t *testing.T) {
	enc := (&plain{}).plugin()
	to := &sink{input: sdk.InputEncoded}
	src := &refuser{}
	m := newMachine(t, src.plugin(), enc, to.plugin("to"))
	h := newTestHost(t, m, blocks("p", m.plugins["refuser"], &enc, m.plugins["to"]))
	require.NoError(t, run(t, h))
	flows := h.Pipelines()[0].Status().Flows
	require.Len(t, flows, 2)
	assert.Equal(t, uint64(3), flows[0].Received)
	assert.Equal(t, map[string]uint64{"bad number": 3}, flows[0].Refused)
	assert.Equal(t, map[string]uint64{"the line was down": 4}, flows[0].Dropped)
	assert.Equal(t, "(no known flow)", flows[1].Name)
	assert.Equal(t, map[string]uint64{"unknown flow": 5}, flows[1].Refused)
	replayable, gone := h.Pipelines()[0].Undelivered()
	assert.Zero(t, replayable+gone)
	assert.Equal(t, uint64(4), h.Pipelines()[0].Lost())
}
