package torture

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// mode is how the destination behaves for a while.
type mode string

const (
	healthy   mode = "healthy"
	slow      mode = "slow"
	refusing  mode = "refusing"
	flapping  mode = "flapping"
	limiting  mode = "rate limiting"
	hanging   mode = "no answers"
	lateOK    mode = "late OK"
	earlyOK   mode = "early OK"
	resetting mode = "resets"
	goaway    mode = "GOAWAY"
	badKey    mode = "key refused"
	halfOpen  mode = "half-open"
	deaf      mode = "reads nothing"
)

// modes are those that a step may have; healthy is the most frequent.
var modes = []mode{
	healthy, healthy, healthy, healthy, slow, refusing, flapping, limiting, hanging, lateOK, earlyOK,
	resetting, goaway, badKey, halfOpen, deaf,
}

// takes reports whether rows still arrive sooner or later, so that a step may wait
// for them.
func (m mode) takes() bool {
	switch m {
	case healthy, slow, flapping, lateOK, earlyOK, resetting, goaway:
		return true
	}
	return false
}

// weather is what the destination does, and what it has seen.
type weather struct {
	server  *sifttest.Server
	timeout time.Duration // of checkpoints
	poison  map[uint64]bool

	messages   atomic.Int64 // that came
	halfCloses atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
	mode   mode
	down   bool
	frozen bool
	turns  int // counts changes, so that those who wait notice
	turned chan struct{}
}

func newWeather(seed uint64, timeout time.Duration) *weather {
	return &weather{
		timeout: timeout, random: rand.New(rand.NewPCG(seed, 2)), mode: healthy, turned: make(chan struct{}),
	}
}

func (w *weather) chance(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// turn changes the behaviour; the server listens afterwards.
func (w *weather) turn(m mode) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = m
	w.turns++
	close(w.turned)
	w.turned = make(chan struct{})
	if w.frozen {
		w.frozen = false
		w.server.Thaw()
	}
	if m == badKey {
		w.server.SetKeys("another")
	} else {
		w.server.SetKeys()
	}
	if w.down {
		if err := w.server.Start(); err != nil {
			return err
		}
		w.down = false
	}
	if m == halfOpen {
		w.frozen = true
		w.server.Freeze()
	}
	return nil
}

// stop lets the server listen no more, until the next turn.
func (w *weather) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.down {
		w.down = true
		w.server.Stop()
	}
}

// restart sends GOAWAY on all connections and listens again.
func (w *weather) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.down {
		w.server.Drain()
		w.down = w.server.Start() != nil
	}
}

func (w *weather) now() (mode, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mode, w.turned
}

// until waits for a time, a change of the weather or the end of the stream.
func (w *weather) until(st *sifttest.Stream, d time.Duration) {
	_, turned := w.now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-turned:
	case <-st.Context().Done():
	}
}

const forever = time.Hour

var errUnavailable = status.Error(codes.Unavailable, "not now")

// behave is how each stream is treated.
func (w *weather) behave(st *sifttest.Stream) error {
	now, _ := w.now()
	switch now {
	case slow:
		return w.take(st, -1, 50, func() { w.until(st, 10*time.Millisecond) })
	case refusing:
		code := []codes.Code{codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Aborted, codes.PermissionDenied}[w.chance(5)]
		return w.end(st, w.chance(100), status.Error(code, "refused"))
	case flapping:
		if w.chance(2) == 0 {
			return w.end(st, w.chance(2000), errUnavailable)
		}
	case limiting:
		return w.end(st, w.chance(300), sifttest.RateLimited(time.Duration(50+w.chance(500))*time.Millisecond))
	case hanging:
		err := w.take(st, -1, 0, nil)
		w.until(st, forever)
		return errors.Join(err, st.Context().Err())
	case lateOK:
		if err := w.take(st, -1, 0, nil); err != nil {
			return err
		}
		w.until(st, w.timeout*3/2)
		return nil
	case earlyOK:
		if w.chance(2) == 0 {
			return w.endWhenQuiet(st, 1+w.chance(20))
		}
	case resetting:
		return w.take(st, -1, 1+w.chance(3000), w.server.Reset)
	case goaway:
		if w.chance(4) == 0 {
			return w.take(st, -1, 1+w.chance(3000), w.restart)
		}
	case deaf:
		w.until(st, forever)
	}
	return w.take(st, -1, 0, nil)
}

// end reads n messages and ends the stream.
func (w *weather) end(st *sifttest.Stream, n int, err error) error {
	if takeErr := w.take(st, n, 0, nil); takeErr != nil {
		return takeErr
	}
	return err
}

// endWhenQuiet answers OK after n messages or more, as soon as nothing comes for a
// moment: nobody can tell an early OK that meets the end of a stream from the answer.
func (w *weather) endWhenQuiet(st *sifttest.Stream, n int) error {
	if err := w.take(st, n, 0, nil); err != nil {
		return err
	}
	var count atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- w.take(st, -1, 1, func() { count.Add(1) }) }() // until the stream is over
	for {
		before := count.Load()
		timer := time.NewTimer(30 * time.Millisecond)
		select {
		case err := <-ended:
			timer.Stop()
			return err
		case <-timer.C:
		}
		if count.Load() == before {
			return nil
		}
	}
}

// take reads n messages, or all for -1, and calls do after each so many.
func (w *weather) take(st *sifttest.Stream, n, every int, do func()) error {
	for i := 1; n < 0 || i <= n; i++ {
		err := st.Next()
		if errors.Is(err, io.EOF) {
			w.halfCloses.Add(1)
			return w.judge(st)
		}
		if err != nil {
			return err
		}
		w.messages.Add(1)
		if every > 0 && i%every == 0 {
			do()
		}
	}
	return nil
}

// judge refuses a stream for the rows in it.
func (w *weather) judge(st *sifttest.Stream) error {
	if len(w.poison) == 0 {
		return nil
	}
	for _, m := range st.Messages() {
		if n, err := rowNumber(m); err == nil && w.poison[n] {
			return status.Errorf(codes.InvalidArgument, "row %d is not acceptable", n)
		}
	}
	return nil
}
