package sift

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	"github.com/pipelined/pipelined/sdk"
)

const (
	// groupBytes and groupFlows bound one call that creates flows.
	groupBytes = 1 << 20
	groupFlows = 200
	// maxFlowBytes is the greatest definition that fits a call.
	maxFlowBytes = maxMessageBytes - 64<<10
	// pageSize is that of the first try to list flows; wide flows need less.
	pageSize = 200
	// maxPages ends a list that does not end by itself.
	maxPages = 1 << 20
	// maxSameName bounds how many flows of one name are looked at.
	maxSameName = 8
)

// flowSet is the flows of a registration and what is known about them.
type flowSet struct {
	wanted    []*wantedFlow
	conflicts []sdk.FlowConflict
}

// wantedFlow is a flow and how far it is.
type wantedFlow struct {
	flow   sdk.Flow // name and channels only
	config *ingestionconfigsv2.FlowConfig
	there  []sdk.Flow // what the destination has under that name
	done   bool       // it has the very same, or a conflict says why not
}

// prepareFlows converts the flows and sets aside those that no destination can
// take.
func prepareFlows(flows []sdk.Flow) *flowSet {
	set := new(flowSet)
	seen := make(map[string]*wantedFlow, len(flows))
	for i := range flows {
		f := sdk.Flow{Name: flows[i].Name, Channels: flows[i].Channels}
		config := flowConfig(&f)
		twin := seen[f.Name]
		switch size := proto.Size(config); {
		case f.Check() != nil:
			set.conflict(f.Name, f.Check().Error())
		case size > maxFlowBytes:
			set.conflict(f.Name, fmt.Sprintf("its definition has %d bytes; the destination takes at most %d", size, maxFlowBytes))
		case twin == nil:
			w := &wantedFlow{flow: f, config: config}
			seen[f.Name] = w
			set.wanted = append(set.wanted, w)
		case twin.flow.Fingerprint() != f.Fingerprint():
			set.conflict(f.Name, "it is defined twice: "+difference(&twin.flow, &f))
		}
	}
	return set
}

func (s *flowSet) conflict(flow, text string) {
	s.conflicts = append(s.conflicts, sdk.FlowConflict{Flow: flow, Difference: text})
}

// open returns the flows that are not done yet.
func (s *flowSet) open() []*wantedFlow {
	return slices.DeleteFunc(slices.Clone(s.wanted), func(w *wantedFlow) bool { return w.done })
}

// firstGroup returns the flows that the config is made with.
func (s *flowSet) firstGroup() []*ingestionconfigsv2.FlowConfig {
	for group := range groups(s.wanted) {
		return configsOf(group)
	}
	return nil
}

// created marks the flows that came into being with their config.
func (s *flowSet) created(first []*ingestionconfigsv2.FlowConfig) {
	for _, w := range s.wanted[:len(first)] {
		w.done = true
	}
}

// groups cuts flows into pieces that one call can carry.
func groups(flows []*wantedFlow) func(yield func([]*wantedFlow) bool) {
	return func(yield func([]*wantedFlow) bool) {
		start, bytes := 0, 0
		for i, w := range flows {
			size := proto.Size(w.config)
			if i > start && (bytes+size > groupBytes || i-start == groupFlows) {
				if !yield(flows[start:i]) {
					return
				}
				start, bytes = i, 0
			}
			bytes += size
		}
		if start < len(flows) {
			yield(flows[start:])
		}
	}
}

func configsOf(flows []*wantedFlow) []*ingestionconfigsv2.FlowConfig {
	var out []*ingestionconfigsv2.FlowConfig
	for _, w := range flows {
		out = append(out, w.config)
	}
	return out
}

