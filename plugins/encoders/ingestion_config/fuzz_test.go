package ingestionconfig

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// fuzzFlow has two channels of each type.
func fuzzFlow() *sdk.Flow {
	flow := &sdk.Flow{Name: "f"}
	for _, typ := range append(sdk.ChannelTypes(), sdk.ChannelTypes()...) {
		flow.Channels = append(flow.Channels, sdk.Channel{Name: string(rune('a' + len(flow.Channels))), Type: typ})
	}
	return flow
}

// fuzzSeeds are bodies of the flow: values, nulls, and several messages.
func fuzzSeeds(f *testing.F, binding sdk.Binding) [][]byte {
	flow := fuzzFlow()
	b := sdk.NewBuilder(flow)
	seed := func() []byte {
		batch, err := sdk.ParseBatch(flow, b.Append(nil))
		require.NoError(f, err)
		out, err := new(encoder).Encode(nil, batch, binding)
		require.NoError(f, err)
		return out.Body
	}
	b.Row(0)
	empty := seed()
	b.Row(-1)
	for half := 0; half < len(flow.Channels); half += len(flow.Channels) / 2 {
		b.Double(half, 1.5)
		b.String(half+1, "é")
		b.Uint32(half+2, 7)
		require.NoError(f, b.BitField(half+3, []byte{1, 2}))
		b.Bool(half+4, true)
		b.Float(half+5, 2)
		b.Int32(half+6, -1)
		b.Uint32(half+7, 1<<31)
		b.Int64(half+8, -5)
		b.Uint64(half+9, 1<<63)
		b.SetBytes(half+10, []byte{0xff})
	}
	return [][]byte{{}, empty, seed()}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range fuzzSeeds(f, sdk.Binding{ConfigID: "c", RunID: "r"}) {
		f.Add(seed)
	}
	flow := fuzzFlow()
	f.Fuzz(func(t *testing.T, body []byte) { assertCanonical(t, flow, body) })
}

// FuzzRebind: a refused body is unchanged; another one has the new ids and
// nothing else changed, so that it can be bound back.
func FuzzRebind(f *testing.F) {
	for _, binding := range []sdk.Binding{boundIDs(), {ConfigID: boundIDs().ConfigID}} {
		for _, seed := range fuzzSeeds(f, binding) {
			f.Add(seed, binding.RunID != "")
		}
	}
	flow := fuzzFlow()
	f.Fuzz(func(t *testing.T, body []byte, run bool) {
		from, to := boundIDs(), sdk.Unbound()
		if !run {
			from.RunID, to.RunID = "", ""
		}
		e := new(encoder)
		before := bytes.Clone(body)
		if err := e.Rebind(body, from, to); err != nil {
			require.Equal(t, before, body)
			return
		}
		a, b := sdk.NewBuilder(flow), sdk.NewBuilder(flow)
		errBefore, errAfter := e.Decode(a, before), e.Decode(b, body)
		require.Equal(t, errBefore == nil, errAfter == nil)
		if errBefore == nil && a.Rows() > 0 {
			require.Equal(t, a.Append(nil), b.Append(nil))
		}
		require.NoError(t, e.Rebind(body, to, from))
		require.Equal(t, before, body)
	})
}
