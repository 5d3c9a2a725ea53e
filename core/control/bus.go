package control

import (
	"slices"
	"sync"
)

// Bus passes notices on to those who listen.
type Bus struct {
	limit int

	mu struct {
		sync.Mutex
		subscriptions []*Subscription
	}
}

// NewBus returns a bus that lets at most limit notices wait for a listener. Beyond
// that, notices of one kind become one for all tracks; a limit below the number of
// kinds counts as that number.
func NewBus(limit int) *Bus { return &Bus{limit: max(limit, kinds)} }

// Publish tells a notice to all who listen to its kind and track. It never waits.
func (b *Bus) Publish(n Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.mu.subscriptions {
		if s.wants(n) {
			s.put(n)
		}
	}
}

// Subscribe returns a subscription to notices of these kinds (none: of every kind)
// that are for this track or for all; AllTracks subscribes to those for any track.
// Notices from before are not told. The caller closes it.
func (b *Bus) Subscribe(track int, kinds ...Kind) *Subscription {
	s := &Subscription{bus: b, track: track, kinds: slices.Clone(kinds), ready: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.subscriptions = append(b.mu.subscriptions, s)
	return s
}

// Subscription is one listener's place at the bus.
type Subscription struct {
	bus   *Bus
	track int
	kinds []Kind
	ready chan struct{} // has an element from the first waiting notice until it is received or Take

	waiting []Notice // in the order of their first publication; guarded by bus.mu
}

// Ready is readable once after notices came; the reader calls Take then.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Take returns the waiting notices, those first that have waited longest. It does
// not wait itself.
func (s *Subscription) Take() []Notice {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	taken := s.waiting
	s.clear()
	return taken
}

// Close ends the subscription and drops what waits. It may be called again.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.clear()
	s.bus.mu.subscriptions = slices.DeleteFunc(s.bus.mu.subscriptions, func(other *Subscription) bool { return other == s })
}

func (s *Subscription) clear() {
	s.waiting = nil
	select {
	case <-s.ready:
	default:
	}
}

func (s *Subscription) wants(n Notice) bool {
	if s.track != AllTracks && n.Track != AllTracks && s.track != n.Track {
		return false
	}
	return n.Kind.valid() && (len(s.kinds) == 0 || slices.Contains(s.kinds, n.Kind))
}

// put adds a notice to those that wait, or to one of them.
func (s *Subscription) put(n Notice) {
	same := func(w Notice) bool { return w.Kind == n.Kind && w.Track == n.Track }
	if i := slices.IndexFunc(s.waiting, same); i >= 0 {
		s.waiting[i] = s.waiting[i].merged(n)
	} else {
		s.waiting = append(s.waiting, n)
	}
	if len(s.waiting) > s.bus.limit {
		s.waiting = byKind(s.waiting)
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// byKind makes one notice for all tracks of those of each kind.
func byKind(notices []Notice) []Notice {
	var out []Notice
	for _, n := range notices {
		i := slices.IndexFunc(out, func(o Notice) bool { return o.Kind == n.Kind })
		if i < 0 {
			out = append(out, n)
			continue
		}
		out[i] = out[i].merged(n)
	}
	return out
}
