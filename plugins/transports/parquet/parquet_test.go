package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/internal/outfile/outfiletest"
	"github.com/pipelined/pipelined/sdk"
)

// valueOf sets a random value of the channel and returns what must be read back.
func valueOf(r *rapid.T, b *sdk.Builder, channel int) any {
	c := &b.Flow().Channels[channel]
	switch c.Type {
	case sdk.Double:
		v := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
			math.NaN(), math.Float64frombits(0x7ff8000000000123), math.Copysign(0, -1), math.Inf(1), math.Inf(-1),
			math.MaxFloat64, math.SmallestNonzeroFloat64,
		})).Draw(r, "double")
		b.Double(channel, v)
		return math.Float64bits(v)
	case sdk.Float:
		v := rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{
			float32(math.NaN()), math.Float32frombits(0x7fc00123), float32(math.Copysign(0, -1)), float32(math.Inf(-1)),
		})).Draw(r, "float")
		b.Float(channel, v)
		return math.Float32bits(v)
	case sdk.Int32:
		v := rapid.Int32().Draw(r, "int32")
		b.Int32(channel, v)
		return v
	case sdk.Uint32:
		v := rapid.Uint32().Draw(r, "uint32")
		b.Uint32(channel, v)
		return int32(v)
	case sdk.Enum:
		v := rapid.SampledFrom([]uint32{0, 1, 2, math.MaxUint32}).Draw(r, "enum")
		b.Uint32(channel, v)
		return map[uint32]string{0: "off", 1: "on", 2: "2", math.MaxUint32: "4294967295"}[v]
	case sdk.Int64:
		v := rapid.Int64().Draw(r, "int64")
		b.Int64(channel, v)
		return v
	case sdk.Uint64:
		v := rapid.Uint64().Draw(r, "uint64")
		b.Uint64(channel, v)
		return int64(v)
	case sdk.Bool:
		v := rapid.Bool().Draw(r, "bool")
		b.Bool(channel, v)
		return v
	case sdk.String:
		v := rapid.String().Draw(r, "string")
		b.String(channel, v)
		return v
	case sdk.Bytes:
		v := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "bytes")
		b.SetBytes(channel, v)
		return string(v)
	default:
		v := rapid.SliceOfN(rapid.Byte(), 2, 2).Draw(r, "bit field")
		_ = b.BitField(channel, v)
		return string(v)
	}
}

// TestEveryValueComesBack writes random rows of random flows.
func TestEveryValueComesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t, func(c *Config) {
			c.Compression = rapid.SampledFrom([]string{"zstd", "snappy", "none"}).Draw(r, "compression")
		})
		flow := &sdk.Flow{Name: "f"}
		for i, typ := range rapid.SliceOfN(rapid.SampledFrom(sdk.ChannelTypes()), 1, 12).Draw(r, "types") {
			c := sdk.Channel{Name: fmt.Sprint("c", i), Type: typ}
			if typ == sdk.Enum {
				c.Enum = []sdk.EnumValue{{Name: "off", Key: 0}, {Name: "on", Key: 1}}
			}
			flow.Channels = append(flow.Channels, c)
		}
		s := b.stream(t)
		var want [][]any
		for range rapid.IntRange(1, 3).Draw(r, "batches") {
			send(r, s, delivery(r, flow, func(b *sdk.Builder) {
				for range rapid.IntRange(1, 20).Draw(r, "rows") {
					stamp := rapid.Int64().Draw(r, "stamp")
					b.Row(stamp)
					row := make([]any, len(flow.Channels)+1)
					row[0] = stamp
					for i := range flow.Channels {
						if rapid.IntRange(0, 3).Draw(r, "null") > 0 {
							row[i+1] = valueOf(r, b, i)
						}
					}
					want = append(want, row)
				}
			}))
		}
		paths := finish(r, s)
		require.Len(r, paths, 1)
		require.Equal(r, want, read(r, paths[0]).rows)
		require.NoError(r, b.Shutdown(context.Background()))
	})
}

