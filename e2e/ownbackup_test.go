package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// ownBackup is what a pipeline "load" leaves on disk: batches of ten rows.
type ownBackup struct {
	dataDir string
	dir     string // of the segments
	tracks  []string
	confirm map[string]uint64 // the first rows, by track
	binding sdk.Binding
	rows    int
}

func (o *ownBackup) write(t *testing.T) {
	t.Helper()
	o.dataDir = filepath.Join(t.TempDir(), "data")
	o.dir = filepath.Join(o.dataDir, "load", "backups")
	b, _, err := backup.Open(vfs.OS{}, o.dir, backup.Options{
		StateDir: filepath.Join(o.dataDir, "load", "state", "backup"), Name: "load", Tracks: o.tracks,
	})
	require.NoError(t, err)
	flows := []*sdk.Flow{
		{Name: "load", Channels: []sdk.Channel{{Name: "n", Type: sdk.Uint64}}},
		{Name: "load", Channels: []sdk.Channel{{Name: "n", Type: sdk.Uint64}}, Origin: sdk.Origin{Asset: "rover", ClientKey: "rover-v2"}},
	}
	for i, f := range flows {
		definition, err := wire.MarshalFlow(f)
		require.NoError(t, err)
		require.NoError(t, b.DefineFlow(uint32(i+1), definition))
	}
	require.NoError(t, b.DefineBinding(1, o.binding))
	for n := 0; n < o.rows; n += 10 {
		ids, err := b.Reserve(10)
		require.NoError(t, err)
		var body []byte
		for i := range 10 {
			m, err := proto.Marshal(&ingestv1.IngestWithConfigDataStreamRequest{
				IngestionConfigId: o.binding.ConfigID, Flow: "load", RunId: o.binding.RunID,
				Timestamp:     &timestamppb.Timestamp{Seconds: replayStart.Unix() + int64(n+i)},
				ChannelValues: []*ingestValue{uint64Value(uint64(n + i))},
			})
			require.NoError(t, err)
			body = pbfs.AppendMessage(body, m)
		}
		_, err = b.Append(backup.Meta{Ids: ids, Flow: uint32(n/10%2 + 1), Binding: 1}, body)
		require.NoError(t, err)
	}
	for track, n := range o.confirm {
		require.NoError(t, b.Confirm(track, checkpoint.SetOf(checkpoint.Range{First: 1, Last: n})))
	}
	require.NoError(t, b.Close())
}

func (o *ownBackup) segment(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, "load-*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

// The commands know a pipeline's own files.
func TestOwnBackupFiles(t *testing.T) {
	t.Parallel()
	o := &ownBackup{tracks: []string{"sift.live", "file.disk"}, confirm: map[string]uint64{"sift.live": 30}, rows: 100, binding: sdk.Binding{ConfigID: replayConfig}}
	o.write(t)
	h := run(t, options{}, "backup", "ls", o.dir)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "ids 1 to 100; file.disk has not confirmed 100; sift.live has not confirmed 70")
	h = run(t, options{}, "backup", "verify", o.dir)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "its index agrees: 10 chunks")

	path := o.segment(t)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	zeroed := append([]byte(nil), content...)
	size := len(content) / 10
	clear(zeroed[3*size : 5*size])
	require.NoError(t, os.WriteFile(path, zeroed, 0o600))
	h = run(t, options{}, "backup", "verify", o.dir)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stdout.String(), "are not what was written")

	// The index says where to go on behind the zeros.
	server := sifttest.New(t, sifttest.Options{})
	ro := options{dataDir: o.dataDir}
	h = run(t, ro, replayTo(t, server, &ro, path)...)
	h.requireExit(exitDamaged)
	got := numbers(t, server.Acknowledged())
	assert.GreaterOrEqual(t, len(got), 60)
	assert.NotZero(t, got[99])

	require.NoError(t, os.WriteFile(path, append(content, content[:size]...), 0o600))
	h = run(t, options{}, "backup", "verify", o.dir)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stdout.String(), "have no entry: their messages are delivered again")
}

