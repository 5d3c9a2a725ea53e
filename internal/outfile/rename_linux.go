package outfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameExclusive gives a file another name, unless that is taken.
func renameExclusive(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return linkExclusive(from, to) // a network file system
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}
