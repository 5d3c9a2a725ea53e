package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/replay"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// registerTimeout bounds one attempt to register a flow.
const registerTimeout = 30 * time.Second

// binder gives placeholders the ids of a destination: the definitions of flows come
// from the index of the file, the ids from the transport, and the encoder puts them
// in. Both run from when they are first needed until close.
type binder struct {
	connector *connector
	indexes   *indexes

	transport, encoder pipeline.Process
	rebinder           *wire.Rebinder
	endRebinder        context.CancelFunc

	file    string // whose index is known
	index   *flowIndex
	problem error // why it is not
	bound   map[boundFlow]*replay.Target
}

// boundFlow is a flow that was registered.
type boundFlow struct {
	origin sdk.Origin
	name   string
}

// flowIndex says which flow the messages at an offset are of.
type flowIndex struct {
	starts []int64 // of chunks, ascending
	flows  []uint32
	index  backup.Index
}

func newBinder(c *connector, x *indexes) *binder {
	return &binder{connector: c, indexes: x, bound: map[boundFlow]*replay.Target{}}
}

func (b *binder) close() {
	if b.endRebinder != nil {
		b.endRebinder()
	}
	for _, process := range []pipeline.Process{b.transport, b.encoder} {
		if process != nil {
			b.connector.stop(process, nil)
		}
	}
}

func cannotBind(format string, args ...any) error {
	return fmt.Errorf("%w: %w", replay.ErrUnbound, fmt.Errorf(format, args...))
}

// Bind registers the flow, once.
func (b *binder) Bind(ctx context.Context, src *replay.Source, at int64, name string, from sdk.Binding) (*replay.Target, error) {
	flow, err := b.definition(src.Path, at)
	if err != nil {
		return nil, err
	}
	if flow.Name != name {
		return nil, cannotBind("the index says that they are of flow %.100q", flow.Name)
	}
	key := boundFlow{flow.Origin, flow.Name}
	target := b.bound[key]
	if target == nil {
		registered, err := b.register(ctx, flow)
		if err != nil {
			return nil, err
		}
		target = &replay.Target{Binding: registered, Flow: flow}
		b.bound[key] = target
	}
	if !from.CanRebind(target.Binding) {
		return nil, cannotBind("they have other room for ids than the destination needs (%d and %d bytes, not %d and %d)",
			len(from.ConfigID), len(from.RunID), len(target.Binding.ConfigID), len(target.Binding.RunID))
	}
	return target, nil
}

// definition returns the flow of the message at an offset of a file.
func (b *binder) definition(path string, at int64) (*sdk.Flow, error) {
	if b.file != path {
		b.file = path
		b.index, b.problem = b.readIndex(path)
	}
	if b.problem != nil {
		return nil, b.problem
	}
	i, found := slices.BinarySearch(b.index.starts, at)
	if !found {
		i--
	}
	if i < 0 {
		return nil, cannotBind("the index does not say of which flow they are")
	}
	flow, err := wire.UnmarshalFlow(b.index.index.Flows[b.index.flows[i]])
	if err != nil {
		return nil, cannotBind("%w", err)
	}
	return flow, nil
}

func (b *binder) readIndex(path string) (*flowIndex, error) {
	found := b.indexes.find(path)
	if found == nil {
		return nil, cannotBind("the index of the file, which has the definitions of its flows, is not there (--state-dir says where it is)")
	}
	out := &flowIndex{}
	var err error
	out.index, err = backup.ReadIndex(vfs.OS{}, found.path, func(e backup.Entry) error {
		out.starts = append(out.starts, e.From)
		out.flows = append(out.flows, e.Flow)
		return nil
	})
	if err == nil && !slices.IsSorted(out.starts) {
		err = errors.New("its entries are not in order")
	}
	if err != nil {
		return nil, cannotBind("index %s: %w", found.path, err)
	}
	return out, nil
}

// register makes a flow known to the destination.
func (b *binder) register(ctx context.Context, flow *sdk.Flow) (sdk.Binding, error) {
	target := b.connector.target
	if !target.transport.Description.Transport.Binds {
		return sdk.Binding{}, cannotBind("transport %s gives no ids", target.name())
	}
	if b.transport == nil {
		process, err := b.connector.start(ctx, &target.transport.PluginBlock, nil)
		if err != nil {
			return sdk.Binding{}, err
		}
		b.transport = process
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	r := pipeline.Registration(target.pipeline, target.transport, []sdk.Flow{*flow})
	registered, err := wire.Register(ctx, b.transport.Conn(), r)
	if err != nil {
		return sdk.Binding{}, b.explain(err)
	}
	for _, c := range registered.Conflicts {
		return sdk.Binding{}, cannotBind("the destination has flow %.100q with other content: %s", c.Flow, b.transport.Scrub(c.Difference))
	}
	return registered.Binding, nil
}

// explain keeps what the destination said, without secrets. When the process is gone,
// the next call starts another one.
func (b *binder) explain(err error) error {
	if said, ok := errors.AsType[*sdk.Error](err); ok {
		clean := *said
		clean.Message = "register: " + b.transport.Scrub(clean.Message)
		return &clean
	}
	err = b.transport.Explain(err)
	b.connector.stop(b.transport, nil)
	b.transport = nil
	return sdk.Retry(err, 0)
}

// Rebind puts the ids in.
func (b *binder) Rebind(ctx context.Context, body []byte, count int, from, to sdk.Binding) ([]byte, error) {
	if b.rebinder == nil {
		if err := b.openRebinder(ctx); err != nil {
			return nil, err
		}
	}
	out, err := b.rebinder.Rebind(ctx, body, count, from, to)
	if err != nil {
		err = b.encoder.Explain(err)
		b.endRebinder()
		b.connector.stop(b.encoder, nil)
		b.rebinder, b.encoder = nil, nil // the next call starts another one
		return nil, err
	}
	defer out.Release()
	copy(body, out.Bytes()) // it has the same length
	return body, nil
}

func (b *binder) openRebinder(ctx context.Context) error {
	block := &config.PluginBlock{Kind: sdk.KindEncoder, Plugin: "ingestion_config", Label: "ingestion_config"}
	if e := b.connector.target.pipeline.Encoder; e != nil {
		block = &e.PluginBlock
	}
	if b.encoder == nil {
		process, err := b.connector.start(ctx, block, nil)
		if err != nil {
			return err
		}
		b.encoder = process
	}
	life, cancel := context.WithCancel(context.Background()) // until close
	r, err := wire.OpenRebinder(life, b.encoder.Conn(), wire.StreamRegions{}, pbfsFormat)
	if err != nil {
		cancel()
		err = b.encoder.Explain(err)
		b.connector.stop(b.encoder, nil)
		b.encoder = nil
		return err
	}
	b.rebinder, b.endRebinder = r, cancel
	return nil
}