// Files that were stored before a destination had given ids are given them, for
// sending and for export.
func TestUnboundFiles(t *testing.T) {
	t.Parallel()
	o := &ownBackup{tracks: []string{"sift.live"}, rows: 100, binding: sdk.Placeholder(false)}
	o.write(t)
	path := o.segment(t)
	require.True(t, strings.HasSuffix(path, ".unbound"))
	server := sifttest.New(t, sifttest.Options{})
	ro := options{dataDir: o.dataDir}

	out := filepath.Join(t.TempDir(), "out.pbfs")
	h := run(t, ro, "backup", "export", "--out", out, path)
	h.requireExit(exitPending)
	assert.Contains(t, h.stderr.String(), "100 messages left out: ")
	assert.Contains(t, h.stdout.String(), "0 messages from 1 file written; 100 have no ids")
	require.NoError(t, os.Remove(out))

	h = run(t, ro, replayTo(t, server, &ro, "--dry-run", path)...)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "100 messages to be sent, 100 of them after they were given ids")
	assert.Empty(t, server.Configs())

	file := writeFile(t, "load.hcl", load{uri: server.URI()}.hcl())
	h = run(t, ro, "backup", "export", "--data-dir", o.dataDir, "--bind", file, "--out", out, path)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "100 messages from 1 file written; 100 got ids")
	require.Len(t, server.Configs(), 2)
	cat := run(t, ro, "backup", "cat", out)
	cat.requireExit(exitOK)
	ids := map[string]int{}
	for _, c := range server.Configs() {
		ids[c.GetClientKey()] = strings.Count(cat.stdout.String(), `"ingestion_config_id":"`+c.GetIngestionConfigId()+`"`)
	}
	assert.Equal(t, map[string]int{"stand-v1": 50, "rover-v2": 50}, ids)
	h = run(t, ro, "backup", "export", "--data-dir", o.dataDir, "--bind", file, "--out", out, path)
	h.requireExit(exitUsage)

	h = run(t, ro, replayTo(t, server, &ro, path)...)
	h.requireExit(exitOK)
	got := numbers(t, server.Acknowledged())
	require.Len(t, got, 100)
	for _, m := range server.Acknowledged() {
		require.NotContains(t, string(m), sdk.UnboundPrefix)
	}

	// Without its index nothing is known of the flows.
	alone := writeBytes(t, filepath.Join(t.TempDir(), "load-0000000000000001.unbound"), mustRead(t, path))
	other := sifttest.New(t, sifttest.Options{})
	h = run(t, ro, replayTo(t, other, &ro, alone)...)
	h.requireExit(exitPending)
	assert.Contains(t, h.stderr.String(), "--state-dir")
	h = run(t, ro, replayTo(t, other, &ro, "--state-dir", filepath.Join(o.dataDir, "load", "state", "backup"), alone)...)
	h.requireExit(exitOK)
	require.Len(t, numbers(t, other.Acknowledged()), 100)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// What a removed transport has not confirmed is given up.
func TestForgetTrack(t *testing.T) {
	t.Parallel()
	o := &ownBackup{
		tracks: []string{"sift.live", "sift.old"}, rows: 100, binding: sdk.Binding{ConfigID: replayConfig},
		confirm: map[string]uint64{"sift.live": 100, "sift.old": 20},
	}
	o.write(t)
	path := o.segment(t)
	file := writeFile(t, "load.hcl", load{uri: "http://127.0.0.1:1", pipeline: fmt.Sprintf("backup {\n dir = %q\n }\n", o.dir)}.hcl())
	forget := func(code int, args ...string) string {
		t.Helper()
		h := run(t, options{}, append([]string{"backup", "forget", "--data-dir", o.dataDir, file}, args...)...)
		h.requireExit(code)
		return h.all.String()
	}
	assert.Contains(t, forget(exitOK, "sift.old"), "sift.old has not confirmed 80 messages of pipeline \"load\"")
	assert.FileExists(t, path)
	assert.Contains(t, forget(exitUsage, "sift.live", "--yes"), "take it out of the pipeline file first")
	assert.Contains(t, forget(exitUsage, "sift.never"), "sift.old")
	lock, err := vfs.OS{}.Lock(o.dir)
	require.NoError(t, err)
	assert.Contains(t, forget(exitIO, "load/sift.old", "--yes"), "is running")
	require.NoError(t, lock.Close())
	assert.Contains(t, forget(exitOK, "sift.old", "--yes"), "gave up 80 messages")
	assert.NoFileExists(t, path)
}
