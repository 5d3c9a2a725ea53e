package generator

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// output is a host that takes everything at once.
type output struct {
	t        testing.TB
	resume   []byte
	rewinds  chan sdk.Rewind
	stopping chan struct{}
	emit     func(emission) // called within Emit, if set

	flow      sdk.Flow
	emissions []emission
}

// emission is a batch as the host gets it.
type emission struct {
	at       time.Time
	batch    *sdk.Batch
	position []byte
}

func newOutput(t testing.TB) *output {
	return &output{t: t, rewinds: make(chan sdk.Rewind), stopping: make(chan struct{})}
}

func (o *output) Resume() ([]byte, bool) { return o.resume, o.resume != nil }

func (o *output) Announce(flow sdk.Flow) (sdk.FlowNumber, error) {
	require.NoError(o.t, flow.Check())
	o.flow = flow
	return 7, nil
}

func (o *output) Emit(ctx context.Context, number sdk.FlowNumber, rows *sdk.Builder, position []byte) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	require.EqualValues(o.t, 7, number)
	batch, err := sdk.ParseBatch(&o.flow, rows.Append(nil))
	require.NoError(o.t, err)
	rows.Reset()
	e := emission{time.Now(), batch, position}
	o.emissions = append(o.emissions, e)
	if o.emit != nil {
		o.emit(e)
	}
	return uint64(len(o.emissions)), nil
}

func (o *output) Progress(sdk.FlowNumber, int64) error        { return nil }
func (o *output) Dropped(sdk.Dropped) error                   { return nil }
func (o *output) AckWanted(uint64, time.Duration) error       { return nil }
func (o *output) WaitAck(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
func (o *output) Rewinds() <-chan sdk.Rewind                  { return o.rewinds }
func (o *output) Stopping() <-chan struct{}                   { return o.stopping }
func (o *output) Finish() error                               { return nil }

// rows returns the stamps and the values of double channels of all emissions.
func (o *output) rows() (stamps []int64, values [][]float64) {
	for _, e := range o.emissions {
		stamps = append(stamps, e.batch.Times()...)
		for row := range e.batch.Rows() {
			var all []float64
			for i := range o.flow.Channels {
				if col := e.batch.Column(i); col.Type() == sdk.Double && col.Valid(row) {
					all = append(all, col.Doubles()[row])
				}
			}
			values = append(values, all)
		}
	}
	return stamps, values
}

func (o *output) count() int {
	n := 0
	for _, e := range o.emissions {
		n += e.batch.Rows()
	}
	return n
}

// config is a finite run as fast as possible, changed by the test.
func config(rows int64, change func(c *Config)) Config {
	c := defaultConfig()
	c.Rate = sdk.NumberOr{Keyword: keywordMax}
	c.NominalRate = 1000
	c.Rows = rows
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c.Start = &start
	if change != nil {
		change(&c)
	}
	return c
}

func newSource(t testing.TB, c Config) sdk.Source {
	s, err := open(sdk.Settings{Gather: sdk.DefaultGather}, c)
	require.NoError(t, err)
	return s
}

// block returns a channel block with its defaults.
func block(name string, change func(c *Channel)) Channel {
	c := Channel{Name: name}
	c.SetDefaults()
	if change != nil {
		change(&c)
	}
	return c
}
