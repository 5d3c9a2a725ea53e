package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFormat(t *testing.T) {
	const ugly = "\xef\xbb\xbfpipeline   \"p\" {\n asset=\"x\"\n      drain_timeout    = \"5s\"   # why\n  source \"host\" \"in\" {}\n\n\n      locals={a=1,b=[1,2]}\n}\n"
	got, problems := Format("f.hcl", []byte(ugly))
	require.Empty(t, problems)
	assert.Equal(t, `pipeline "p" {
  asset         = "x"
  drain_timeout = "5s" # why
  source "host" "in" {}


  locals = { a = 1, b = [1, 2] }
}
`, string(got))
	again, _ := Format("f.hcl", got)
	assert.Equal(t, string(got), string(again))
}

func TestFormatRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"syntax":   "pipeline {",
		"binary":   "a = \x00",
		"nested":   strings.Repeat("[", 1000),
		"too long": strings.Repeat("#\n", maxFileBytes),
	} {
		got, problems := Format("f.hcl", []byte(text))
		assert.Nil(t, got, name)
		assert.True(t, problems.HasErrors(), name)
		checkPlaces(t, problems)
	}
}

// TestTestdataIsFormatted keeps the good examples good.
func TestTestdataIsFormatted(t *testing.T) {
	for _, name := range []string{"good", "design"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+fileSuffix))
		require.NoError(t, err)
		got, problems := Format(name, text)
		require.Empty(t, problems)
		assert.Equal(t, string(text), string(got))
	}
}
