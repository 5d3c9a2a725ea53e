package shm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Create makes a region of slots × slotBytes; slotBytes is a multiple of 4 KiB.
// It is for the host. The seals are such that neither side can change the size
// any more, and that nobody but the host can write a region of direction ToPlugin.
func Create(direction Direction, slotBytes, slots int) (*Region, error) {
	if err := checkSize(direction, slotBytes, slots); err != nil {
		return nil, err
	}
	fd, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("create shared memory file: %w", err)
	}
	r := newRegion(direction, slotBytes, slots, direction == ToPlugin)
	r.file = os.NewFile(uintptr(fd), "payloads")
	if err := r.mapAndSeal(fd); err != nil {
		return nil, errors.Join(err, r.file.Close())
	}
	return r, nil
}

func memoryFile() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("payloads", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("payloads", flags)
	}
	return fd, err
}

// mapAndSeal maps before it seals: the seal on writing spares the mappings that
// exist, and only them.
func (r *Region) mapAndSeal(fd int) error {
	size := r.slotBytes * r.slots
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("set the size of a shared memory region: %w", err)
	}
	access, seals := unix.PROT_READ, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL
	if r.direction == ToPlugin {
		access |= unix.PROT_WRITE
		seals |= unix.F_SEAL_FUTURE_WRITE
	}
	memory, err := unix.Mmap(fd, 0, size, access, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map a shared memory region: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return errors.Join(fmt.Errorf("seal a shared memory region: %w", err), unmap(memory))
	}
	r.memory = memory
	return nil
}

// Open maps a region that this process inherited as fd. It is for the plugin. The
// descriptor is closed, also after an error: the mapping is all that is needed,
// and children of the plugin shall not inherit it.
func Open(fd int, direction Direction, slotBytes, slots int) (*Region, error) {
	r, err := open(fd, direction, slotBytes, slots)
	if closeErr := unix.Close(fd); err == nil && closeErr != nil {
		return nil, errors.Join(fmt.Errorf("shared memory file %d: %w", fd, closeErr), r.Close())
	}
	return r, err
}

func open(fd int, direction Direction, slotBytes, slots int) (*Region, error) {
	if err := checkSize(direction, slotBytes, slots); err != nil {
		return nil, err
	}
	size := slotBytes * slots
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("shared memory file %d: %w", fd, err)
	}
	if stat.Size != int64(size) {
		return nil, fmt.Errorf("shared memory file %d has %d bytes, want %d", fd, stat.Size, size)
	}
	access := unix.PROT_READ
	if direction == ToHost {
		access |= unix.PROT_WRITE
	}
	memory, err := unix.Mmap(fd, 0, size, access, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory file %d: %w", fd, err)
	}
	r := newRegion(direction, slotBytes, slots, direction == ToHost)
	r.memory = memory
	return r, nil
}

func unmap(memory []byte) error { return unix.Munmap(memory) }
