package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/pipelined/pipelined/sdk/wire"
)

// How long a process is waited for after a failure, to see how it ends.
const (
	exitWait     = time.Second            // if it seems to have ended
	exitWaitLess = 200 * time.Millisecond // if it said something wrong, and may end after that
)

// start is one start of a plugin.
type start struct {
	launcher *Launcher
	spec     Spec
	opts     Options
	out      *output
	starter  *starter
	conn     *grpc.ClientConn
}

func (s *start) run(ctx context.Context) (*Process, error) {
	env, err := environment(os.Environ(), s.opts.Budget, s.opts.Env)
	if err != nil {
		return nil, err
	}
	cert, err := wire.NewCertificate()
	if err != nil {
		return nil, err
	}
	s.starter = &starter{spec: s.spec, env: env, first: newFirstLine(), clean: s.out.scrub.text, fork: s.fork}
	h, err := s.starter.handshake(ctx, s.launcher.sockets.path, cert)
	if err != nil {
		return nil, err
	}
	if err := s.dial(h, cert); err != nil {
		return nil, err
	}
	description, err := wire.Describe(ctx, s.conn)
	if err != nil {
		if interrupted(err) && wait(ctx.Done(), exitWait) { // the plugin can be first to notice
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("it does not describe itself: %w", err)
	}
	if described := (ID{description.Kind, description.Info.Name}); described != s.spec.ID {
		return nil, fmt.Errorf("it says that it is %s", described)
	}
	return newProcess(s, description)
}

func (s *start) fork(env []string) (*child, error) {
	c := command{path: s.spec.exec, argv: append([]string{s.spec.Path}, s.spec.Args...), env: env}
	if c.path == "" {
		c.path = s.spec.Path
	}
	for i, region := range s.opts.Regions {
		c.files = append(c.files, region.Inherit(firstExtraFD+i))
	}
	first := s.starter.first
	stdout := &lineSplitter{
		limit: maxLine,
		line: func(text []byte, whole bool) {
			if !first.set(string(text), nil) {
				s.out.line(streamStdout, text, whole)
			}
		},
		end: func() { first.set("", errStdoutClosed) },
	}
	stderr := &lineSplitter{
		limit: maxLine,
		line:  func(text []byte, whole bool) { s.out.line(streamStderr, text, whole) },
		end:   s.out.end,
	}
	return s.launcher.fork(c, stdout, stderr)
}

func (s *start) dial(h wire.Handshake, cert tls.Certificate) error {
	config, err := wire.ClientTLS(cert, h.Certificate)
	if err != nil {
		return err
	}
	s.conn, err = grpc.NewClient("passthrough:///plugin", append(wire.DialOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(dialSocket(h.Socket)),
	)...)
	return err
}

// abandon ends what has been started and says why it failed.
func (s *start) abandon(ctx context.Context, err error) *StartError {
	if s.conn != nil {
		_ = s.conn.Close() // fails only if it is closed
	}
	if s.starter != nil {
		err = s.end(ctx, err)
	}
	return &StartError{
		Spec: s.spec, Reason: printable(s.out.scrub.text(err.Error())), Output: s.out.last(),
		cause: err, ran: s.starter != nil && s.starter.child != nil,
	}
}

// end ends the process. If it ends by itself, which it may be about to do, this
// belongs to the reason.
func (s *start) end(ctx context.Context, err error) error {
	if c := s.starter.child; c != nil {
		switch {
		case ctx.Err() != nil:
		case s.conn != nil || errors.Is(err, errStdoutClosed):
			wait(c.ended, exitWait)
		default:
			wait(c.ended, exitWaitLess)
		}
		c.kill()
		if !wait(c.ended, killWait) {
			return fmt.Errorf("%w; process %d was killed but does not end", err, c.pid)
		}
		s.launcher.forget(c)
		err = withExit(err, c)
	}
	if dir := s.starter.socketDir; dir != "" {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// withExit adds how the process ended, unless it was us who ended it.
func withExit(err error, c *child) error {
	status, killed := c.exit()
	switch {
	case killed:
		return err
	case errors.Is(err, errStdoutClosed):
		return fmt.Errorf("it ended before its handshake: %s", describeStatus(status))
	}
	return fmt.Errorf("%w; it ended: %s", err, describeStatus(status))
}

// wait reports whether a channel is closed within a time.
func wait(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
