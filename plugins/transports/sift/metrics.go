package sift

import (
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/sdk"
)

// counters are the transport's numbers since its start.
type counters struct {
	messages, bytes atomic.Uint64
	streams         atomic.Uint64
	open            atomic.Int64
	endedEarly      atomic.Uint64
	connections     atomic.Uint64
	answers         byCode // of streams
	calls           byCode // of the registration
}

// byCode counts by gRPC status code.
type byCode [codes.Unauthenticated + 1]atomic.Uint64

func (c *byCode) count(code uint32) {
	if code >= uint32(len(c)) {
		code = sdk.CodeUnknown
	}
	c[code].Add(1)
}

// Metrics returns the transport's own numbers.
func (t *transport) Metrics() []sdk.Metric {
	c := &t.counters
	counter := func(name, help string, value uint64) sdk.Metric {
		return sdk.Metric{Name: name, Type: sdk.Counter, Value: float64(value), Help: help}
	}
	connections := c.connections.Load()
	out := []sdk.Metric{
		counter("messages_sent_total", "Messages handed to the network.", c.messages.Load()),
		counter("bytes_sent_total", "Bytes of gRPC messages handed to the network.", c.bytes.Load()),
		counter("streams_total", "Streams opened.", c.streams.Load()),
		{Name: "streams_open", Type: sdk.Gauge, Value: float64(c.open.Load()), Help: "Streams that wait for data or for their answer."},
		counter("connections_total", "Connections made for streams.", connections),
		counter("reconnects_total", "Connections made for streams after the first.", connections-min(connections, 1)),
		counter("streams_ended_early_total", "Streams that the destination ended with OK before it was asked to.", c.endedEarly.Load()),
	}
	out = append(out, byStatus("stream_answers_total", "Ends of streams, by gRPC status.", &c.answers)...)
	return append(out, byStatus("registration_calls_total", "Calls of the registration, by gRPC status.", &c.calls)...)
}

func byStatus(name, help string, counts *byCode) []sdk.Metric {
	var out []sdk.Metric
	for code := range counts {
		if n := counts[code].Load(); n > 0 {
			out = append(out, sdk.Metric{
				Name: name, Type: sdk.Counter, Value: float64(n), Help: help,
				Labels: map[string]string{"code": sdk.StatusName(uint32(code))},
			})
		}
	}
	return out
}

// health reports changes of the transport's state.
type health struct {
	report func(sdk.Health) // may be nil

	mu   sync.Mutex
	last sdk.Health
}

// ok: the destination has taken or answered something.
func (h *health) ok() { h.set(sdk.Health{State: sdk.HealthOK}) }

// connected: the destination can be reached again; what it refused before it may
// still refuse.
func (h *health) connected() {
	h.mu.Lock()
	blocked := h.last.State == sdk.HealthBlocked
	h.mu.Unlock()
	if blocked {
		h.ok()
	}
}

// failed: permanent failures need a person, lost connections are waited for, and
// others pass.
func (h *health) failed(err error) {
	e := sdk.AsError(err)
	switch e.Class {
	case sdk.ClassPermanent:
		h.set(sdk.Health{State: sdk.HealthFailing, Reason: e.Message, Code: e.Code})
	case sdk.ClassDisconnected:
		h.set(sdk.Health{State: sdk.HealthBlocked, Reason: e.Message, Code: e.Code})
	}
}

func (h *health) set(now sdk.Health) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == now || h.report == nil {
		return
	}
	h.last = now
	h.report(now) // never blocks
}
