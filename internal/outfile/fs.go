package outfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// FS is what the package needs of a file system. Tests make it fail.
type FS interface {
	// Create creates a file that must not exist.
	Create(path string) (Handle, error)
	Mkdir(path string) error
	// Rename fails with fs.ErrExist if there is something at the new path.
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(path string) error
}

// Handle is an open file.
type Handle interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

// OS is the file system of the machine.
type OS struct{}

// Create creates a file that must not exist.
func (OS) Create(path string) (Handle, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err // not a Handle that holds a nil *os.File
	}
	return f, nil
}

// Mkdir creates a directory.
func (OS) Mkdir(path string) error { return os.Mkdir(path, 0o777) }

// Rename gives a file another name, unless that is taken.
func (OS) Rename(from, to string) error { return renameExclusive(from, to) }

// Remove removes a file or an empty directory.
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir makes the entries of a directory durable. File systems that cannot do
// that say EINVAL; there is nothing to wait for then.
func (OS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// linkExclusive is renameExclusive for systems where rename always replaces.
func linkExclusive(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// Lasting reports whether an error of this package will not go away by trying
// again later: somebody must change rights, the path or the configuration.
func Lasting(err error) bool {
	for _, e := range []error{
		fs.ErrPermission, syscall.EROFS, syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP,
		syscall.EINVAL,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
