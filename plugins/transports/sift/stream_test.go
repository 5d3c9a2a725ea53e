package sift

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pipelined/pipelined/internal/sifttest"
	"github.com/pipelined/pipelined/sdk"
)

const (
	invalidArgument   = uint32(codes.InvalidArgument)
	unauthenticated   = uint32(codes.Unauthenticated)
	unavailable       = uint32(codes.Unavailable)
	canceled          = uint32(codes.Canceled)
	resourceExhausted = uint32(codes.ResourceExhausted)
)

func TestConfirmed(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{Keys: []string{"secret"}})
	tr, health := newTransport(t, server, func(c *Config) { c.APIKey = sdk.NewSecret("secret\n") })

	s := openStream(t, tr)
	want := [][]byte{testMessage(t, "a"), {}, testMessage(t, "b")}
	require.NoError(t, s.Send(t.Context(), delivery(want...)))
	require.NoError(t, s.Send(t.Context(), delivery()))
	_, err := s.Finish(t.Context())
	require.NoError(t, err)

	st := server.Stream(t, 0)
	assert.True(t, st.Acknowledged())
	assert.Equal(t, want, st.Messages())
	md := st.Metadata()
	assert.Equal(t, []string{"application/grpc"}, md["content-type"])
	assert.Equal(t, []string{userAgent}, md["user-agent"])
	assert.Equal(t, sdk.HealthOK, health.last().State)
}

func TestNoMessages(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	for range 3 {
		_, err := openStream(t, tr).Finish(t.Context())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, server.Connections())
}

