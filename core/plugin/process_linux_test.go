package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

const (
	patience = 30 * time.Second // for what happens at once on a quiet machine
	tick     = 5 * time.Millisecond
)

// rig is a launcher with the test binary's plugins.
type rig struct {
	t        *testing.T
	launcher *Launcher
	catalog  *Catalog
	base     string
	log      *logBuffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, base: shortDir(t), log: &logBuffer{}}
	var ids []ID
	for name := range testPlugins() {
		ids = append(ids, ID{sdk.KindSource, name})
	}
	var err error
	r.catalog, err = NewCatalog(CatalogConfig{Bundled: ids, Verb: testVerb})
	require.NoError(t, err)
	r.launcher, err = NewLauncher(r.log.logger(), []string{r.base})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, r.launcher.Close())
		assert.Empty(t, names(t, r.base), "directories are left")
	})
	return r
}

func (r *rig) options() Options {
	return Options{
		Logger: r.log.logger(), StartTimeout: patience, Secrets: []string{testSecret},
		Env: map[string]string{"GORACE": "atexit_sleep_ms=0"}, // or each process takes a second to end under the race detector
	}
}

func (r *rig) try(ctx context.Context, name string, opts Options) (*Process, error) {
	r.t.Helper()
	spec, err := r.catalog.Find(sdk.KindSource, name)
	require.NoError(r.t, err)
	return r.launcher.Launch(ctx, spec, opts)
}

func (r *rig) launch(name string, change ...func(*Options)) *Process {
	r.t.Helper()
	opts := r.options()
	for _, c := range change {
		c(&opts)
	}
	p, err := r.try(r.t.Context(), name, opts)
	require.NoError(r.t, err)
	return p
}

// stop stops a process that has all the time it needs.
func (r *rig) stop(p *Process) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(r.t, p.Stop(ctx))
	requireGone(r.t, p.PID())
}

// state returns the letter of a process's state, nothing if there is no process.
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:1]
}

// gone reports whether a process is dead, be it that nobody has reaped it.
func gone(pid int) bool { return slices.Contains([]string{"", "Z", "X"}, state(pid)) }

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return gone(pid) }, patience, tick, "process %d goes on", pid)
}

func TestLaunchAndStop(t *testing.T) {
	r := newRig(t)
	p := r.launch("good")
	assert.Equal(t, ID{sdk.KindSource, "good"}, p.ID())
	assert.True(t, p.Description().Source.Replayable)
	assert.False(t, gone(p.PID()))
	assert.NoError(t, p.ExitError())
	group, err := syscall.Getpgid(p.PID())
	require.NoError(t, err)
	assert.Equal(t, p.PID(), group, "a group of its own")

	before := p.LastPong()
	require.NoError(t, p.Alive(t.Context()))
	assert.True(t, p.LastPong().After(before))
	_, err = wire.Describe(t.Context(), p.Conn())
	require.NoError(t, err)

	r.stop(p)
	<-p.Exited()
	assert.NoError(t, p.ExitError())
	assert.Len(t, names(t, r.base), 1, "only the host's own directory is left")
	assert.Empty(t, names(t, filepath.Join(r.base, names(t, r.base)[0])))
	r.stop(p) // again
	assert.Error(t, p.Alive(t.Context()))
}

// The texts are part of the promise: they are all that a user sees.
func TestStartFailures(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"exits", "it ended before its handshake: exit status 3; its last output:\n  | no such device: /dev/ttyS9"},
		{"exits_quietly", "it ended before its handshake: exit status 0; it wrote nothing"},
		{"terminated", "it ended before its handshake: killed by signal: terminated; it wrote nothing"},
		{"killed", "it ended before its handshake: killed from outside, perhaps because the memory was full; it wrote nothing"},
		{"junk", `first line of its output: no handshake but "Usage: junk [options] --password (secret)"; it wrote nothing`},
		{"endless_junk", `first line of its output: no handshake but "` + strings.Repeat("j", 80) + `"… (16384 bytes); it wrote nothing`},
		{"closes_stdout", "it closed its standard output without a handshake; it wrote nothing"},
		{"newer", "it speaks version 2 of the plugin protocol, this pipelined speaks version 1; upgrade pipelined; it wrote nothing"},
		{"older", "it speaks version 0 of the plugin protocol, this pipelined speaks version 1; upgrade the plugin; it wrote nothing"},
		{"netrpc", `first line of its output: handshake with protocol "netrpc", want grpc; it wrote nothing`},
		{"core2", "first line of its output: handshake of core protocol 2, want 1; it wrote nothing"},
		{"bare", "first line of its output: handshake without a certificate: the plugin does not speak mutual TLS; it wrote nothing"},
		{"elsewhere", `it listens at unix "/run/other.sock", which is not in the directory that it was given (DIR); it wrote nothing`},
		{"escapes", `it listens at unix "DIR/../../x.sock", which is not in the directory that it was given (DIR); it wrote nothing`},
		{"misnamed", "it says that it is source/somebody_else; it wrote nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			_, err := r.try(t.Context(), tc.name, r.options())
			e, ok := errors.AsType[*StartError](err)
			require.True(t, ok, "%v", err)
			want := "plugin " + e.Spec.String() + " did not start: " + tc.want
			dir := regexp.MustCompile(regexp.QuoteMeta(r.base) + `/` + socketDirPrefix + `\d+/plugin-dir\d+`)
			assert.Equal(t, want, dir.ReplaceAllString(err.Error(), "DIR"))
			self, _ := os.Executable()
			assert.Contains(t, err.Error(), "source/"+tc.name+" ("+self+")")
		})
	}
}

