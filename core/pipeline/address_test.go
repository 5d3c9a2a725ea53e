package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/sdk"
)

func TestAddressOfAMessage(t *testing.T) {
	text := func(dst []byte, number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(dst, number, protowire.BytesType), value)
	}
	varint := func(dst []byte, number protowire.Number, value uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), value)
	}
	stamp := varint(varint(nil, fieldSeconds, 1_700_000_000), fieldNanos, 42)
	message := text(text(text(text(nil, fieldConfig, "config"), fieldFlow, "engine"), fieldTime, string(stamp)), fieldRun, "run")
	want := address{flow: "engine", target: sdk.Binding{ConfigID: "config", RunID: "run"}, time: 1_700_000_000_000_000_042}
	assert.Equal(t, want, addressOf(message))
	for n := range message {
		assert.NotPanics(t, func() { addressOf(message[:n]) })
	}
	assert.Equal(t, "engine", addressOf(append(message, 0xff)).flow, "what is readable counts")
}
