package csv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
	"github.com/pipelined/pipelined/sdk"
)

var errKilled = errors.New("killed")

// resumes kills a replay after each batch that take picks and wants the rest from its
// position, exactly: of each flow in its order, since flows may be cut otherwise.
func resumes(t *testing.T, c Config, take func(batch int) bool) {
	t.Helper()
	whole, _ := replay(t, c)
	all := byFlow(whole.rows())
	before := map[string]int{}
	for n, made := range whole.batches {
		before[made.rows[0].Flow] += len(made.rows)
		require.NotNil(t, made.position)
		if !take(n) {
			continue
		}
		b := newSource(t, c, "")
		h := newHost(t, made.position)
		require.NoError(t, b.run(t, h))
		rest := byFlow(h.rows())
		for flow, rows := range all {
			want, got := rows[before[flow]:], rest[flow]
			require.Equal(t, len(want), len(got), "flow %s after batch %d", flow, n)
			for i := range got {
				if !assert.ObjectsAreEqual(want[i], got[i]) {
					require.Equal(t, want[i], got[i], "row %d of flow %s after batch %d", i, flow, n)
				}
			}
		}
	}
}

func byFlow(rows []emitted) map[string][]emitted {
	out := map[string][]emitted{}
	for _, r := range rows {
		out[r.Flow] = append(out[r.Flow], r)
	}
	return out
}

// eachRow makes every row a batch with its position.
func eachRow(c Config) Config {
	c.Speed, c.MaxGap = sdk.NumberOr{Number: 1e12}, new(time.Nanosecond)
	return c
}

// TestResumeAtEveryRow goes on behind every row of files with everything in them
// that makes that hard.
func TestResumeAtEveryRow(t *testing.T) {
	small := "\xef\xbb\xbft,a\r\n0,x\r\n\r\n1,\"y\nz\"\n2,bad,bad\n3,\"open\n4,p\n5,q\n\n6,\"r\"\n7,\x00\n8,s"
	lines := `{"t":0,"a":{"b":1}}` + "\n\n  \n{bad}\n" + `{"t":1,"a":{"b":2}}` + "\r\n" + `{"t":2,"a":{"b":3}}`
	for name, in := range map[string]string{"f.csv": small, "f.csv.gz": string(zip(t, small)), "f.ndjson": lines, "f.ndjson.gz": string(zip(t, lines))} {
		t.Run(name, func(t *testing.T) {
			c := eachRow(fast(write(t, name, in)))
			b := newSource(t, c, "")
			b.settings.Gather = 0
			whole := newHost(t, nil)
			require.NoError(t, b.run(t, whole))
			all := whole.rows()
			require.Len(t, whole.batches, len(all))
			for n, made := range whole.batches {
				h := newHost(t, made.position)
				require.NoError(t, newSource(t, c, "").run(t, h))
				require.Equal(t, short(all[n+1:]), short(h.rows()), "after row %d", n)
			}
		})
	}
}

// TestResumeMerged: with several files of unlike rates, the position holds a place
// in each.
func TestResumeMerged(t *testing.T) {
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("t"), Unit: new("ms")}
	for i, every := range []int{1, 3, 50} {
		var in strings.Builder
		in.WriteString("t,a\n")
		for ms := 0; ms < 30_000; ms += every {
			fmt.Fprintf(&in, "%d,%d\n", ms, ms%7)
		}
		c.Files = append(c.Files, FileConfig{Flow: fmt.Sprint("f", i), Path: write(t, "f.csv", in.String())})
	}
	resumes(t, c, func(int) bool { return true })
	c.Files = c.Files[:1]
	resumes(t, c, func(int) bool { return true })
}

// TestResumeWithRefusedRows: rows of several files of which some cannot be read, also
// whole stretches, are given and refused once each, wherever a replay goes on.
func TestResumeWithRefusedRows(t *testing.T) {
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("t")}
	c.Columns = []ColumnConfig{{Name: "a", Type: new("int64")}}
	const seconds = 12_000
	for i, bad := range []func(second int) bool{
		func(s int) bool { return s%7 == 3 },
		func(s int) bool { return s > 5000 && s < 10_000 },
		func(int) bool { return false },
	} {
		var in strings.Builder
		in.WriteString("t,a\n")
		for s := range seconds {
			value := fmt.Sprint(s)
			if bad(s) {
				value = "bad"
			}
			fmt.Fprintf(&in, "%d,%s\n", s, value)
		}
		c.Files = append(c.Files, FileConfig{Flow: fmt.Sprint("f", i), Path: write(t, "f.csv", in.String())})
	}
	resumes(t, c, func(int) bool { return true })
	whole, _ := replay(t, c)
	assert.EqualValues(t, 3*seconds, uint64(len(whole.rows()))+whole.refusedRows())
	assert.Greater(t, len(whole.batches), 6)
}

