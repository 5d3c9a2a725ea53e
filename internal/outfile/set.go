package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// maxSyncs bounds the files that are made durable at the same time: one after
	// another, thousands of small ones would take minutes.
	maxSyncs = 8
	// maxAttempts bounds the names that are tried for a file.
	maxAttempts = 1000
)

// ErrAborted is returned by a set that was aborted.
var ErrAborted = errors.New("writing was aborted")

// Set holds files that get their final names together or not at all.
type Set struct {
	dir   *Dir
	files []*File

	mu struct {
		sync.Mutex
		busy    chan struct{} // not nil while a step runs; closed at its end
		aborted bool
		ended   bool
		err     error // that ended the set
	}
}

// Run carries out a step of the set's work, unless the set has ended: then it
// returns the error that ended it. An error of the step ends the set, and all its
// files are removed.
func (s *Set) Run(step func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	return s.leave(step())
}

func (s *Set) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.ended && s.mu.err == nil:
		return errors.New("the files have their final names already")
	case s.mu.ended:
		return s.mu.err
	case s.mu.busy != nil && s.mu.aborted:
		return ErrAborted // Abort is at it
	case s.mu.busy != nil:
		return errors.New("two calls for one stream at the same time")
	}
	s.mu.busy = make(chan struct{})
	return nil
}

// leave ends a step with its error, or with that of an abort that came meanwhile.
func (s *Set) leave(err error) error {
	s.mu.Lock()
	if err == nil && s.mu.aborted && !s.mu.ended {
		err = ErrAborted
	}
	s.mu.Unlock()
	if err != nil {
		s.discard()
	}
	s.mu.Lock()
	if err != nil {
		s.mu.err, s.mu.ended = err, true
	}
	ended := s.mu.ended
	close(s.mu.busy)
	s.mu.busy = nil
	late := s.mu.aborted && !s.mu.ended // it came while the step ended
	s.mu.Unlock()
	switch {
	case late:
		s.Abort()
	case ended:
		s.dir.forget(s)
	}
	return err
}

// Abort ends the set and removes its files, now or at the end of the step that
// runs. It does not wait for that. Files that have their final names keep them.
func (s *Set) Abort() {
	s.mu.Lock()
	s.mu.aborted = true
	idle := s.mu.busy == nil && !s.mu.ended
	s.mu.Unlock()
	if idle {
		_ = s.Run(func() error { return ErrAborted })
	}
}

// wait waits for the end of the step that runs.
func (s *Set) wait() {
	s.mu.Lock()
	busy := s.mu.busy
	s.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

// CheckAborted returns ErrAborted once Abort has been called. Long steps ask in
// between.
func (s *Set) CheckAborted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.aborted {
		return ErrAborted
	}
	return nil
}

// Create adds an empty file to the set. Name returns its final path, below the
// directory; it is asked again, with the next attempt, as long as something
// exists at that path. Attempts count from 0. Only for use in a step.
func (s *Set) Create(name func(attempt int) string) (*File, error) {
	path, err := s.dir.temporary()
	if err != nil {
		return nil, err
	}
	handle, err := s.dir.fs.Create(path)
	if err != nil {
		return nil, err
	}
	f := &File{set: s, path: path, name: name, handle: handle}
	s.files = append(s.files, f)
	return f, nil
}

// Publish makes all files durable and gives them their final names, which it
// returns in the order in which the files were created. It ends the set. Only for
// use in a step.
func (s *Set) Publish() ([]string, error) {
	if err := s.seal(); err != nil {
		return nil, err
	}
	paths := make([]string, 0, len(s.files))
	dirs := map[string]struct{}{}
	err := s.rename(&paths, dirs)
	if err == nil {
		err = s.syncDirs(dirs)
	}
	if err != nil {
		for _, path := range paths {
			_ = s.dir.fs.Remove(path) // the host sends what is in it again
		}
		return nil, err
	}
	s.files = nil
	s.mu.Lock()
	s.mu.ended = true
	s.mu.Unlock()
	return paths, nil
}

func (s *Set) seal() error {
	var group errgroup.Group
	group.SetLimit(maxSyncs)
	for _, f := range s.files {
		group.Go(func() error {
			if err := s.CheckAborted(); err != nil {
				return err
			}
			return f.Seal()
		})
	}
	return group.Wait()
}

// rename gives the files their names and notes these and their directories.
func (s *Set) rename(paths *[]string, dirs map[string]struct{}) error {
	for _, f := range s.files {
		if err := s.CheckAborted(); err != nil {
			return err
		}
		path, err := s.renameOne(f)
		if err != nil {
			return err
		}
		*paths = append(*paths, path)
		dirs[filepath.Dir(path)] = struct{}{}
	}
	return nil
}

func (s *Set) renameOne(f *File) (string, error) {
	for attempt := range maxAttempts {
		path := f.name(attempt)
		if !filepath.IsLocal(mustRel(s.dir.path, path)) {
			return "", fmt.Errorf("file name %q leads out of %s", path, s.dir.path)
		}
		if err := makeDirs(s.dir.fs, filepath.Dir(path)); err != nil {
			return "", err
		}
		err := s.dir.fs.Rename(f.path, path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("no free name like %s after %d attempts", f.name(0), maxAttempts)
}

// mustRel returns path relative to dir, or something that leads out of it.
func mustRel(dir, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return ".."
	}
	return rel
}

func (s *Set) syncDirs(dirs map[string]struct{}) error {
	var group errgroup.Group
	group.SetLimit(maxSyncs)
	for dir := range dirs {
		group.Go(func() error { return s.dir.fs.SyncDir(dir) })
	}
	return group.Wait()
}

// discard removes all files.
func (s *Set) discard() {
	for _, f := range s.files {
		f.discard()
	}
	s.files = nil
}
