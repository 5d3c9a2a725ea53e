package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/wire"
)

// trackStore is the store as one track sees it.
type trackStore struct {
	*store
	track *track
	name  string
}

// Missing implements delivery.Store.
func (s *trackStore) Missing() checkpoint.Set { return s.manager.Missing(s.name) }

// Unconfirmed implements delivery.Store.
func (s *trackStore) Unconfirmed(r checkpoint.Range) checkpoint.Set {
	return s.manager.Unconfirmed(s.name, r)
}

// Confirm implements delivery.Store.
func (s *trackStore) Confirm(ids checkpoint.Set) checkpoint.Set {
	s.mu.Lock()
	s.mu.confirmed[s.track.index].AddSet(ids)
	s.mu.Unlock()
	return s.manager.Confirm(s.name, ids)
}

// Lagging implements delivery.Store.
func (s *trackStore) Lagging() bool { return s.manager.Lagging() }

// Read implements delivery.Store.
func (s *trackStore) Read(ids checkpoint.Set) delivery.Reader {
	r := &storeReader{store: s, want: ids.Clone()}
	r.readDisk()
	release(r.tail) // it may take long until their turn, and sources wait for the memory
	r.tail = nil
	return r
}

// storeReader reads what is on the disk and then what is in memory only.
type storeReader struct {
	store   *trackStore
	want    checkpoint.Set // what was not returned
	disk    *backup.Reader
	last    bool      // what is in memory comes after what is being read
	tail    []*stored // each with a reference
	ready   []*delivery.Batch
	decoder *rowDecoder // opened when first needed
}

// readDisk begins to read what is wanted and not in memory, and holds on to the rest.
// What leaves the memory after that is on the disk, and not read.
func (r *storeReader) readDisk() {
	onDisk := r.want.Clone()
	for _, b := range r.store.manager.Tail(r.want) {
		tail := b.(*stored)
		r.tail = append(r.tail, tail)
		onDisk.Remove(tail.Ids)
	}
	r.disk = r.store.backup.Read(onDisk)
}

func release(batches []*stored) {
	for _, b := range batches {
		b.Release()
	}
}

// Next implements delivery.Reader.
func (r *storeReader) Next(ctx context.Context) (*delivery.Batch, error) {
	for len(r.ready) == 0 {
		if err := r.fill(ctx); err != nil {
			return nil, err
		}
	}
	b := r.ready[0]
	r.ready = r.ready[1:]
	return b, nil
}

// Close implements delivery.Reader.
func (r *storeReader) Close() {
	r.disk.Close()
	for _, b := range r.ready {
		b.Release()
	}
	release(r.tail)
	if r.decoder != nil {
		r.decoder.close()
	}
}

