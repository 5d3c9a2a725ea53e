package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output records what a source emits.
type output struct {
	sdk.Output
	stopping chan struct{}

	mu    sync.Mutex
	flows []sdk.Flow
	rows  map[string][]map[string]float64
}

func newOutput() *output {
	return &output{stopping: make(chan struct{}), rows: map[string][]map[string]float64{}}
}

func (o *output) Stopping() <-chan struct{} { return o.stopping }

func (o *output) Announce(f sdk.Flow) (sdk.FlowNumber, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flows = append(o.flows, f)
	return sdk.FlowNumber(len(o.flows)), nil
}

func (o *output) Emit(_ context.Context, number sdk.FlowNumber, rows *sdk.Builder, _ []byte) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flow := &o.flows[number-1]
	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	if err != nil {
		return 0, err
	}
	for row := range batch.Rows() {
		values := map[string]float64{}
		for i, c := range flow.Channels {
			if batch.Column(i).Valid(row) {
				values[c.Name] = batch.Column(i).Doubles()[row]
			}
		}
		o.rows[flow.Name] = append(o.rows[flow.Name], values)
	}
	rows.Reset()
	return 1, nil
}

func settings() sdk.Settings { return sdk.Settings{Logger: slog.New(slog.DiscardHandler)} }

// fixed is a collector whose readings the test decides.
func fixed(group string, read func() ([]reading, error)) collector {
	return sampled(group, func(context.Context) ([]reading, error) { return read() })
}

func TestEachGroupIsAFlowWithItsOwnPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := func() ([]reading, error) { return []reading{{name: "a", value: 1}}, nil }
		s := &source{
			settings: settings(),
			config: Config{
				Groups: []string{"cpu", "memory"}, Period: time.Second,
				Periods: map[string]time.Duration{"cpu": 100 * time.Millisecond},
			},
			collect: []collector{fixed("cpu", one), fixed("memory", one), fixed("disk", one)},
		}
		out := newOutput()
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context(), out) }()
		<-time.After(2050 * time.Millisecond)
		close(out.stopping)
		require.NoError(t, <-done)
		assert.Len(t, out.rows["cpu"], 21)
		assert.Len(t, out.rows["memory"], 3)
		assert.NotContains(t, out.rows, "disk", "a group that was not asked for")
	})
}

func TestAReadingThatFailsLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		flaky := func() ([]reading, error) {
			if calls++; calls%2 == 0 {
				return nil, errors.New("gone")
			}
			return []reading{{name: "a", value: float64(calls)}}, nil
		}
		s := &source{
			settings: settings(), config: Config{Groups: []string{"fan"}, Period: time.Second},
			collect: []collector{fixed("fan", flaky)},
		}
		out := newOutput()
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context(), out) }()
		<-time.After(5500 * time.Millisecond)
		close(out.stopping)
		require.NoError(t, <-done)
		assert.Len(t, out.rows["fan"], 3)
	})
}

func TestAChannelThatIsGoneHasNoValue(t *testing.T) {
	readings := []reading{{name: "a", value: 1}, {name: "b", value: 2}, {name: "a", value: 3}}
	s := &source{
		settings: settings(), config: Config{Groups: []string{"fan"}, Period: time.Second},
		collect: []collector{fixed("fan", func() ([]reading, error) { return readings, nil })},
	}
	groups, err := s.groups(t.Context())
	require.NoError(t, err)
	assert.Len(t, groups[0].flow.Channels, 2, "of equal names the first counts")
	require.NoError(t, groups[0].flow.Check())

	readings = []reading{{name: "b", value: 5}, {name: "new", value: 6}}
	out := newOutput()
	gather := sdk.NewGatherer(out, 0)
	number, err := gather.Announce(groups[0].flow)
	require.NoError(t, err)
	failing := false
	require.NoError(t, s.row(t.Context(), groups[0], number, gather, &failing))
	require.NoError(t, gather.Close(t.Context()))
	assert.Equal(t, []map[string]float64{{"b": 5}}, out.rows["fan"])
}

func TestNoGroupIsAnError(t *testing.T) {
	s := &source{
		settings: settings(), config: Config{Groups: []string{"fan"}, Period: time.Second},
		collect: []collector{fixed("fan", func() ([]reading, error) { return nil, nil })},
	}
	_, err := s.Discover(t.Context())
	require.ErrorContains(t, err, "none of the groups fan")
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

func TestThisMachine(t *testing.T) {
	p := Plugin()
	assert.False(t, p.Source.Replayable, "what was not read then cannot be read now")
	component, err := p.Open(settings(), sdk.Body{})
	require.NoError(t, err)
	d, err := component.(sdk.Source).Discover(t.Context())
	require.NoError(t, err)
	names := map[string]bool{}
	for _, f := range d.Flows {
		require.NoError(t, f.Check())
		names[f.Name] = true
	}
	assert.True(t, names["cpu"] && names["memory"], "every machine has processors and memory: %v", names)
	require.NoError(t, component.Shutdown(t.Context()))
}

func TestFans(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "hwmon0")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for name, text := range map[string]string{"name": "nct6775\n", "fan1_input": "1200\n", "fan2_input": "junk", "temp1_input": "1"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	readings, err := readFans(root)
	require.NoError(t, err)
	assert.Equal(t, []reading{{"nct6775_hwmon0.fan1", "1/min", "fan speed", 1200}}, readings)
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   int
	}{
		"defaults":          {Config{Period: time.Second}, 0},
		"period of nothing": {Config{}, 1},
		"unknown group":     {Config{Period: time.Second, Periods: map[string]time.Duration{"gpu": time.Second}}, 1},
		"short period":      {Config{Period: time.Second, Periods: map[string]time.Duration{"cpu": time.Millisecond}}, 1},
	} {
		t.Run(name, func(t *testing.T) { assert.Len(t, c.config.Validate(), c.want) })
	}
}
