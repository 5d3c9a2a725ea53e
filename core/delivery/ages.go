package delivery

import (
	"sync"
	"time"
)

// Marks of when ids were given are spaced at least, and kept at most, this much.
const (
	markSpacing = time.Second
	maxMarks    = 4096
)

// ages remembers roughly when ids were given.
type ages struct {
	sync.Mutex
	spacing time.Duration
	marks   []mark // ascending
}

type mark struct {
	id uint64
	at time.Time
}

// note notes that an id was given now.
func (a *ages) note(id uint64, now time.Time) {
	a.Lock()
	defer a.Unlock()
	if n := len(a.marks); n > 0 && now.Sub(a.marks[n-1].at) < max(markSpacing, a.spacing) {
		return
	}
	if len(a.marks) >= maxMarks { // coarser from now on
		a.spacing = 2 * max(markSpacing, a.spacing)
		kept := a.marks[:0]
		for i := 0; i < len(a.marks); i += 2 {
			kept = append(kept, a.marks[i])
		}
		a.marks = kept
	}
	a.marks = append(a.marks, mark{id, now})
}

// age returns how long ago an id was given; 0 for id 0. Marks before it are dropped,
// since what is oldest only grows.
func (a *ages) age(id uint64, now time.Time) time.Duration {
	a.Lock()
	defer a.Unlock()
	for len(a.marks) > 1 && a.marks[1].id <= id {
		a.marks = a.marks[1:]
	}
	if id == 0 || len(a.marks) == 0 {
		return 0
	}
	return now.Sub(a.marks[0].at)
}
