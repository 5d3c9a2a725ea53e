package siftserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	"github.com/pipelined/pipelined/sdk"
)

// host is the pipe to the pipeline's host. Emitting ends with the source's run,
// not with a client's call: what was received is emitted.
type host struct {
	store  *registry.Store
	out    sdk.Output
	emits  func(sdk.FlowNumber, *sdk.Builder) (uint64, error)
	log    *slog.Logger
	counts *counts
	health *health
	said   *throttle

	mu struct {
		sync.Mutex
		flows    map[sdk.FlowNumber]*registry.Flow
		channels map[string][]sdk.Channel // by config and flow
	}
}

func newHost(ctx context.Context, store *registry.Store, out sdk.Output, log *slog.Logger, c *counts, state *health) *host {
	h := &host{
		store: store, out: out, log: log, counts: c, health: state,
		said: &throttle{every: 10 * time.Second},
		emits: func(number sdk.FlowNumber, rows *sdk.Builder) (uint64, error) {
			return out.Emit(ctx, number, rows, nil)
		},
	}
	h.mu.flows = map[sdk.FlowNumber]*registry.Flow{}
	h.mu.channels = map[string][]sdk.Channel{}
	return h
}

func (h *host) flow(config, name, run string) (*registry.Flow, sdk.FlowNumber, error) {
	flow, err := h.store.Flow(config, name, run)
	if status.Code(err) == codes.NotFound {
		return nil, 0, unfit{status.Convert(err).Message()}
	}
	if err != nil {
		return nil, 0, err
	}
	number, err := h.out.Announce(flow.Flow)
	if err != nil {
		err = fmt.Errorf("flow %s is not taken: %w", shown(name), err)
		if sdk.AsError(err).Class == sdk.ClassPermanent {
			err = unfit{err.Error()}
		}
		return nil, 0, err
	}
	return h.share(config+"/"+name, number, flow), number, nil
}

// share returns the one value that stands for an announced flow: streams of the
// same flow share it, and its runs share the channels, which never change. The
// output keeps a definition of each flow as well: sharing keeps that small.
func (h *host) share(definition string, number sdk.FlowNumber, flow *registry.Flow) *registry.Flow {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.mu.flows[number]; known != nil {
		return known
	}
	if channels := h.mu.channels[definition]; channels != nil {
		flow.Channels = channels
	} else {
		h.mu.channels[definition] = flow.Channels
	}
	h.mu.flows[number] = flow
	return flow
}

func (h *host) emit(number sdk.FlowNumber, rows *sdk.Builder) (uint64, error) {
	ready := h.health.wait()
	defer ready()
	return h.emits(number, rows)
}

func (h *host) refuse(d sdk.Dropped) error {
	h.counts.refused.Add(d.Rows)
	if more, ok := h.said.ok(time.Now()); ok {
		h.log.Warn("rows refused", "flow_number", uint32(d.Flow), "rows", d.Rows, "reason", d.Reason, "refusals_not_logged", more)
	}
	return h.out.Dropped(d)
}

func (h *host) received(messages, bytes uint64) {
	h.counts.messages.Add(messages)
	h.counts.bytes.Add(bytes)
}

func (h *host) ingested(runs map[string]*registry.Ingested) {
	if err := h.store.Ingested(runs); err != nil {
		h.log.Warn("times of runs not kept", "error", err)
	}
}

// throttle lets one message through in a time and counts the others.
type throttle struct {
	every time.Duration

	mu struct {
		sync.Mutex
		last    time.Time
		skipped int
	}
}

// ok reports whether to speak now, and how often it was not before.
func (t *throttle) ok(now time.Time) (skipped int, speak bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.last.IsZero() && now.Sub(t.mu.last) < t.every {
		t.mu.skipped++
		return 0, false
	}
	skipped, t.mu.skipped = t.mu.skipped, 0
	t.mu.last = now
	return skipped, true
}

// health tells the host when streams wait for credit for long.
type health struct {
	report func(sdk.Health)
	after  time.Duration

	mu struct {
		sync.Mutex
		blocked int
	}
}

// wait is called before an emission; the returned function after it.
func (h *health) wait() func() {
	timer := time.AfterFunc(h.after, func() { h.change(1) })
	return func() {
		if !timer.Stop() {
			h.change(-1)
		}
	}
}

// change counts blocked emissions and reports the first and the last.
func (h *health) change(by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.mu.blocked
	h.mu.blocked += by
	switch {
	case was <= 0 && h.mu.blocked > 0:
		h.report(sdk.Health{State: sdk.HealthBlocked, Reason: "clients wait: the pipeline takes no rows"})
	case was > 0 && h.mu.blocked <= 0:
		h.report(sdk.Health{State: sdk.HealthOK})
	}
}

// counts are the source's numbers.
type counts struct {
	connections, open                             atomic.Int64
	streams, confirmed, failed, messages, refused atomic.Uint64
	bytes, turnedAway                             atomic.Uint64
}

func (c *counts) metrics() []sdk.Metric {
	counter := func(name, help string, v *atomic.Uint64) sdk.Metric {
		return sdk.Metric{Name: name, Type: sdk.Counter, Value: float64(v.Load()), Help: help}
	}
	gauge := func(name, help string, v *atomic.Int64) sdk.Metric {
		return sdk.Metric{Name: name, Type: sdk.Gauge, Value: float64(v.Load()), Help: help}
	}
	return []sdk.Metric{
		gauge("connections", "Connections of clients.", &c.connections),
		gauge("streams", "Ingestion streams that are open.", &c.open),
		counter("streams_total", "Ingestion streams that were opened.", &c.streams),
		counter("streams_confirmed_total", "Ingestion streams answered with OK.", &c.confirmed),
		counter("streams_failed_total", "Ingestion streams that ended otherwise.", &c.failed),
		counter("messages_total", "Messages received in ingestion streams.", &c.messages),
		counter("message_bytes_total", "Bytes of these messages, uncompressed.", &c.bytes),
		counter("rows_refused_total", "Rows that did not fit their ingestion config.", &c.refused),
		counter("connections_refused_total", "Connections closed at once because there were too many.", &c.turnedAway),
	}
}