func TestColumnsKeepTheirOrder(t *testing.T) {
	b := newBench(t, nil)
	flow := &sdk.Flow{Name: "f", Channels: []sdk.Channel{
		{Name: "z", Type: sdk.Double},
		{Name: "a", Type: sdk.Bool},
		{Name: "time", Type: sdk.Int64},
		{Name: "time_1", Type: sdk.Int64},
		{Name: "Time", Type: sdk.Int64},
	}}
	s := b.stream(t)
	send(t, s, delivery(t, flow, func(b *sdk.Builder) {
		b.Row(5)
		b.Int64(2, 2)
		b.Int64(3, 3)
		b.Int64(4, 4)
	}))
	got := read(t, finish(t, s)[0])
	assert.Equal(t, []string{"time", "z", "a", "time_2", "time_1", "Time"}, got.columns)
	assert.Equal(t, [][]any{{int64(5), nil, nil, int64(2), int64(3), int64(4)}}, got.rows)
}

func TestMetadata(t *testing.T) {
	b := newBench(t, nil)
	flow := sdk.Flow{
		Origin: sdk.Origin{Asset: "rover", ClientKey: "rover-v2", Run: "seven"}, Name: "drive",
		Channels: []sdk.Channel{
			{Name: "speed", Type: sdk.Float, Unit: "m/s", Description: "over \"ground\""},
			{Name: "time", Type: sdk.Enum, Enum: []sdk.EnumValue{{Name: "off", Key: 0}, {Name: "on", Key: 7}}},
			{Name: "flags", Type: sdk.BitField, BitField: []sdk.BitFieldElement{{Name: "ok", Index: 3, BitCount: 2}}},
		},
	}
	_, err := b.Register(context.Background(), sdk.Registration{
		Asset: "rover", ClientKey: "rover-v2", Run: sdk.Run{Name: "Run Seven", ClientKey: "seven"}, Flows: []sdk.Flow{flow},
	})
	require.NoError(t, err)
	s := b.stream(t)
	send(t, s, delivery(t, &flow, func(b *sdk.Builder) { b.Row(1) }))
	meta := read(t, finish(t, s)[0]).meta
	var channels []channelMeta
	require.NoError(t, json.Unmarshal([]byte(meta[metaChannels]), &channels))
	assert.Equal(t, []channelMeta{
		{Column: "speed", Channel: "speed", Type: "float", Unit: "m/s", Description: "over \"ground\""},
		{Column: "time_1", Channel: "time", Type: "enum", Enum: []enumMeta{{0, "off"}, {7, "on"}}},
		{Column: "flags", Channel: "flags", Type: "bit_field", BitField: []elementMeta{{"ok", 3, 2}}},
	}, channels)
	delete(meta, metaChannels)
	assert.Equal(t, map[string]string{
		metaFormat: "1", metaPipeline: "pipe", metaAsset: "rover", metaClientKey: "rover-v2", metaRun: "Run Seven", metaFlow: "drive",
	}, meta)
}

func TestPaths(t *testing.T) {
	client := sdk.Origin{Asset: "rover", ClientKey: "rover-v2", Run: "run 7"}
	for _, tc := range []struct {
		name         string
		registration *sdk.Registration
		origin       sdk.Origin
		want         string
	}{
		{"own, not registered", nil, sdk.Origin{}, "engine/"},
		{"own", &sdk.Registration{Asset: "a", ClientKey: "k"}, sdk.Origin{}, "engine/k-"},
		{"own with a run", &sdk.Registration{Asset: "a", ClientKey: "k", Run: sdk.Run{Name: "hot-12"}}, sdk.Origin{}, "engine/hot-12-k-"},
		{"client, not registered", nil, client, "rover/engine/run_7-rover-v2-"},
		{"client", &sdk.Registration{Asset: "rover", ClientKey: "rover-v2", Run: sdk.Run{ID: "7"}}, client, "rover/engine/7-rover-v2-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, nil)
			flow := doubles("engine", 1)
			flow.Origin = tc.origin
			if tc.registration != nil {
				tc.registration.Flows = []sdk.Flow{*flow}
				_, err := b.Register(context.Background(), *tc.registration)
				require.NoError(t, err)
			}
			s := b.stream(t)
			send(t, s, rows(t, flow, 0, 1))
			finish(t, s)
			assert.Equal(t, []string{tc.want + "1760000000000000.parquet"}, b.list(t))
		})
	}
}

