package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// outlet sends the payloads of one direction of a stream. It is safe for many
// goroutines.
type outlet struct {
	region *shm.Region // nil: everything goes inline
	gate   gate

	mu struct {
		sync.Mutex
		closed bool // the region belongs to the stream no more
	}
}

// place is where a payload goes: a slot, or inline if memory is nil.
type place struct {
	slot   uint32
	memory []byte
}

// try is reserve without waiting.
func (o *outlet) try(n int) (at place, ok bool, err error) {
	switch {
	case n > sdk.MaxPayloadBytes:
		return place{}, false, tooLarge(n)
	case !o.fits(n):
		return place{}, o.gate.try(n), nil
	}
	slot, memory, ok := o.region.TryAcquire()
	return place{slot, memory}, ok, nil
}

func tooLarge(n int) error {
	return fmt.Errorf("payload of %d bytes, the limit is %d", n, sdk.MaxPayloadBytes)
}

// reserve waits for room for a payload of n bytes, until ctx or the stream ends.
func (o *outlet) reserve(ctx context.Context, life lifetime, n int) (place, error) {
	if at, ok, err := o.try(n); ok || err != nil {
		return at, err
	}
	ctx, stop := life.bound(ctx)
	defer stop()
	if !o.fits(n) {
		return place{}, o.gate.pass(ctx, n)
	}
	slot, memory, err := o.region.Acquire(ctx)
	return place{slot, memory}, err
}

func (o *outlet) fits(n int) bool {
	return o.region != nil && n > inlineBytes && n <= o.region.SlotBytes()
}

// cancel gives a place back that is not used.
func (o *outlet) cancel(p place) {
	if p.memory != nil {
		_ = o.region.Release(p.slot) // cannot fail: it was acquired
	}
}

// released takes slots back that the receiver is done with.
func (o *outlet) released(r *pb.Release) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.region == nil:
		return errors.New("slots released on a stream without region")
	case o.mu.closed:
		return nil
	}
	return o.region.Release(r.GetSlots()...)
}

// close makes sure that releases that are read late do not reach the region.
func (o *outlet) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.closed = true
}

// payload copies data to the slot, if there is one, and returns the reference to
// send.
func (p place) payload(data []byte) *pb.Payload {
	if p.memory == nil {
		return inlinePayload(data)
	}
	return p.ref(copy(p.memory, data))
}

// ref is the reference to a payload of n bytes that has been written to the slot.
func (p place) ref(n int) *pb.Payload {
	return &pb.Payload{Form: &pb.Payload_Slot{Slot: &pb.SlotRef{Slot: p.slot, Length: uint32(n)}}}
}

func inlinePayload(data []byte) *pb.Payload {
	return &pb.Payload{Form: &pb.Payload_Inline{Inline: data}}
}

// inlet receives the payloads of one direction of a stream and gives slots and
// credit back. It is safe for many goroutines; arrive is for the one that reads
// the stream.
type inlet struct {
	region      *shm.Region // nil: everything comes inline
	sendRelease func(*pb.Release) error
	sendCredit  func(*pb.Credit) error

	mu struct {
		sync.Mutex
		window window
		slots  []uint32 // done with, not yet given back
	}
}

// arrival is a payload that came in: bytes of the message, or a slot.
type arrival struct {
	inline       []byte
	slot, length uint32
	inSlot       bool
}

func (a arrival) size() int {
	if a.inSlot {
		return int(a.length)
	}
	return len(a.inline)
}

// open gives the first credit.
func (in *inlet) open() error {
	in.mu.Lock()
	credit := in.mu.window.open()
	in.mu.Unlock()
	return in.sendCredit(credit)
}

// arrive counts and checks a payload.
func (in *inlet) arrive(p *pb.Payload) (arrival, error) {
	switch form := p.GetForm().(type) {
	case *pb.Payload_Inline:
		in.mu.Lock()
		defer in.mu.Unlock()
		if len(form.Inline) > sdk.MaxPayloadBytes {
			return arrival{}, tooLarge(len(form.Inline))
		}
		return arrival{inline: form.Inline}, in.mu.window.receive(len(form.Inline))
	case *pb.Payload_Slot:
		if in.region == nil {
			return arrival{}, errors.New("payload in a slot on a stream without region")
		}
		a := arrival{slot: form.Slot.GetSlot(), length: form.Slot.GetLength(), inSlot: true}
		return a, in.region.Check(a.slot, a.length)
	}
	return arrival{}, errors.New("batch without payload")
}

// view returns the payload in place, until done. It is for the plugin.
func (in *inlet) view(a arrival) ([]byte, error) {
	if !a.inSlot {
		return a.inline, nil
	}
	return in.region.Read(a.slot, a.length)
}

// copyOut returns a payload that nobody else can change, and gives its slot or
// credit back. It is for the host.
func (in *inlet) copyOut(a arrival, pool *Pool) (*Buffer, error) {
	if !a.inSlot {
		return BufferOf(a.inline), in.done(a)
	}
	b := pool.Get(int(a.length))
	if err := in.region.CopyOut(b.Bytes(), a.slot, a.length); err != nil {
		b.Release()
		return nil, err
	}
	return b, in.done(a)
}

// done gives the payload's slot or credit back. Slots go back in groups of a
// quarter of the region: the rest of them is with the writer or on its way here,
// so it never waits for those that are held back.
func (in *inlet) done(a arrival) error {
	in.mu.Lock()
	if !a.inSlot {
		credit := in.mu.window.consume(len(a.inline))
		in.mu.Unlock()
		if credit == nil {
			return nil
		}
		return in.sendCredit(credit)
	}
	in.mu.slots = append(in.mu.slots, a.slot)
	var back []uint32
	if len(in.mu.slots) >= max(1, in.region.Slots()/4) {
		back, in.mu.slots = in.mu.slots, nil
	}
	in.mu.Unlock()
	if back == nil {
		return nil
	}
	return in.sendRelease(&pb.Release{Slots: back})
}
