package serve

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// takeStdout returns standard output for the handshake and points descriptor 1 to
// standard error: what plugin code, a C library or a child prints does no harm.
// Children do not inherit the returned file.
func takeStdout() (*os.File, error) {
	const stdout, stderr = 1, 2
	fd, err := unix.FcntlInt(stdout, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard output: %w", err)
	}
	if err := unix.Dup3(stderr, stdout, 0); err != nil {
		return nil, fmt.Errorf("redirect standard output: %w", err)
	}
	return os.NewFile(uintptr(fd), "stdout"), nil
}
