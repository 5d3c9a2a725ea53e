package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pipelined/pipelined/core/channel"
	"github.com/pipelined/pipelined/core/config"
)

// defaultMemory is what all pipelines together may keep in memory, in bytes.
const defaultMemory = 512 << 20

// Host runs the pipelines of a configuration.
type Host struct {
	pipelines []*Pipeline
	byName    map[string]*Pipeline
	dependsOn map[*Pipeline][]*Pipeline // it ends after these
	runFor    time.Duration             // of all pipelines; 0 = as each one's block says
}

// NewHost returns a host for the pipelines of a configuration. They finish after
// runFor; 0 leaves that to each pipeline's own run_for.
func NewHost(c *config.Config, runFor time.Duration, launcher Launcher, logger *slog.Logger) *Host {
	h := &Host{byName: map[string]*Pipeline{}, dependsOn: map[*Pipeline][]*Pipeline{}, runFor: runFor}
	memory := channel.NewBudget(defaultMemory, len(c.Pipelines))
	for _, pc := range c.Pipelines {
		p := New(pc, c.DataDir, memory.Share(), launcher, logger)
		h.pipelines = append(h.pipelines, p)
		h.byName[pc.Name] = p
	}
	for _, p := range h.pipelines {
		for _, name := range p.config.DependsOn {
			h.dependsOn[p] = append(h.dependsOn[p], h.byName[name])
		}
	}
	return h
}

// Pipelines returns the pipelines in the order of the configuration.
func (h *Host) Pipelines() []*Pipeline { return h.pipelines }

// Stop asks all pipelines to finish. One that waits for others (`until`) finishes
// after them.
func (h *Host) Stop() {
	for _, p := range h.pipelines {
		if len(h.dependsOn[p]) == 0 {
			p.Stop()
		}
	}
}

// Run runs all pipelines and returns when all have ended. A pipeline that waits
// for others starts before them and stops after them. The first failure stops all.
// Canceling ctx ends everything at once.
func (h *Host) Run(ctx context.Context) error {
	var runs sync.WaitGroup
	errs := make([]error, len(h.pipelines))
	for i, p := range h.pipelines {
		runs.Go(func() {
			h.awaitReady(p)
			if err := p.Run(ctx); err != nil {
				errs[i] = fmt.Errorf("pipeline %q: %w", p.Name(), err)
				h.Stop()
			}
		})
		runs.Go(func() { h.stopAfter(p) })
		runs.Go(func() { h.stopInTime(p) })
	}
	runs.Wait()
	return errors.Join(errs...)
}

// stopInTime stops p after its time, which counts from when it takes data; one that
// cannot start in that time is stopped, too. A pipeline that waits for others has no
// time of its own.
func (h *Host) stopInTime(p *Pipeline) {
	limit := h.runFor
	if limit == 0 {
		limit = p.config.RunFor
	}
	if limit == 0 || len(h.dependsOn[p]) > 0 {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.Ready():
		timer.Reset(limit)
	case <-timer.C:
		p.Stop()
		return
	case <-p.Done():
		return
	}
	select {
	case <-timer.C:
		p.Stop()
	case <-p.Done():
	}
}

// awaitReady waits until the pipelines that wait for p take data: they may be what
// p delivers to.
func (h *Host) awaitReady(p *Pipeline) {
	for _, other := range h.pipelines {
		for _, awaited := range h.dependsOn[other] {
			if awaited != p {
				continue
			}
			select {
			case <-other.Ready():
			case <-other.Done():
			case <-p.stopped: // nobody needs p any more, and other ends after it
			}
		}
	}
}

// stopAfter stops p when all that it waits for has ended.
func (h *Host) stopAfter(p *Pipeline) {
	if len(h.dependsOn[p]) == 0 {
		return
	}
	for _, awaited := range h.dependsOn[p] {
		<-awaited.Done()
	}
	p.Stop()
}
