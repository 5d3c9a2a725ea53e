package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

func TestDeliver(t *testing.T) {
	fsys, s := memory(), &server{}
	file, _ := chunks(rows(0, 1000, "a", "b", "c")...)
	set := settings(t, fsys, s)
	o := requireDelivered(t, set, file)
	assert.Equal(t, Outcome{
		Sent: 1000, End: true, Position: Position{Chunk: int64(len(file)), Through: int64(len(file))},
	}, o)
	numbers := s.numbers(t)
	for flow := range 3 {
		var got []int
		for _, n := range numbers {
			if n%3 == flow {
				got = append(got, n)
			}
		}
		assert.True(t, slices.IsSorted(got), "the order within a flow stays")
	}
	slices.Sort(numbers)
	assert.Equal(t, sequence(0, 1000), numbers)
	assert.Len(t, s.batches, 3, "messages of several flows in turn make long batches, too")

	o = requireDelivered(t, set, file)
	assert.Equal(t, int64(1000), o.Before)
	assert.Zero(t, o.Sent)
	assert.Equal(t, 1, s.sessions, "nobody is asked if there is nothing to send")
	assert.Equal(t, s.sessions, s.closed)
}

// Messages of one flow with other ids are never mixed, nor is their order changed.
func TestBatchesOfOneBinding(t *testing.T) {
	s := &server{}
	var messages [][]byte
	for n := range 100 {
		messages = append(messages, rowOf(n, "f", configID, fmt.Sprint("run ", n/10)))
	}
	file, _ := chunks(messages...)
	requireDelivered(t, settings(t, memory(), s), file)
	assert.Equal(t, sequence(0, 100), s.numbers(t))
	assert.Len(t, s.batches, 10)
}

func TestUnsendable(t *testing.T) {
	s := &server{}
	set := settings(t, memory(), s)
	set.MaxMessage = 200
	file, at := chunks(
		row(0, "f"), row(1, ""), row(2, string(make([]byte, 150))), rowOf(3, "f", "", "r"), row(4, "f"))
	o := requireDelivered(t, set, file)
	assert.Equal(t, []int{0, 4}, s.numbers(t))
	require.Len(t, o.Damage.Ranges, 3)
	for i, reason := range []string{"it names no flow", "it has 2", "it names no ingestion config"} {
		assert.Equal(t, Unsendable, o.Damage.Ranges[i].Kind)
		assert.Contains(t, o.Damage.Ranges[i].Reason, reason)
		assert.Equal(t, at[i+1]+16, o.Damage.Ranges[i].From)
	}
	o = requireDelivered(t, set, file)
	assert.Len(t, o.Damage.Ranges, 3, "it is said again")
}

func TestPlaceholders(t *testing.T) {
	s := &server{}
	unbound := sdk.Unbound()
	file, at := chunks(row(0, "f"), rowOf(1, "f", unbound.ConfigID, unbound.RunID), row(2, "f"))
	set := settings(t, memory(), s)
	o, err := deliver(t, set, file)
	require.ErrorIs(t, err, ErrUnbound)
	assert.Contains(t, err.Error(), fmt.Sprintf("from byte %d on", at[1]+16))
	assert.Equal(t, int64(1), o.Sent)
	assert.Equal(t, []int{0}, s.numbers(t))
	assert.Equal(t, at[1], o.Position.Through)

	r := New(set)
	survey, err := r.Survey(t.Context(), source(file))
	require.NoError(t, err)
	assert.Equal(t, int64(1), survey.Unbound)
	assert.Equal(t, int64(2), survey.Messages)
}

