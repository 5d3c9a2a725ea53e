package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestFlowBytes(t *testing.T) {
	flow := &sdk.Flow{
		Origin: sdk.Origin{Asset: "a", ClientKey: "k", Run: "r"}, Name: "f", StrictlyIncreasing: true,
		Channels: []sdk.Channel{
			{Name: "x", Type: sdk.Double, Unit: "m", Description: "d"},
			{Name: "e", Type: sdk.Enum, Enum: []sdk.EnumValue{{Name: "on", Key: 1, Signed: true}}},
			{Name: "b", Type: sdk.BitField, BitField: []sdk.BitFieldElement{{Name: "low", Index: 0, BitCount: 4}}},
		},
	}
	data, err := MarshalFlow(flow)
	require.NoError(t, err)
	got, err := UnmarshalFlow(data)
	require.NoError(t, err)
	assert.Equal(t, flow, got)
	for _, bad := range [][]byte{nil, {0xff}, []byte("text"), data[:len(data)-1]} {
		_, err := UnmarshalFlow(bad)
		require.Error(t, err)
	}
}
