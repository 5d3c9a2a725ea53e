package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

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
	byOrigin := map[sdk.Origin][]*delivery.Flow{}
	for _, f := range flows {
		if t.wants(f) {
			byOrigin[f.Flow.Origin] = append(byOrigin[f.Flow.Origin], f)
		}
	}
	for _, group := range byOrigin {
		if err := t.announce(ctx, group); err != nil {
			return err
		}
	}
	return nil
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
	wait := t.block.Retry.Initial
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
		pause := max(failure.Delay, wait/2+rand.N(wait/2+1))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("transport %s: the destination did not answer: %s", t.delivery.Name(), sdk.AsError(last).Text())
		}
		wait = min(t.block.Retry.Max, time.Duration(float64(wait)*t.block.Retry.Multiplier))
	}
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

func (t *track) bind(r sdk.Registered, flows []*delivery.Flow) error {
	for _, c := range r.Conflicts {
		return sdk.Permanent(fmt.Errorf("transport %s: the destination has flow %.100q with other content: %s; "+
			"use another flow name or client key", t.delivery.Name(), c.Flow, c.Difference))
	}
	for _, f := range flows {
		f.Bindings[t.index] = r.Binding
	}
	return nil
}

// registration describes flows of one origin to the destination.
func (t *track) registration(flows []*delivery.Flow) sdk.Registration {
	origin := flows[0].Flow.Origin
	r := sdk.Registration{
		Asset: origin.Asset, ClientKey: origin.ClientKey,
	}
	if origin.Run != "" {
		r.Run = sdk.Run{Name: origin.Run, ClientKey: origin.Run}
	}
	if origin == (sdk.Origin{}) {
		r.Asset, r.ClientKey, r.Run = t.pipeline.Asset, clientKey(t.pipeline), t.pipeline.Run
		r.AssetTags, r.AssetMetadata = t.pipeline.AssetTags, t.pipeline.AssetMetadata
	}
	for _, f := range flows {
		r.Flows = append(r.Flows, t.visible(f.Flow))
	}
	return r
}

// visible returns the flow with the channel names that the destination shall see.
func (t *track) visible(f sdk.Flow) sdk.Flow {
	qualified := t.block.ChannelNames == config.ChannelNamesQualified ||
		t.block.ChannelNames == config.ChannelNamesAuto && f.Origin == (sdk.Origin{}) &&
			t.block.Description.Transport.Input == sdk.InputEncoded
	if !qualified {
		return f
	}
	channels := make([]sdk.Channel, len(f.Channels))
	for i, c := range f.Channels {
		c.Name = f.Name + "." + c.Name
		channels[i] = c
	}
	f.Channels = channels
	return f
}

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
