package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func bundled(names ...string) []ID {
	var ids []ID
	for _, name := range names {
		ids = append(ids, ID{sdk.KindSource, name})
	}
	return ids
}

// pluginDir makes a directory that only its owner may write, with executables.
func pluginDir(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, file := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte("#!/bin/sh\nexit 3\n"), 0o755))
	}
	return dir
}

func TestFindBundled(t *testing.T) {
	c, err := NewCatalog(CatalogConfig{Bundled: bundled("csv"), Verb: "plugin-process"})
	require.NoError(t, err)
	spec, err := c.Find(sdk.KindSource, "csv")
	require.NoError(t, err)
	assert.True(t, spec.Bundled)
	assert.Equal(t, []string{"plugin-process", "source", "csv"}, spec.Args)
	self, err := os.Executable()
	require.NoError(t, err)
	assert.Equal(t, "source/csv ("+self+")", spec.String())
}

func TestFindInDirectories(t *testing.T) {
	first := pluginDir(t, "pipelined-source-mine", "pipelined-source-csv", "other", "pipelined-tool-x")
	second := pluginDir(t, "pipelined-source-mine", "pipelined-transport-far", "pipelined-source-Bad-Name")
	c, err := NewCatalog(CatalogConfig{
		Bundled: bundled("csv"), Verb: "v",
		Dirs: []string{"", first, filepath.Join(first, "missing"), first + "/", second},
	})
	require.NoError(t, err)
	assert.Empty(t, c.Problems())

	spec, err := c.Find(sdk.KindSource, "mine")
	require.NoError(t, err)
	assert.Equal(t, Spec{ID: ID{sdk.KindSource, "mine"}, Path: filepath.Join(first, "pipelined-source-mine")}, spec)

	spec, err = c.Find(sdk.KindTransport, "far")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(second, "pipelined-transport-far"), spec.Path)

	spec, err = c.Find(sdk.KindSource, "csv")
	require.NoError(t, err)
	assert.True(t, spec.Bundled, "a bundled plugin cannot be replaced by a file")

	type row struct{ id, dir, problem string }
	var rows []row
	for _, e := range c.List() {
		rows = append(rows, row{e.ID.String(), e.Dir, e.Problem})
	}
	assert.Equal(t, []row{
		{"source/Bad-Name", second, "its name is not in lower_snake_case"},
		{"source/csv", "", ""},
		{"source/csv", first, "the name belongs to a plugin that comes with pipelined"},
		{"source/mine", first, ""},
		{"source/mine", second, "hidden by " + filepath.Join(first, "pipelined-source-mine")},
		{"transport/far", second, ""},
	}, rows)
}

func TestFindUnknown(t *testing.T) {
	dir := pluginDir(t, "pipelined-transport-files", "pipelined-encoder-mqtt")
	c, err := NewCatalog(CatalogConfig{Bundled: bundled("csv", "generator", "host"), Verb: "v", Dirs: []string{dir}})
	require.NoError(t, err)
	for _, tc := range []struct {
		kind       sdk.Kind
		name, want string
	}{
		{sdk.KindSource, "cvs", `no plugin provides the source "cvs"; did you mean "csv"?; installed: csv, generator, host`},
		{sdk.KindSource, "genrator", `no plugin provides the source "genrator"; did you mean "generator"?; installed: csv, generator, host`},
		{sdk.KindSource, "opcua", `no plugin provides the source "opcua"; installed: csv, generator, host`},
		{sdk.KindTransport, "csv", `no plugin provides the transport "csv"; "csv" is the name of a source; installed: files`},
		{sdk.KindSource, "mqtt", `no plugin provides the source "mqtt"; "mqtt" is the name of an encoder; installed: csv, generator, host`},
		{sdk.KindEvaluator, "cel", `no plugin provides the evaluator "cel"; no evaluator is installed`},
	} {
		_, err := c.Find(tc.kind, tc.name)
		_, ok := errors.AsType[*NotFoundError](err)
		assert.True(t, ok)
		assert.EqualError(t, err, tc.want)
	}
}

