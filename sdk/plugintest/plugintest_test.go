package plugintest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func countOptions() Options {
	return Options{
		Config:     sdk.Body{Attributes: map[string]sdk.Value{"name": {Kind: sdk.KindString, String: "counts"}}},
		Repeatable: true,
	}
}

func TestGoodPlugins(t *testing.T) {
	t.Run("source", func(t *testing.T) { Run(t, process("source"), countOptions()) })
	t.Run("encoder", func(t *testing.T) { Run(t, process("encoder"), Options{}) })
	t.Run("transport", func(t *testing.T) {
		Run(t, process("transport"), Options{Registration: &sdk.Registration{Asset: "rig"}})
	})
}

// TestBadPlugins wants each to fail the check that is meant for it, and to be held
// against the others nevertheless.
func TestBadPlugins(t *testing.T) {
	for name, tc := range map[string]struct {
		checks []string // that must fail
		want   string   // in the first one's error
	}{
		"bad source, unstable":   {[]string{"run"}, "row 0 was"},
		"bad source, stubborn":   {[]string{"run"}, "the plugin took more than"},
		"bad source, progress":   {[]string{"run"}, "which it promised not to give"},
		"bad source, undeclared": {[]string{"run"}, "none of those that it said would come"},
		"bad source, positions":  {[]string{"resume"}, "resumed after row"},
		"bad encoder, impure":    {[]string{"encode"}, "do not give the same"},
		"bad encoder, lossy":     {[]string{"decode"}, `channel "a_double"`},
		"bad encoder, binding":   {[]string{"rebind"}, "is not what encoding with the new ids gives"},
		"bad transport, abort":   {[]string{"abort"}, "the plugin took more than"},
		"bad transport, calls":   {[]string{"two calls"}, "the plugin took more than"},
		"bad transport, files":   {[]string{"two calls"}, "two delivery streams have written"},
		"bad names":              {[]string{"describe", "schema"}, `name "Bad-Name" is not lower_snake_case`},
		"bad program, silent":    {[]string{"start"}, "ended without a handshake"},
		"bad program, junk":      {[]string{"start"}, `no handshake but "hello"`},
		"bad program, hangs":     {[]string{"start"}, "the plugin took more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := countOptions()
			if strings.Contains(tc.want, "took more than") {
				o.Timeout = 3 * time.Second
			}
			if !strings.Contains(name, "source") {
				o.Config = sdk.Body{}
			}
			errs := only(t, process(name), o, tc.checks)
			for i, check := range tc.checks {
				require.Error(t, errs[check], check)
				if i == 0 {
					require.ErrorContains(t, errs[check], tc.want)
				}
			}
		})
	}
}

// only makes just the wanted checks and one that must succeed.
func only(t *testing.T, p Process, o Options, names []string) map[string]error {
	t.Helper()
	out := map[string]error{}
	k, err := newKit(t.Context(), p, o)
	if err != nil {
		out["start"] = err
		return out
	}
	for _, c := range k.checks() {
		for _, name := range append(names, "health") {
			if c.name == name {
				r := k.result(t.Context(), c)
				out[c.name] = r.Err
				assert.Empty(t, r.Skipped)
			}
		}
	}
	require.NoError(t, out["health"])
	return out
}

func TestCheck(t *testing.T) {
	results := Check(t.Context(), process("bad program, silent"), Options{})
	require.Len(t, results, 1)
	assert.Equal(t, "start", results[0].Name)
	require.Error(t, results[0].Err)

	results = Check(t.Context(), Process{Path: "/does/not/exist"}, Options{})
	require.ErrorContains(t, results[0].Err, "no such file")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results = Check(ctx, process("source"), Options{})
	require.ErrorIs(t, results[0].Err, context.Canceled)
}

func TestSkipped(t *testing.T) {
	k := &kit{options: Options{Timeout: time.Second}}
	r := k.result(t.Context(), check{"x", func(context.Context, *kit) error { return skip("no %s", "time") }})
	assert.Equal(t, "skipped: no time", r.Skipped)
	assert.NoError(t, r.Err)
	r = k.result(t.Context(), check{"x", func(context.Context, *kit) error { return errors.New("e") }})
	assert.EqualError(t, r.Err, "e")
}
