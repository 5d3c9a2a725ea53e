package control_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 1024

func isReady(s *control.Subscription) bool {
	select {
	case <-s.Ready():
		return true
	default:
		return false
	}
}

func TestNoticesOfOneKindAndTrackBecomeOne(t *testing.T) {
	bus := control.NewBus(limit)
	s := bus.Subscribe(control.AllTracks)
	defer s.Close()
	for _, n := range []control.Notice{
		{Kind: control.CheckpointComplete, Track: 0, First: 10, Last: 19},
		{Kind: control.BackupFull, Track: control.AllTracks},
		{Kind: control.CheckpointComplete, Track: 1, First: 5, Last: 6},
		{Kind: control.CheckpointComplete, Track: 0, First: 30, Last: 31},
		{Kind: control.CheckpointComplete, Track: 0, First: 3, Last: 4},
		{Kind: control.BackupFull, Track: control.AllTracks},
	} {
		bus.Publish(n)
	}
	assert.Equal(t, []control.Notice{
		{Kind: control.CheckpointComplete, Track: 0, First: 3, Last: 31},
		{Kind: control.BackupFull, Track: control.AllTracks},
		{Kind: control.CheckpointComplete, Track: 1, First: 5, Last: 6},
	}, s.Take())
	assert.Empty(t, s.Take())
}

func TestANoticeWithoutIdsKeepsThoseOfAnother(t *testing.T) {
	bus := control.NewBus(limit)
	s := bus.Subscribe(2)
	defer s.Close()
	bus.Publish(control.Notice{Kind: control.ReingestBackups, Track: 2})
	bus.Publish(control.Notice{Kind: control.ReingestBackups, Track: 2, First: 7, Last: 9})
	bus.Publish(control.Notice{Kind: control.ReingestBackups, Track: 2})
	assert.Equal(t, []control.Notice{{Kind: control.ReingestBackups, Track: 2, First: 7, Last: 9}}, s.Take())
}

func TestWhoIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		track  int
		kinds  []control.Kind
		notice control.Notice
		told   bool
	}{
		{"its track", 1, nil, control.Notice{Kind: control.Shutdown, Track: 1}, true},
		{"another track", 1, nil, control.Notice{Kind: control.Shutdown, Track: 2}, false},
		{"a notice for all", 1, nil, control.Notice{Kind: control.Shutdown, Track: control.AllTracks}, true},
		{"a listener to all", control.AllTracks, nil, control.Notice{Kind: control.Shutdown, Track: 7}, true},
		{"its kind", 1, []control.Kind{control.BackupFull, control.Shutdown}, control.Notice{Kind: control.Shutdown, Track: 1}, true},
		{"another kind", 1, []control.Kind{control.BackupFull}, control.Notice{Kind: control.Shutdown, Track: 1}, false},
		{"no kind", 1, nil, control.Notice{Track: 1}, false},
		{"a kind that is none", 1, nil, control.Notice{Kind: control.Shutdown + 1, Track: 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bus := control.NewBus(limit)
			s := bus.Subscribe(c.track, c.kinds...)
			defer s.Close()
			bus.Publish(c.notice)
			assert.Equal(t, c.told, isReady(s))
			if c.told {
				assert.Equal(t, []control.Notice{c.notice}, s.Take())
			}
		})
	}
}

func TestReady(t *testing.T) {
	bus := control.NewBus(limit)
	s := bus.Subscribe(0)
	assert.False(t, isReady(s), "nothing came")
	for range 3 {
		bus.Publish(control.Notice{Kind: control.Shutdown, Track: 0})
	}
	assert.True(t, isReady(s))
	assert.False(t, isReady(s), "once for all that waits")
	bus.Publish(control.Notice{Kind: control.Shutdown, Track: 0})
	require.Len(t, s.Take(), 1)
	assert.False(t, isReady(s), "nothing is left")
	bus.Publish(control.Notice{Kind: control.Shutdown, Track: 0})
	assert.True(t, isReady(s), "something came after Take")
	s.Close()
	s.Close()
	bus.Publish(control.Notice{Kind: control.Shutdown, Track: 0})
	assert.False(t, isReady(s), "closed")
	assert.Empty(t, s.Take())
}

