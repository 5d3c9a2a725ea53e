package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pipelined/pipelined/internal/sifttest"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
)

// What went wrong with the delivery of others, and the tests that keep it from
// happening here. Those with a package are there, the others in this package:
//
//	kill -9 in an outage loses accepted rows                  TestKillInOutage, torture
//	files left by a crash are never sent                      TestLeftRowsAreSent, torture
//	confirmed ids live in memory only                         TestConfirmedRowsAreNotSentAgain
//	the end says OK with rows still in files                  TestTheEndSaysWhatIsLeft
//	live only loses a failed stream's rows                    TestStreamFaults, TestRandomFaults, TestDestinationGone
//	one failed stream sends whole files again                 TestOnlyMissingRowsAreSentAgain
//	sending again gives up after some attempts                TestItNeverGivesUp
//	one file that cannot be read ends it                      TestAFileThatIsGone
//	damage in the middle of a file                            TestDamageInTheMiddle; core/backup
//	a full disk ends the backup, then live sending            TestAFullDiskStopsNothing, TestRealFullDisk; core/backup/manager
//	sending stops while a checkpoint waits                    TestSendingGoesOnDuringACheckpoint
//	starting needs the network                                TestFirstStartOffline
//	a row of the wrong type is sent as it is                  TestBadCSV, TestReceiverRefusesBadRows
//	a revoked key is tried for ever, in silence               TestRevokedKey, TestGatewayWithRefusedKey
//	quotes and slashes in names                               TestHostileNames
//	a schema that is too large for one call                   plugins/transports/sift TestGroups, TestLargePages
//	two processes on one directory                            TestDataDirectoryInUse, TestBackupDirectoryInUse
//	queues are bounded by count only                          TestMemoryInAnOutage, TestSaturation
//	the whole backlog is lost at a restart                    TestKillInOutage (sync = "rotate")
//	a corrupt store must be deleted by hand                   TestDamagedStateIsNoObstacle; core/backup
//	answered before the sync; batching before the log         TestKillInOutage; torture with a client
//	killed again and again while starting                     TestCrashLoop, torture
//	many times the payload is written, many syncs             TestBytesWritten; core/backup/manager
//	a full buffer drops rows                                  TestAFullBackupBlocks
//	sending again starves live rows                           TestLiveRowsWhileABacklogIsSent
//	positions beyond what was stored                          TestFileSourceGoesOn, torture
//	counters that are wrong                                   requireBalanced in each test, torture
//	exit codes of tools                                       TestBackupCommands; cmd/pipelined TestBackupExitCodes

// stored is a load with a backup. Every start has the same directories.
type stored struct {
	load
	data   string
	dir    string // of the backup; empty: in data
	backup string // settings
}

// withBackup returns a load with a backup, once the program takes its pipeline file.
func withBackup(t *testing.T, l load, settings string) stored {
	t.Helper()
	s := stored{load: l, data: filepath.Join(t.TempDir(), "data"), backup: settings}
	check := exec.Command(binary(), "validate", writeFile(t, "check.hcl", s.hcl()))
	check.Env = append(os.Environ(), apiKey+"=a-key")
	out, err := check.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return s
}

func (s stored) hcl() string {
	dir := s.dir
	if dir == "" {
		dir = "${data_dir}/backups"
	}
	s.pipeline += fmt.Sprintf("\n  backup {\n    dir = \"%s\"\n    %s\n  }\n", dir, s.backup)
	return s.load.hcl()
}

func (s stored) files() string { return filepath.Join(s.data, "backups") }

func (s stored) start(t *testing.T) *host {
	t.Helper()
	return start(t, options{dataDir: s.data}, "run", writeFile(t, "load.hcl", s.hcl()))
}

// awaitStored waits until the backup has grown by some bytes.
func (s stored) awaitStored(t *testing.T, h *host, n int64) {
	t.Helper()
	eventually(t, "nothing is stored", func() bool {
		require.False(t, h.hasEnded(), "%s", clip(h.all.String()))
		return sizeBelow(s.files()) >= n
	})
}

func sizeBelow(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil // files come and go
	})
	return n
}

// requireAll checks that the server has confirmed every row, and returns how many
// came more than once.
func requireAll(t *testing.T, server *sifttest.Server, rows int) (again int) {
	t.Helper()
	got := numbers(t, server.Acknowledged())
	for n := range uint64(rows) {
		require.NotZero(t, got[n], "row %d was not delivered", n)
		again += got[n] - 1
	}
	require.Len(t, got, rows)
	return again
}

