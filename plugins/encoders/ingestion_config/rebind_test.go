package ingestionconfig

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// TestRebind: the result is what Encode writes with the new ids.
func TestRebind(t *testing.T) {
	withoutRun := func(b sdk.Binding) sdk.Binding { return sdk.Binding{ConfigID: b.ConfigID} }
	for name, batch := range map[string]*sdk.Batch{
		"doubles": doublesBatch(t, 10, 100),
		"types":   mixedBatch(t, 100),
		"empty":   one(t, 0, channel("x", sdk.Double), func(*sdk.Builder) {}),
	} {
		t.Run(name, func(t *testing.T) {
			body := encode(t, batch, sdk.Unbound()).Body
			require.NoError(t, new(encoder).Rebind(body, sdk.Unbound(), boundIDs()))
			assert.Equal(t, encode(t, batch, boundIDs()).Body, body)

			body = encode(t, batch, withoutRun(sdk.Unbound())).Body
			require.NoError(t, new(encoder).Rebind(body, withoutRun(sdk.Unbound()), withoutRun(boundIDs())))
			assert.Equal(t, encode(t, batch, withoutRun(boundIDs())).Body, body)
		})
	}
	require.NoError(t, new(encoder).Rebind(nil, sdk.Unbound(), boundIDs()))
}

func TestRebindRefusesIDs(t *testing.T) {
	id := boundIDs().ConfigID
	for _, tc := range []struct {
		name     string
		from, to sdk.Binding
		want     string
	}{
		{"no config id", sdk.Binding{}, sdk.Binding{ConfigID: id}, `config id "" has 0 bytes, want 36`},
		{"short config id", sdk.Binding{ConfigID: id}, sdk.Binding{ConfigID: "c"}, `config id "c" has 1 bytes, want 36`},
		{"two short config ids", sdk.Binding{ConfigID: "c"}, sdk.Binding{ConfigID: "d"}, `config id "c" has 1 bytes, want 36`},
		{"long config id", sdk.Binding{ConfigID: id + "0"}, sdk.Binding{ConfigID: id + "0"}, "has 37 bytes, want 36"},
		{
			"short run id",
			sdk.Binding{ConfigID: id, RunID: "r"},
			sdk.Binding{ConfigID: id, RunID: "s"},
			`run id "r" has 1 bytes, want 36 or none`,
		},
		{"run that is new", sdk.Binding{ConfigID: id}, sdk.Binding{ConfigID: id, RunID: id}, "cannot get run"},
		{"run that goes", sdk.Binding{ConfigID: id, RunID: id}, sdk.Binding{ConfigID: id}, "cannot be taken"},
		{
			"not UTF-8",
			sdk.Binding{ConfigID: id},
			sdk.Binding{ConfigID: strings.Repeat("\xff", 36)},
			"the new ids are not UTF-8",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := encode(t, goldenBatch(t), tc.from).Body
			before := bytes.Clone(body)
			require.ErrorContains(t, new(encoder).Rebind(body, tc.from, tc.to), tc.want)
			assert.Equal(t, before, body)
		})
	}
}

// TestRebindIsStrict: bodies that do not fit are refused as a whole, also when
// only their last message is wrong.
func TestRebindIsStrict(t *testing.T) {
	from, to := sdk.Unbound(), boundIDs()
	good := encode(t, goldenBatch(t), from).Body
	with := func(change func(b sdk.Binding) sdk.Binding) []byte {
		return encode(t, goldenBatch(t), change(from)).Body
	}
	grown := func(tail string) []byte {
		body := append(bytes.Clone(good), tail...)
		binary.LittleEndian.PutUint32(body, uint32(len(body)-4))
		return body
	}
	for _, tc := range []struct {
		name string
		last []byte
		want string
	}{
		{
			"other config", with(func(b sdk.Binding) sdk.Binding { b.ConfigID = to.ConfigID; return b }),
			`message 2: its config id is "` + to.ConfigID + `", not "` + from.ConfigID,
		},
		{
			"other run", with(func(b sdk.Binding) sdk.Binding { b.RunID = to.RunID; return b }),
			`message 2: its run id is "` + to.RunID + `", not "` + from.RunID,
		},
		{"no run", with(func(b sdk.Binding) sdk.Binding { b.RunID = ""; return b }), `its run id is "", not "`},
		{"no config", with(func(b sdk.Binding) sdk.Binding { b.ConfigID = ""; return b }), "it does not begin with its config id"},
		{"short config", with(func(b sdk.Binding) sdk.Binding { b.ConfigID = "c"; return b }), `its config id is "c"`},
		{"something behind the run", grown("\x30\x01"), "field 6"},
		{"two runs", grown("\x2a\x01r"), "field 5"},
		{"nothing but a config", grown("")[:4+2+36], "goes beyond the end of the body"},
		{"cut off", good[:len(good)-1], "goes beyond the end of the body"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := append(bytes.Clone(good), tc.last...)
			before := bytes.Clone(body)
			require.ErrorContains(t, new(encoder).Rebind(body, from, to), tc.want)
			assert.Equal(t, before, body)
		})
	}
}

// TestRebindDoesNotMistakeValues: a value that looks like a run id is data.
func TestRebindDoesNotMistakeValues(t *testing.T) {
	from, to := sdk.Unbound(), boundIDs()
	from.RunID, to.RunID = "", ""
	looks := string([]byte{tagRunID, 36}) + sdk.Unbound().RunID
	batch := one(t, 0, channel("note", sdk.String), func(b *sdk.Builder) { b.String(0, looks) })
	body := encode(t, batch, from).Body
	require.NoError(t, new(encoder).Rebind(body, from, to))
	assert.Equal(t, encode(t, batch, to).Body, body)

	err := new(encoder).Rebind(encode(t, batch, sdk.Binding{ConfigID: from.ConfigID}).Body, sdk.Unbound(), boundIDs())
	require.ErrorContains(t, err, `its run id is ""`)
}