// flows creates what the destination does not have yet and compares the rest.
func (g *registrar) flows(ctx context.Context, configID string, set *flowSet) error {
	if err := g.lookAt(ctx, configID, set); err != nil {
		return err
	}
	var missing []*wantedFlow
	for _, w := range set.open() {
		if len(w.there) == 0 {
			missing = append(missing, w)
		}
	}
	for group := range groups(missing) {
		if err := g.create(ctx, configID, set, group); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		if err := g.lookAt(ctx, configID, set); err != nil {
			return err
		}
	}
	for _, w := range set.open() {
		if len(w.there) == 0 {
			return sdk.Retry(fmt.Errorf("create flows: the destination has taken flow %.100q and does not list it", w.flow.Name), 0)
		}
		w.done = true
		set.conflict(w.flow.Name, difference(&w.there[0], &w.flow))
	}
	return nil
}

// create creates a group of flows. Where one of them is refused, the halves are
// tried, so that it keeps none of the others back. One that exists by now is
// compared like the others.
func (g *registrar) create(ctx context.Context, configID string, set *flowSet, group []*wantedFlow) error {
	_, err := call(ctx, g, "create flows", g.configs.CreateIngestionConfigFlows, &ingestionconfigsv2.CreateIngestionConfigFlowsRequest{
		IngestionConfigId: configID, Flows: configsOf(group),
	})
	switch code := codeOf(err); {
	case code == codes.OK:
		return nil
	case code != codes.AlreadyExists && code != codes.InvalidArgument:
		return err
	case len(group) > 1:
		half := len(group) / 2
		if err := g.create(ctx, configID, set, group[:half]); err != nil {
			return err
		}
		return g.create(ctx, configID, set, group[half:])
	case code == codes.InvalidArgument:
		group[0].done = true
		set.conflict(group[0].flow.Name, "the destination refuses it: "+sdk.AsError(err).Message)
	}
	return nil
}

// lookAt lists the flows of the config and notes what it has of those that are
// not done: equal ones are.
func (g *registrar) lookAt(ctx context.Context, configID string, set *flowSet) error {
	open := make(map[string]*wantedFlow)
	for _, w := range set.open() {
		w.there = nil
		open[w.flow.Name] = w
	}
	if len(open) == 0 {
		return nil
	}
	err := g.listFlows(ctx, configID, func(c *ingestionconfigsv2.FlowConfig) {
		w := open[c.GetName()]
		if w == nil || w.done || len(w.there) >= maxSameName {
			return
		}
		f := flowOf(c)
		w.done = f.Fingerprint() == w.flow.Fingerprint()
		w.there = append(w.there, f)
	})
	return err
}

// listFlows visits all flows of the config. A page that is too large for an
// answer is asked for in smaller pieces, from the beginning: tokens hold for one
// page size only, and visiting twice does no harm.
func (g *registrar) listFlows(ctx context.Context, configID string, visit func(*ingestionconfigsv2.FlowConfig)) error {
	for size := uint32(pageSize); ; size /= 10 {
		err := g.listPages(ctx, configID, size, visit)
		tooLarge := codeOf(err) == codes.ResourceExhausted && sdk.AsError(err).Delay == 0
		if !tooLarge || size < 10 {
			return err
		}
	}
}

func (g *registrar) listPages(ctx context.Context, configID string, size uint32, visit func(*ingestionconfigsv2.FlowConfig)) error {
	token := ""
	for range maxPages {
		answer, err := call(ctx, g, "list flows", g.configs.ListIngestionConfigFlows, &ingestionconfigsv2.ListIngestionConfigFlowsRequest{
			IngestionConfigId: configID, PageSize: size, PageToken: token,
		})
		if err != nil {
			return err
		}
		for _, c := range answer.GetFlows() {
			visit(c)
		}
		next := answer.GetNextPageToken()
		if next == "" || len(answer.GetFlows()) == 0 {
			return nil
		}
		if next == token {
			break
		}
		token = next
	}
	return sdk.Retry(fmt.Errorf("list flows: the destination's list does not end"), 0)
}

// difference says how wanted differs from what the destination has.
func difference(there, wanted *sdk.Flow) string {
	if text := there.Difference(wanted); text != "" {
		return text
	}
	return "the definitions differ"
}