func TestStartFailuresInPart(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"dies_describing", "; it ended: exit status 7; its last output:\n  | about to die"},
		{"junk_and_out", `first line of its output: no handshake but "hello"; it`}, // if it is quick: ended
		{"nobody_there", "it does not describe itself: plugin call: Unavailable: "},
		{"other_key", "tls: failed to verify certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			_, err := r.try(t.Context(), tc.name, r.options())
			_, ok := errors.AsType[*StartError](err)
			require.True(t, ok, "%v", err)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestPanicIsShown(t *testing.T) {
	r := newRig(t)
	_, err := r.try(t.Context(), "panics", r.options())
	require.ErrorContains(t, err, "it ended before its handshake: exit status 2; its last output:\n  | panic: oh no (secret)\n")
	assert.NotContains(t, r.log.String(), "s3cr3t")
}

func TestStartTimeout(t *testing.T) {
	for _, name := range []string{"silent", "mute"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			opts := r.options()
			opts.StartTimeout = 300 * time.Millisecond
			_, err := r.try(t.Context(), name, opts)
			_, ok := errors.AsType[*StartError](err)
			require.True(t, ok)
			assert.ErrorContains(t, err, "it was not ready within 300ms; it wrote nothing")
		})
	}
}

func TestStartIsCancelled(t *testing.T) {
	for _, name := range []string{"silent", "mute"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			result := make(chan error, 1)
			go func() {
				_, err := r.try(ctx, name, r.options())
				result <- err
			}()
			require.Eventually(t, func() bool { return r.live() == 1 }, patience, tick)
			reason := errors.New("the user has changed their mind")
			cancel(reason)
			err := <-result
			assert.ErrorIs(t, err, reason)
			assert.ErrorContains(t, err, "did not start: ")
			assert.Zero(t, r.live())
		})
	}
	t.Run("before", func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.try(ctx, "good", r.options())
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func (r *rig) live() int {
	r.launcher.mu.Lock()
	defer r.launcher.mu.Unlock()
	return len(r.launcher.mu.live)
}

func TestRefusedAtLaunch(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(pluginDir(t, "pipelined-source-mine"), "pipelined-source-mine")
	spec := Spec{ID: ID{sdk.KindSource, "mine"}, Path: path}
	_, err := r.launcher.Launch(t.Context(), spec, r.options())
	assert.ErrorContains(t, err, "plugin source/mine ("+path+") did not start: it ended before its handshake: exit status 3")

	require.NoError(t, os.WriteFile(path, []byte("no program"), 0o755))
	_, err = r.launcher.Launch(t.Context(), spec, r.options())
	assert.EqualError(t, err, "plugin source/mine ("+path+") did not start: it cannot be executed: exec format error")

	require.NoError(t, os.Chmod(path, 0o777))
	_, err = r.launcher.Launch(t.Context(), spec, r.options())
	_, ok := errors.AsType[*RefusedError](err)
	assert.True(t, ok)
	assert.ErrorContains(t, err, "other users may write to "+path)
}

func TestBadEnvironment(t *testing.T) {
	r := newRig(t)
	opts := r.options()
	opts.Env = map[string]string{"PLUGIN_X": "1"}
	_, err := r.try(t.Context(), "good", opts)
	assert.ErrorContains(t, err, "did not start: environment variable PLUGIN_X: names that begin with PLUGIN_ belong to the host")
}

func TestCrash(t *testing.T) {
	r := newRig(t)
	p := r.launch("good")
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGHUP))
	<-p.Exited()
	err := p.ExitError()
	e, ok := errors.AsType[*ExitError](err)
	require.True(t, ok)
	assert.Equal(t, -1, e.Code)
	assert.EqualError(t, err, "plugin "+e.Spec.String()+" ended: killed by signal: hangup; it wrote nothing")

	_, callErr := wire.Describe(t.Context(), p.Conn())
	require.Error(t, callErr)
	assert.Equal(t, err, p.Explain(callErr), "a call says why the connection is gone")
	assert.Equal(t, err, p.Alive(t.Context()))
	r.stop(p)
	assert.Equal(t, err, p.ExitError())
}

