package csv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// followed is a source that follows files, inside a synctest bubble.
type followed struct {
	bench
	*host
	t      *testing.T
	health []sdk.Health
	done   chan error
}

func following(path string) Config {
	c := fast(path)
	c.Follow, c.Speed = true, sdk.NumberOr{Number: 1}
	return c
}

func follow(t *testing.T, c Config, stateDir string, resume []byte) *followed {
	t.Helper()
	f := &followed{bench: newSource(t, c, stateDir), host: newHost(t, resume), t: t, done: make(chan error, 1)}
	f.settings.Health = func(h sdk.Health) { f.health = append(f.health, h) }
	go func() { f.done <- f.Run(t.Context(), f.host) }()
	f.settle()
	return f
}

// settle gives the source the time to notice what was written.
func (f *followed) settle() {
	<-time.After(time.Second)
	synctest.Wait()
}

// end stops the source and checks the account.
func (f *followed) end() {
	f.t.Helper()
	f.stop()
	require.NoError(f.t, <-f.done)
	require.Equal(f.t, f.account.read.Load(), uint64(len(f.rows()))+f.refusedRows(), "rows read = emitted + refused")
}

func (f *followed) last() []byte { return f.batches[len(f.batches)-1].position }

func add(t testing.TB, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a,b\n0,1,x\n")
		f := follow(t, following(path), "", nil)
		assert.Equal(t, []string{"0s a=1 b=x"}, short(f.rows()))
		add(t, path, "1,2.5,y\n2,")
		f.settle()
		assert.Equal(t, []string{"0s a=1 b=x", "1s a=2.5 b=y"}, short(f.rows()), "a row that is not written to its end waits")
		add(t, path, "3,\"z")
		f.settle()
		add(t, path, "\nz\"\n3,x,\n4,5,\n")
		f.settle()
		assert.Equal(t, []string{"2s a=3 b=z\nz", "4s a=5"}, short(f.rows()[2:]))
		assert.Equal(t, map[string]uint64{`column "a" is not a number`: 1}, f.refused())
		add(t, path, "bad\n")
		f.settle()
		assert.Equal(t, uint64(2), f.refusedRows(), "reported without waiting for a good row")
		f.end()
		assert.Empty(t, f.progress)
	})
}

// TestFollowLatency: a row goes out at the next poll.
func TestFollowLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n")
		c := following(path)
		f := follow(t, c, "", nil)
		add(t, path, "1,2\n")
		written := time.Now()
		f.settle()
		require.Len(t, f.batches, 2)
		assert.LessOrEqual(t, f.batches[1].wall.Sub(written), c.Poll+f.settings.Gather)
		f.end()
	})
}

// TestFollowBeginsEmpty: the file, its header and its first row come later.
func TestFollowBeginsEmpty(t *testing.T) {
	for _, tc := range []struct{ name, before, rest string }{
		{"f.csv", "t,", "a\n"}, {"f.csv", "\xef", "\xbb\xbft,a\n"}, {"f.ndjson", "", "\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tc.name)
			c := following(path)
			d, err := newSource(t, c, "").Discover(t.Context())
			require.NoError(t, err)
			assert.Equal(t, sdk.Discovery{Dynamic: true}, d)

			f := follow(t, c, "", nil)
			require.Len(t, f.health, 1)
			assert.Equal(t, sdk.HealthBlocked, f.health[0].State)
			assert.Contains(t, f.health[0].Reason, tc.name+" is not there")
			add(t, path, tc.before)
			f.settle()
			add(t, path, tc.rest)
			f.settle()
			assert.Empty(t, f.flows)
			assert.Equal(t, sdk.HealthOK, f.health[len(f.health)-1].State)
			row := "0,1\n"
			if tc.name == "f.ndjson" {
				row = `{"t":0,"a":1}` + "\n"
			}
			add(t, path, row)
			f.settle()
			assert.Equal(t, []string{"0s a=1"}, short(f.rows()))
			f.end()
		})
	}
}

// TestFollowUnreadable: while no row can be read it says why, and goes on with the
// first good one.
func TestFollowUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\nx,1\ny,2\n")
		f := follow(t, following(path), "", nil)
		want := path + ` has no row that can be read; line 2: time is not a number: "x"`
		require.Equal(t, []sdk.Health{{State: sdk.HealthBlocked, Reason: want}}, f.health)
		assert.Contains(t, f.logs.String(), "has no row that can be read")
		add(t, path, "5,3\n")
		f.settle()
		assert.Equal(t, sdk.HealthOK, f.health[1].State)
		assert.Equal(t, []string{"5s a=3"}, short(f.rows()))
		assert.Equal(t, map[string]uint64{"time is not a number": 2}, f.refused())
		f.end()
	})
}

