package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// Process is a running plugin. Its methods may be called from many goroutines.
type Process struct {
	spec        Spec
	description wire.Description
	regions     []*shm.Region
	out         *output
	child       *child
	conn        *grpc.ClientConn
	control     *controller
	endControl  context.CancelFunc

	wg       sync.WaitGroup // of the control stream's reader
	exited   chan struct{}
	done     chan struct{} // closed after exited, when everything has been freed
	freeErr  error         // before done is closed
	stopping atomic.Bool
	killed   atomic.Bool // by Kill

	mu struct {
		sync.Mutex
		drained  bool // its end is no failure
		drainErr error
	}
}

func newProcess(s *start, description wire.Description) (*Process, error) {
	ctx, cancel := context.WithCancel(context.Background()) // for the life of the process
	stream, err := wire.OpenControl(ctx, s.conn)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open its control stream: %w", err)
	}
	p := &Process{
		spec: s.spec, description: description, regions: s.opts.Regions,
		out: s.out, child: s.starter.child, conn: s.conn, endControl: cancel,
		exited: make(chan struct{}), done: make(chan struct{}),
	}
	p.control = newController(stream, func(h sdk.Health) {
		if s.opts.OnHealth != nil {
			s.opts.OnHealth(p.clean(h))
		}
	})
	s.out.log.Debug("plugin process is ready", "pid", p.PID(), "version", printable(p.Scrub(description.Info.Version)))
	p.wg.Go(p.control.run)
	go p.watch(s.launcher, s.starter.socketDir) // joined through done
	if err := p.SetLogLevel(leastLevel(s.opts.Logger)); err != nil {
		s.out.log.Warn("the level of its log could not be set", "error", err)
	}
	return p, nil
}

// watch frees everything when the process has ended.
func (p *Process) watch(l *Launcher, socketDir string) {
	defer close(p.done)
	<-p.child.ended
	p.freeErr = os.RemoveAll(socketDir)
	l.forget(p.child)
	close(p.exited)
	p.endControl()
	p.freeErr = errors.Join(p.freeErr, p.conn.Close())
	p.wg.Wait()
}

// ID returns the plugin's kind and name.
func (p *Process) ID() ID { return p.spec.ID }

// PID returns the process id.
func (p *Process) PID() int { return p.child.pid }

// Description returns what the plugin said about itself.
func (p *Process) Description() wire.Description { return p.description }

// Regions returns the regions that the process inherited, for
// wire.ConfigureArgs.
func (p *Process) Regions() []*shm.Region { return p.regions }

// Conn returns the connection to the plugin. It is valid until the process ends.
func (p *Process) Conn() grpc.ClientConnInterface { return p.conn }

// Exited is closed when the process has ended, for whatever reason, and all its
// output has been read.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitError returns nil while the process runs and after it was stopped in order,
// otherwise an *ExitError.
func (p *Process) ExitError() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	status, killed := p.child.exit()
	if p.hasDrained() && (killed || status.ExitStatus() == 0) {
		return nil
	}
	e := &ExitError{Spec: p.spec, Status: describeStatus(status), Code: status.ExitStatus(), Output: p.out.last()}
	if killed {
		e.Status = "killed by pipelined"
	}
	return e
}

// Explain returns an error of a call to the plugin with the plugin's name and
// without secrets. If the call failed because the process has ended, it is the
// ExitError. Errors that carry an *sdk.Error keep it.
func (p *Process) Explain(err error) error {
	if err == nil {
		return nil
	}
	if mayBeLost(err) {
		if !interrupted(err) {
			wait(p.exited, exitWait)
		}
		if exit := p.ExitError(); exit != nil {
			return exit
		}
	}
	return &callError{text: fmt.Sprintf("plugin %s: %s", p.spec.ID, printable(p.Scrub(err.Error()))), err: err}
}

// mayBeLost reports whether an error of a call can come from a lost connection:
// the plugin did not say it.
func mayBeLost(err error) bool {
	_, said := errors.AsType[*sdk.Error](err)
	return !said && !errors.Is(err, wire.ErrContract)
}

// interrupted reports whether the caller ended a call, or a closed connection.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// callError replaces the text of an error.
type callError struct {
	text string
	err  error
}

func (e *callError) Error() string { return e.text }
func (e *callError) Unwrap() error { return e.err }

// Scrub takes the configured secrets out of a text that came from the plugin.
func (p *Process) Scrub(text string) string { return p.out.scrub.text(text) }

// Alive returns nil if the plugin answers a ping before ctx is done.
func (p *Process) Alive(ctx context.Context) error { return p.Explain(p.control.ping(ctx)) }

// LastPong returns when the plugin last answered a ping, or when it was started.
func (p *Process) LastPong() time.Time { return p.control.lastPong() }

// Health returns the health that the plugin last reported; at first it is OK.
func (p *Process) Health() sdk.Health { return p.clean(p.control.health()) }

func (p *Process) clean(h sdk.Health) sdk.Health {
	h.Reason = printable(p.Scrub(h.Reason))
	return h
}

// SetLogLevel sets the least level of the lines that the plugin sends.
func (p *Process) SetLogLevel(level slog.Level) error { return p.control.stream.SetLogLevel(level) }

func leastLevel(log *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if log.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelError
}
