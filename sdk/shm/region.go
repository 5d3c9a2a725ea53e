package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Direction tells which side writes a region; the numbers are those of the
// plugin contract.
type Direction uint8

// The directions.
const (
	// ToPlugin: the host writes, the plugin can only read.
	ToPlugin Direction = iota + 1
	// ToHost: the plugin writes.
	ToHost
)

// String returns the direction for messages.
func (d Direction) String() string {
	switch d {
	case ToPlugin:
		return "to plugin"
	case ToHost:
		return "to host"
	}
	return "unknown direction"
}

// Bounds of a region. Slots are whole pages, so that a region can be mapped.
const (
	DefaultSlotBytes = 1 << 20
	DefaultSlots     = 16

	slotUnit       = 4 << 10
	maxSlots       = 1 << 12
	maxRegionBytes = 1 << 29
)

var (
	errClosed = errors.New("shared memory region is closed")
	errReader = errors.New("this side reads the shared memory region")
	errWriter = errors.New("this side writes the shared memory region")
)

// Region is one side's view of a region. Its methods may be called from many
// goroutines.
type Region struct {
	direction Direction
	slotBytes int
	slots     int
	memory    []byte
	file      *os.File // host side only
	fd        int      // in the plugin process; host side only

	writer  bool
	tokens  chan struct{} // one for each free slot
	claimed atomic.Bool
	closed  atomic.Bool

	mu struct {
		sync.Mutex
		free []uint32 // used as a stack, so that the same slots stay in the caches
		held []bool
	}
}

func checkSize(direction Direction, slotBytes, slots int) error {
	switch {
	case direction != ToPlugin && direction != ToHost:
		return fmt.Errorf("shared memory region has direction %d", direction)
	case slotBytes < slotUnit || slotBytes%slotUnit != 0 || slotBytes > maxRegionBytes:
		return fmt.Errorf("shared memory slots of %d bytes: want a multiple of %d up to %d", slotBytes, slotUnit, maxRegionBytes)
	case slots < 1 || slots > maxSlots || slots > maxRegionBytes/slotBytes:
		return fmt.Errorf("%d shared memory slots of %d bytes: want 1 to %d", slots, slotBytes, min(maxSlots, maxRegionBytes/slotBytes))
	}
	return nil
}

func newRegion(direction Direction, slotBytes, slots int, writer bool) *Region {
	r := &Region{direction: direction, slotBytes: slotBytes, slots: slots, writer: writer}
	if writer {
		r.tokens = make(chan struct{}, slots)
		r.mu.held = make([]bool, slots)
		r.mu.free = make([]uint32, 0, slots)
		r.freeAll()
	}
	return r
}

// freeAll makes every slot free again. Nobody may be waiting or holding one.
func (r *Region) freeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.free = r.mu.free[:0]
	for slot := r.slots - 1; slot >= 0; slot-- {
		r.mu.held[slot] = false
		r.mu.free = append(r.mu.free, uint32(slot))
	}
	for len(r.tokens) < r.slots {
		r.tokens <- struct{}{}
	}
}

// Direction returns which side writes.
func (r *Region) Direction() Direction { return r.direction }

// SlotBytes returns the size of a slot in bytes.
func (r *Region) SlotBytes() int { return r.slotBytes }

// Slots returns the number of slots.
func (r *Region) Slots() int { return r.slots }

// Inherit returns the file that the plugin process must inherit, and notes the
// descriptor that it will have there. Host side only; the region stays the
// file's owner.
func (r *Region) Inherit(fd int) *os.File {
	r.fd = fd
	return r.file
}

// FD returns the descriptor in the plugin process, 0 before Inherit. It is also
// the number by which streams name the region.
func (r *Region) FD() int { return r.fd }

// Claim reserves the region for one stream. It fails while another stream has it.
func (r *Region) Claim() error {
	switch {
	case r.closed.Load():
		return errClosed
	case !r.claimed.CompareAndSwap(false, true):
		return errors.New("shared memory region is in use by another stream")
	}
	return nil
}

// Unclaim gives the region up for the next stream, with all slots free. It must
// only be called when no side can still use a slot.
func (r *Region) Unclaim() {
	if r.writer {
		r.freeAll()
	}
	r.claimed.Store(false)
}

// TryAcquire takes a free slot if there is one; see Acquire.
func (r *Region) TryAcquire() (slot uint32, buf []byte, ok bool) {
	if !r.writer || r.closed.Load() {
		return 0, nil, false
	}
	select {
	case <-r.tokens:
		slot, buf = r.pop()
		return slot, buf, true
	default:
		return 0, nil, false
	}
}

// Acquire waits for a free slot and takes it. The slot's memory begins at a
// multiple of 8 bytes and may hold old bytes. The slot that was released last
// comes first.
func (r *Region) Acquire(ctx context.Context) (slot uint32, buf []byte, err error) {
	switch {
	case !r.writer:
		return 0, nil, errReader
	case r.closed.Load():
		return 0, nil, errClosed
	}
	select {
	case <-r.tokens:
		slot, buf = r.pop()
		return slot, buf, nil
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
}

func (r *Region) pop() (slot uint32, buf []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.mu.free) - 1
	slot = r.mu.free[last]
	r.mu.free = r.mu.free[:last]
	r.mu.held[slot] = true
	return slot, r.at(slot)
}

// Release makes slots free again. Numbers may come from the other side: one that
// does not exist or is free already gives an error, and those behind it stay
// taken.
func (r *Region) Release(slots ...uint32) error {
	if !r.writer {
		return errReader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, slot := range slots {
		if int64(slot) >= int64(r.slots) {
			return fmt.Errorf("slot %d released, there are %d", slot, r.slots)
		}
		if !r.mu.held[slot] {
			return fmt.Errorf("slot %d released, it is free already", slot)
		}
		r.mu.held[slot] = false
		r.mu.free = append(r.mu.free, slot)
		r.tokens <- struct{}{}
	}
	return nil
}

// Read returns the first length bytes of a slot in place. It is for the plugin:
// the host must not look at memory that a plugin can change.
func (r *Region) Read(slot, length uint32) ([]byte, error) {
	if r.writer {
		return nil, errWriter
	}
	if r.closed.Load() {
		return nil, errClosed
	}
	if err := r.Check(slot, length); err != nil {
		return nil, err
	}
	return r.at(slot)[:length:length], nil
}

// CopyOut copies the first length bytes of a slot to dst, which must be at least
// that long.
func (r *Region) CopyOut(dst []byte, slot, length uint32) error {
	view, err := r.Read(slot, length)
	if err != nil {
		return err
	}
	if len(dst) < len(view) {
		return fmt.Errorf("slot %d holds %d bytes, there is room for %d", slot, length, len(dst))
	}
	copy(dst, view)
	return nil
}

// Check reports a reference to bytes that the region does not have.
func (r *Region) Check(slot, length uint32) error {
	switch {
	case int64(slot) >= int64(r.slots):
		return fmt.Errorf("slot %d does not exist, there are %d", slot, r.slots)
	case int64(length) > int64(r.slotBytes):
		return fmt.Errorf("slot %d said to hold %d bytes, it has %d", slot, length, r.slotBytes)
	}
	return nil
}

func (r *Region) at(slot uint32) []byte {
	begin := int(slot) * r.slotBytes
	end := begin + r.slotBytes
	return r.memory[begin:end:end]
}

// Close unmaps the region and closes its file. It may be called twice.
func (r *Region) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	err := unmap(r.memory)
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	if err != nil {
		return fmt.Errorf("close shared memory region: %w", err)
	}
	return nil
}
