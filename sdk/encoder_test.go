package sdk

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPlaceholder(t *testing.T) {
	assert.Equal(t, Unbound(), Placeholder(true))
	assert.Empty(t, Placeholder(false).RunID)
	assert.Equal(t, Placeholder(true).ConfigID, Placeholder(false).ConfigID)
	real := Binding{ConfigID: strings.Repeat("c", BindingIDBytes), RunID: strings.Repeat("r", BindingIDBytes)}
	for _, tc := range []struct {
		b    Binding
		want bool
	}{
		{Placeholder(true), true},
		{Placeholder(false), true},
		{Binding{ConfigID: real.ConfigID, RunID: Placeholder(true).RunID}, true},
		{Binding{ConfigID: strings.ToUpper(Placeholder(true).ConfigID)}, true},
		{Binding{ConfigID: UnboundPrefix}, true},
		{Binding{ConfigID: UnboundPrefix[1:]}, false},
		{Binding{}, false},
		{real, false},
	} {
		assert.Equal(t, tc.want, tc.b.IsUnbound(), tc.b)
	}
	for _, id := range []string{Placeholder(true).ConfigID, Placeholder(true).RunID} {
		assert.Len(t, id, BindingIDBytes)
	}
	assert.True(t, Placeholder(true).CanRebind(real))
	assert.False(t, Placeholder(false).CanRebind(real))
	assert.False(t, Placeholder(true).CanRebind(Binding{ConfigID: real.ConfigID}))
	assert.False(t, Placeholder(false).CanRebind(Binding{ConfigID: "c"}))
	assert.True(t, Placeholder(false).CanRebind(Binding{ConfigID: real.ConfigID}))
}