// Failures of every kind, at random: all rows arrive, and what comes twice was in a
// stream that was not confirmed.
func TestFailures(t *testing.T) {
	file, _ := chunks(rows(0, 300, "a", "b")...)
	rapid.Check(t, func(rt *rapid.T) {
		broken := errors.New("the process is gone")
		inRow := 0
		s := &server{}
		s.answer = func(sent [][]byte) error {
			var err error
			switch rapid.IntRange(0, 9).Draw(rt, "answer") {
			case 0:
				err = errAway
			case 1:
				err = sdk.AsError(sdk.ErrEndedEarly)
			case 2:
				err = &sdk.Error{Class: sdk.ClassRetry, Code: codeDeadline, Message: "late"}
			case 3:
				if inRow++; inRow < maxBroken {
					return broken
				}
			}
			if err == nil {
				inRow = 0
			}
			return err
		}
		set := settings(t, memory(), s)
		set.CheckpointBytes = int64(rapid.IntRange(100, len(file)).Draw(rt, "checkpoint"))
		set.Retry = backoff.Policy{}
		requireDelivered(t, set, file)
		got := s.numbers(rt)
		require.Len(rt, got, 300, "confirmed once each")
		slices.Sort(got)
		require.Equal(rt, sequence(0, 300), got)
	})
}

// Stopped at any confirmation and started again, with every kind of file: each row is
// confirmed once.
func TestStopAndGoOn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var file []byte
		total := 0
		for total < 200 {
			var body []byte
			for range rapid.IntRange(0, 20).Draw(rt, "messages") {
				body = pbfs.AppendMessage(body, row(total, "f"))
				total++
			}
			file = pbfs.AppendChunk(file, body)
		}
		fsys := memory()
		s := &server{}
		set := settings(t, fsys, s)
		set.CheckpointBytes = int64(rapid.IntRange(1, 3000).Draw(rt, "checkpoint"))
		src := source(file)
		for {
			stop := make(chan struct{})
			left := rapid.IntRange(1, 20).Draw(rt, "checkpoints")
			s.answer = func([][]byte) error {
				if left--; left == 0 {
					close(stop)
				}
				return nil
			}
			r := New(set)
			o, err := r.Deliver(t.Context(), stop, src)
			r.Close()
			if err == nil {
				require.True(rt, o.End)
				break
			}
			require.ErrorIs(rt, err, ErrStopped)
			require.Equal(rt, int64(len(s.confirmed)), o.Before+o.Sent)
		}
		require.Equal(rt, sequence(0, total), s.numbers(rt))
	})
}

// The message that is refused for good is found; all others arrive.
func TestRefused(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bad := rapid.SliceOfNDistinct(rapid.IntRange(0, 299), 0, 8, rapid.ID).Draw(rt, "bad")
		s := &server{}
		s.answer = func(sent [][]byte) error {
			for _, m := range sent {
				if slices.Contains(bad, numberOf(rt, m)) {
					return &sdk.Error{Class: sdk.ClassPermanent, Code: 3, Message: "bad row"}
				}
			}
			return nil
		}
		file, at := chunks(rows(0, 300, "f")...)
		set := settings(t, memory(), s)
		set.Retry = backoff.Policy{}
		o := requireDelivered(t, set, file)
		slices.Sort(bad)
		var refused, good []int
		for _, d := range o.Damage.Ranges {
			require.Equal(rt, Refused, d.Kind)
			refused = append(refused, slices.Index(at, d.From-16))
		}
		for n := range 300 {
			if !slices.Contains(bad, n) {
				good = append(good, n)
			}
		}
		require.True(rt, slices.Equal(bad, refused), "%v %v", bad, refused)
		require.Equal(rt, good, s.numbers(rt))
	})
}