func TestFromBeforeTheSubscription(t *testing.T) {
	bus := control.NewBus(limit)
	bus.Publish(control.Notice{Kind: control.Shutdown, Track: control.AllTracks})
	s := bus.Subscribe(0)
	defer s.Close()
	assert.False(t, isReady(s))
}

func TestManyTracksStayWithinTheLimit(t *testing.T) {
	bus := control.NewBus(8)
	s := bus.Subscribe(control.AllTracks)
	defer s.Close()
	bus.Publish(control.Notice{Kind: control.BackupFull, Track: control.AllTracks})
	for track := range 100 {
		id := uint64(1000 - track)
		bus.Publish(control.Notice{Kind: control.CheckpointComplete, Track: track, First: id, Last: id})
	}
	all := s.Take()
	assert.LessOrEqual(t, len(all), 8)
	first, last := uint64(1000), uint64(0)
	for _, n := range all[1:] {
		first, last = min(first, n.First), max(last, n.Last)
	}
	assert.Equal(t, []uint64{901, 1000}, []uint64{first, last})
}

// What was published to a listener and is not taken yet is within what waits.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(0, 12).Draw(t, "limit")
		track := rapid.IntRange(-1, 4).Draw(t, "track")
		wanted := rapid.SliceOfDistinct(rapid.Map(rapid.IntRange(1, 6), func(k int) control.Kind { return control.Kind(k) }), func(k control.Kind) control.Kind { return k }).Draw(t, "kinds")
		bus := control.NewBus(bound)
		s := bus.Subscribe(track, wanted...)
		defer s.Close()
		var published []control.Notice
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				first := rapid.Uint64Range(1, 50).Draw(t, "first")
				n := control.Notice{
					Kind:  control.Kind(rapid.IntRange(1, 6).Draw(t, "kind")),
					Track: rapid.IntRange(-1, 4).Draw(t, "track"),
					First: first,
					Last:  first + rapid.Uint64Range(0, 5).Draw(t, "more"),
				}
				bus.Publish(n)
				forUs := track == control.AllTracks || n.Track == control.AllTracks || n.Track == track
				if forUs && (len(wanted) == 0 || slices.Contains(wanted, n.Kind)) {
					published = append(published, n)
				}
			},
			"take": func(t *rapid.T) {
				ready, taken := isReady(s), s.Take()
				if ready != (len(published) > 0) || len(taken) > max(bound, 6) {
					t.Fatalf("ready %v with %d published; %d taken", ready, len(published), len(taken))
				}
				for _, n := range published {
					if !slices.ContainsFunc(taken, func(o control.Notice) bool { return covers(o, n) }) {
						t.Fatalf("%+v is not in %+v", n, taken)
					}
				}
				for _, n := range taken {
					if !slices.ContainsFunc(published, func(o control.Notice) bool { return o.Kind == n.Kind && o.First == n.First }) {
						t.Fatalf("nobody published %+v", n)
					}
				}
				published = nil
			},
		})
	})
}

func covers(whole, part control.Notice) bool {
	return whole.Kind == part.Kind && (whole.Track == control.AllTracks || whole.Track == part.Track) &&
		whole.First <= part.First && whole.Last >= part.Last
}

func TestManyAtOnce(t *testing.T) {
	const publishers, each = 4, 1000
	bus := control.NewBus(limit)
	s := bus.Subscribe(0, control.CheckpointComplete, control.Shutdown)
	var publish sync.WaitGroup
	for range publishers {
		publish.Go(func() {
			for id := uint64(1); id <= each; id++ {
				bus.Publish(control.Notice{Kind: control.CheckpointComplete, Track: 0, First: id, Last: id})
				bus.Subscribe(0).Close()
			}
		})
	}
	go func() {
		publish.Wait()
		bus.Publish(control.Notice{Kind: control.Shutdown, Track: control.AllTracks})
	}()
	last := uint64(0)
	for ended := false; !ended; {
		<-s.Ready()
		for _, n := range s.Take() {
			last = max(last, n.Last)
			ended = ended || n.Kind == control.Shutdown
		}
	}
	assert.Equal(t, uint64(each), last)
	s.Close()
}

func TestKindNames(t *testing.T) {
	assert.Equal(t, "CheckpointNeedsReingestion", control.CheckpointNeedsReingestion.String())
	assert.Equal(t, "Kind(0)", control.Kind(0).String())
	assert.Equal(t, "Kind(7)", control.Kind(7).String())
}
