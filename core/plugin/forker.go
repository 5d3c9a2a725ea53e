package plugin

import (
	"errors"
	"runtime"
	"sync"
)

var errLauncherClosed = errors.New("the launcher is closed")

// forker runs functions on one operating system thread, which lives until close.
// The kernel sends the parent-death signal when the thread that forked ends, not
// the process: so all plugins are forked here.
type forker struct {
	wg   sync.WaitGroup
	jobs chan func()
	done chan struct{} // closed by close
	once sync.Once
}

func newForker() *forker {
	f := &forker{jobs: make(chan func()), done: make(chan struct{})}
	f.wg.Go(f.run)
	return f
}

func (f *forker) run() {
	runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
	for {
		select {
		case job := <-f.jobs:
			job()
		case <-f.done:
			return
		}
	}
}

// do runs a function on the thread and waits for it.
func (f *forker) do(job func() error) error {
	result := make(chan error, 1)
	select {
	case f.jobs <- func() { result <- job() }:
		return <-result
	case <-f.done:
		return errLauncherClosed
	}
}

// close ends the thread, which kills what is still alive of its children.
func (f *forker) close() {
	f.once.Do(func() { close(f.done) })
	f.wg.Wait()
}
