package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const goodText = `
pipeline "p" {
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "${path.module}/lake"
  }
}
`

// writeFiles writes files into a new directory and returns it.
func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestLoadDirectory(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"b.hcl":               strings.Replace(goodText, `"p"`, `"second"`, 1),
		"a.hcl":               strings.ReplaceAll(strings.Replace(goodText, `"p"`, `"first"`, 1), "/lake", "/other"),
		".pipelined.lock.hcl": "junk",
		".#a.hcl":             "junk",
		"a.test.hcl":          "junk",
		"a.hcl~":              "junk",
		"readme.md":           "junk",
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "inner"), 0o700))
	c, problems := Load(t.Context(), dir, testOptions())
	require.Empty(t, problems)
	assert.Equal(t, []string{filepath.Join(dir, "a.hcl"), filepath.Join(dir, "b.hcl")}, c.Files)
	assert.Equal(t, dir, c.Dir)
	require.Len(t, c.Pipelines, 2)
	assert.Equal(t, "first", c.Pipelines[0].Name)
	assert.Equal(t, "second", c.Pipelines[1].Name)
	assert.Equal(t, dir+"/lake", c.Pipelines[1].Transports[0].Body.Attributes["dir"].String)
}

// TestRelativeDirectory: paths in files do not depend on how the directory was
// named.
func TestRelativeDirectory(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.hcl": goodText})
	t.Chdir(dir)
	for _, path := range []string{".", "a.hcl", "./a.hcl", "../" + filepath.Base(dir)} {
		c, problems := Load(t.Context(), path, testOptions())
		require.Empty(t, problems, path)
		assert.Equal(t, dir+"/lake", c.Pipelines[0].Transports[0].Body.Attributes["dir"].String, path)
	}
}

func TestUnreadableFiles(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, dir string) string // returns what to load
		want string
	}{
		{"missing", func(_ *testing.T, dir string) string { return filepath.Join(dir, "no.hcl") }, "does not exist"},
		{"empty directory", func(_ *testing.T, dir string) string { return dir }, "has no file whose name ends in .hcl"},
		{"pipe", func(t *testing.T, dir string) string {
			require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "a.hcl"), 0o600))
			return dir
		}, "not a regular file"},
		{"directory with that name", func(t *testing.T, dir string) string {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "a.hcl"), 0o700))
			return dir
		}, "not a regular file"},
		{"device", func(t *testing.T, dir string) string {
			require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "a.hcl")))
			return dir
		}, "not a regular file"},
		{"dangling link", func(t *testing.T, dir string) string {
			require.NoError(t, os.Symlink("/nowhere", filepath.Join(dir, "a.hcl")))
			return dir
		}, "does not exist"},
		{"too large", func(t *testing.T, dir string) string {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a.hcl"), make([]byte, maxFileBytes+1), 0o600))
			return dir
		}, "it is too large: the limit is 1MiB"},
		{"zeros", func(t *testing.T, dir string) string {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a.hcl"), make([]byte, 100), 0o600))
			return dir
		}, "The byte 0x00 at offset 0"},
		{"UTF-16", func(t *testing.T, dir string) string {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a.hcl"), []byte("\xff\xfep\x00"), 0o600))
			return dir
		}, "The byte 0xff at offset 0"},
		{"too many", func(t *testing.T, dir string) string {
			for i := range maxFiles + 1 {
				require.NoError(t, os.WriteFile(filepath.Join(dir, string(rune('a'+i%26))+strings.Repeat("x", i)[:i/26]+".hcl"), nil, 0o600))
			}
			return dir
		}, "The directory has 257 pipeline files"},
		{"too much", func(t *testing.T, dir string) string {
			text := []byte("#" + strings.Repeat("x", maxFileBytes-1))
			for i := range maxTotalBytes/maxFileBytes + 2 {
				require.NoError(t, os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".hcl"), text, 0o600))
			}
			return dir
		}, "All files together may have 16MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, problems := Load(t.Context(), tc.make(t, t.TempDir()), testOptions())
			assert.Nil(t, c)
			checkPlaces(t, problems)
			assert.Contains(t, strings.Join(strings.Fields(rendered(t, problems)), " "), tc.want)
		})
	}
}

func TestNotPermitted(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read every file")
	}
	dir := writeFiles(t, map[string]string{"a.hcl": goodText})
	require.NoError(t, os.Chmod(filepath.Join(dir, "a.hcl"), 0))
	_, problems := Load(t.Context(), dir, testOptions())
	assert.Contains(t, rendered(t, problems), "may not be read by this user")
}
