package torture

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// scenario is a plan while it runs.
type scenario struct {
	t       *testing.T
	plan    plan
	dir     string // of everything
	tmp     string // TMPDIR of the host's processes
	at      places
	disk    *disk // nil: none of its own
	server  *sifttest.Server
	weather *weather
	rows    destination
	client  *client // nil: another source
	host    *host   // the running one, or the last
	cell    cell    // of the last kill: what comes now is its consequence
	result  result

	history []string // what happened
	hosts   []*host
}

// exit codes of the program
const (
	exitOK, exitFailure, exitUnavailable, exitIO, exitPending = 0, 1, 69, 74, 75
)

func newScenario(t *testing.T, p plan) *scenario {
	t.Helper()
	s := &scenario{t: t, plan: p, dir: t.TempDir(), result: newResult(p)}
	tmp, err := os.MkdirTemp("/tmp", "tort-") // short, because paths of sockets are
	require.NoError(t, err)
	s.tmp = tmp
	s.weather = newWeather(p.seed, p.timeout)
	s.weather.poison = map[uint64]bool{}
	for _, n := range p.poison {
		s.weather.poison[n] = true
	}
	s.server = sifttest.New(t, sifttest.Options{Default: s.weather.behave, KeepaliveMinTime: time.Millisecond})
	s.weather.server = s.server
	s.rows = destination{tally: newTally(p.rows), server: s.server, done: map[*sifttest.Stream]bool{}}
	s.at = places{
		data: filepath.Join(s.dir, "data"), input: filepath.Join(s.dir, "rows.csv"), uri: s.server.URI(),
		listen: freeAddress(t), files: filepath.Join(s.dir, "files"), tables: filepath.Join(s.dir, "tables"),
	}
	t.Cleanup(s.close)
	if p.disk > 0 {
		mount := filepath.Join(s.dir, "mnt")
		require.NoError(t, os.Mkdir(mount, 0o700))
		d, err := newDisk(mount, p.disk)
		if err != nil {
			t.Logf("the disk is never full: %v", err)
		} else {
			s.disk = d
			s.at.data = filepath.Join(mount, "data")
		}
	}
	switch p.source {
	case sourceCSV:
		s.writeRows()
	case sourceClient:
		s.client = startClient(p, s.at.listen)
	}
	return s
}

func (s *scenario) close() {
	if s.client != nil {
		s.client.stop()
	}
	if s.host != nil && !s.host.hasEnded() {
		_ = s.host.cmd.Process.Kill() // it may have ended just now
		<-s.host.exited
	}
	for _, p := range processesOf(s.tmp) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // only after a failure
	}
	if s.t.Failed() {
		s.t.Logf("plan %+v", s.plan)
		s.t.Logf("what happened:\n%s", strings.Join(s.history, "\n"))
		s.keep()
	}
	if s.disk != nil {
		s.disk.close()
	}
	_ = os.RemoveAll(s.tmp) // sockets of killed hosts
}

// keep saves the files and logs of a failed scenario.
func (s *scenario) keep() {
	if *flagKeep == "" {
		if n := len(s.hosts); n > 0 {
			s.t.Logf("the last host:\n%s", clip(s.hosts[n-1].all.String(), 6000))
		}
		return
	}
	dir := filepath.Join(*flagKeep, fmt.Sprint("seed-", s.plan.seed))
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		s.t.Logf("files are not kept: %v", err)
	}
	if s.disk != nil {
		_ = os.CopyFS(filepath.Join(dir, "disk"), os.DirFS(s.disk.outside(s.disk.mount))) // as far as it goes
	}
	for i, h := range s.hosts {
		_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("host-%03d.log", i)), []byte(h.all.String()), 0o600)
	}
	_ = os.WriteFile(filepath.Join(dir, "history"), []byte(strings.Join(s.history, "\n")+"\n"), 0o600)
}

