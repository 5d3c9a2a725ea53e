//go:build !linux

package shm

import (
	"errors"
	"fmt"
)

// Create fails: there are no sealed memory files here.
func Create(Direction, int, int) (*Region, error) {
	return nil, fmt.Errorf("shared memory regions: %w", errors.ErrUnsupported)
}

// Open fails: there are no sealed memory files here.
func Open(int, Direction, int, int) (*Region, error) {
	return nil, fmt.Errorf("shared memory regions: %w", errors.ErrUnsupported)
}

func unmap([]byte) error { return nil }