// TestFollowDeclared: with all types declared the flow is known before its file.
func TestFollowDeclared(t *testing.T) {
	c := following(write(t, "f.csv", "t,a\n"))
	c.Columns = []ColumnConfig{{Name: "a", Type: new("int64")}}
	d, err := newSource(t, c, "").Discover(t.Context())
	require.NoError(t, err)
	require.Len(t, d.Flows, 1)
	assert.False(t, d.Dynamic)
	assert.False(t, d.Finite)
}

func TestFollowTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n1,2\n")
		f := follow(t, following(path), "", nil)
		require.NoError(t, os.Truncate(path, 0))
		f.settle()
		add(t, path, "t,a\n2,3\n")
		f.settle()
		add(t, path, "3,4\n")
		f.settle()
		assert.Equal(t, []string{"0s a=1", "1s a=2", "2s a=3", "3s a=4"}, short(f.rows()))
		assert.Contains(t, f.logs.String(), `the file was rewritten; it is read from its beginning`)
		assert.Contains(t, f.logs.String(), `read_until_line=3 because="it is shorter"`)
		f.end()
	})
}

// TestFollowRewritten: truncated and already longer again when it is looked at.
func TestFollowRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n1,2\n")
		f := follow(t, following(path), "", nil)
		require.NoError(t, os.WriteFile(path, []byte("t,a\n5,1\n6,2\n7,3\n"), 0o600))
		f.settle()
		assert.Equal(t, []string{"0s a=1", "1s a=2", "5s a=1", "6s a=2", "7s a=3"}, short(f.rows()))
		assert.Contains(t, f.logs.String(), `because="the last line that was read is another one now"`)
		f.end()
	})
}

// TestFollowRotated: what is still written to the old file is read before the new
// one, its last line even without a line end.
func TestFollowRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n")
		f := follow(t, following(path), "", nil)
		require.NoError(t, os.Rename(path, path+".1"))
		add(t, path+".1", "1,2\n")
		f.settle()
		add(t, path, "t,a\n")
		add(t, path+".1", "2,3\n3,4")
		f.settle()
		add(t, path, "4,5\n")
		f.settle()
		add(t, path, "5,6\n")
		f.settle()
		assert.Equal(t, []string{"0s a=1", "1s a=2", "2s a=3", "3s a=4", "4s a=5", "5s a=6"}, short(f.rows()))
		assert.Contains(t, f.logs.String(), "the file was replaced; going on with the new one")
		f.end()

		// The position is one in the new file.
		add(t, path, "6,7\n")
		f = follow(t, following(path), "", f.last())
		assert.Equal(t, []string{"6s a=7"}, short(f.rows()))
		f.end()
	})
}

func TestFollowOtherHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n")
		f := follow(t, following(path), "", nil)
		require.NoError(t, os.Rename(path, path+".1"))
		add(t, path, "t,b\n1,2\n")
		err := <-f.done
		require.ErrorContains(t, err, `the header has changed: the columns are ["t" "b"] now and were ["t" "a"]`)
	})
}

// TestFollowAgain: a restart goes on behind the last row, with the same types even
// if the rows that it sees first would say otherwise.
func TestFollowAgain(t *testing.T) {
	for _, name := range []string{"f.csv", "f.ndjson"} {
		synctest.Test(t, func(t *testing.T) {
			state := t.TempDir()
			first, second := "t,a,b\n0,1,\n", "1,2,5\n"
			if name == "f.ndjson" {
				first, second = `{"t":0,"a":1,"b":null}`+"\n", `{"t":1,"a":2,"b":5}`+"\n"
			}
			path := write(t, name, first)
			f := follow(t, following(path), state, nil)
			want := []string{"a double", "b string"}
			assert.Equal(t, want, f.channels(0))
			f.end()
			add(t, path, second)

			b := newSource(t, following(path), state)
			d, err := b.Discover(t.Context())
			require.NoError(t, err)
			assert.Equal(t, f.flows, d.Flows)
			again := follow(t, following(path), state, f.last())
			assert.Equal(t, f.flows, again.flows)
			assert.Equal(t, []string{"1s a=2 b=5"}, short(again.rows()))
			again.end()

			forgetful := newSource(t, following(path), t.TempDir())
			d, err = forgetful.Discover(t.Context())
			require.NoError(t, err)
			assert.NotEqual(t, f.flows, d.Flows)
		})
	}
}

