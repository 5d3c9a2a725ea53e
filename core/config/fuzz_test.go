package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzLoad loads any text. Load ends, says where each problem is, shows no
// secret, and finds the same in the formatted text.
func FuzzLoad(f *testing.F) {
	for _, path := range goldenCases(f) {
		if text, err := os.ReadFile(path); err == nil {
			f.Add(text)
		}
	}
	f.Add([]byte(secretPrelude))
	f.Add([]byte(goodText))
	for _, place := range secretPlaces() {
		f.Add([]byte(place))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 {
			t.Skip("long texts make it slow and find nothing more")
		}
		dir := t.TempDir()
		name := filepath.Join(dir, "f.hcl")
		require.NoError(t, os.WriteFile(name, text, 0o600))
		o := testOptions()
		o.Variables = map[string]string{"token": theSecret, "flight": "x"}
		c, problems := Load(t.Context(), name, o)
		checkPlaces(t, problems)
		assertNoSecret(t, string(text), problems)
		assert.Equal(t, problems.HasErrors(), c == nil)
		if t.Failed() {
			t.Logf("%s", rendered(t, problems))
		}

		formatted, refused := Format(name, text)
		checkPlaces(t, refused)
		if refused.HasErrors() {
			return
		}
		require.NoError(t, os.WriteFile(name, formatted, 0o600))
		again, same := Load(t.Context(), name, o)
		assert.ElementsMatch(t, summaries(problems), summaries(same))
		assert.Equal(t, withoutPlaces(c), withoutPlaces(again))
	})
}

// withoutPlaces returns a copy without what moves when a file is formatted.
func withoutPlaces(c *Config) *Config {
	if c == nil {
		return nil
	}
	out := *c
	out.Pipelines = nil
	for _, p := range c.Pipelines {
		q := *p
		q.Range = hcl.Range{}
		q.Sources, q.Transports = nil, nil
		for _, s := range p.Sources {
			s := *s
			s.Range, s.UntilRange = hcl.Range{}, hcl.Range{}
			q.Sources = append(q.Sources, &s)
		}
		for _, t := range p.Transports {
			t := *t
			t.Range = hcl.Range{}
			q.Transports = append(q.Transports, &t)
		}
		if p.Encoder != nil {
			e := *p.Encoder
			e.Range = hcl.Range{}
			q.Encoder = &e
		}
		out.Pipelines = append(out.Pipelines, &q)
	}
	out.Files = slices.Clone(c.Files)
	return &out
}
