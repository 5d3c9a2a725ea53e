package e2e

import (
	"strings"
	"sync"
	"time"
)

// transcript keeps what a process writes and lets tests wait for it.
type transcript struct {
	mu struct {
		sync.Mutex
		text  strings.Builder
		grown chan struct{} // closed when text comes, then replaced
	}
}

func newTranscript() *transcript {
	t := &transcript{}
	t.mu.grown = make(chan struct{})
	return t
}

// Write appends.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.text.Write(p)
	close(t.mu.grown)
	t.mu.grown = make(chan struct{})
	return len(p), nil
}

// String returns everything so far.
func (t *transcript) String() string {
	text, _ := t.now()
	return text
}

func (t *transcript) now() (text string, grown <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.text.String(), t.mu.grown
}

// await returns when the text fulfils a condition; false if it did not in time or
// before done was closed.
func (t *transcript) await(fulfils func(text string) bool, done <-chan struct{}, limit time.Duration) bool {
	deadline := time.After(limit)
	for {
		text, grown := t.now()
		if fulfils(text) {
			return true
		}
		select {
		case <-grown:
		case <-done:
			return fulfils(t.String())
		case <-deadline:
			return false
		}
	}
}
