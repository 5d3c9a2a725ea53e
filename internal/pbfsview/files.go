package pbfsview

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// File is an open file. Its size is that of the moment when it was opened: what is
// appended later is not read.
type File struct {
	*os.File
	Size int64 // bytes
}

// Open opens a regular file for reading. It does not wait for the other side of a
// pipe.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: notRegular(info.Mode())}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{File: f, Size: info.Size()}, nil
}

func notRegular(mode fs.FileMode) error {
	if mode.IsDir() {
		return errors.New("is a directory")
	}
	return errors.New("is not a regular file")
}

// Walk yields the file that a path leads to, or all regular files below a directory
// in lexical order. What cannot be looked at is yielded with its error.
//
// Below a directory, it leaves out what is neither file nor directory, and the
// directories in which transports keep unfinished files. A link to a file is
// yielded, one to a directory is not followed.
func Walk(root string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		info, err := os.Stat(root)
		if err != nil || !info.IsDir() {
			yield(root, err)
			return
		}
		// With a separator at its end, a root that is a link is followed. Errors
		// that matter were yielded.
		_ = filepath.WalkDir(root+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
			path = filepath.Clean(path)
			switch {
			case err != nil:
			case entry.IsDir():
				if path != filepath.Clean(root) && unfinished(entry.Name()) {
					return fs.SkipDir
				}
				return nil
			case !leadsToFile(path, entry):
				return nil
			}
			if !yield(path, err) {
				return fs.SkipAll
			}
			return nil
		})
	}
}

func leadsToFile(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular() // what a broken link is, opening it tells
}

// unfinished reports whether a directory has the name of those in which transports
// keep files until they are complete.
func unfinished(name string) bool {
	return strings.HasPrefix(name, ".pipelined-") && strings.HasSuffix(name, ".tmp")
}
