package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

const (
	defaultStartTimeout = 10 * time.Second

	// killWait is how long a killed process is waited for. It ends within
	// milliseconds, unless the kernel itself is stuck in it (a dead disk, a driver).
	killWait = 2 * time.Second
)

// Launcher starts plugin processes. All of them end with it.
type Launcher struct {
	forker  *forker
	sockets *socketDir

	mu struct {
		sync.Mutex
		closed bool
		live   map[*child]struct{}
	}
}

// NewLauncher makes the directory for the sockets of plugins in the first of the
// bases that can have it (see SocketBases), after cleaning up in all of them what
// killed hosts left behind. What could not be cleaned up is logged.
func NewLauncher(log *slog.Logger, bases []string) (*Launcher, error) {
	for _, base := range bases {
		if err := SweepSocketDirs(base); err != nil {
			log.Warn("sockets of plugins of an earlier run were not removed", "error", err)
		}
	}
	sockets, err := newSocketDir(bases)
	if err != nil {
		return nil, err
	}
	l := &Launcher{forker: newForker(), sockets: sockets}
	l.mu.live = map[*child]struct{}{}
	return l, nil
}

// Close kills the processes that are still alive, joins everything and removes
// the socket directory. It may be called twice. Processes are stopped before, by
// their owners, if they shall lose nothing.
func (l *Launcher) Close() error {
	live, closed := l.close()
	if closed {
		return nil
	}
	for _, c := range live {
		c.kill()
	}
	var errs []error
	deadline := time.After(killWait)
	for _, c := range live {
		select {
		case <-c.ended:
		case <-deadline:
			errs = append(errs, fmt.Errorf("plugin process %d was killed but does not end", c.pid))
		}
	}
	l.forker.close()
	return errors.Join(append(errs, l.sockets.close())...)
}

func (l *Launcher) close() (live []*child, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	closed, l.mu.closed = l.mu.closed, true
	for c := range l.mu.live {
		live = append(live, c)
	}
	return live, closed
}

func (l *Launcher) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.closed
}

// fork starts a child, unless the launcher is closed.
func (l *Launcher) fork(c command, stdout, stderr *lineSplitter) (*child, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, errLauncherClosed
	}
	var started *child
	err := l.forker.do(func() (err error) {
		started, err = startChild(c, stdout, stderr)
		return err
	})
	if err == nil {
		l.mu.live[started] = struct{}{}
	}
	return started, err
}

func (l *Launcher) forget(c *child) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.live, c)
}

// Options belong to one start of a plugin.
type Options struct {
	// Logger gets what the plugin writes, with an attribute "plugin", and decides
	// by its level what the plugin sends at all. It must be set.
	Logger *slog.Logger
	// StartTimeout bounds the start up to the plugin's description; 0 = 10 s.
	StartTimeout time.Duration
	// Budget is this process's share (see Budget.Split).
	Budget Budget
	// Env holds variables that the plugin's block declares.
	Env map[string]string
	// Secrets are taken out of everything that the plugin writes.
	Secrets []string
	// Regions are inherited by the process. The caller closes them, after the
	// process has ended.
	Regions []*shm.Region
	// OnHealth is told the plugin's health when it changes, at most ten times a
	// second, from one goroutine, from before Launch returns until the process has
	// ended. It must not block. It may be nil. See Process.Health.
	OnHealth func(sdk.Health)
}

// Launch starts a plugin and waits until it has described itself; ctx covers the
// start only. The caller owns the process and stops it, also when it has ended by
// itself. Errors are *StartError or *RefusedError; they wrap the cause of ctx when
// that was the reason.
func (l *Launcher) Launch(ctx context.Context, spec Spec, opts Options) (*Process, error) {
	if !spec.Bundled {
		if err := checkExecutable(spec.Path); err != nil {
			return nil, &RefusedError{Spec: spec, Reason: err.Error()}
		}
	}
	timeout := opts.StartTimeout
	if timeout <= 0 {
		timeout = defaultStartTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it was not ready within %s", timeout))
	defer cancel()

	if l.isClosed() {
		return nil, &StartError{Spec: spec, Reason: errLauncherClosed.Error(), cause: errLauncherClosed}
	}
	s := &start{
		launcher: l, spec: spec, opts: opts,
		out: newOutput(opts.Logger.With("plugin", spec.ID.String()), opts.Secrets),
	}
	p, err := s.run(ctx)
	if err != nil {
		return nil, s.abandon(ctx, err)
	}
	return p, nil
}