// fill reads the next chunk.
func (r *storeReader) fill(ctx context.Context) error {
	c, err := r.disk.Next()
	if hole, ok := errors.AsType[*backup.HoleError](err); ok {
		r.want.RemoveSet(hole.Ids)
		r.store.loseHole(hole)
		return hole
	}
	if errors.Is(err, io.EOF) {
		if r.last {
			return r.fillFromMemory(ctx)
		}
		r.last = true
		r.readDisk() // what came there meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	r.want.RemoveSet(c.Wanted)
	flow := r.store.flowOf(c.Ids.First, c.Flow, c.Definition)
	binding := c.Target
	for ids := range c.Wanted.Ranges() {
		b := delivery.Batch{
			Ids: ids, Flow: flow, MinTime: c.MinTime, MaxTime: c.MaxTime, Format: r.store.format, Binding: binding,
		}
		if err := r.add(ctx, &b, c.Ids, slices.Clone(c.Body)); err != nil {
			return err
		}
	}
	return nil
}

func (r *storeReader) fillFromMemory(ctx context.Context) error {
	if len(r.tail) == 0 {
		return io.EOF
	}
	tail := r.tail[0]
	r.tail = r.tail[1:]
	defer tail.Release()
	wanted := r.want.Within(tail.Ids)
	r.want.Remove(tail.Ids)
	if wanted.Contains(tail.Ids) {
		tail.Retain()
		r.ready = append(r.ready, tail.Batch)
		return nil
	}
	for ids := range wanted.Ranges() {
		b := delivery.Batch{
			Ids: ids, Flow: tail.Flow, MinTime: tail.MinTime, MaxTime: tail.MaxTime, Format: tail.Format, Binding: tail.Binding,
		}
		if err := r.add(ctx, &b, tail.Ids, slices.Clone(tail.Encoded.Bytes())); err != nil {
			return err
		}
	}
	return nil
}

// add prepares a batch of some of the messages in a body, which becomes the batch's.
func (r *storeReader) add(ctx context.Context, b *delivery.Batch, all checkpoint.Range, body []byte) error {
	body = cutBody(body, int(b.Ids.First-all.First), int(b.Ids.Count()))
	b.Encoded = wire.BufferOf(body)
	if r.store.track.input() == sdk.InputRows {
		if err := r.decode(ctx, b); err != nil {
			return err
		}
	}
	b.Open(1, func(*delivery.Batch) {})
	r.ready = append(r.ready, b)
	return nil
}

// decode gives a batch its rows, for a transport that takes no messages.
func (r *storeReader) decode(ctx context.Context, b *delivery.Batch) error {
	if r.decoder == nil {
		d, err := r.store.track.openDecoder(ctx)
		if err != nil {
			return err
		}
		r.decoder = d
	}
	rows, err := r.decoder.decode(ctx, b)
	if _, refused := errors.AsType[*sdk.Error](err); err != nil && !refused {
		r.decoder.close() // it has failed for good; the next messages get another one
		r.decoder = nil
	}
	if err != nil {
		return fmt.Errorf("messages %d to %d of flow %.100q cannot be decoded: %w", b.Ids.First, b.Ids.Last, b.Flow.Flow.Name, err)
	}
	b.Rows = rows
	return nil
}

// loseHole counts what a damaged file had and the track has not confirmed.
func (s *trackStore) loseHole(h *backup.HoleError) {
	s.logger.Error("part of a backup file cannot be read", "file", h.File, "from", h.From, "to", h.To,
		"ids", h.Ids.String(), "reason", h.Reason)
	flow := h.Flow
	if h.Ids.First() < s.firstID {
		flow = 0 // of an earlier run
	}
	s.track.delivery.Lose(s.flowToBlame(flow), h.Ids, "not readable in the backup")
}

// cutBody returns count messages of a body, without the first skip ones. The body
// has been checked.
func cutBody(body []byte, skip, count int) []byte {
	from, to, n := 0, 0, 0
	for message := range pbfs.Messages(body) {
		if n == skip+count {
			break
		}
		to += pbfs.PrefixSize + len(message)
		if n++; n <= skip {
			from = to
		}
	}
	return body[from:to]
}

// firstMessage returns the first message of a body.
func firstMessage(body []byte) []byte {
	for message := range pbfs.Messages(body) {
		return message
	}
	return nil
}

// rowDecoder turns messages back into rows.
type rowDecoder struct {
	decoder *wire.Decoder
	cancel  context.CancelFunc
	numbers map[*delivery.Flow]uint32
}

// openDecoder opens a call of the encoder that ends with close.
func (t *track) openDecoder(ctx context.Context) (*rowDecoder, error) {
	ctx, cancel := context.WithCancel(ctx)
	d, err := wire.OpenDecoder(ctx, t.encoder.process.Conn(), wire.StreamRegions{})
	if err != nil {
		cancel()
		return nil, t.encoder.explain(err)
	}
	return &rowDecoder{decoder: d, cancel: cancel, numbers: map[*delivery.Flow]uint32{}}, nil
}

func (d *rowDecoder) close() { d.cancel() }

func (d *rowDecoder) decode(ctx context.Context, b *delivery.Batch) (*wire.Buffer, error) {
	number := d.numbers[b.Flow]
	if number == 0 {
		number = uint32(len(d.numbers) + 1)
		if err := d.decoder.Announce(number, &b.Flow.Flow); err != nil {
			return nil, err
		}
		d.numbers[b.Flow] = number
	}
	decoded, err := d.decoder.Decode(ctx, wire.Batch{
		Flow: number, Count: int(b.Ids.Count()), MinTime: b.MinTime, MaxTime: b.MaxTime,
		Format: b.Format, Payload: b.Encoded.Bytes(),
	})
	return decoded.Payload, err
}
