package ingestionconfig

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// TestDecodeParts: any messages of a batch, decoded together, are their rows. Encoded
// again they are the same bytes, whatever ids they are given.
func TestDecodeParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		encoded, err := new(encoder).Encode(nil, d.batch, d.binding)
		require.NoError(t, err)
		messages := split(t, encoded.Body)
		want := sdk.NewBuilder(d.batch.Flow())
		var part []byte
		for i, m := range messages {
			if rapid.Bool().Draw(t, "take") {
				part = pbfs.AppendMessage(part, m)
				require.NoError(t, want.CopyRow(d.batch, i))
			}
		}
		got := sdk.NewBuilder(d.batch.Flow())
		require.NoError(t, new(encoder).Decode(got, part))
		require.Equal(t, want.Rows(), got.Rows())
		if got.Rows() == 0 {
			return
		}
		rows, err := sdk.ParseBatch(d.batch.Flow(), got.Append(nil))
		require.NoError(t, err)
		again, err := new(encoder).Encode(nil, rows, d.binding)
		require.NoError(t, err)
		require.True(t, bytes.Equal(part, again.Body))
		require.True(t, bytes.Equal(want.Append(nil), got.Append(nil)))
	})
}

// TestDecodeLimits: the largest batches that there are, and the first and the last of
// their messages alone.
func TestDecodeLimits(t *testing.T) {
	note := channel("note", sdk.String)
	largest := func(rows int) *sdk.Batch { // of equal strings
		room := (sdk.MaxPayloadBytes - 1<<10) / rows
		return filled(t, note, rows, func(b *sdk.Builder, _ int) { b.String(0, strings.Repeat("x", room-200)) })
	}
	for name, batch := range map[string]*sdk.Batch{
		"one message of one value":  doublesBatch(t, 1, 1),
		"one message":               one(t, 5, note, func(b *sdk.Builder) { b.String(0, strings.Repeat("x", sdk.MaxPayloadBytes-1<<10)) }),
		"most messages":             doublesBatch(t, 1, sdk.MaxRowsInBatch),
		"most messages, most bytes": largest(sdk.MaxRowsInBatch),
		"few messages, most bytes":  largest(3),
		"without values":            filled(t, numbered(sdk.Double, 100), sdk.MaxRowsInBatch, func(*sdk.Builder, int) {}),
		"many channels":             doublesBatch(t, 10_000, 30),
	} {
		t.Run(name, func(t *testing.T) {
			encoded, err := new(encoder).Encode(nil, batch, boundIDs())
			require.NoError(t, err)
			require.Equal(t, batch.Rows(), encoded.Count)
			messages := split(t, encoded.Body)
			for _, part := range [][][]byte{messages, messages[:1], messages[len(messages)-1:]} {
				var body []byte
				for _, m := range part {
					body = pbfs.AppendMessage(body, m)
				}
				rows := sdk.NewBuilder(batch.Flow())
				require.NoError(t, new(encoder).Decode(rows, body))
				require.Equal(t, len(part), rows.Rows())
				require.LessOrEqual(t, rows.Len(), sdk.MaxPayloadBytes)
				parsed, err := sdk.ParseBatch(batch.Flow(), rows.Append(nil))
				require.NoError(t, err)
				again, err := new(encoder).Encode(nil, parsed, boundIDs())
				require.NoError(t, err)
				assert.True(t, bytes.Equal(body, again.Body))
			}
		})
	}
}
