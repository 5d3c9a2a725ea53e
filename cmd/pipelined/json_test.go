package main

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheLastErrorIsJSONToo(t *testing.T) {
	var stderr bytes.Buffer
	missing := filepath.Join(t.TempDir(), "missing")
	require.NotZero(t, execute(t.Context(), []string{"--log-format", "json", "--log-level", "loud", "run", missing}, io.Discard, &stderr))
	for line := range bytes.Lines(stderr.Bytes()) {
		assert.True(t, json.Valid(line), "%s", line)
	}
	assert.NotEmpty(t, stderr.String())
}