var hostile = []string{
	"..", ".", "../../../../tmp/x", "/etc/passwd", "a\x00b", strings.Repeat("ä", 5<<10), `'"; rm -rf $HOME`, "a/b", "a:b",
	"a_b", ".pipelined-0123456789abcdef.tmp", " ", "\n", "-rf", "_hidden", "x.parquet", "x.PARQUET", "run=7", "%2e",
	"a_b-c14cddc033f64b9dea80ea67", "\u202etxt", "\ufffd", "CON", "🚀",
}

func TestHostileNames(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	want := 0
	for _, asset := range append(hostile, "") {
		for _, name := range hostile {
			flow := &sdk.Flow{
				Origin:   sdk.Origin{Asset: asset, ClientKey: asset + "k", Run: name},
				Name:     name,
				Channels: []sdk.Channel{{Name: name, Type: sdk.String}},
			}
			require.NoError(t, flow.Check())
			send(t, s, delivery(t, flow, func(b *sdk.Builder) {
				b.Row(int64(want))
				b.String(0, asset+name)
			}))
			want++
		}
	}
	paths := finish(t, s)
	require.Len(t, paths, want)
	dirs := map[string]bool{}
	for i, path := range paths {
		rel, err := filepath.Rel(b.dir, path)
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(rel), "%q", rel)
		assert.Equal(t, 2, strings.Count(rel, "/"), "%q", rel)
		dirs[filepath.Dir(path)] = true
		if i%7 == 0 {
			got := read(t, path)
			assert.Equal(t, int64(i), got.rows[0][0])
			assert.Equal(t, got.meta[metaAsset]+got.meta[metaFlow], got.rows[0][1])
		}
	}
	assert.Len(t, dirs, want, "each flow has a directory of its own")
}

func TestComponentsAreSafeAndDistinct(t *testing.T) {
	for _, name := range []string{"engine", "engine_2", "Engine-3.main", "Motor_Ä", "7"} {
		assert.Equal(t, name, component(name))
	}
	seen := map[string]string{}
	for _, name := range append(hostile, "") {
		c := component(name)
		assert.LessOrEqual(t, len(c), maxComponent)
		assert.NotContains(t, c, "/")
		assert.NotContains(t, "._-", c[:1])
		assert.NotEqual(t, ".parquet", strings.ToLower(filepath.Ext(c)))
		assert.NotContains(t, seen, c, "of %q and %q", name, seen[c])
		seen[c] = name
		if c != name {
			assert.True(t, looksHashed(c), c)
			assert.NotEqual(t, c, component(c), "a name that looks like a made one gets another hash")
		}
		file := fileName(name, name, time.Unix(second, 0))
		assert.LessOrEqual(t, len(file), 255)
		assert.NotContains(t, file, "/")
		assert.NotContains(t, "._-", file[:1])
	}
}

func TestSameMicrosecond(t *testing.T) {
	b := newBench(t, nil)
	for range 3 {
		s := b.stream(t)
		send(t, s, rows(t, doubles("f", 1), 0, 1))
		finish(t, s)
	}
	assert.Equal(t, []string{
		"f/1760000000000000.parquet", "f/1760000000000001.parquet", "f/1760000000000002.parquet",
	}, b.list(t))
}

func TestEmptyStreamMakesNoFile(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.Register(context.Background(), sdk.Registration{Flows: []sdk.Flow{*doubles("f", 1)}})
	require.NoError(t, err)
	assert.Empty(t, finish(t, b.stream(t)))
	assert.Empty(t, b.list(t))
}

func TestRowGroupsAndFilesAreBounded(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Compression, c.RowGroupSize, c.MaxFileSize = "none", minRowGroup, 4*minRowGroup
	})
	s := b.stream(t)
	flow := doubles("f", 4) // 40 bytes for each row
	const total = 50_000
	for first := 0; first < total; first += 1000 {
		send(t, s, rows(t, flow, first, 1000))
		b.advance(time.Millisecond)
	}
	paths := finish(t, s)
	assert.Greater(t, len(paths), 4)
	next := 0
	for _, path := range paths {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.LessOrEqual(t, info.Size(), int64(5*minRowGroup))
		got := read(t, path)
		for _, n := range got.groups[:len(got.groups)-1] {
			assert.Less(t, n, int64(8000))
		}
		for _, row := range got.rows {
			require.Equal(t, int64(next), row[0])
			next++
		}
	}
	assert.Equal(t, total, next)
}