func (s *scenario) writeRows() {
	var b strings.Builder
	b.WriteString("t,n,pad\n")
	pad := strings.Repeat("x", s.plan.pad)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	for i := range s.plan.rows {
		fmt.Fprintf(&b, "%d,%d,%s\n", start+int64(i)*int64(time.Second)/int64(s.plan.rate), i, pad)
	}
	require.NoError(s.t, os.WriteFile(s.at.input, []byte(b.String()), 0o600))
}

// outside returns a path of the host as the test sees it.
func (s *scenario) outside(path string) string {
	if s.disk != nil && strings.HasPrefix(path, s.disk.mount) {
		return s.disk.outside(path)
	}
	return path
}

func (s *scenario) backups() string { return s.outside(filepath.Join(s.at.data, "backups")) }

func (s *scenario) note(format string, args ...any) {
	s.history = append(s.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// problem fails the scenario; it goes on, because more may be seen then.
func (s *scenario) problem(format string, args ...any) {
	s.note("PROBLEM: "+format, args...)
	s.result.problems++
	s.t.Errorf(format, args...)
}

// start starts a host.
func (s *scenario) start(hurried bool) {
	path := filepath.Join(s.dir, "run.hcl")
	require.NoError(s.t, os.WriteFile(path, []byte(s.plan.hcl(s.at, hurried)), 0o600))
	l := launch{args: []string{"run", "--data-dir", s.at.data, path}, tmp: s.tmp}
	if s.disk != nil {
		l.through = s.disk.enter()
	}
	h, err := l.start()
	require.NoError(s.t, err)
	s.rows.update()
	h.before = s.rows.total
	s.host = h
	s.hosts = append(s.hosts, h)
	if len(s.hosts) > 20 && *flagKeep == "" {
		s.hosts = slices.Clone(s.hosts[1:])
	}
}

// run runs the whole plan.
func (s *scenario) run() {
	for i, step := range s.plan.steps {
		if s.t.Failed() {
			return // what follows would only hide it
		}
		if s.complete() {
			s.note("everything is delivered before step %d", i)
			break
		}
		s.note("step %d: %s", i, step)
		s.step(step)
	}
	if !s.t.Failed() {
		s.finish()
	}
}

// complete reports whether the source has nothing left.
func (s *scenario) complete() bool {
	if s.client != nil {
		return s.client.finished()
	}
	if s.host == nil || !s.host.hasEnded() {
		return false
	}
	return !s.host.asked && s.host.cmd.ProcessState.ExitCode() == exitOK
}

func (s *scenario) ensureHost() {
	if s.host == nil || s.host.hasEnded() {
		s.start(false)
	}
}

// turn changes what the destination does.
func (s *scenario) turn(m mode) {
	s.note("the destination is %s", m)
	require.NoError(s.t, s.weather.turn(m))
}

// awaitRows waits until rows arrive at the destination that were sent after now.
func (s *scenario) awaitRows() bool {
	before := s.weather.messages.Load()
	return s.await("no rows arrive", func() bool { return s.weather.messages.Load() > before || s.complete() }) && !s.complete()
}

// await waits for what the step needs; it is no error if the host ends instead.
func (s *scenario) await(what string, condition func() bool) bool {
	came := until(patience, func() bool { return condition() || s.host.hasEnded() })
	if !came {
		s.problem("%s within %s", what, patience)
	}
	return came && !s.host.hasEnded()
}

// recovered measures how long it takes from a start until rows arrive.
func (s *scenario) recovered() bool {
	fresh := s.host == nil || s.host.hasEnded()
	s.ensureHost()
	if !s.awaitRows() {
		return false
	}
	if fresh {
		s.result.recovered(s.cell, time.Since(s.host.began))
	}
	return true
}

// account of what arrived since the last kill, which is its consequence.
func (s *scenario) settle() {
	before := s.rows.duplicates()
	s.rows.update()
	s.result.duplicated(s.cell, s.rows.duplicates()-before)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
