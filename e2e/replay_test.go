package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// replayStart is the time of row 0; each row is a millisecond after the one before.
var replayStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const replayConfig = "9d1a3f5e-0000-4000-8000-0000000000aa"

// replayRow is a row as the reference client writes it.
func replayRow(t *testing.T, n int, flow string, padding int) []byte {
	t.Helper()
	at := replayStart.Add(time.Duration(n) * time.Millisecond)
	m, err := proto.Marshal(&ingestv1.IngestWithConfigDataStreamRequest{
		IngestionConfigId: replayConfig, Flow: flow, Timestamp: timestamppb.New(at), RunId: "run-of-the-client",
		ChannelValues: []*ingestv1.IngestWithConfigDataChannelValue{
			uint64Value(uint64(n)), stringValue(strings.Repeat("x", padding)),
		},
	})
	require.NoError(t, err)
	return m
}

// referenceFile is a file as the reference client writes it: one message in a chunk.
func referenceFile(t *testing.T, from, to, padding int) []byte {
	t.Helper()
	file, _ := referenceChunks(t, from, to, padding)
	return file
}

// referenceChunks returns the offset of each row, too.
func referenceChunks(t *testing.T, from, to, padding int) (file []byte, at []int) {
	t.Helper()
	for n := from; n < to; n++ {
		at = append(at, len(file))
		flow := []string{"load", "other"}[n%2]
		file = pbfs.AppendChunk(file, pbfs.AppendMessage(nil, replayRow(t, n, flow, padding)))
	}
	return file, at
}

func writeBytes(t *testing.T, path string, content []byte) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// replayTo returns the arguments of a replay to a server, in the data directory of o.
func replayTo(t *testing.T, server *sifttest.Server, o *options, args ...string) []string {
	t.Helper()
	if o.dataDir == "" {
		o.dataDir = filepath.Join(t.TempDir(), "data")
	}
	file := writeFile(t, "load.hcl", load{uri: server.URI(), timeout: "2s"}.hcl())
	return append([]string{"backup", "replay", "--data-dir", o.dataDir, file}, args...)
}

// received counts how often each row was confirmed by the server.
func received(t *testing.T, server *sifttest.Server) map[int]int {
	t.Helper()
	out := map[int]int{}
	for _, m := range server.Acknowledged() {
		var r ingestv1.IngestWithConfigDataStreamRequest
		require.NoError(t, proto.Unmarshal(m, &r))
		assert.Equal(t, replayConfig, r.GetIngestionConfigId())
		assert.Equal(t, "run-of-the-client", r.GetRunId())
		out[int(r.GetChannelValues()[0].GetUint64())]++
	}
	return out
}

func requireRows(t *testing.T, got map[int]int, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		require.NotZero(t, got[n], "row %d", n)
	}
}

// A file of the reference client arrives as it is, once: also when it was moved, and
// what was appended to it meanwhile.
func TestReplayReferenceFile(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	dir := t.TempDir()
	content := referenceFile(t, 0, 5000, 10)
	path := writeBytes(t, filepath.Join(dir, "stand 3", "key-1700000000000000"), content)
	var o options

	dry := run(t, o, replayTo(t, server, &o, "--dry-run", dir)...)
	dry.requireExit(exitOK)
	assert.Contains(t, dry.stdout.String(), "5,000 messages from 1 file would be sent to load/sift.live")
	assert.Contains(t, dry.stdout.String(),
		"load: 2,500 messages, config "+replayConfig+", run run-of-the-client, 2026-01-01T00:00:00Z to 2026-01-01T00:00:04.998Z")
	assert.Empty(t, server.Streams())

	h := run(t, o, replayTo(t, server, &o, "--to", "sift.live", dir)...)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "5,000 messages from 1 file delivered to load/sift.live")
	messages := server.Acknowledged()
	require.Equal(t, 5000, len(messages))
	var sent [][]byte
	for n := range 5000 {
		sent = append(sent, replayRow(t, n, []string{"load", "other"}[n%2], 10))
	}
	slices.SortFunc(messages, bytes.Compare)
	slices.SortFunc(sent, bytes.Compare)
	assert.True(t, slices.EqualFunc(sent, messages, bytes.Equal), "messages arrive as they are")
	assert.Empty(t, server.Configs(), "nothing was registered")

	again := run(t, o, replayTo(t, server, &o, dir)...)
	again.requireExit(exitOK)
	assert.Contains(t, again.stdout.String(), "0 messages from 1 file delivered to load/sift.live; 5,000 had been before")
	require.Equal(t, 5000, len(server.Acknowledged()))

	moved := writeBytes(t, filepath.Join(dir, "elsewhere", "copy"), append(content, referenceFile(t, 5000, 5100, 10)...))
	require.NoError(t, os.Remove(path))
	grown := run(t, o, replayTo(t, server, &o, moved)...)
	grown.requireExit(exitOK)
	got := received(t, server)
	require.Len(t, got, 5100)
	for n, times := range got {
		require.Equal(t, 1, times, "row %d", n)
	}

	all := run(t, o, replayTo(t, server, &o, "--again", moved)...)
	all.requireExit(exitOK)
	assert.Equal(t, 5100+5100, len(server.Acknowledged()))
}

