package csv

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// walls runs a source and returns how long after the start each row was emitted.
func walls(t *testing.T, c Config, resume []byte) ([]time.Duration, *host) {
	t.Helper()
	b := newSource(t, c, "")
	b.settings.Gather = 0
	h := newHost(t, resume)
	start := time.Now()
	require.NoError(t, b.run(t, h))
	var out []time.Duration
	for _, made := range h.batches {
		for range made.rows {
			out = append(out, made.wall.Sub(start))
		}
	}
	return out, h
}

func TestPace(t *testing.T) {
	in := "t,a\n100,1\n100.5,2\n100.5004,3\n102,4\n101,5\n102.5,6\n"
	for _, tc := range []struct {
		name string
		set  func(c *Config)
		want []time.Duration // ms
	}{
		{"real speed", func(c *Config) { c.Speed = sdk.NumberOr{Number: 1} }, []time.Duration{0, 500, 500, 2000, 2000, 2500}},
		{"twice as fast", func(c *Config) { c.Speed = sdk.NumberOr{Number: 2} }, []time.Duration{0, 250, 250, 1000, 1000, 1250}},
		{"slower", func(c *Config) { c.Speed = sdk.NumberOr{Number: 0.1} }, []time.Duration{0, 5000, 5004, 20_000, 20_000, 25_000}},
		{"as fast as it goes", func(c *Config) {}, []time.Duration{0, 0, 0, 0, 0, 0}},
		{"pauses cut", func(c *Config) {
			c.Speed, c.MaxGap = sdk.NumberOr{Number: 1}, new(time.Second)
		}, []time.Duration{0, 500, 500, 1500, 1500, 2000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fast(write(t, "f.csv", in))
				tc.set(&c)
				got, _ := walls(t, c, nil)
				require.Len(t, got, len(tc.want))
				for i := range got {
					assert.InDelta(t, float64(tc.want[i]*time.Millisecond), float64(got[i]), float64(early), "row %d", i)
				}
			})
		})
	}
}

// TestPaceOutlier: one wrong event time does not disturb the pace of the rest if
// pauses are cut.
func TestPaceOutlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fast(write(t, "f.csv", "t,a\n0,1\n1,2\n4000000000,3\n2,4\n3,5\n"))
		c.Speed, c.MaxGap = sdk.NumberOr{Number: 1}, new(5*time.Second)
		got, _ := walls(t, c, nil)
		assert.Equal(t, []time.Duration{0, time.Second, 6 * time.Second, 6 * time.Second, 7 * time.Second}, got)
	})
}

// TestPacerExtremes: stamps whose difference does not fit are no problem.
func TestPacerExtremes(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, speed := range []float64{1e-9, 1, 1e12} {
		p := pacer{speed: speed, maxGap: math.MaxInt64}
		assert.Zero(t, p.wait(math.MinInt64, now))
		assert.Positive(t, p.wait(math.MaxInt64, now))
		assert.Zero(t, p.wait(math.MinInt64, now.Add(time.Second)))
		p.maxGap = time.Second
		assert.LessOrEqual(t, p.wait(math.MaxInt64, now), time.Second)
	}
}

// TestStopWhilePaused: a request to stop, or to rewind, does not wait for the next
// row.
func TestStopWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fast(write(t, "f.csv", "t,a\n0,1\n1000000,2\n"))
		c.Speed = sdk.NumberOr{Number: 1}
		b := newSource(t, c, "")
		h := newHost(t, nil)
		done := make(chan error)
		start := time.Now()
		go func() { done <- b.Run(t.Context(), h) }()
		<-time.After(time.Minute)
		h.rewind(nil, true)
		<-time.After(time.Minute)
		h.stop()
		require.NoError(t, <-done)
		assert.Equal(t, []string{"0s a=1", "0s a=1"}, short(h.rows()))
		assert.Equal(t, 2*time.Minute, time.Since(start))
		assert.Contains(t, b.logs.String(), "the next row is due later; max_gap cuts pauses")
	})
}

// TestStopped: nothing is emitted after the request, and a later run goes on with
// what was not emitted.
func TestStopped(t *testing.T) {
	for _, speed := range []sdk.NumberOr{{Keyword: "max"}, {Number: 1e12}} {
		c := fast(write(t, "f.csv", "t,a\n"+rowsOf(20_000, "%d,%d\n")))
		c.Speed = speed
		b := newSource(t, c, "")
		h := newHost(t, nil)
		stopped := 0
		h.onEmit = func(int) error {
			if stopped++; stopped == 2 {
				h.stop()
			}
			return nil
		}
		require.NoError(t, b.Run(t.Context(), h))
		next := newHost(t, h.batches[len(h.batches)-1].position)
		require.NoError(t, newSource(t, c, "").run(t, next))
		sameRows(t, rowsAs(20_000, "%v a=%d"), short(append(h.rows(), next.rows()...)))
	}
}

// TestRebase: the first row is now, all others keep their distance, also after a
// restart.
func TestRebase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fast(write(t, "f.csv", "t,a\n100,1\n101,2\n103,3\n102,4\n"))
		c.Rebase, c.Speed = "now", sdk.NumberOr{Number: 1}
		start := time.Now()
		_, h := walls(t, c, nil)
		var got []time.Duration
		for _, r := range h.rows() {
			got = append(got, time.Unix(0, r.At).Sub(start))
		}
		assert.Equal(t, []time.Duration{0, time.Second, 3 * time.Second, 2 * time.Second}, got)

		<-time.After(time.Hour)
		_, again := walls(t, c, h.batches[1].position)
		assert.Equal(t, h.rows()[2:], again.rows())

		c.Rebase = "off"
		_, plain := walls(t, c, h.batches[1].position)
		assert.Equal(t, []string{"1m43s a=3", "1m42s a=4"}, short(plain.rows()))
	})
}

// TestRebaseOverflow: a time that cannot be shifted refuses its row.
func TestRebaseOverflow(t *testing.T) {
	c := fast(write(t, "f.csv", "t,a\n-9000000000,1\n9000000000,2\n"))
	c.Rebase = "now"
	h, _ := replay(t, c)
	assert.Len(t, h.rows(), 1)
	assert.Equal(t, map[string]uint64{"event time is out of range when it is shifted": 1}, h.refused())
}

// TestPacedMerge: files of unlike rates are emitted in the order of event time.
func TestPacedMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := recordings(t, "rocket-hedy")
		c := defaultConfig()
		c.Time = &TimeConfig{Column: new("ts")}
		want := 0
		for _, name := range []string{"imu", "baro", "flightInfo", "gnssInfo"} {
			c.Files = append(c.Files, FileConfig{Flow: name, Path: filepath.Join(dir, name+".csv")})
			want += len(expectCSV(t, filepath.Join(dir, name+".csv"), name, "ts", time.Unix(0, 0)))
		}
		c.Speed = sdk.NumberOr{Number: 10}
		start := time.Now()
		b := newSource(t, c, "")
		b.settings.Gather = 0
		h := newHost(t, nil)
		require.NoError(t, b.run(t, h))
		rows := h.rows()
		require.Len(t, rows, want)
		for i := range rows {
			if i > 0 {
				require.GreaterOrEqual(t, rows[i].At, rows[i-1].At, fmt.Sprint("row ", i))
			}
		}
		for _, made := range h.batches {
			due := start.Add(time.Duration(made.rows[0].At-rows[0].At) / 10)
			require.InDelta(t, 0, float64(made.wall.Sub(due)), float64(early))
		}
	})
}