// TestAnswers: whatever a server answers to a finished stream.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name      string
		behaviour sifttest.Behaviour
		class     sdk.Class // 0: confirmed
		code      codes.Code
		delay     time.Duration
		text      string
	}{
		{"OK", sifttest.TakeAll, 0, codes.OK, 0, ""},
		{"headers come first", sifttest.HeadersFirst(sifttest.TakeAll), 0, codes.OK, 0, ""},
		{"refused", sifttest.Refuse(status.Error(codes.InvalidArgument, "flow ‘x’ is unknown\n100 %")), sdk.ClassPermanent, codes.InvalidArgument, 0, "flow ‘x’ is unknown\n100 %"},
		{"not permitted", sifttest.Refuse(status.Error(codes.PermissionDenied, "no")), sdk.ClassPermanent, codes.PermissionDenied, 0, "no"},
		{"no reason", sifttest.Refuse(status.Error(codes.NotFound, "")), sdk.ClassPermanent, codes.NotFound, 0, "no reason"},
		{"unavailable", sifttest.Refuse(status.Error(codes.Unavailable, "later")), sdk.ClassDisconnected, codes.Unavailable, 0, "later"},
		{"internal", sifttest.Refuse(status.Error(codes.Internal, "trace 1")), sdk.ClassRetry, codes.Internal, 0, "trace 1"},
		{"rate limit", sifttest.Refuse(sifttest.RateLimited(1500 * time.Millisecond)), sdk.ClassRetry, codes.ResourceExhausted, 1500 * time.Millisecond, "rate limit"},
		{"rate limit without a time", sifttest.Refuse(sifttest.RateLimited(0)), sdk.ClassRetry, codes.ResourceExhausted, 0, "rate limit"},
		{"absurd rate limit", sifttest.Refuse(sifttest.RateLimited(99999 * time.Hour)), sdk.ClassRetry, codes.ResourceExhausted, time.Hour, "rate limit"},
		{"negative rate limit", sifttest.Refuse(sifttest.RateLimited(-time.Hour)), sdk.ClassRetry, codes.ResourceExhausted, 0, "rate limit"},
		{"exhausted", sifttest.Refuse(status.Error(codes.ResourceExhausted, "too large")), sdk.ClassRetry, codes.ResourceExhausted, 0, "too large"},
		{"OK without its message", func(st *sifttest.Stream) error {
			if err := sifttest.TakeAll(st); err != nil {
				return err
			}
			return sifttest.ErrTrailersOnly
		}, sdk.ClassRetry, codes.Internal, 0, "without the message"},
		{"unknown code", sifttest.Refuse(status.Error(99, "?")), sdk.ClassRetry, codes.Unknown, 0, `status "99"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := sifttest.New(t, sifttest.Options{})
			server.Queue(tc.behaviour)
			tr, health := newTransport(t, server)
			s := openStream(t, tr)
			send(t, s, "a", "b")
			_, err := s.Finish(t.Context())
			server.Stream(t, 0).WaitEnded(t)
			assert.Equal(t, 2, server.Stream(t, 0).Count())
			if tc.class == 0 {
				require.NoError(t, err)
				assert.True(t, server.Stream(t, 0).Acknowledged())
				return
			}
			e := requireFailure(t, err, tc.class, uint32(tc.code))
			assert.Contains(t, e.Message, tc.text)
			assert.Equal(t, tc.delay, e.Delay)
			switch tc.class {
			case sdk.ClassPermanent:
				assert.Equal(t, sdk.Health{State: sdk.HealthFailing, Reason: e.Message, Code: e.Code}, health.last())
			case sdk.ClassDisconnected:
				assert.Equal(t, sdk.HealthBlocked, health.last().State)
			}

			again := openStream(t, tr)
			send(t, again, "c")
			_, err = again.Finish(t.Context())
			require.NoError(t, err)
			assert.Equal(t, sdk.HealthOK, health.last().State)
			assert.Equal(t, 1, server.Connections(), "an answer is no reason for a new connection")
		})
	}
}

// TestEnded: the server ends the stream without being asked to.
func TestEnded(t *testing.T) {
	refused := status.Error(codes.InvalidArgument, "bad row")
	for _, tc := range []struct {
		name      string
		behaviour sifttest.Behaviour
		early     bool
	}{
		{"OK", sifttest.EndAfter(1, nil), true},
		{"OK at once", sifttest.EndAfter(0, nil), true},
		{"OK with headers first", sifttest.HeadersFirst(sifttest.EndAfter(1, nil)), true},
		{"OK without its message", sifttest.EndAfter(1, sifttest.ErrTrailersOnly), true},
		{"a status", sifttest.EndAfter(1, refused), false},
		{"a status at once", sifttest.EndAfter(0, refused), false},
	} {
		for _, via := range []string{"Finish", "Send"} {
			t.Run(tc.name+", noticed by "+via, func(t *testing.T) {
				server := sifttest.New(t, sifttest.Options{})
				server.Queue(tc.behaviour)
				tr, _ := newTransport(t, server)
				s := openStream(t, tr)
				_ = s.Send(t.Context(), delivery(testMessage(t, "a"), testMessage(t, "b")))
				<-s.(sdk.Watcher).Done()
				check := func(err error) {
					t.Helper()
					if tc.early {
						require.ErrorIs(t, err, sdk.ErrEndedEarly)
						return
					}
					e := requireFailure(t, err, sdk.ClassPermanent, invalidArgument)
					assert.Equal(t, "bad row", e.Message)
				}
				if via == "Send" {
					err := s.Send(t.Context(), delivery(testMessage(t, "c")))
					check(err)
					assert.Equal(t, err, s.Send(t.Context(), delivery(testMessage(t, "d"))))
				}
				_, err := s.Finish(t.Context())
				check(err)
				assert.False(t, server.Stream(t, 0).Acknowledged())
			})
		}
	}
}

// TestLateAnswer: Finish waits; meanwhile the next stream is served on the same
// connection.
func TestLateAnswer(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	release := make(chan struct{})
	server.Queue(sifttest.AnswerAfter(release))
	tr, _ := newTransport(t, server)
	first := openStream(t, tr)
	send(t, first, "a")
	server.Stream(t, 0)
	next := openStream(t, tr)
	answer := make(chan error, 1)
	go func() {
		_, err := first.Finish(context.Background())
		answer <- err
	}()
	<-server.Stream(t, 0).HalfClosed()

	send(t, next, "b")
	_, err := next.Finish(t.Context())
	require.NoError(t, err)
	select {
	case err := <-answer:
		t.Fatal("answered:", err)
	default:
	}
	close(release)
	require.NoError(t, <-answer)
	assert.Equal(t, 1, server.Connections())
}

// TestNoAnswer: at the end of its time Finish gives the stream up, and the server
// hears of it.
func TestNoAnswer(t *testing.T) {
	for name, stop := range map[string]func(cancel func(), s sdk.Stream){
		"context": func(cancel func(), _ sdk.Stream) { cancel() },
		"abort":   func(_ func(), s sdk.Stream) { s.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			server := sifttest.New(t, sifttest.Options{})
			server.Queue(sifttest.NeverAnswer)
			tr, _ := newTransport(t, server)
			s := openStream(t, tr)
			send(t, s, "a")
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan error, 1)
			go func() {
				_, err := s.Finish(ctx)
				answer <- err
			}()
			<-server.Stream(t, 0).HalfClosed()
			stop(cancel, s)
			requireFailure(t, <-answer, sdk.ClassRetry, canceled)
			server.Stream(t, 0).WaitEnded(t)
			assert.False(t, server.Stream(t, 0).Acknowledged())
			assert.Equal(t, []string{"a"}, flowsOf(t, server.Stream(t, 0)))
		})
	}
}

// TestBackpressure: Send blocks while the server reads nothing, until its context
// ends, the stream is aborted or the transport shut down; or goes on.
func TestBackpressure(t *testing.T) {
	for _, tc := range []struct {
		name string
		stop func(tr *transport, s sdk.Stream, cancel, release func())
		code uint32
	}{
		{"context", func(_ *transport, _ sdk.Stream, cancel, _ func()) { cancel() }, canceled},
		{"abort", func(_ *transport, s sdk.Stream, _, _ func()) { s.Abort() }, canceled},
		{"shutdown", func(tr *transport, _ sdk.Stream, _, _ func()) { _ = tr.Shutdown(context.Background()) }, unavailable},
		{"goes on", func(_ *transport, _ sdk.Stream, _, release func()) { release() }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := sifttest.New(t, sifttest.Options{Discard: true})
			release := make(chan struct{})
			var once sync.Once
			server.Queue(sifttest.ReadAfter(release))
			tr, _ := newTransport(t, server)
			s := openStream(t, tr)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			batch := delivery(make([]byte, 1<<20))
			const batches = 24 // more than the server's window grows to
			sent := make(chan error, 1)
			go func() {
				for range batches {
					if err := s.Send(ctx, batch); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			server.Stream(t, 0)
			tc.stop(tr, s, cancel, func() { once.Do(func() { close(release) }) })
			err := <-sent
			if tc.code == 0 {
				require.NoError(t, err)
				_, err = s.Finish(t.Context())
				require.NoError(t, err)
				assert.Equal(t, batches, server.Stream(t, 0).Count())
				return
			}
			assert.Equal(t, tc.code, sdk.AsError(err).Code)
			_, finish := s.Finish(t.Context())
			assert.Equal(t, err, finish)
			server.Stream(t, 0).WaitEnded(t)
			assert.False(t, server.Stream(t, 0).Acknowledged())
		})
	}
}