// Damage in the middle is told with its place; what is left arrives.
func TestReplayDamage(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	content, at := referenceChunks(t, 0, 1000, 10)
	flipped := bytes.Clone(content)
	flipped[at[500]+40] ^= 0xff
	zeroed := bytes.Clone(content)
	clear(zeroed[at[300]:at[310]])
	torn := content[:len(content)-5]
	var o options

	path := writeBytes(t, filepath.Join(t.TempDir(), "flipped"), flipped)
	h := run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stderr.String(), fmt.Sprintf("bytes %d to %d (%d bytes): ", at[500], at[501], at[501]-at[500]))
	got := received(t, server)
	assert.Len(t, got, 999)
	assert.Zero(t, got[500])

	h = run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stderr.String(), "hole: bytes", "it is still damaged")
	assert.Equal(t, 999, len(server.Acknowledged()))

	// Nothing but searching finds what is behind zeros.
	server = sifttest.New(t, sifttest.Options{})
	path = writeBytes(t, filepath.Join(t.TempDir(), "zeroed"), zeroed)
	h = run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stderr.String(), "690 messages in bytes")
	assert.Contains(t, h.stderr.String(), "--resync")
	assert.Len(t, received(t, server), 300)
	h = run(t, o, replayTo(t, server, &o, "--resync", path)...)
	h.requireExit(exitDamaged)
	got = received(t, server)
	assert.Len(t, got, 990)
	assert.Equal(t, 990, len(server.Acknowledged()), "nothing comes twice")

	server = sifttest.New(t, sifttest.Options{})
	path = writeBytes(t, filepath.Join(t.TempDir(), "torn"), torn)
	h = run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitDamaged)
	assert.Contains(t, h.stderr.String(), "torn tail")
	assert.Len(t, received(t, server), 999)
	writeBytes(t, path, content) // it was only not written to its end
	h = run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitOK)
	assert.Equal(t, 1000, len(server.Acknowledged()))
}

// Killed in the middle, and again: every row arrives, and only what was not confirmed
// comes twice.
func TestReplayIsKilled(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Discard: true})
	const rows, padding = 1600, 128 << 10 // 200 MiB, three checkpoints
	dir := t.TempDir()
	path := filepath.Join(dir, "large")
	f, err := os.Create(path)
	require.NoError(t, err)
	for n := range rows {
		_, err := f.Write(pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, replayRow(t, n, "load", padding))))
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	release := make(chan struct{})
	server.Queue(sifttest.TakeAll, sifttest.AnswerAfter(release)) // the second checkpoint takes its time
	var o options
	h := start(t, o, replayTo(t, server, &o, path)...)
	server.Stream(t, 0).WaitEnded(t)
	<-server.Stream(t, 1).HalfClosed()
	first := server.Stream(t, 0).Count()
	h.signal(syscall.SIGKILL)
	h.wait()
	close(release)

	// Once more while it sends.
	h = start(t, o, replayTo(t, server, &o, path)...)
	server.Stream(t, 2).WaitCount(t, 1)
	h.signal(syscall.SIGKILL)
	h.wait()

	streams := len(server.Streams())
	h = run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitOK)
	last := 0
	for _, st := range server.Streams()[streams:] {
		require.True(t, st.Acknowledged())
		last += st.Count()
	}
	assert.GreaterOrEqual(t, last+first, rows, "rows are missing")
	assert.LessOrEqual(t, last, rows-first, "what was confirmed is sent again")
	assert.Contains(t, h.stdout.String(), fmt.Sprintf("%d before", first))
}