func TestExplain(t *testing.T) {
	r := newRig(t)
	p := r.launch("good")
	defer r.stop(p)
	assert.NoError(t, p.Explain(nil))
	cause := sdk.Permanent(errors.New("key " + testSecret + " is revoked"))
	err := p.Explain(fmt.Errorf("register: %w", cause))
	assert.EqualError(t, err, "plugin source/good: register: key (secret) is revoked")
	assert.Equal(t, sdk.ClassPermanent, sdk.AsError(err).Class)
}

func TestEnvironmentOfPlugin(t *testing.T) {
	t.Setenv("SIFT_API_KEY", "not for plugins")
	t.Setenv("TZ", "Europe/Berlin")
	t.Setenv("GOMAXPROCS", "77")
	r := newRig(t)
	p := r.launch("env", func(o *Options) {
		o.Env["MODE"] = "fast"
		o.Budget = Budget{Procs: 1, Memory: 64 << 20}
	})
	defer r.stop(p)
	var unexpected []string
	env := map[string]string{}
	for _, variable := range strings.Split(p.Description().Info.Description, "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
		handshake := strings.HasPrefix(name, "PLUGIN_") || name == wire.HandshakeCookieKey
		declared := slices.Contains([]string{"MODE", "GORACE", "GOMAXPROCS", "GOMEMLIMIT"}, name)
		if !handshake && !declared && !isInherited(name) {
			unexpected = append(unexpected, name)
		}
	}
	assert.Empty(t, unexpected)
	assert.Equal(t, "fast", env["MODE"])
	assert.Equal(t, "Europe/Berlin", env["TZ"])
	assert.Equal(t, "1", env["GOMAXPROCS"])
	assert.Equal(t, "67108864", env["GOMEMLIMIT"])
	assert.Equal(t, "1", env[wire.EnvProtocolVersions])
	assert.Contains(t, env[wire.EnvClientCert], "BEGIN CERTIFICATE")
	assert.NotContains(t, env[wire.EnvClientCert], "PRIVATE")
	assert.True(t, strings.HasPrefix(env[wire.EnvSocketDir], r.base))
}

func TestSecretsAreScrubbed(t *testing.T) {
	r := newRig(t)
	health := make(chan sdk.Health, 1)
	p := r.launch("spills", func(o *Options) { o.OnHealth = func(h sdk.Health) { health <- h } })
	assert.Equal(t, sdk.Health{State: sdk.HealthFailing, Reason: "bad key (secret)", Code: 16}, <-health)
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGKILL))
	<-p.Exited()
	assert.ErrorContains(t, p.ExitError(), "\n  | connecting with (secret)\n  | quoted \"(secret)\"\n  | m key=(secret)")
	assert.NotContains(t, r.log.String(), "s3cr3t")
	assert.Contains(t, r.log.String(), "plugin=source/spills")
	r.stop(p)
}

func TestStrayOutput(t *testing.T) {
	r := newRig(t)
	p := r.launch("prints")
	r.stop(p)
	assert.Contains(t, r.log.String(), `level=INFO msg="a stray line" plugin=source/prints stream=stdout`)
}

func TestFloods(t *testing.T) {
	r := newRig(t)
	endless, lines := r.launch("endless_line"), r.launch("floods")
	require.NoError(t, endless.Alive(t.Context()))
	require.NoError(t, lines.Alive(t.Context()))
	require.Eventually(t, func() bool {
		return strings.Contains(r.log.String(), "… (cut)") && strings.Contains(r.log.String(), "lines were left out")
	}, patience, tick)
	r.stop(endless)
	r.stop(lines)
	longest := 0
	for l := range strings.Lines(r.log.String()) {
		longest = max(longest, len(l))
	}
	assert.Less(t, longest, maxLine+200)
}