func TestKillInOutage(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"rotate", "always", "50ms", "1h"} {
		t.Run(sync, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			s := withBackup(t, load{uri: server.URI(), rows: 20_000}, fmt.Sprintf("sync = %q", sync))
			h := s.start(t)
			eventually(t, "no rows", func() bool { return len(server.Acknowledged()) > 0 })
			server.Stop()
			s.awaitStored(t, h, sizeBelow(s.files())+100_000)
			h.signal(syscall.SIGKILL)
			h.wait()
			require.NoError(t, server.Start())
			s.start(t).requireExit(exitOK)
			requireAll(t, server, s.rows)
		})
	}
}

func TestLeftRowsAreSent(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), pipeline: `drain_timeout = "1s"`}, "")
	h := s.start(t)
	eventually(t, "no rows", func() bool { return len(server.Acknowledged()) > 0 })
	server.Stop()
	s.awaitStored(t, h, 200_000)
	h.signal(syscall.SIGTERM)
	h.requireExit(exitPending)
	read := h.account("load")["load"].read
	require.NoError(t, server.Start())
	// The next start has no rows of its own; what is left is sent without being asked.
	s.load.rows = 1
	s.start(t).requireExit(exitOK)
	requireAll(t, server, int(read))
}

func TestConfirmedRowsAreNotSentAgain(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 5000}, "retain = true")
	s.start(t).requireExit(exitOK)
	require.Zero(t, requireAll(t, server, s.rows))
	require.NotZero(t, sizeBelow(s.files()), "the files are kept")
	s.start(t).requireExit(exitOK)
	assert.Zero(t, requireAll(t, server, s.rows), "the files are known to be confirmed")
}

func TestTheEndSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), pipeline: `drain_timeout = "1s"`, interval: "1h"}, "")
	h := s.start(t)
	server.Stream(t, 0).WaitCount(t, 1000)
	server.Stop()
	h.signal(syscall.SIGTERM)
	h.requireExit(exitPending)
	a := h.account("load")["load"]
	track := a.tracks["sift.live"]
	assert.NotZero(t, track.pending)
	assert.Zero(t, track.lost)
	assert.Equal(t, a.accepted, track.delivered+track.pending, "accepted = delivered + pending: %+v", a)
	assert.Contains(t, strings.ReplaceAll(h.all.String(), ",", ""), strconv.FormatUint(track.pending, 10))
}

func TestOnlyMissingRowsAreSentAgain(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	gone := status.Error(codes.Unavailable, "gone")
	server.Queue(sifttest.TakeAll, sifttest.Refuse(gone), sifttest.TakeAll, sifttest.EndAfter(100, gone))
	s := withBackup(t, load{uri: server.URI(), rows: 20_000}, "")
	s.start(t).requireExit(exitOK)
	assert.Zero(t, requireAll(t, server, s.rows), "only what a failed stream had is sent again")
	sent := 0
	for _, st := range server.Streams() {
		if !st.Acknowledged() {
			sent += st.Count()
		}
	}
	assert.Less(t, sent, s.rows/2, "of failed streams")
}

func TestItNeverGivesUp(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	for i := range 40 {
		server.Queue(sifttest.EndAfter(i, status.Error(codes.Unavailable, "not yet")))
	}
	s := withBackup(t, load{uri: server.URI(), rows: 5000}, "")
	s.start(t).requireExit(exitOK)
	requireAll(t, server, s.rows)
}

// backlog leaves rows in several files and ends the host.
func (s stored) backlog(t *testing.T, server *sifttest.Server) {
	t.Helper()
	server.Stop()
	h := s.start(t)
	s.awaitStored(t, h, 4<<20)
	h.signal(syscall.SIGKILL)
	h.wait()
}

// segments returns the backup files, oldest first.
func (s stored) segments(t *testing.T) []string { return filesBelow(t, s.files(), "") }

