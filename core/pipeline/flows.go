package pipeline

import (
	"context"
	"fmt"
	"sync"

	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/core/telemetry"
	"github.com/pipelined/pipelined/sdk"
)

// maxFlows bounds the flows of a pipeline: each costs memory for good.
const maxFlows = 100_000

type flowIdentity struct {
	origin sdk.Origin
	name   string
}

// flowTable holds all flows of a pipeline. A flow's definition never changes under
// its identity.
type flowTable struct {
	account  *telemetry.Account
	register func(ctx context.Context, flows []*delivery.Flow) error

	mu struct {
		sync.Mutex
		flows   map[flowIdentity]*knownFlow
		unknown *telemetry.Flow // made when first needed
	}
}

// knownFlow is a flow and whether its tracks know it.
type knownFlow struct {
	flow        *delivery.Flow
	fingerprint sdk.Fingerprint
	once        sync.Mutex // held while the flow is being registered
	registered  bool
	replayable  bool // all its sources can be read again; guarded by the table's lock
}

func newFlowTable(account *telemetry.Account) *flowTable {
	t := &flowTable{account: account}
	t.mu.flows = map[flowIdentity]*knownFlow{}
	return t
}

// add returns the flow with this definition. It refuses another definition under
// an identity that is in use.
func (t *flowTable) add(def sdk.Flow, replayable bool) (*knownFlow, error) {
	if err := def.Check(); err != nil {
		return nil, err
	}
	id, fingerprint := flowIdentity{def.Origin, def.Name}, def.Fingerprint()
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.mu.flows[id]; known != nil {
		if known.fingerprint != fingerprint {
			return nil, fmt.Errorf("flow %.100q was announced with other channels before: %s",
				def.Name, known.flow.Flow.Difference(&def))
		}
		known.replayable = known.replayable && replayable
		return known, nil
	}
	if len(t.mu.flows) >= maxFlows {
		return nil, fmt.Errorf("flow %.100q: the pipeline already has %d flows", def.Name, maxFlows)
	}
	known := &knownFlow{
		flow:        delivery.NewFlow(def, t.account.Flow(def.Origin, def.Name), len(t.account.Tracks())),
		fingerprint: fingerprint,
		replayable:  replayable,
	}
	t.mu.flows[id] = known
	return known, nil
}

// unknown returns the account of rows that belong to no known flow.
func (t *flowTable) unknown() *telemetry.Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.unknown == nil {
		t.mu.unknown = t.account.Flow(sdk.Origin{}, "(no known flow)")
	}
	return t.mu.unknown
}

// ready makes sure that every track's destination knows the flows; without a backup
// it waits as long as a destination cannot be reached. Each flow may be given once
// only.
func (t *flowTable) ready(ctx context.Context, flows ...*knownFlow) error {
	var todo []*delivery.Flow
	for _, known := range flows {
		known.once.Lock()
		defer known.once.Unlock()
		if !known.registered {
			todo = append(todo, known.flow)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := t.register(ctx, todo); err != nil {
		return err
	}
	for _, known := range flows {
		known.registered = true
	}
	return nil
}