// The filter chooses by time and flow; what it leaves out can still be sent.
func TestReplayFilter(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	path := writeBytes(t, filepath.Join(t.TempDir(), "key-1"), referenceFile(t, 0, 1000, 0))
	var o options
	filter := []string{"--since", "2026-01-01T00:00:00.1Z", "--until", "2026-01-01T00:00:00.2Z", "--flow", "load"}
	h := run(t, o, replayTo(t, server, &o, append(filter, path)...)...)
	h.requireExit(exitOK)
	assert.Contains(t, h.stdout.String(), "50 messages from 1 file delivered")
	assert.Contains(t, h.stdout.String(), "950 left out")
	got := received(t, server)
	require.Len(t, got, 50)
	for n := 100; n < 200; n += 2 {
		assert.Equal(t, 1, got[n])
	}
	run(t, o, replayTo(t, server, &o, append(filter, path)...)...).requireExit(exitOK)
	require.Equal(t, 50, len(server.Acknowledged()))
	run(t, o, replayTo(t, server, &o, path)...).requireExit(exitOK)
	require.Len(t, received(t, server), 1000)
	run(t, o, replayTo(t, server, &o, append(filter, path)...)...).requireExit(exitOK)
	require.Equal(t, 1050, len(server.Acknowledged()), "all includes what a filter chooses")

	h = run(t, o, replayTo(t, server, &o, "--since", "noon", path)...)
	h.requireExit(exitUsage)
}

// The destination is away at first, then misbehaves; everything arrives.
func TestReplayWaits(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(
		sifttest.EndAfter(100, status.Error(codes.Unavailable, "going down")),
		sifttest.EndAfter(50, nil),
		sifttest.Refuse(sifttest.RateLimited(100*time.Millisecond)),
		sifttest.Refuse(status.Error(codes.Internal, "trace 17")),
		sifttest.NeverAnswer,
	)
	server.Stop()
	path := writeBytes(t, filepath.Join(t.TempDir(), "key-1"), referenceFile(t, 0, 1000, 0))
	var o options
	h := start(t, o, replayTo(t, server, &o, path)...)
	h.awaitOutput("messages are sent again")
	require.NoError(t, server.Start())
	h.requireExit(exitOK)
	got := received(t, server)
	requireRows(t, got, 0, 1000)
	for _, text := range []string{"going down", "before it was asked", "rate limit", "trace 17", "did not answer in time"} {
		assert.Contains(t, h.stderr.String(), text)
	}
}

// A message that the destination refuses for good is found and left out.
func TestReplayRefused(t *testing.T) {
	t.Parallel()
	poisoned := func(st *sifttest.Stream) error {
		if err := sifttest.TakeAll(st); err != nil {
			return err
		}
		for _, m := range st.Messages() {
			if bytes.Contains(m, []byte("poison")) {
				return status.Error(codes.InvalidArgument, "no such flow")
			}
		}
		return nil
	}
	server := sifttest.New(t, sifttest.Options{Default: poisoned})
	content := referenceFile(t, 0, 300, 0)
	before := len(content)
	content = pbfs.AppendChunk(content, pbfs.AppendMessage(nil, replayRow(t, 300, "poison", 0)))
	content = append(content, referenceFile(t, 301, 700, 0)...)
	path := writeBytes(t, filepath.Join(t.TempDir(), "key-1"), content)
	var o options
	h := run(t, o, replayTo(t, server, &o, path)...)
	h.requireExit(exitFailure)
	assert.Contains(t, h.stderr.String(), fmt.Sprintf("refused: bytes %d to ", before+pbfs.HeaderSize+pbfs.PrefixSize))
	assert.Contains(t, h.stderr.String(), "no such flow")
	got := received(t, server)
	requireRows(t, got, 0, 300)
	requireRows(t, got, 301, 700)
	assert.Zero(t, got[300])

	refusing := sifttest.New(t, sifttest.Options{Default: sifttest.Refuse(status.Error(codes.NotFound, "no such config"))})
	h = run(t, o, replayTo(t, refusing, &o, path)...)
	h.requireExit(exitFailure)
	assert.Contains(t, h.stderr.String(), "no such config")

	locked := sifttest.New(t, sifttest.Options{Keys: []string{"other"}})
	h = run(t, o, replayTo(t, locked, &o, path)...)
	h.requireExit(exitUnavailable)
	assert.Contains(t, h.stderr.String(), "UNAUTHENTICATED")
	locked.SetKeys()
	run(t, o, replayTo(t, locked, &o, path)...).requireExit(exitOK)
}