// TestResumeRecording goes on at random places of a real recording.
func TestResumeRecording(t *testing.T) {
	dir := recordings(t, "rocket-hedy")
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("ts")}
	for _, name := range []string{"imu", "baro", "flightInfo", "gnssInfo"} {
		c.Files = append(c.Files, FileConfig{Flow: name, Path: filepath.Join(dir, name+".csv")})
	}
	resumes(t, c, func(int) bool { return rand.IntN(3) == 0 })
}

// TestResumeAfterKill: whatever was emitted when the source died, with its last
// position nothing is lost and no more than what followed that is repeated.
func TestResumeAfterKill(t *testing.T) {
	c := fast(write(t, "f.csv", "t,a\n"+rowsOf(20_000, "%d,%d\n")))
	for _, kill := range []int{1, 2, 4} {
		first := newHost(t, nil)
		first.onEmit = func(n int) error {
			if n == kill {
				return errKilled
			}
			return nil
		}
		require.ErrorIs(t, newSource(t, c, "").run(t, first), errKilled)
		second := newHost(t, first.batches[kill-1].position)
		require.NoError(t, newSource(t, c, "").run(t, second))
		sameRows(t, rowsAs(20_000, "%v a=%d"), short(append(first.rows(), second.rows()...)))
	}
}

// TestRewind: everything after the position comes again, in the same run.
func TestRewind(t *testing.T) {
	for _, speed := range []sdk.NumberOr{{Keyword: "max"}, {Number: 1e12}} {
		c := fast(write(t, "f.csv", "t,a\n"+rowsOf(20_000, "%d,%d\n")))
		c.Speed = speed
		b := newSource(t, c, "")
		h := newHost(t, nil)
		rewinds := 0
		h.onEmit = func(int) error {
			rows := len(h.rows())
			switch {
			case rows > 10_000 && rewinds == 0:
				h.rewind(h.batches[0].position, false)
				rewinds++
			case rows > 20_000 && rewinds == 1:
				h.rewind(nil, true)
				rewinds++
			}
			return nil
		}
		require.NoError(t, b.Run(t.Context(), h))
		all := rowsAs(20_000, "%v a=%d")
		got := short(h.rows())
		require.Greater(t, len(got), len(all))
		sameRows(t, all, got[len(got)-len(all):], "of the last pass")
		assert.Equal(t, 2, strings.Count(b.logs.String(), "the host asks for rows again"))
		assert.Len(t, h.flows, 1)
		starts := 0
		for _, r := range got {
			if r == all[0] {
				starts++
			}
		}
		assert.Equal(t, 2, starts, "the first rewind is to a position, the second to the beginning")
	}
}

// TestChangedFile: a position is not used for another file.
func TestChangedFile(t *testing.T) {
	in := "t,a\n" + rowsOf(20_000, "%d,%d\n")
	for _, gz := range []bool{false, true} {
		for _, tc := range []struct{ name, now, want string }{
			{"shorter", in[:20_000], "it is shorter"},
			{"shorter than its head", in[:100], "it begins differently"},
			{"other beginning", strings.Replace(in, "5,5", "5,6", 1), "it begins differently"},
			{"other rows", strings.ReplaceAll(in, "4095,", "4096,"), "line 4097 is another one"},
			{"other lengths", strings.ReplaceAll(in, "3000,3000", "3000,3"), "line 4097 is another one"},
		} {
			t.Run(fmt.Sprint(tc.name, ", gzip ", gz), func(t *testing.T) {
				name, before, now := "f.csv", in, tc.now
				if gz {
					name, before, now = "f.csv.gz", string(zip(t, in)), string(zip(t, tc.now))
				}
				c := fast(write(t, name, before))
				first, _ := replay(t, c)
				require.Greater(t, len(first.batches), 2)
				require.NoError(t, os.WriteFile(*c.Path, []byte(now), 0o600))
				h := newHost(t, first.batches[0].position)
				err := newSource(t, c, "").run(t, h)
				require.ErrorContains(t, err, "this is not the file that was read up to line 4097")
				require.ErrorContains(t, err, tc.want)
				require.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
				assert.Empty(t, h.batches)
			})
		}
	}
}

// TestGrownFile: more rows at the end of a file do not make it another one.
func TestGrownFile(t *testing.T) {
	path := write(t, "f.csv", "t,a\n0,1\n1,2\n")
	first, _ := replay(t, fast(path))
	require.NoError(t, os.WriteFile(path, []byte("t,a\n0,1\n1,2\n2,3\n"), 0o600))
	h := newHost(t, first.batches[0].position)
	require.NoError(t, newSource(t, fast(path), "").run(t, h))
	assert.Equal(t, []string{"2s a=3"}, short(h.rows()))
}

