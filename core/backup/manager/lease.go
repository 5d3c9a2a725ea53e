package manager

import (
	"context"
	"sync"

	"github.com/pipelined/pipelined/core/checkpoint"
)

// leaseSize is how many ids are taken from the backup at once.
const leaseSize = 1 << 20

// leases gives out ids, of which it holds some ahead.
type leases struct {
	reserve func(n uint64) (checkpoint.Range, error) // may wait for the disk
	ahead   notice

	mu struct {
		sync.Mutex
		have     []checkpoint.Range // ascending, not given out
		fetching chan struct{}      // closed when more was fetched; nil: nothing is being fetched
	}
}

func (l *leases) init(reserve func(n uint64) (checkpoint.Range, error)) {
	l.reserve = reserve
	l.ahead = newNotice()
}

// take gives out n consecutive ids.
func (l *leases) take(n uint64) (checkpoint.Range, error) {
	for {
		ids, wait := l.try(n)
		if wait != nil {
			<-wait
			continue
		}
		if ids.First != 0 {
			return ids, nil
		}
		if err := l.fetch(n); err != nil {
			return checkpoint.Range{}, err
		}
	}
}

// try gives out ids that are there: the zero range if they are not, with a channel to
// wait on if more are being fetched.
func (l *leases) try(n uint64) (checkpoint.Range, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.mu.have {
		if r.Count() < n {
			continue
		}
		ids := checkpoint.Range{First: r.First, Last: r.First + n - 1}
		l.mu.have = l.mu.have[i:] // what is before stays unused: ids ascend
		if l.mu.have[0].First += n; l.mu.have[0].First > l.mu.have[0].Last {
			l.mu.have = l.mu.have[1:]
		}
		if l.left() < leaseSize/2 {
			l.ahead.signal()
		}
		return ids, nil
	}
	return checkpoint.Range{}, l.mu.fetching
}

// unused returns the ids that were not given out.
func (l *leases) unused() checkpoint.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	return checkpoint.SetOf(l.mu.have...)
}

// left returns how many ids are there. mu is held.
func (l *leases) left() uint64 {
	n := uint64(0)
	for _, r := range l.mu.have {
		n += r.Count()
	}
	return n
}

// fetch gets more ids, at least n that are consecutive, unless somebody does already.
func (l *leases) fetch(n uint64) error {
	fetched := make(chan struct{})
	l.mu.Lock()
	if l.mu.fetching != nil {
		l.mu.Unlock()
		return nil
	}
	l.mu.fetching = fetched
	l.mu.Unlock()

	r, err := l.reserve(max(n, leaseSize))

	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.fetching = nil
	close(fetched)
	if err != nil {
		return err
	}
	if last := len(l.mu.have) - 1; last >= 0 && l.mu.have[last].Last+1 == r.First {
		l.mu.have[last].Last = r.Last
	} else {
		l.mu.have = append(l.mu.have, r)
	}
	return nil
}

// fetchAhead fetches when half of a lease is used up. What fails is tried again with
// the next use, or by take.
func (l *leases) fetchAhead(ctx context.Context) {
	for ctx.Err() == nil {
		l.ahead.pause(ctx, -1)
		l.mu.Lock()
		low := l.left() < leaseSize/2
		l.mu.Unlock()
		if low && ctx.Err() == nil {
			_ = l.fetch(0)
		}
	}
}