func TestAFileThatIsGone(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 200_000, rate: `"max"`}, `max_file_size = "1MiB"`)
	s.backlog(t, server)
	files := s.segments(t)
	require.Greater(t, len(files), 3)
	require.NoError(t, os.Remove(files[1]))
	require.NoError(t, server.Start())
	h := s.start(t)
	code := h.wait()
	assert.NotEqual(t, exitOK, code, "rows are lost: %s", clip(h.all.String()))
	got := numbers(t, server.Acknowledged())
	missing := s.rows - len(got)
	assert.NotZero(t, missing)
	assert.LessOrEqual(t, missing, (1<<20)/50, "only what was in the file")
	name, _, _ := strings.Cut(filepath.Base(files[1]), ".")
	assert.Contains(t, h.stderr.String(), name, "it is named")
}

func TestDamageInTheMiddle(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 200_000, rate: `"max"`}, `max_file_size = "1MiB"`)
	s.backlog(t, server)
	files := s.segments(t)
	require.Greater(t, len(files), 3)
	data, err := os.ReadFile(files[1])
	require.NoError(t, err)
	data[len(data)/2] ^= 0xff
	require.NoError(t, os.WriteFile(files[1], data, 0o600))
	require.NoError(t, server.Start())
	h := s.start(t)
	code := h.wait()
	assert.NotEqual(t, exitOK, code, "rows are lost: %s", clip(h.all.String()))
	missing := s.rows - len(numbers(t, server.Acknowledged()))
	assert.NotZero(t, missing)
	assert.LessOrEqual(t, missing, 4096, "one chunk, and not the rest of the file")
	name, _, _ := strings.Cut(files[1], ".")
	kept, err := filepath.Glob(name + "*") // it may have another ending now
	require.NoError(t, err)
	assert.NotEmpty(t, kept, "a damaged file is kept")
	assert.Contains(t, h.stderr.String(), filepath.Base(files[1]), "it is named")
}

func TestAFullDiskStopsNothing(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 100_000, rate: `"max"`, interval: "300ms"},
		"max_file_size = \"1MiB\"\n max_disk = \"2MiB\"\n sync = \"rotate\"")
	h := s.start(t)
	h.requireDelivered(server, s.rows)
}

func TestAFullBackupBlocks(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Stop()
	s := withBackup(t, load{uri: server.URI(), rows: 100_000, rate: `"max"`},
		"max_file_size = \"1MiB\"\n max_disk = \"2MiB\"\n sync = \"rotate\"")
	h := s.start(t)
	s.awaitStored(t, h, 1<<20)
	assert.LessOrEqual(t, sizeBelow(s.files()), int64(2<<20))
	require.NoError(t, server.Start())
	h.requireExit(exitOK)
	requireAll(t, server, s.rows)
	for _, f := range h.account("load") {
		assert.Zero(t, f.tracks["sift.live"].lost)
	}
}

// The next stream is open before a checkpoint is asked for.
func TestSendingGoesOnDuringACheckpoint(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(sifttest.AnswerAfter(release))
	h := load{uri: server.URI(), rows: faultRows}.start(t)
	<-server.Stream(t, 0).HalfClosed()
	server.Stream(t, 1).WaitCount(t, 500)
	close(release)
	h.requireDelivered(server, faultRows)
}

func TestFirstStartOffline(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			server.Stop()
			s := withBackup(t, load{uri: server.URI(), rows: 20_000}, `max_file_size = "1MiB"`)
			h := s.start(t)
			s.awaitStored(t, h, 300_000)
			if killed {
				h.signal(syscall.SIGKILL)
				h.wait()
			}
			require.NoError(t, server.Start())
			if killed {
				h = s.start(t)
			}
			h.requireExit(exitOK)
			requireAll(t, server, s.rows)
			for _, m := range server.Acknowledged() {
				require.NotContains(t, string(m), "pipelined", "no placeholder is sent")
			}
		})
	}
}

func TestRevokedKey(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	s := withBackup(t, load{uri: server.URI(), rows: 40_000}, "")
	h := s.start(t)
	eventually(t, "no rows", func() bool { return len(server.Acknowledged()) > 0 })
	server.SetKeys("another")
	server.Reset()
	h.awaitOutput("UNAUTHENTICATED")
	before := len(server.Streams())
	server.SetKeys("a-key")
	h.requireExit(exitOK)
	requireAll(t, server, s.rows)
	assert.GreaterOrEqual(t, len(server.Streams()), before)
}

func TestBackupDirectoryInUse(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI()}, "")
	s.dir = filepath.Join(t.TempDir(), "backups")
	s.start(t)
	eventually(t, "no rows", func() bool { return len(server.Acknowledged()) > 0 })
	s.data = filepath.Join(t.TempDir(), "other")
	h := s.start(t)
	h.requireExit(exitIO)
	assert.Contains(t, lastLine(h.stderr.String()), s.dir)
}