// A signal ends it after the current checkpoint; the next call goes on there.
func TestReplayIsStopped(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Stop()
	dir := t.TempDir()
	writeBytes(t, filepath.Join(dir, "a"), referenceFile(t, 0, 1000, 0))
	writeBytes(t, filepath.Join(dir, "b"), referenceFile(t, 1000, 2000, 0))
	var o options
	h := start(t, o, replayTo(t, server, &o, dir)...)
	h.awaitOutput("messages are sent again")
	h.interrupt()
	h.requireExit(exitPending)
	assert.Contains(t, h.stdout.String(), "bytes are not delivered")
	require.NoError(t, server.Start())

	release := make(chan struct{})
	server.Queue(sifttest.AnswerAfter(release))
	h = start(t, o, replayTo(t, server, &o, dir)...)
	<-server.Stream(t, 0).HalfClosed()
	h.interrupt()
	h.awaitOutput("what is being sent is finished")
	close(release)
	h.requireExit(exitPending)
	assert.Contains(t, h.stdout.String(), "1,000 messages from 2 files delivered")
	require.Equal(t, 1000, len(server.Acknowledged()))

	h = run(t, o, replayTo(t, server, &o, dir)...)
	h.requireExit(exitOK)
	require.Equal(t, 2000, len(server.Acknowledged()))

	stuck := sifttest.New(t, sifttest.Options{Default: sifttest.NeverAnswer})
	h = start(t, o, replayTo(t, stuck, &o, dir)...)
	<-stuck.Stream(t, 0).HalfClosed()
	h.interrupt()
	h.awaitOutput("what is being sent is finished")
	h.interrupt()
	h.requireExit(exitPending)
}

// The transport's process is killed: another one goes on.
func TestReplayPluginIsKilled(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(sifttest.NeverAnswer)
	path := writeBytes(t, filepath.Join(t.TempDir(), "key-1"), referenceFile(t, 0, 1000, 0))
	var o options
	h := start(t, o, replayTo(t, server, &o, path)...)
	<-server.Stream(t, 0).HalfClosed()
	require.NoError(t, syscall.Kill(h.plugin("transport", "sift").pid, syscall.SIGKILL))
	h.requireExit(exitOK)
	requireRows(t, received(t, server), 0, 1000)
}

// One replay to a destination at a time, and none of files that are in use.
func TestReplayTwice(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	release := make(chan struct{})
	server.Queue(sifttest.AnswerAfter(release))
	dir := t.TempDir()
	path := writeBytes(t, filepath.Join(dir, "key-1"), referenceFile(t, 0, 100, 0))
	var o options
	h := start(t, o, replayTo(t, server, &o, path)...)
	<-server.Stream(t, 0).HalfClosed()
	second := run(t, o, replayTo(t, server, &o, path)...)
	second.requireExit(exitIO)
	assert.Contains(t, second.stderr.String(), "another replay to load/sift.live is running")
	close(release)
	h.requireExit(exitOK)

	d, err := os.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	h = run(t, o, replayTo(t, server, &o, "--again", path)...)
	h.requireExit(exitIO)
	assert.Contains(t, h.stderr.String(), "in use by a running pipelined")
	require.Len(t, server.Streams(), 1)
}

// What the command line may say.
func TestReplayUsage(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	var o options
	path := writeBytes(t, filepath.Join(t.TempDir(), "key-1"), referenceFile(t, 0, 10, 0))
	for _, name := range []string{"sift.live", "load/sift.live", "live"} {
		run(t, o, replayTo(t, server, &o, "--to", name, path)...).requireExit(exitOK)
	}
	h := run(t, o, replayTo(t, server, &o, "--to", "sift.other", path)...)
	h.requireExit(exitUsage)
	assert.Contains(t, h.stderr.String(), "there is load/sift.live")
	h = run(t, o, replayTo(t, server, &o, filepath.Join(t.TempDir(), "none"))...)
	h.requireExit(exitIO)
}
