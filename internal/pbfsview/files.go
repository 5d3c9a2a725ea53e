package pbfsview

import (
	"errors"
	"fmt"
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

// Walk yields the regular files among the paths and in the directories among them,
// in lexical order below each. What cannot be listed is yielded with its error.
//
// Below a directory, it leaves out what is neither file nor directory, and the
// directories in which transports keep unfinished files. A link to a file is
// yielded, one to a directory is not followed.
func Walk(paths []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, root := range paths {
			if !walk(root, yield) {
				return
			}
		}
	}
}

func walk(root string, yield func(string, error) bool) (more bool) {
	info, err := os.Stat(root)
	if err != nil || !info.IsDir() {
		return yield(root, err)
	}
	// With a separator at its end, a link to a directory is followed.
	err = filepath.WalkDir(root+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		path = filepath.Clean(path)
		switch {
		case err != nil:
			if !yield(path, err) {
				return errStop
			}
			return nil
		case entry.IsDir():
			if unfinished(entry.Name()) && path != filepath.Clean(root) {
				return fs.SkipDir
			}
			return nil
		case !leadsToFile(path, entry):
			return nil
		case !yield(path, nil):
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return false
	}
	if err != nil {
		return yield(root, fmt.Errorf("list %s: %w", root, err))
	}
	return true
}

var errStop = errors.New("stop")

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