func TestGivesUp(t *testing.T) {
	file, _ := chunks(rows(0, 300, "f")...)
	permanent := &sdk.Error{Class: sdk.ClassPermanent, Code: 5, Message: "no such config"}
	for _, tc := range []struct {
		name   string
		server server
		want   func(t *testing.T, err error)
	}{
		{
			name: "everything is refused", server: server{answer: func([][]byte) error { return permanent }},
			want: func(t *testing.T, err error) {
				require.ErrorIs(t, err, ErrRefusing)
				assert.Contains(t, err.Error(), "no such config")
			},
		},
		{
			name: "the key", server: server{answer: func([][]byte) error {
				return &sdk.Error{Class: sdk.ClassPermanent, Code: codeUnauthenticated, Message: "key"}
			}},
			want: func(t *testing.T, err error) {
				var unavailable *UnavailableError
				require.ErrorAs(t, err, &unavailable)
			},
		},
		{
			name: "the process ends again and again", server: server{answer: func([][]byte) error { return errors.New("exit status 2") }},
			want: func(t *testing.T, err error) {
				var unavailable *UnavailableError
				require.ErrorAs(t, err, &unavailable)
				assert.Contains(t, err.Error(), "exit status 2 (5 times in a row)")
			},
		},
		{
			name: "the process cannot be started", server: server{connect: func() error { return permanent }},
			want: func(t *testing.T, err error) {
				var unavailable *UnavailableError
				require.ErrorAs(t, err, &unavailable)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := settings(t, memory(), &tc.server)
			set.Retry = backoff.Policy{}
			o, err := deliver(t, set, file)
			tc.want(t, err)
			assert.Zero(t, o.Sent)
			assert.Equal(t, tc.server.sessions, tc.server.closed)
		})
	}
}

// Waits grow, honour what the destination asks for, and end with the stop.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, _ := chunks(rows(0, 10, "f")...)
		var at []time.Duration
		began := time.Now()
		s := &server{answer: func([][]byte) error {
			at = append(at, time.Since(began))
			if len(at) == 3 {
				return &sdk.Error{Class: sdk.ClassRetry, Code: 8, Message: "rate", Delay: time.Minute}
			}
			return errAway
		}}
		set := settings(t, memory(), s)
		set.Retry = backoff.Policy{Initial: time.Second, Max: 4 * time.Second, Multiplier: 2}
		stop := make(chan struct{})
		time.AfterFunc(3*time.Minute, func() { close(stop) })
		r := New(set)
		defer r.Close()
		_, err := r.Deliver(t.Context(), stop, source(file))
		require.ErrorIs(t, err, ErrStopped)
		assert.Equal(t, 3*time.Minute, time.Since(began))
		var waits []time.Duration
		for i := range at[1:] {
			waits = append(waits, at[i+1]-at[i])
		}
		for i, most := range []time.Duration{1, 2, 60, 4, 4} {
			assert.LessOrEqual(t, waits[i], most*time.Second)
			assert.GreaterOrEqual(t, waits[i], most*time.Second/2)
		}
		assert.Equal(t, time.Minute, waits[2])
	})
}

// A slow file is confirmed at the latest after the interval.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, _ := chunks(rows(0, 100_000, "f")...)
		s := &server{send: func(int) error {
			<-time.After(time.Second) // in the time of the bubble
			return nil
		}}
		streams := 0
		s.answer = func([][]byte) error { streams++; return nil }
		set := settings(t, memory(), s)
		o := requireDelivered(t, set, file)
		assert.Equal(t, int64(100_000), o.Sent)
		assert.Equal(t, 3, streams, "25 batches, a second each")
	})
}

func TestCanceled(t *testing.T) {
	file, _ := chunks(rows(0, 100, "f")...)
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{answer: func([][]byte) error { cancel(); return context.Canceled }}
	r := New(settings(t, memory(), s))
	defer r.Close()
	_, err := r.Deliver(ctx, nil, source(file))
	require.ErrorIs(t, err, ErrStopped)
}

func TestSurvey(t *testing.T) {
	s := &server{}
	set := settings(t, memory(), s)
	set.Filter = Filter{Since: time.Unix(10, 0), Until: time.Unix(20, 0), Flows: []string{"a"}}
	file, _ := chunks(rows(0, 100, "a", "b")...)
	survey, err := New(set).Survey(t.Context(), source(file))
	require.NoError(t, err)
	assert.Equal(t, Survey{Messages: 5, Left: 95, Groups: []Group{{
		Flow: "a", Config: configID, Run: "r", Messages: 5, Bytes: 5 * int64(len(row(10, "a"))), Timed: 5,
		From: time.Unix(10, 0).UTC(), To: time.Unix(18, 0).UTC(),
	}}}, survey)
	assert.Zero(t, s.sessions)
}