func TestMemoryInAnOutage(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Stop()
	s := withBackup(t, load{uri: server.URI(), rows: 2_000_000, rate: `"max"`}, `sync = "rotate"`)
	h := s.start(t)
	most := make(chan int, 1)
	go func() { most <- h.watchMemory() }()
	s.awaitStored(t, h, 100<<20)
	h.signal(syscall.SIGKILL)
	assert.Less(t, <-most, 400<<20, "bytes of memory, with 100 MiB waiting")
}

func TestDamagedStateIsNoObstacle(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 100_000, rate: `"max"`}, `max_file_size = "1MiB"`)
	s.backlog(t, server)
	damaged := 0
	for _, path := range filesBelow(t, s.data, "") {
		if strings.HasPrefix(path, s.files()) || !strings.Contains(path, "journal") {
			continue
		}
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{0x5a}, int(info.Size())), 0o600))
		damaged++
	}
	require.NotZero(t, damaged, "%v", filesBelow(t, s.data, ""))
	require.NoError(t, server.Start())
	s.start(t).wait()
	requireAll(t, server, s.rows)
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 30_000}, `max_file_size = "1MiB"`)
	for i := range 20 {
		h := s.start(t)
		if i == 5 {
			server.Stop()
		}
		select {
		case <-h.exited:
		case <-time.After(time.Duration(i*37%400) * time.Millisecond):
			h.signal(syscall.SIGKILL)
			h.wait()
		}
	}
	require.NoError(t, server.Start())
	s.start(t).requireExit(exitOK)
	requireAll(t, server, s.rows)
}

func TestBytesWritten(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Stop()
	s := withBackup(t, load{uri: server.URI(), rows: 400_000, rate: `"max"`}, `sync = "50ms"`)
	h := s.start(t)
	s.awaitStored(t, h, 20<<20)
	written := 0
	for _, line := range strings.Split(readProc(t, h.pid(), "io"), "\n") {
		if rest, ok := strings.CutPrefix(line, "wchar: "); ok {
			written, _ = strconv.Atoi(rest)
		}
	}
	payload := sizeBelow(s.files())
	require.NotZero(t, written)
	assert.Less(t, float64(written)/float64(payload), 1.5, "bytes written for each byte stored")
	h.signal(syscall.SIGKILL)
}

func readProc(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	require.NoError(t, err)
	return string(text)
}

// Live rows arrive before a backlog is gone.
func TestLiveRowsWhileABacklogIsSent(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 400_000, rate: `"max"`}, `max_file_size = "1MiB"`)
	server.Stop()
	h := s.start(t)
	s.awaitStored(t, h, 20<<20)
	h.signal(syscall.SIGKILL)
	h.wait()
	require.NoError(t, server.Start())
	// Slow rows now; the source goes on behind those that are stored.
	s.load.rate = "2000"
	h = s.start(t)
	newest := func() (n uint64, count int) {
		for row := range numbers(t, server.Acknowledged()) {
			n, count = max(n, row), count+1
		}
		return n, count
	}
	early := false
	eventually(t, "the backlog is not sent", func() bool {
		n, count := newest()
		early = early || n > 0 && uint64(count) < n
		return early || h.hasEnded()
	})
	assert.True(t, early, "the newest rows came last")
	h.signal(syscall.SIGKILL)
}

// A file is read on where its rows are safe: none is left out, and at most one batch
// comes again.
func TestFileSourceGoesOn(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	server := sifttest.New(t, sifttest.Options{})
	var text strings.Builder
	text.WriteString("t,n\n")
	for i := range rows {
		fmt.Fprintf(&text, "%d.%04d,%d\n", i/10_000, i%10_000, i)
	}
	l := load{uri: server.URI()}
	s := withBackup(t, l, "retain = true")
	input := writeFile(t, "rows.csv", text.String())
	hcl := s.hcl()
	_, rest, _ := strings.Cut(hcl, `encoder "ingestion_config"`)
	before, _, _ := strings.Cut(hcl, `source "generator"`)
	hcl = before + fmt.Sprintf(`source "csv" "file" {
    path = %q
    flow = "load"
    time {
      column = "t"
      start  = "2026-01-01T00:00:00Z"
    }
    column "n" {
      type = "uint64"
    }
  }
  encoder "ingestion_config"`, input) + rest
	for i := 1; i <= 3; i++ {
		h := start(t, options{dataDir: s.data}, "run", writeFile(t, "load.hcl", hcl))
		eventually(t, "no rows", func() bool { return len(numbers(t, server.Acknowledged())) > i*rows/8 || h.hasEnded() })
		h.signal(syscall.SIGKILL)
		h.wait()
	}
	start(t, options{dataDir: s.data}, "run", writeFile(t, "load.hcl", hcl)).requireExit(exitOK)
	requireAll(t, server, rows)
}

