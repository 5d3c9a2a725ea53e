package pyvenv_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/pyvenv"
)

func TestPython(t *testing.T) {
	python := pyvenv.Python(t, pyvenv.Parquet()...)
	out, err := exec.Command(python, "-c", "import pyarrow, pandas, duckdb; print(pyarrow.__version__)").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "21.0.0", strings.TrimSpace(string(out)))
	assert.Equal(t, python, pyvenv.Python(t, pyvenv.Parquet()...), "it is made once")
}

func TestSkipsWithoutPython(t *testing.T) {
	if testing.Short() {
		t.Skip("with -short nothing is made in any case")
	}
	t.Setenv("PATH", t.TempDir())
	ran := t.Run("inner", func(t *testing.T) {
		defer func() { assert.True(t, t.Skipped()) }()
		pyvenv.Python(t, "nothing==0")
	})
	assert.True(t, ran)
}
