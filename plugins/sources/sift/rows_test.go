package siftserver

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	"github.com/pipelined/pipelined/sdk"
)

// memoryPipe takes what streams emit.
type memoryPipe struct {
	flows     map[string]*registry.Flow
	lookups   int
	emissions int
	rows      map[string][]string
	dropped   map[string]uint64
	messages  uint64
	runs      map[string]registry.Ingested
	fail      error
}

func newMemoryPipe(flows ...*registry.Flow) *memoryPipe {
	p := &memoryPipe{flows: map[string]*registry.Flow{}, rows: map[string][]string{}, dropped: map[string]uint64{}, runs: map[string]registry.Ingested{}}
	for _, f := range flows {
		p.flows[f.Name] = f
	}
	return p
}

func (p *memoryPipe) flow(_, name, _ string) (*registry.Flow, sdk.FlowNumber, error) {
	p.lookups++
	if f := p.flows[name]; f != nil {
		return f, sdk.FlowNumber(len(name)), nil
	}
	if p.fail != nil {
		return nil, 0, p.fail
	}
	return nil, 0, unfit{"no such flow"}
}

func (p *memoryPipe) emit(_ sdk.FlowNumber, rows *sdk.Builder) (uint64, error) {
	if p.fail != nil {
		return 0, p.fail
	}
	if rows.Rows() > 1 && rows.Bytes() > sdk.MaxBatchBytes || rows.Len() > sdk.MaxPayloadBytes {
		panic(fmt.Sprintf("%d rows of %d bytes in a batch", rows.Rows(), rows.Bytes()))
	}
	batch, err := sdk.ParseBatch(rows.Flow(), rows.Append(nil))
	if err != nil {
		panic(err)
	}
	name := rows.Flow().Name
	for row, at := range batch.Times() {
		line := fmt.Sprint(at)
		for i := range rows.Flow().Channels {
			line += " " + shortText(valueText(batch.Column(i), row))
		}
		p.rows[name] = append(p.rows[name], line)
	}
	rows.Reset()
	p.emissions++
	return uint64(p.emissions), nil
}

// shortText keeps long values out of the failures of tests.
func shortText(s string) string {
	if len(s) > 20 {
		return fmt.Sprint(s[:5], "…", len(s))
	}
	return s
}

func (p *memoryPipe) refuse(d sdk.Dropped) error {
	p.dropped[d.Reason] += d.Rows
	return nil
}

func (p *memoryPipe) received(messages, _ uint64) { p.messages += messages }

func (p *memoryPipe) ingested(runs map[string]*registry.Ingested) {
	for id, run := range runs {
		have, ok := p.runs[id]
		if !ok {
			have = registry.Ingested{Least: math.MaxInt64, Greatest: math.MinInt64}
		}
		p.runs[id] = registry.Ingested{Least: min(have.Least, run.Least), Greatest: max(have.Greatest, run.Greatest)}
	}
}

func testFlow(name string, types ...sdk.ChannelType) *registry.Flow {
	f := &registry.Flow{Flow: sdk.Flow{Name: name}}
	for i, t := range types {
		f.Channels = append(f.Channels, sdk.Channel{Name: fmt.Sprint("c", i), Type: t})
	}
	return f
}

