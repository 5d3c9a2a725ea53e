package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// registerTimeout bounds one attempt to register flows at a destination.
const registerTimeout = 30 * time.Second

// registrar is a transport plugin's Register call.
type registrar func(ctx context.Context, r sdk.Registration) (sdk.Registered, error)

// track is one transport of the pipeline: its delivery and what its destination
// must be told.
type track struct {
	index    int
	block    *config.Transport
	plugin   *plugin
	pipeline *config.Pipeline
	delivery *delivery.Track
	register registrar
	logger   *slog.Logger
	started  <-chan struct{}        // closed when the pipeline takes data
	waiting  atomic.Pointer[string] // why registration does not succeed; nil: it does
	store    *trackStore            // nil without a backup
	encoder  *plugin                // that decodes what the store has

	mu struct {
		sync.Mutex
		unbound []string // why flows wait for good
		asked   []introduction
	}
	introduce   chan struct{} // holds a token when something was asked
	lastRefusal error         // of the newest attempt to introduce flows; owned by introduceFlows
}

// wants reports whether the track takes the flow.
func (t *track) wants(f *delivery.Flow) bool { return t.block.Takes(f.Flow.Name) }

// register is a transport plugin's registrar.
func (pl *plugin) register(ctx context.Context, r sdk.Registration) (sdk.Registered, error) {
	registered, err := wire.Register(ctx, pl.process.Conn(), r)
	if err != nil {
		return registered, pl.scrubbed(err)
	}
	for i, c := range registered.Conflicts {
		registered.Conflicts[i].Difference = pl.process.Scrub(c.Difference)
	}
	return registered, nil
}

// announceAll registers the flows that the track takes, origin by origin.
func (t *track) announceAll(ctx context.Context, flows []*delivery.Flow) error {
	for _, group := range t.byOrigin(flows) {
		if err := t.announce(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (t *track) byOrigin(flows []*delivery.Flow) map[sdk.Origin][]*delivery.Flow {
	groups := map[sdk.Origin][]*delivery.Flow{}
	for _, f := range flows {
		if t.wants(f) {
			groups[f.Flow.Origin] = append(groups[f.Flow.Origin], f)
		}
	}
	return groups
}

// announce registers flows of one origin at the destination and notes what they
// are bound to. It tries until the destination answers, unless what it says is
// permanent.
func (t *track) announce(ctx context.Context, flows []*delivery.Flow) error {
	r := t.registration(flows)
	for i := range r.Flows {
		if err := r.Flows[i].Check(); err != nil { // their channels may have longer names now
			return sdk.Permanent(fmt.Errorf("transport %s cannot register: %w; see channel_names", t.delivery.Name(), err))
		}
	}
	wait := backoff.New(backoff.Policy(t.block.Retry))
	var last error // what the destination, or the way to it, said last
	for {
		registered, err := t.try(ctx, r)
		if err == nil {
			t.waiting.Store(nil)
			return t.bind(registered, flows)
		}
		failure := sdk.AsError(err)
		switch {
		case ctx.Err() == nil:
			t.noteWaiting(failure.Text(), last)
			last = err
		case last == nil: // the call was interrupted
			last = errors.New("it had no time to")
		}
		if t.givesUp(failure, err) {
			return sdk.Permanent(fmt.Errorf("transport %s cannot register: %s", t.delivery.Name(), failure.Text()))
		}
		select {
		case <-time.After(wait.Next(failure.Delay)):
		case <-ctx.Done():
			return fmt.Errorf("transport %s: the destination did not answer: %s", t.delivery.Name(), sdk.AsError(last).Text())
		}
	}
}

func (t *track) registration(flows []*delivery.Flow) sdk.Registration {
	defs := make([]sdk.Flow, len(flows))
	for i, f := range flows {
		defs[i] = f.Flow
	}
	return Registration(t.pipeline, t.block, defs)
}

// givesUp reports whether trying to register again is of no use. A key that is
// refused is a mistake when the pipeline starts. Once it runs, rows that clients were
// promised to be taken wait until the key is put right, as those of a stream do.
func (t *track) givesUp(failure *sdk.Error, err error) bool {
	switch codes.Code(failure.Code) {
	case codes.Unauthenticated, codes.PermissionDenied:
		select {
		case <-t.started:
			return false
		default:
		}
	}
	return failure.Class == sdk.ClassPermanent || errors.Is(err, wire.ErrContract)
}

// noteWaiting shows why the track waits, and logs it when that has changed.
func (t *track) noteWaiting(reason string, before error) {
	t.waiting.Store(&reason)
	if before == nil || sdk.AsError(before).Text() != reason {
		t.logger.Warn("destination does not answer; trying on", "track", t.delivery.Name(), "error", reason)
	}
}

func (t *track) try(ctx context.Context, r sdk.Registration) (sdk.Registered, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	return t.register(ctx, r)
}

// bind notes what the destination gave for the flows. With a backup a flow that it
// has with other content stays unbound: its messages wait on the disk.
func (t *track) bind(r sdk.Registered, flows []*delivery.Flow) error {
	conflicts := map[string]string{}
	for _, c := range r.Conflicts {
		conflicts[c.Flow] = fmt.Sprintf("the destination has flow %.100q with other content: %s; "+
			"use another flow name or client key", c.Flow, c.Difference)
		if t.store == nil {
			return sdk.Permanent(fmt.Errorf("transport %s: %s", t.delivery.Name(), conflicts[c.Flow]))
		}
		t.logger.Error("messages of a flow wait on the disk", "track", t.delivery.Name(), "reason", conflicts[c.Flow])
	}
	for _, f := range flows {
		if _, conflict := conflicts[f.Flow.Name]; !conflict {
			f.Bind(t.index, r.Binding)
		}
	}
	t.noteUnbound(conflicts)
	return nil
}

// noteUnbound notes why flows wait.
func (t *track) noteUnbound(conflicts map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range conflicts {
		if len(t.mu.unbound) < maxUnbound && !slices.Contains(t.mu.unbound, text) {
			t.mu.unbound = append(t.mu.unbound, text)
		}
	}
}

// maxUnbound bounds the texts about flows that wait.
const maxUnbound = 100

// sendable reports whether the destination knows the batch's flow, and the batch has
// its ids or can get them.
func (t *track) sendable(b *delivery.Batch) bool {
	own, known := b.Flow.Binding(t.index)
	if !known || t.input() == sdk.InputRows || own.ConfigID == "" || own == b.Binding || b.Binding.CanRebind(own) {
		return known
	}
	t.noteUnbound(map[string]string{b.Flow.Flow.Name: fmt.Sprintf("messages of flow %.100q were stored for other ids "+
		"of destination and run than %s gives: they can be exported, not sent", b.Flow.Flow.Name, t.delivery.Name())})
	return false
}

// input returns what the transport takes.
func (t *track) input() sdk.Input { return t.block.Description.Transport.Input }

// clientKey is what the pipeline's own flows are registered under: the encoder's
// client_key, or a name made of asset and pipeline.
func clientKey(p *config.Pipeline) string {
	if p.Encoder != nil {
		if v, ok := p.Encoder.Body.Attributes["client_key"]; ok && v.String != "" {
			return v.String
		}
	}
	if p.Asset == "" {
		return p.Name
	}
	return p.Asset + "-" + p.Name
}
