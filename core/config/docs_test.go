package config

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// TestDocumentation holds docs/configuration.md against the schemas: every setting
// of the host stands in the table of its block, with its default.
func TestDocumentation(t *testing.T) {
	raw, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	doc := string(raw)

	sections := map[string]string{}
	for part := range strings.SplitSeq(doc, "\n### `") {
		name, text, _ := strings.Cut(part, "`")
		sections[name] = text
	}
	documented := func(section, name string, value *sdk.Attribute) {
		t.Helper()
		for line := range strings.Lines(sections[section]) {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
			if !strings.Contains(first, "`"+name+"`") && !strings.Contains(first, "`"+name+" \"") {
				continue
			}
			if value != nil && value.Default != nil && len(value.Default.String)+int(value.Default.Kind) > 1 {
				assert.Contains(t, line, "`"+FormatValue(*value, *value.Default)+"`", "%s: default of %s", section, name)
			}
			return
		}
		t.Errorf("docs/configuration.md: section %q has no row of %q", section, name)
	}
	check := func(section string, s sdk.Schema, except ...string) {
		t.Helper()
		skip := strings.Join(except, " ")
		for _, a := range s.Attributes {
			if !strings.Contains(skip, a.Name) {
				documented(section, a.Name, &a)
			}
		}
		for _, b := range s.Blocks {
			if !strings.Contains(skip, b.Type) {
				documented(section, b.Type, nil)
			}
		}
	}

	pipeline := pipelineSchema(defaultPipeline())
	for _, b := range pipeline.Blocks {
		assert.Contains(t, doc, "`"+b.Type)
		check(b.Type, b.Body)
		for _, inner := range b.Body.Blocks {
			check(b.Type, inner.Body)
		}
	}
	pipeline.Blocks = nil
	check("pipeline", pipeline)
	check("source", sourceSchema(sourceSettings{Gather: defaultGather()}))
	check("transport", sdk.SchemaOf(transportSettings{Required: true}), "channel_names")
	check("plugin", sdk.SchemaOf(defaultHostSettings()))
	check("rule", ruleSchema(defaultRule()))
	check("variable", sdk.SchemaOf(variableBlock{}))

	_, functions, _ := strings.Cut(doc, "## Functions")
	_, secrets, _ := strings.Cut(doc, "## Secrets")
	for _, name := range functionNames() {
		text := functions
		if strings.HasPrefix(name, secretNamespace) {
			text = secrets
		}
		assert.True(t, strings.Contains(text, "`"+name+"`") || strings.Contains(text, "`"+name+"("), name)
	}
}