// Whatever comes, and whenever the pacer ticks: all rows that fit are emitted
// once, in order, in batches of a good size; the others are counted.
func TestRowsAreEmittedOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newMemoryPipe(testFlow("a", sdk.Double), testFlow("bb", sdk.BitField, sdk.Double), testFlow("ccc", sdk.String))
		pace := newPacer(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "interval"))
		r := newRows(p, pace)
		want := map[string][]string{}
		refused, sent := uint64(0), uint64(0)
		add := func(row *wireRow, line string) {
			sent++
			require.NoError(t, r.add(marshal(t, row)))
			if line == "" {
				refused++
			} else {
				want[row.GetFlow()] = append(want[row.GetFlow()], line)
			}
		}
		for at := range rapid.Int64Range(0, 60).Draw(t, "steps") {
			row := &wireRow{Timestamp: &timestamppb.Timestamp{Nanos: int32(at)}, RunId: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "run")}
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				row.Flow, row.ChannelValues = "a", []*wireValue{double(float64(at))}
				add(row, fmt.Sprint(at, " ", at))
			case 3, 4:
				field := bytes.Repeat([]byte{7}, rapid.IntRange(1, 2).Draw(t, "width"))
				row.Flow, row.ChannelValues = "bb", []*wireValue{bits(field...), empty()}
				add(row, fmt.Sprintf("%d %x -", at, field))
			case 5, 6:
				s := strings.Repeat("s", rapid.SampledFrom([]int{0, 1, 2, 10, 20, 30, 40, 50, 100, 300_000, 1_100_000}).Draw(t, "length"))
				row.Flow, row.ChannelValues = "ccc", []*wireValue{text(s)}
				add(row, fmt.Sprint(at, " ", shortText(fmt.Sprintf("%q", s))))
			case 7: // refused after its first value was set
				row.Flow, row.ChannelValues = "bb", []*wireValue{bits(1, 2, 3), text("x")}
				add(row, "")
			case 8:
				row.Flow = "other"
				add(row, "")
			case 9:
				pace.round()
			}
		}
		got, first := r.end()
		require.True(t, first)
		require.NoError(t, got.err)
		require.EqualValues(t, p.emissions, got.sequence)
		require.Equal(t, want, p.rows)
		total := uint64(0)
		for _, n := range p.dropped {
			total += n
		}
		require.Equal(t, refused, total)
		require.Equal(t, sent, p.messages)

		_, first = r.end()
		require.False(t, first)
		require.ErrorIs(t, r.add(marshal(t, &wireRow{})), errEnded)
		require.Equal(t, want, p.rows)
	})
}

// A stream that uses many flows does not keep them all.
func TestLanesAreBounded(t *testing.T) {
	const flows, channels = 10, 15_000 // some 2.4 MB each
	p := newMemoryPipe()
	for i := range flows {
		name := strings.Repeat("f", i+1)
		p.flows[name] = testFlow(name, make([]sdk.ChannelType, channels)...)
		for c := range p.flows[name].Channels {
			p.flows[name].Channels[c].Type = sdk.Bool
		}
	}
	values := make([]*wireValue, channels)
	for i := range values {
		values[i] = empty()
	}
	r := newRows(p, newPacer(time.Hour))
	for round := range int64(2) {
		for name := range p.flows {
			row := &wireRow{Flow: name, RunId: "r", Timestamp: &timestamppb.Timestamp{Seconds: round}, ChannelValues: values}
			require.NoError(t, r.add(marshal(t, row)))
			require.LessOrEqual(t, r.mu.cost, laneBytes)
		}
	}
	got, _ := r.end()
	p.ingested(got.runs)
	for name := range p.flows {
		assert.Len(t, p.rows[name], 2)
	}
	assert.Greater(t, p.lookups, flows)
	assert.Equal(t, registry.Ingested{Least: 0, Greatest: second}, p.runs["r"])
}

func TestEmissionFails(t *testing.T) {
	p := newMemoryPipe(testFlow("a", sdk.Double))
	p.fail = errors.New("no host")
	r := newRows(p, newPacer(time.Hour))
	row := marshal(t, &wireRow{Flow: "a", Timestamp: &timestamppb.Timestamp{}, ChannelValues: []*wireValue{double(1)}})
	require.ErrorIs(t, r.add(row), p.fail)
	require.ErrorIs(t, r.add(row), p.fail)
	got, _ := r.end()
	require.ErrorIs(t, got.err, p.fail)
}

// What says nothing about the rows does not refuse them: the client must send
// them again.
func TestLookUpFails(t *testing.T) {
	p := newMemoryPipe()
	p.fail = status.Error(codes.Internal, "disk error")
	r := newRows(p, newPacer(time.Hour))
	require.ErrorIs(t, r.add(marshal(t, &wireRow{Flow: "a"})), p.fail)
	got, _ := r.end()
	require.ErrorIs(t, got.err, p.fail)
	assert.Empty(t, p.dropped)
}

func TestThrottle(t *testing.T) {
	th := throttle{every: time.Minute}
	now := time.Unix(0, 0)
	for i, tc := range []struct {
		after   time.Duration
		skipped int
		speak   bool
	}{{0, 0, true}, {time.Second, 0, false}, {time.Second, 0, false}, {time.Minute, 2, true}, {time.Minute, 0, true}} {
		now = now.Add(tc.after)
		skipped, speak := th.ok(now)
		assert.Equal(t, tc.skipped, skipped, i)
		assert.Equal(t, tc.speak, speak, i)
	}
}
