package e2e

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

// table is the content of a flow's Parquet files.
type table struct {
	columns  []string // the first is the time
	types    []string // as the files declare them
	metadata map[string]string
	times    []int64   // ns since the Unix epoch
	rows     [][]value // without the time
}

// value is a value of a row: nil, bool, int64, uint64, float32, float64 or string.
type value any

// readTable reads all Parquet files of a directory, in the order of their names. The
// directory is a pattern: names that are no good for files end in a hash there.
func readTable(t *testing.T, pattern string) table {
	t.Helper()
	dirs, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.Len(t, dirs, 1, pattern)
	dir := dirs[0]
	files := filesBelow(t, dir, ".parquet")
	require.NotEmpty(t, files, "no Parquet files in %s", dir)
	var out table
	for _, file := range files {
		out.read(t, file)
	}
	return out
}

// filesBelow returns the files of a tree whose names end in a certain way, in the
// order of their names. Hidden directories are left out.
func filesBelow(t *testing.T, dir, suffix string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != dir && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, suffix) {
			files = append(files, path)
		}
		return err
	})
	require.NoError(t, err)
	slices.Sort(files)
	return files
}

// read appends the rows of a file, whose columns must be those of the ones before.
func (out *table) read(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	file, err := parquet.OpenFile(f, info.Size())
	require.NoError(t, err, path)

	var columns, types []string
	var unsigned []bool
	for _, field := range file.Schema().Fields() {
		columns = append(columns, field.Name())
		types = append(types, field.Type().String())
		unsigned = append(unsigned, strings.HasSuffix(field.Type().String(), ",false)")) // INT(64,false)
	}
	if out.columns == nil {
		out.columns, out.types = columns, types
		out.metadata = map[string]string{}
		for _, m := range file.Metadata().KeyValueMetadata {
			out.metadata[m.Key] = m.Value
		}
	}
	require.Equal(t, out.columns, columns, path)
	require.Equal(t, out.types, types, path)

	reader := parquet.NewReader(file)
	defer reader.Close()
	rows := make([]parquet.Row, 512)
	for {
		n, err := reader.ReadRows(rows)
		for _, row := range rows[:n] {
			out.times = append(out.times, row[0].Int64())
			values := make([]value, 0, len(row)-1)
			for i, v := range row[1:] {
				values = append(values, valueOf(v, unsigned[i+1]))
			}
			out.rows = append(out.rows, values)
		}
		if err == io.EOF {
			return
		}
		require.NoError(t, err, path)
	}
}

func valueOf(v parquet.Value, unsigned bool) value {
	if v.IsNull() {
		return nil
	}
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		if unsigned {
			return uint64(v.Uint32())
		}
		return int64(v.Int32())
	case parquet.Int64:
		if unsigned {
			return v.Uint64()
		}
		return v.Int64()
	case parquet.Float:
		return v.Float()
	case parquet.Double:
		return v.Double()
	}
	return string(v.ByteArray())
}

// column returns the values of a column.
func (out *table) column(t *testing.T, name string) []value {
	t.Helper()
	i := slices.Index(out.columns, name)
	require.Greater(t, i, 0, "no column %q in %q", name, out.columns)
	values := make([]value, 0, len(out.rows))
	for _, row := range out.rows {
		values = append(values, row[i-1])
	}
	return values
}