// TestFollowReplacedMeanwhile: the file was rotated while nobody followed it.
func TestFollowReplacedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "f.csv", "t,a\n0,1\n1,2\n")
		f := follow(t, following(path), "", nil)
		f.end()
		require.NoError(t, os.WriteFile(path, []byte("t,a\n7,8\n"), 0o600))
		f = follow(t, following(path), "", f.last())
		assert.Equal(t, []string{"7s a=8"}, short(f.rows()))
		assert.Contains(t, f.logs.String(), "the file was replaced while nobody followed it")
		f.end()
	})
}

// TestFollowMissingKeepsItsPlace: a position says where to go on also in a file
// that is not there at the moment.
func TestFollowMissingKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := write(t, "a.csv", "t,a\n0,1\n"), write(t, "b.csv", "t,a\n1,1\n")
		c := defaultConfig()
		c.Follow = true
		c.Time = &TimeConfig{Column: new("t")}
		c.Files = []FileConfig{{Flow: "a", Path: a}, {Flow: "b", Path: b}}
		state := t.TempDir()
		f := follow(t, c, state, nil)
		f.end()
		require.NoError(t, os.Rename(a, a+".away"))
		add(t, b, "2,2\n")
		f = follow(t, c, state, f.last())
		assert.Equal(t, []string{"2s a=2"}, short(f.rows()))
		f.end()
		require.NoError(t, os.Rename(a+".away", a))
		add(t, a, "3,3\n")
		f = follow(t, c, state, f.last())
		assert.Equal(t, []string{"3s a=3"}, short(f.rows()))
		f.end()
	})
}

// TestFollowAgainBeforeTheHeader: a restart while a file is not even begun.
func TestFollowAgainBeforeTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := write(t, "a.csv", "t,a\n0,1\n"), write(t, "b.csv", "t,")
		c := defaultConfig()
		c.Follow = true
		c.Time = &TimeConfig{Column: new("t")}
		c.Files = []FileConfig{{Flow: "a", Path: a}, {Flow: "b", Path: b, Columns: []ColumnConfig{{Name: "b", Type: new("int32")}}}}
		f := follow(t, c, "", nil)
		f.end()
		add(t, b, "b\n")
		f = follow(t, c, "", f.last())
		assert.Len(t, f.flows, 2)
		add(t, a, "1,1\n")
		f.settle()
		f.end()
		add(t, b, "2,2\n")
		f = follow(t, c, "", f.last())
		assert.Equal(t, []string{"2s b=2"}, short(f.rows()))
		assert.Empty(t, f.dropped)
		f.end()
	})
}

// TestFollowMany: a file that grows all the time does not keep others waiting. It
// runs on the real clock: a row must be ready at each moment.
func TestFollowMany(t *testing.T) {
	busy, calm := write(t, "a.csv", "t,a\n"), write(t, "b.csv", "t,a\n")
	c := defaultConfig()
	c.Follow, c.Poll = true, time.Millisecond
	c.Time = &TimeConfig{Column: new("t")}
	c.Files = []FileConfig{{Flow: "busy", Path: busy}, {Flow: "calm", Path: calm}}
	b, h := newSource(t, c, ""), newHost(t, nil)
	const most = 100_000
	row, seen := 0, make(chan int, 1)
	h.onEmit = func(n int) error {
		if newest := h.batches[n-1].rows[0]; newest.Flow == "calm" {
			seen <- row
			h.stop()
		}
		if row >= most {
			h.stop()
			return nil
		}
		var more strings.Builder
		for range 2000 {
			fmt.Fprintf(&more, "%d,%d\n", row, row)
			row++
		}
		add(t, busy, more.String())
		if row == 10_000 {
			add(t, calm, "0,1\n")
		}
		return nil
	}
	add(t, busy, "0,0\n")
	require.NoError(t, b.Run(t.Context(), h))
	require.Len(t, seen, 1)
	assert.Less(t, <-seen, most)
}

// TestFollowGzip: what a gzip file says at its end is not known before.
func TestFollowGzip(t *testing.T) {
	c := following(write(t, "f.csv", string(zip(t, "t,a\n0,1\n"))))
	_, err := newSource(t, c, "").Discover(t.Context())
	require.ErrorContains(t, err, "is a gzip file, which cannot be followed")
}