func TestManyFlowsTakeBoundedMemory(t *testing.T) {
	const flows, rounds = 150, 5
	b := newBench(t, func(c *Config) { c.RowGroupSize = minRowGroup }) // 256 KiB in all
	s := b.stream(t)
	all := make([]*sdk.Flow, flows)
	for i := range all {
		all[i] = doubles(fmt.Sprint("f", i), 3)
	}
	for round := range rounds {
		for _, f := range all {
			send(t, s, rows(t, f, round*50, 50))
			assert.LessOrEqual(t, s.used, s.limits.memory+stageBytes)
			assert.LessOrEqual(t, len(s.begun), maxBegun)
			assert.LessOrEqual(t, b.files.Open(), maxBegun)
		}
	}
	stamps := map[string][]int64{}
	for _, path := range finish(t, s) {
		got := read(t, path)
		for _, row := range got.rows {
			stamps[got.meta[metaFlow]] = append(stamps[got.meta[metaFlow]], row[0].(int64))
		}
	}
	assert.Len(t, stamps, flows)
	for flow, got := range stamps {
		require.Len(t, got, rounds*50, flow)
		for i, stamp := range got {
			require.Equal(t, int64(i), stamp, "in order, each once")
		}
	}
}

func TestFewRowsOfManyFlowsNeedOneFileEach(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	for i := range 300 {
		send(t, s, rows(t, doubles(fmt.Sprint("f", i), 3), 0, 10))
	}
	assert.Empty(t, b.list(t), "nothing is written before it must be")
	assert.Len(t, finish(t, s), 300)
}

func TestStringsThatAreNotUTF8(t *testing.T) {
	b := newBench(t, nil)
	flow := &sdk.Flow{Name: "f", Channels: []sdk.Channel{{Name: "s", Type: sdk.String}, {Name: "b", Type: sdk.Bytes}}}
	s := b.stream(t)
	send(t, s, delivery(t, flow, func(b *sdk.Builder) {
		b.Row(0)
		b.String(0, "a\xffb\xc3")
		b.SetBytes(1, []byte("a\xff"))
	}))
	assert.Equal(t, [][]any{{int64(0), "a\ufffdb\ufffd", "a\xff"}}, read(t, finish(t, s)[0]).rows)
	assert.Contains(t, b.log.messages, "strings that are not UTF-8 were repaired")
}

func TestEnumText(t *testing.T) {
	e := newEnumText([]sdk.EnumValue{
		{Name: "off", Key: 0},
		{Name: "on", Key: 1},
		{Name: "same", Key: 2},
		{Name: "same", Key: 3},
		{Name: "9", Key: 4},
		{Name: "first", Key: 5},
		{Name: "second", Key: 5},
		{Name: "", Key: 6},
		{Name: "bad\xff", Key: 7},
		{Name: "-1", Key: 8},
	})
	want := map[uint32]string{0: "off", 1: "on", 2: "2", 3: "3", 4: "4", 5: "first", 6: "6", 7: "7", 8: "-1", 9: "9", 1 << 31: "2147483648"}
	for key, text := range want {
		assert.Equal(t, text, string(e.of(key)))
	}
	for key := range uint32(3 * maxEnumCache) {
		e.of(key)
	}
	assert.LessOrEqual(t, len(e.texts), maxEnumCache+10)
}

func TestFlowWithOtherChannels(t *testing.T) {
	b := newBench(t, nil)
	s := b.stream(t)
	send(t, s, rows(t, doubles("f", 2), 0, 1))
	send(t, s, rows(t, doubles("f", 2), 1, 1)) // equal, another value
	err := s.Send(context.Background(), rows(t, doubles("f", 3), 2, 1))
	require.ErrorContains(t, err, `channel "c2" is new`)
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
	_, err = s.Finish(context.Background())
	require.Error(t, err)
	assert.Empty(t, b.list(t))
}