// A disk that is full for a while, by the doing of others.
func TestRealFullDisk(t *testing.T) {
	t.Parallel()
	mount := filepath.Join(t.TempDir(), "mnt")
	require.NoError(t, os.Mkdir(mount, 0o700))
	holder := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
		"mount -t tmpfs -o size=16m tmpfs "+mount+" && echo ready && exec cat >/dev/null")
	ready := newTranscript()
	holder.Stdout = ready
	stdin, err := holder.StdinPipe()
	require.NoError(t, err)
	if err := holder.Start(); err != nil {
		t.Skipf("no file system for the test: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = holder.Wait()
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
	})
	if !ready.await(func(text string) bool { return text == "ready\n" }, ended, patience) {
		t.Skip("no file system for the test")
	}
	pid := strconv.Itoa(holder.Process.Pid)
	outside := filepath.Join("/proc", pid, "root", mount)

	server := sifttest.New(t, sifttest.Options{})
	s := withBackup(t, load{uri: server.URI(), rows: 60_000}, "max_file_size = \"1MiB\"\n sync = \"10ms\"")
	through := []string{"nsenter", "--target", pid, "--user", "--preserve-credentials", "--mount", "--"}
	h := start(t, options{dataDir: filepath.Join(mount, "data"), through: through}, "run", writeFile(t, "load.hcl", s.hcl()))
	eventually(t, "no rows", func() bool { return len(server.Acknowledged()) > 0 })
	fill := func() {
		f, err := os.OpenFile(filepath.Join(outside, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(t, err)
		defer f.Close()
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	fill()
	count := len(server.Acknowledged())
	eventually(t, "live sending stops", func() bool { return len(server.Acknowledged()) > count+2000 || h.hasEnded() })
	server.Stop()
	h.awaitOutput("no space left")
	require.NoError(t, os.Remove(filepath.Join(outside, "filler")))
	require.NoError(t, server.Start())
	h.requireDelivered(server, s.rows)
}

// What a client was told OK for in an outage is there after a kill.
func TestClientInAnOutage(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	server := sifttest.New(t, sifttest.Options{})
	withBackup(t, load{uri: server.URI()}, "")
	data := filepath.Join(t.TempDir(), "data")
	address := freeAddress(t)
	hcl := fmt.Sprintf(`
pipeline "receiver" {
  asset = "gateway"
  source "sift" "in" {
    listen = %q
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri     = %q
    api_key = secret::env(%q)
  }
  backup {
    dir = "${data_dir}/backups"
  }
}
`, address, server.URI(), apiKey)
	server.Stop()
	h := start(t, options{dataDir: data}, "run", writeFile(t, "gateway.hcl", hcl))
	h.awaitOutput("listening for Sift clients")
	who := identity{asset: "rover", key: "rover-v1", flows: []*configsv2.FlowConfig{numberFlow("load")}}
	s, err := dialSift(t, address, "any", false).startUp(ctx, who)
	require.NoError(t, err)
	var once sync.Once
	for n := range uint64(20) {
		began := time.Now()
		require.NoError(t, s.send(ctx, s.row("load", epoch+int64(n), uint64Value(n))), "row %d", n)
		once.Do(func() { assert.Less(t, time.Since(began), answerTime) })
	}
	h.signal(syscall.SIGKILL)
	h.wait()
	require.NoError(t, server.Start())
	h = start(t, options{dataDir: data}, "run", writeFile(t, "gateway.hcl", hcl))
	eventually(t, "the rows are not sent", func() bool { return len(server.Acknowledged()) >= 20 })
	h.signal(syscall.SIGTERM)
	h.requireExit(exitOK)
	assert.GreaterOrEqual(t, len(server.Acknowledged()), 20)
}
