package ingestionconfig

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, sdk.KindEncoder, p.Kind)
	assert.Equal(t, "ingestion_config", p.Info.Name)
	assert.Equal(t, sdk.EncoderCapabilities{Format: Format, Decodes: true, Rebinds: true}, p.Encoder)
	require.Len(t, p.Schema.Attributes, 1)
	assert.False(t, p.Schema.Attributes[0].Required)

	body := sdk.Body{}
	assert.Empty(t, p.Validate(body))
	body.Attributes = map[string]sdk.Value{"client_key": {Kind: sdk.KindString, String: "stand-3"}}
	assert.Empty(t, p.Validate(body))
	component, err := p.Open(sdk.Settings{}, body)
	require.NoError(t, err)
	assert.Implements(t, (*sdk.Encoder)(nil), component)
	require.NoError(t, component.Shutdown(t.Context()))
	require.NoError(t, component.Shutdown(t.Context()))

	body.Attributes["client_key"] = sdk.Value{Kind: sdk.KindString}
	diagnostics := p.Validate(body)
	require.Len(t, diagnostics, 1)
	assert.Equal(t, []sdk.Step{{Attribute: "client_key"}}, diagnostics[0].Path)
}

func TestRefusals(t *testing.T) {
	channels := append(channel("state", sdk.String), channel("note", sdk.String)...)
	long := strings.Repeat("x", sdk.MaxPayloadBytes-200)
	for _, tc := range []struct {
		name string
		rows [][2]string
		want []sdk.Refused
	}{
		{name: "nothing", rows: [][2]string{{"a", "b"}, {"", "é"}}},
		{
			name: "first, middle and last row",
			rows: [][2]string{{"\xff", ""}, {"a", ""}, {"a", "ab\xc3"}, {"a", "b"}, {"\x80", "\x80"}},
			want: []sdk.Refused{
				{Row: 0, Channel: "state", Reason: "the value is not UTF-8"},
				{Row: 2, Channel: "note", Reason: "the value is not UTF-8"},
				{Row: 4, Channel: "state", Reason: "the value is not UTF-8"},
			},
		},
		{
			name: "all rows",
			rows: [][2]string{{"\xff", ""}, {"\xff", ""}},
			want: []sdk.Refused{
				{Row: 0, Channel: "state", Reason: "the value is not UTF-8"},
				{Row: 1, Channel: "state", Reason: "the value is not UTF-8"},
			},
		},
		{name: "longest message", rows: [][2]string{{"a", long[:len(long)-5]}}},
		{
			name: "message too long, by its ids alone",
			rows: [][2]string{{"a", long}},
			want: []sdk.Refused{{
				Row: 0, Channel: "note",
				Reason: "the row takes 4194305 bytes, the limit is 4194300; this is its longest value",
			}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused := map[int]bool{}
			for _, r := range tc.want {
				refused[r.Row] = true
			}
			flow := &sdk.Flow{Name: "f", Channels: channels}
			all, good := sdk.NewBuilder(flow), sdk.NewBuilder(flow)
			for i, row := range tc.rows {
				for _, b := range []*sdk.Builder{all, good} {
					if b == good && refused[i] {
						continue
					}
					b.Row(int64(i))
					b.String(0, row[0])
					b.String(1, row[1])
				}
			}
			batch, err := sdk.ParseBatch(flow, all.Append(nil))
			require.NoError(t, err)
			ids := sdk.Binding{ConfigID: strings.Repeat("c", 100), RunID: strings.Repeat("r", 77)}
			out := encode(t, batch, ids)
			assert.Equal(t, tc.want, out.Refused)
			assert.Equal(t, len(tc.rows)-len(tc.want), out.Count)
			if out.Count == 0 {
				assert.Empty(t, out.Body)
				assert.Zero(t, out.MinTime)
				assert.Zero(t, out.MaxTime)
				return
			}
			rest, err := sdk.ParseBatch(flow, good.Append(nil))
			require.NoError(t, err)
			want := encode(t, rest, ids)
			assert.True(t, bytes.Equal(want.Body, out.Body), "the other rows are as if the refused ones had not been there")
			assert.Equal(t, want.MinTime, out.MinTime)
			assert.Equal(t, want.MaxTime, out.MaxTime)
		})
	}
}

// TestUncutBatch: a small batch of a wide flow would become very large.
func TestUncutBatch(t *testing.T) {
	batch := filled(t, numbered(sdk.Double, 5_000), 4096, func(b *sdk.Builder, _ int) { b.Double(0, 1) })
	require.Less(t, len(batch.Raw()), 1<<20)
	dst := []byte("kept")
	out, err := new(encoder).Encode(dst, batch, boundIDs())
	require.ErrorContains(t, err, `batch of 4096 rows of flow "engine" takes more than 4194304 bytes encoded`)
	assert.Equal(t, "kept", string(out.Body))
	assert.Less(t, cap(out.Body), 3*sdk.MaxPayloadBytes, "memory is bounded")
}

// TestScratchIsForgotten: batches of unlike shapes one after the other.
func TestScratchIsForgotten(t *testing.T) {
	shared := new(encoder)
	batches := []*sdk.Batch{
		doublesBatch(t, 10, 3), mixedBatch(t, 5), goldenBatch(t), doublesBatch(t, 300, 2), doublesBatch(t, 1, 1),
	}
	for range 3 {
		for _, batch := range batches {
			for _, binding := range []sdk.Binding{{}, boundIDs(), {ConfigID: "c"}} {
				got, err := shared.Encode(nil, batch, binding)
				require.NoError(t, err)
				assert.Equal(t, encode(t, batch, binding), got)
			}
		}
	}
}

func TestManyGoroutines(t *testing.T) {
	e := new(encoder)
	batches := []*sdk.Batch{doublesBatch(t, 10, 50), mixedBatch(t, 50)}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			batch := batches[i%2]
			want := encode(t, batch, boundIDs())
			var dst []byte
			for range 50 {
				out, err := e.Encode(dst[:0], batch, boundIDs())
				if !assert.NoError(t, err) || !assert.Equal(t, want.Body, out.Body) {
					return
				}
				dst = out.Body
			}
		})
	}
	all.Wait()
}

// TestAllocations: nothing is allocated for a row, nor for a batch once there is
// memory to use again.
func TestAllocations(t *testing.T) {
	for name, batch := range map[string]*sdk.Batch{
		"doubles": doublesBatch(t, 10, 1000),
		"types":   mixedBatch(t, 1000),
		"wide":    doublesBatch(t, 1000, 1),
	} {
		t.Run(name, func(t *testing.T) {
			e := new(encoder)
			out := encode(t, batch, boundIDs())
			rows := sdk.NewBuilder(batch.Flow())
			require.NoError(t, e.Decode(rows, out.Body))
			dst := out.Body
			// The race detector makes pools forget at random.
			assert.Less(t, testing.AllocsPerRun(50, func() {
				next, err := e.Encode(dst[:0], batch, boundIDs())
				if err != nil {
					t.Error(err)
				}
				dst = next.Body
			}), 8.0, "Encode")
			assert.Zero(t, testing.AllocsPerRun(50, func() {
				rows.Reset()
				if err := e.Decode(rows, dst); err != nil {
					t.Error(err)
				}
			}), "Decode")
		})
	}
}