func TestRefuseUnsafeFiles(t *testing.T) {
	const file = "pipelined-source-mine"
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir, path string)
		want  string
	}{
		{"file writable for the group", func(t *testing.T, _, path string) {
			require.NoError(t, os.Chmod(path, 0o775))
		}, "other users may write to PATH; change it with: chmod go-w PATH"},
		{"file writable for others", func(t *testing.T, _, path string) {
			require.NoError(t, os.Chmod(path, 0o757))
		}, "other users may write to PATH; change it with: chmod go-w PATH"},
		{"directory writable for others", func(t *testing.T, dir, _ string) {
			require.NoError(t, os.Chmod(dir, 0o777))
		}, "other users may write to DIR; change it with: chmod go-w DIR"},
		{"directory shared like /tmp", func(t *testing.T, dir, _ string) {
			require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
		}, "other users may write to DIR; change it with: chmod go-w DIR"},
		{"file of another user", func(t *testing.T, _, path string) {
			chown(t, path)
		}, "PATH belongs to another user (uid 12345); it must belong to root or to the user that runs pipelined"},
		{"directory of another user", func(t *testing.T, dir, _ string) {
			chown(t, dir)
		}, "DIR belongs to another user (uid 12345); it must belong to root or to the user that runs pipelined"},
		{"not executable", func(t *testing.T, _, path string) {
			require.NoError(t, os.Chmod(path, 0o644))
		}, "it is not executable; change it with: chmod +x PATH"},
		{"set-user-id", func(t *testing.T, _, path string) {
			require.NoError(t, os.Chmod(path, 0o755|os.ModeSetuid))
		}, "it changes its user or group when it is executed; remove it with: chmod ug-s PATH"},
		{"directory", func(t *testing.T, _, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o755))
		}, "it is not a file"},
		{"link that leads nowhere", func(t *testing.T, _, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Symlink("nowhere", path))
		}, "lstat DIR/nowhere: no such file or directory"},
		{"link in a circle", func(t *testing.T, _, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Symlink(file, path))
		}, "PATH has too many symbolic links"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := pluginDir(t, file)
			path := filepath.Join(dir, file)
			tc.spoil(t, dir, path)
			c, err := NewCatalog(CatalogConfig{Dirs: []string{dir}})
			require.NoError(t, err)
			want := strings.NewReplacer("PATH", path, "DIR", dir).Replace(tc.want)

			_, err = c.Find(sdk.KindSource, "mine")
			_, ok := errors.AsType[*RefusedError](err)
			assert.True(t, ok)
			assert.EqualError(t, err, "plugin source/mine ("+path+") is refused: "+want)
			require.Len(t, c.List(), 1)
			assert.Equal(t, want, c.List()[0].Problem)
		})
	}
}

func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	require.NoError(t, os.Chown(path, 12345, -1))
}

func TestTrustOfLinks(t *testing.T) {
	base := pluginDir(t)
	for _, dir := range []string{"real/sub", "open", "links"} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	at := func(name string) string { return filepath.Join(base, name) }
	require.NoError(t, os.Chmod(at("open"), 0o777))
	for _, file := range []string{"real/plugin", "open/plugin"} {
		require.NoError(t, os.WriteFile(at(file), nil, 0o755))
	}
	for link, target := range map[string]string{
		"links/good":      "../real/plugin",
		"links/absolute":  at("real/plugin"),
		"links/bad":       "../open/plugin",
		"links/sub":       "../real/sub",
		"open/hop":        "../real/plugin",
		"links/two_hops":  "../open/hop",
		"links/up_and_up": "sub/../plugin", // real/plugin: .. is the parent of the target
	} {
		require.NoError(t, os.Symlink(target, at(link)))
	}
	for _, good := range []string{"links/good", "links/absolute", "links/up_and_up", "real/plugin"} {
		assert.NoError(t, checkTrusted(at(good)), good)
	}
	for _, bad := range []string{"links/bad", "links/two_hops", "open/plugin"} {
		assert.ErrorContains(t, checkTrusted(at(bad)), "other users may write to "+at("open")+";", bad)
	}
}

func TestUnsafeDirectoryIsNamed(t *testing.T) {
	dir := pluginDir(t)
	require.NoError(t, os.Chmod(dir, 0o770))
	c, err := NewCatalog(CatalogConfig{Bundled: bundled("csv"), Dirs: []string{dir}})
	require.NoError(t, err)
	require.Len(t, c.Problems(), 1)
	_, err = c.Find(sdk.KindSource, "mine")
	assert.ErrorContains(t, err, "; not used: plugin directory other users may write to "+dir)
}