// A process that is stopped (SIGSTOP) neither answers nor ends, but it can be
// killed.
func TestStopOfAStoppedProcess(t *testing.T) {
	r := newRig(t)
	p := r.launch("good")
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGSTOP))
	require.Eventually(t, func() bool { return state(p.PID()) == "T" }, patience, tick)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	assert.ErrorIs(t, p.Alive(ctx), context.DeadlineExceeded)
	cancel()

	const limit = time.Second
	ctx, cancel = context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	err := p.Stop(ctx)
	assert.Less(t, time.Since(began), limit+reapTime)
	assert.EqualError(t, err, "plugin source/good was killed before it had drained: it does not answer: context deadline exceeded")
	requireGone(t, p.PID())
	assert.ErrorContains(t, p.ExitError(), "killed by pipelined")
}

func TestStopOfADeafPlugin(t *testing.T) {
	r := newRig(t)
	p := r.launch("deaf")
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	assert.ErrorContains(t, p.Stop(ctx), "plugin source/deaf was killed before it had drained")
	requireGone(t, p.PID())
	assert.NoError(t, p.Stop(ctx), "nothing is left to do")
}

func TestStopOfAPluginThatLeftItsGroup(t *testing.T) {
	r := newRig(t)
	p := r.launch("hermit")
	group, err := syscall.Getpgid(p.PID())
	require.NoError(t, err)
	require.NotEqual(t, p.PID(), group)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	assert.ErrorContains(t, p.Stop(ctx), "was killed before it had drained")
	requireGone(t, p.PID())
}

func TestStopAtOnce(t *testing.T) {
	r := newRig(t)
	p := r.launch("deaf")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorContains(t, p.Stop(ctx), "plugin source/deaf was killed before it had drained")
	requireGone(t, p.PID())
}

// A plugin that has drained has nothing left to lose: killing it is no failure.
func TestStopOfAPluginThatStays(t *testing.T) {
	r := newRig(t)
	p := r.launch("stays")
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	require.NoError(t, p.Stop(ctx))
	requireGone(t, p.PID())
	assert.NoError(t, p.ExitError())
}

// Its input is not ended while it is still at it.
func TestStopOfAPluginThatEndsSlowly(t *testing.T) {
	r := newRig(t)
	r.stop(r.launch("slow_end"))
	assert.Contains(t, r.log.String(), "msg=flushed")
}

func TestStopSaysHowThePluginEnded(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"dies_draining", "ended: exit status 9; its last output:\n  | cannot flush"},
		{"fails_at_end", "ended: exit status 5; it wrote nothing"},
	} {
		r := newRig(t)
		p := r.launch(tc.name)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		assert.ErrorContains(t, p.Stop(ctx), tc.want)
	}
}

func TestStopFromManySides(t *testing.T) {
	r := newRig(t)
	p := r.launch("deaf")
	slow, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first := make(chan error, 1)
	go func() { first <- p.Stop(slow) }()
	require.Eventually(t, p.stopping.Load, patience, tick)

	quick, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	assert.Error(t, p.Stop(quick), "the one with less time decides")
	assert.Error(t, <-first)
	requireGone(t, p.PID())
}

func TestKill(t *testing.T) {
	r := newRig(t)
	p := r.launch("good")
	p.Kill()
	<-p.Exited()
	assert.ErrorContains(t, p.ExitError(), "killed by pipelined")
	r.stop(p)
	p.Kill() // the process id may be somebody else's by now
}

func TestPongMustFit(t *testing.T) {
	r := newRig(t)
	p := r.launch("liar")
	defer r.stop(p)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	before := p.LastPong()
	assert.ErrorIs(t, p.Alive(ctx), context.DeadlineExceeded)
	assert.Equal(t, before, p.LastPong())
}

// A plugin can neither drown its host in changes of health nor pretend to have
// drained before it was asked.
func TestHastyPlugin(t *testing.T) {
	r := newRig(t)
	var changes atomic.Int64
	p := r.launch("hasty", func(o *Options) { o.OnHealth = func(sdk.Health) { changes.Add(1) } })
	require.NoError(t, p.Alive(t.Context()))
	want := sdk.Health{State: sdk.HealthBlocked, Reason: "999", Code: 16}
	require.Eventually(t, func() bool { return p.Health() == want }, patience, tick)
	assert.LessOrEqual(t, changes.Load(), int64(maxHealthPerSecond)*10, "in a thousand changes")

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	assert.ErrorContains(t, p.Stop(ctx), "plugin source/hasty ended before it had drained: it does not answer")
}

