package plugin

import (
	"context"
	"fmt"
	"time"
)

const (
	// endTime is how long a plugin may take to end by itself after it has drained.
	endTime = 5 * time.Second

	// stopGrace is how long it may take after its input has been ended.
	stopGrace = 500 * time.Millisecond

	// reapTime is kept back for the kernel to end a process that is killed, which
	// takes milliseconds on a machine that is not overloaded.
	reapTime = 500 * time.Millisecond
)

// stopTimes are the steps of a stop. A zero time is never.
type stopTimes struct {
	drain time.Time // give up draining, and what a plugin does after that
	kill  time.Time
	end   time.Time // give up waiting for the end
}

// stopTimesOf divides the time until the deadline of ctx. What comes after
// draining gets at most a quarter of it.
func stopTimesOf(ctx context.Context, now time.Time) stopTimes {
	deadline, ok := ctx.Deadline()
	if !ok {
		return stopTimes{}
	}
	left := max(deadline.Sub(now), 0)
	return stopTimes{
		drain: deadline.Add(-min(stopGrace+reapTime, left/4)),
		kill:  deadline.Add(-min(reapTime, left/8)),
		end:   deadline,
	}
}

// Kill ends the process and its group at once. It does not wait; the owner still
// calls Stop.
func (p *Process) Kill() {
	p.killed.Store(true)
	p.child.kill()
}

// Stop ends the process: it asks the plugin to drain, lets it end (at most 5 s),
// ends its input, kills it if it goes on, and frees everything. Draining gets the
// time until the deadline of ctx but for what the rest needs (at most 1 s);
// without a deadline, as long as ctx is not cancelled. Stop may be called again,
// also while it runs. It returns at the deadline, even if the process is stuck in
// the kernel, but gives a process that was killed half a second to end.
//
// The error says that the plugin had not drained, or how else it ended. It is nil
// for a process that had ended or been killed before (see ExitError).
func (p *Process) Stop(ctx context.Context) error {
	times := stopTimesOf(ctx, time.Now())
	if p.hasExited() || p.killed.Load() {
		return p.freed(ctx, times)
	}
	if p.stopping.CompareAndSwap(false, true) {
		if p.drain(ctx, times) {
			await(ctx, p.done, earliest(times.drain, time.Now().Add(endTime)))
		}
		p.child.closeStdin()
		await(ctx, p.done, earliest(times.kill, time.Now().Add(stopGrace)))
	} else {
		await(ctx, p.done, times.kill)
	}
	p.child.kill()
	if err := p.freed(ctx, times); err != nil {
		return err
	}
	return p.stopError()
}

// stopError says, after the end, what was wrong with it.
func (p *Process) stopError() error {
	exit := p.ExitError()
	status, killed := p.child.exit()
	switch {
	case exit == nil || p.killed.Load():
		return exit
	case killed:
		return fmt.Errorf("plugin %s was killed before it had drained: %s", p.spec.ID, p.drainFailure())
	case status.ExitStatus() == 0:
		return fmt.Errorf("plugin %s ended before it had drained: %s", p.spec.ID, p.drainFailure())
	}
	return exit
}

func (p *Process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// drain notes and returns whether the plugin has drained, and notes why not.
func (p *Process) drain(ctx context.Context, times stopTimes) bool {
	if !times.drain.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, times.drain)
		defer cancel()
	}
	err := p.control.drain(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.drained, p.mu.drainErr = err == nil, err
	return p.mu.drained
}

func (p *Process) hasDrained() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.drained
}

func (p *Process) drainFailure() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.drainErr == nil {
		return "there was no time left"
	}
	return printable(p.Scrub(p.mu.drainErr.Error()))
}

// freed waits for the end of the process and returns what could not be freed.
func (p *Process) freed(ctx context.Context, times stopTimes) error {
	limit := time.Now().Add(reapTime)
	switch {
	case ctx.Err() != nil:
	case times.end.IsZero():
		limit = time.Now().Add(killWait)
	case times.end.After(limit):
		limit = times.end
	}
	if !await(context.WithoutCancel(ctx), p.done, limit) {
		return fmt.Errorf("plugin %s: process %d was killed but does not end", p.spec.ID, p.child.pid)
	}
	return p.freeErr
}

// await reports whether a channel is closed before a time, and before ctx is done.
func await(ctx context.Context, done <-chan struct{}, until time.Time) bool {
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// earliest returns the earlier of a time that may be zero, which is never, and
// another one.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