func TestTooManyChannels(t *testing.T) {
	b := newBench(t, nil)
	flow := doubles("wide", sdk.MaxChannels)
	_, err := b.Register(context.Background(), sdk.Registration{Flows: []sdk.Flow{*flow}})
	require.ErrorContains(t, err, `flow "wide" has 65536 channels`)
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

func TestBatchWithoutRows(t *testing.T) {
	b := newBench(t, nil)
	err := b.stream(t).Send(context.Background(), &sdk.Delivery{Flow: doubles("f", 1), Body: []byte("x"), Count: 1})
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

func TestAbort(t *testing.T) {
	b := newBench(t, func(c *Config) { c.RowGroupSize = minRowGroup })
	s := b.stream(t)
	for i := range 20 {
		send(t, s, rows(t, doubles("f", 10), i*1000, 1000))
	}
	require.NotEmpty(t, b.list(t))
	s.Abort()
	assert.Empty(t, b.list(t))
	require.Error(t, s.Send(context.Background(), rows(t, doubles("f", 10), 0, 1)))
	_, err := s.Finish(context.Background())
	require.Error(t, err)
}

// TestFaults lets each call of each operation fail once. Whatever fails, the
// stream is not confirmed, nothing of it is left, and the next one works.
func TestFaults(t *testing.T) {
	flows := []*sdk.Flow{doubles("f", 10), doubles("g", 10)}
	story := func(b *bench) error {
		s, err := b.OpenStream(context.Background(), sdk.StreamOptions{})
		if err != nil {
			return err
		}
		for i := range 8 {
			if err := s.Send(context.Background(), rows(t, flows[i%2], i*1000, 1000)); err != nil {
				_, again := s.Finish(context.Background())
				return errors.Join(err, again)
			}
		}
		_, err = s.Finish(context.Background())
		return err
	}
	for op, cause := range map[outfiletest.Op]error{
		outfiletest.Create: syscall.ENOSPC, outfiletest.Write: syscall.ENOSPC, outfiletest.Sync: syscall.EIO,
		outfiletest.Rename: syscall.EIO, outfiletest.SyncDir: syscall.EIO, outfiletest.Close: syscall.EIO,
	} {
		t.Run(string(op), func(t *testing.T) {
			for n := 1; ; n = n*3/2 + 1 {
				b := newBench(t, func(c *Config) {
					c.Compression, c.RowGroupSize, c.MaxFileSize = "none", minRowGroup, 2*minRowGroup
				})
				b.files.FailNth(op, n, cause)
				err := story(b)
				calls := b.files.Calls(op)
				b.files.Fail(nil)
				if calls < n {
					require.NoError(t, err)
					require.Greater(t, n, 1)
					return
				}
				require.ErrorIs(t, err, cause, "call %d", n)
				assert.Equal(t, sdk.ClassRetry, sdk.AsError(err).Class)
				assert.Contains(t, err.Error(), b.dir, "the error says where")
				assert.Empty(t, b.list(t), "call %d", n)
				assert.Zero(t, b.files.Open())
				require.NoError(t, story(b), "the next stream")
			}
		})
	}
}

func TestUnusableDirectory(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Dir = filepath.Join(c.Dir, "sub") })
	b.files.FailNth(outfiletest.Mkdir, 1, syscall.EACCES)
	_, err := b.Register(context.Background(), sdk.Registration{})
	require.ErrorContains(t, err, "destination directory "+b.dir+"/sub")
	require.ErrorContains(t, err, "permission denied")
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, ""},
		{"no directory", func(c *Config) { c.Dir = "" }, "Empty directory"},
		{"small row groups", func(c *Config) { c.RowGroupSize = 1 }, "Row group size out of range"},
		{"large row groups", func(c *Config) { c.RowGroupSize = 2 << 30 }, "Row group size out of range"},
		{"small files", func(c *Config) { c.MaxFileSize = 1 << 20 }, "File size too small"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := defaultConfig()
			c.Dir = "/data"
			tc.change(&c)
			problems := c.Validate()
			if tc.want == "" {
				assert.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			assert.Equal(t, tc.want, problems[0].Summary)
		})
	}
}

func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, sdk.KindTransport, p.Kind)
	assert.Equal(t, sdk.TransportCapabilities{Input: sdk.InputRows, Overlap: true}, p.Transport)
}