// TestOtherFiles: a file that was added since begins at its beginning, one that is
// gone is forgotten.
func TestOtherFiles(t *testing.T) {
	c := defaultConfig()
	c.Speed = sdk.NumberOr{Keyword: "max"}
	c.Time = &TimeConfig{Column: new("t")}
	path := write(t, "f.csv", "t,a\n0,1\n")
	c.Files = []FileConfig{{Flow: "a", Path: path}, {Flow: "b", Path: path}}
	first, _ := replay(t, c)
	c.Files = []FileConfig{{Flow: "b", Path: path}, {Flow: "c", Path: path}}
	h := newHost(t, first.batches[1].position)
	require.NoError(t, newSource(t, c, "").run(t, h))
	require.Len(t, h.rows(), 1)
	assert.Equal(t, "c", h.rows()[0].Flow)
}

// TestResumeBeforeTheFirstRow: a position may be the one behind skipped lines, or
// the beginning, in a file that no row was emitted of.
func TestResumeBeforeTheFirstRow(t *testing.T) {
	c := defaultConfig()
	c.Speed, c.Header = sdk.NumberOr{Keyword: "max"}, false
	c.Time = &TimeConfig{Column: new("column_1")}
	late := write(t, "late.csv", "what it is\n90000,1\n")
	c.Files = []FileConfig{
		{Flow: "a", Path: write(t, "a.csv", rowsOf(10_000, "%d,%d\n"))},
		{Flow: "late", Path: late, SkipLines: new(1)},
		{Flow: "latest", Path: write(t, "latest.csv", "90001,1\n")},
	}
	resumes(t, c, func(int) bool { return true })

	first, _ := replay(t, c)
	require.NoError(t, os.WriteFile(late, nil, 0o600))
	err := newSource(t, c, "").run(t, newHost(t, first.batches[0].position))
	require.ErrorContains(t, err, "late.csv ends before the 1 lines that skip_lines says")
}

func TestBadPositions(t *testing.T) {
	path := write(t, "f.csv", "t,a\n0,1\n1,2\n")
	first, _ := replay(t, fast(path))
	good := first.batches[0].position
	for n := 1; n < len(good); n++ {
		h := newHost(t, good[:n])
		require.ErrorIs(t, newSource(t, fast(path), "").run(t, h), errPosition, "%d bytes", n)
	}
	for _, bad := range [][]byte{{2}, append([]byte{9}, good[1:]...), append(append([]byte{}, good...), 0)} {
		require.ErrorIs(t, newSource(t, fast(path), "").run(t, newHost(t, bad)), errPosition)
	}
}

// TestPositionFits: the greatest position of as many files as can be.
func TestPositionFits(t *testing.T) {
	raw := appendShift(nil, -1<<63, true, maxFiles)
	const most = 1<<63 - 1
	for i := range maxFiles {
		raw = appendPlace(raw, uint64(i), place{head{headBytes, 1 << 31}, record.Mark{Offset: most - 2000, Line: most, Length: record.Limit, Sum: 1 << 31, SingleUntil: most}})
	}
	assert.LessOrEqual(t, len(raw), sdk.MaxPositionBytes)
	p, err := parsePosition(raw)
	require.NoError(t, err)
	assert.Len(t, p.places, maxFiles)
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := position{shift: rapid.Int64().Draw(t, "shift"), shifted: rapid.Bool().Draw(t, "shifted"), places: map[uint64]place{}}
		keys := rapid.SliceOfNDistinct(rapid.Uint64(), 0, maxFiles, rapid.ID).Draw(t, "keys")
		raw := appendShift(nil, want.shift, want.shifted, len(keys))
		for _, key := range keys {
			m := record.Mark{Offset: rapid.Int64Range(0, 1<<60).Draw(t, "offset"), Line: rapid.Int64Range(1, 1<<60).Draw(t, "line"), Sum: rapid.Uint32().Draw(t, "sum")}
			m.Length = rapid.Int64Range(0, min(m.Offset, record.Limit)).Draw(t, "length")
			if beyond := rapid.Int64Range(0, 1<<20).Draw(t, "beyond"); beyond > 0 {
				m.SingleUntil = m.Offset + beyond
			}
			p := place{head{rapid.Int64Range(0, headBytes).Draw(t, "head"), rapid.Uint32().Draw(t, "head sum")}, m}
			want.places[key] = p
			raw = appendPlace(raw, key, p)
		}
		got, err := parsePosition(raw)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func FuzzPosition(f *testing.F) {
	f.Add(appendPlace(appendShift(nil, 5, true, 1), 7, place{head{5, 6}, record.Mark{Offset: 100, Line: 3, Length: 10, Sum: 9}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePosition(raw)
		if err != nil {
			require.Empty(t, p.places)
			return
		}
		for _, at := range p.places {
			require.GreaterOrEqual(t, at.mark.Offset, at.mark.Length)
			require.LessOrEqual(t, at.mark.Length, int64(record.Limit))
		}
	})
}