var orphanPID = regexp.MustCompile(`orphan (\d+)`)

// A child that a plugin leaves behind delays nothing. In the plugin's group it is
// killed too.
func TestOrphans(t *testing.T) {
	for _, name := range []string{"orphan", "far_orphan"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			began := time.Now()
			_, err := r.try(t.Context(), name, r.options())
			require.ErrorContains(t, err, "it ended before its handshake: exit status 4")
			assert.Less(t, time.Since(began), patience/2)
			found := orphanPID.FindStringSubmatch(err.Error())
			require.NotNil(t, found, err.Error())
			pid, _ := strconv.Atoi(found[1])
			if name == "orphan" {
				requireGone(t, pid)
			} else {
				assert.False(t, gone(pid), "a group of its own is out of reach")
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			}
		})
	}
	t.Run("of a running plugin", func(t *testing.T) {
		r := newRig(t)
		p := r.launch("far_family")
		pid, err := strconv.Atoi(p.Description().Info.Description)
		require.NoError(t, err)
		r.stop(p)
		assert.False(t, gone(pid))
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	})
}

// A plugin made with the SDK is opened with regions, and gets the time to shut
// down.
func TestPluginOfTheSDK(t *testing.T) {
	r := newRig(t)
	regions := newRegions(t)
	p := r.launch("served", func(o *Options) { o.Regions = regions })
	assert.True(t, p.Description().Source.Replayable)
	require.NoError(t, p.Alive(t.Context()))
	diagnostics, err := wire.Configure(t.Context(), p.Conn(), wire.ConfigureArgs{Regions: p.Regions(), StateDir: t.TempDir()})
	require.NoError(t, err)
	assert.Empty(t, diagnostics)
	r.stop(p)
	assert.NoError(t, p.ExitError())
	assert.Contains(t, r.log.String(), "level=INFO msg=\"shut down\" plugin=source/served flushed=true")
	assert.Contains(t, r.log.String(), "level=DEBUG msg=opened plugin=source/served", "the level is that of the host's log")
}

func newRegions(t *testing.T) (regions []*shm.Region) {
	t.Helper()
	for _, direction := range []shm.Direction{shm.ToPlugin, shm.ToHost} {
		region, err := shm.Create(direction, shm.DefaultSlotBytes, shm.DefaultSlots)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, region.Close()) })
		regions = append(regions, region)
	}
	return regions
}

func TestRegionsAreInherited(t *testing.T) {
	r := newRig(t)
	regions := newRegions(t)
	p := r.launch("good", func(o *Options) { o.Regions = regions })
	defer r.stop(p)
	assert.Equal(t, regions, p.Regions())
	for i, region := range regions {
		assert.Equal(t, 3+i, region.FD())
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID(), region.FD()))
		require.NoError(t, err)
		assert.Contains(t, target, "memfd:")
	}
}

// openFiles counts the open files of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	return len(names(t, "/proc/self/fd"))
}

func TestNothingLeaks(t *testing.T) {
	r := newRig(t)
	launches := 50
	if testing.Short() {
		launches = 10
	}
	r.stop(r.launch("good")) // opens what is opened once
	before := openFiles(t)
	for i := range launches {
		switch i % 5 {
		case 4:
			_, err := r.try(t.Context(), "exits", r.options())
			require.Error(t, err)
		case 3:
			p := r.launch("good")
			p.Kill()
			r.stop(p)
		default:
			r.stop(r.launch("good"))
		}
	}
	require.Eventually(t, func() bool { return openFiles(t) <= before }, patience, tick,
		"%d files are open, %d were", openFiles(t), before)
	assert.Zero(t, r.live())
}

func TestLauncherClose(t *testing.T) {
	r := newRig(t)
	p := r.launch("deaf")
	require.NoError(t, r.launcher.Close())
	<-p.Exited()
	requireGone(t, p.PID())
	assert.NoError(t, p.Stop(t.Context()))
	_, err := r.try(t.Context(), "good", r.options())
	assert.ErrorIs(t, err, errLauncherClosed)
	assert.NoError(t, r.launcher.Close())
}

// The parent-death signal belongs to the thread that forked, so a caller's thread
// must not be it.
func TestThreadOfTheCallerEnds(t *testing.T) {
	r := newRig(t)
	var p *Process
	thread := onDyingThread(func() { p = r.launch("good") })
	require.Eventually(t, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return os.IsNotExist(err)
	}, patience, tick)
	require.NoError(t, p.Alive(t.Context()))
	r.stop(p)
}

// onDyingThread calls f on a thread that ends after it, and returns its id.
func onDyingThread(f func()) (id int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // without unlocking the thread ends with the goroutine
		if id = unix.Gettid(); id == os.Getpid() {
			id = onDyingThread(f) // the main thread never ends
			return
		}
		f()
	}()
	<-done
	return id
}

// runTestHost is the main of a host that launches a plugin, says which processes
// there are, and waits to be killed.
func runTestHost(base, plugin string) int {
	log := slog.New(slog.DiscardHandler)
	id := ID{sdk.KindSource, plugin}
	catalog, err := NewCatalog(CatalogConfig{Bundled: []ID{id}, Verb: testVerb})
	if err != nil {
		return fail(err)
	}
	launcher, err := NewLauncher(log, []string{base})
	if err != nil {
		return fail(err)
	}
	spec, err := catalog.Find(id.Kind, id.Name)
	if err != nil {
		return fail(err)
	}
	p, err := launcher.Launch(context.Background(), spec, Options{Logger: log, StartTimeout: patience})
	if err != nil {
		return fail(err)
	}
	fmt.Println(p.PID(), p.Description().Info.Description)
	return forever()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startTestHost starts a host and returns it with the ids of its plugin's process
// and that process's child, 0 if there is none.
func startTestHost(t *testing.T, base, plugin string) (host *exec.Cmd, pid, child int) {
	t.Helper()
	host = exec.Command("/proc/self/exe", hostVerb, base, plugin)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &pid, &child)
	require.NoError(t, err)
	require.False(t, gone(pid))
	return host, pid, child
}

// When the host is killed its plugins end with it, and so do their children as
// long as their input is the plugin's.
func TestHostIsKilled(t *testing.T) {
	for _, plugin := range []string{"family", "hermit"} {
		t.Run(plugin, func(t *testing.T) {
			base := shortDir(t)
			host, pid, child := startTestHost(t, base, plugin)
			require.NoError(t, SweepSocketDirs(base))
			require.Len(t, names(t, base), 1, "the directory of a living host stays")

			require.NoError(t, host.Process.Kill())
			_ = host.Wait()
			requireGone(t, pid)
			if child != 0 {
				requireGone(t, child)
			}

			launcher, err := NewLauncher(slog.New(slog.DiscardHandler), []string{base})
			require.NoError(t, err)
			require.Len(t, names(t, base), 1, "the next host cleans up after a dead one")
			require.NoError(t, launcher.Close())
			assert.Empty(t, names(t, base))
		})
	}
}

func TestStopTimes(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tc := range []struct{ left, drain, kill time.Duration }{
		{20 * time.Second, 19 * time.Second, 19500 * time.Millisecond},
		{2 * time.Second, 1500 * time.Millisecond, 1750 * time.Millisecond},
		{400 * time.Millisecond, 300 * time.Millisecond, 350 * time.Millisecond},
		{0, 0, 0},
	} {
		ctx, cancel := context.WithDeadline(t.Context(), now.Add(tc.left))
		defer cancel()
		assert.Equal(t, stopTimes{now.Add(tc.drain), now.Add(tc.kill), now.Add(tc.left)}, stopTimesOf(ctx, now))
	}
	assert.Equal(t, stopTimes{}, stopTimesOf(t.Context(), now))
}

func BenchmarkLaunchAndStop(b *testing.B) {
	base, err := os.MkdirTemp("/tmp", "pl")
	require.NoError(b, err)
	defer func() { assert.NoError(b, os.RemoveAll(base)) }()
	catalog, err := NewCatalog(CatalogConfig{Bundled: bundled("served"), Verb: testVerb})
	require.NoError(b, err)
	spec, err := catalog.Find(sdk.KindSource, "served")
	require.NoError(b, err)
	log := slog.New(slog.DiscardHandler)
	launcher, err := NewLauncher(log, []string{base})
	require.NoError(b, err)
	defer func() { assert.NoError(b, launcher.Close()) }()
	for b.Loop() {
		p, err := launcher.Launch(b.Context(), spec, Options{Logger: log})
		require.NoError(b, err)
		require.NoError(b, p.Stop(b.Context()))
	}
}
