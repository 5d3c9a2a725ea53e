package sift

import (
	"context"
	"errors"
	"fmt"
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

// TestHalfOpen: a server that is gone without a word is noticed, also while
// nothing is sent, and the next stream takes a new connection.
func TestHalfOpen(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{TLS: true})
	tr, health := newTransport(t, server, func(c *Config) {
		c.Keepalive, c.TLSCA = 100*time.Millisecond, server.CAFile(t)
	})
	idle := openStream(t, tr)
	server.Stream(t, 0)
	s := openStream(t, tr)
	send(t, s, "a")
	server.Stream(t, 1).WaitCount(t, 1)
	server.Freeze()
	<-idle.(sdk.Watcher).Done()
	_, err := s.Finish(t.Context())
	e := requireFailure(t, err, sdk.ClassDisconnected, unavailable)
	assert.Contains(t, e.Message, "keepalive")
	assert.Equal(t, sdk.HealthBlocked, health.last().State)

	server.Thaw()
	again := openStream(t, tr)
	assert.Equal(t, sdk.HealthOK, health.last().State)
	_, err = again.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, server.Connections())
}

func TestConnectionReset(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	s := openStream(t, tr)
	send(t, s, "a")
	server.Stream(t, 0)
	server.Reset()
	<-s.(sdk.Watcher).Done()
	_, err := s.Finish(t.Context())
	requireFailure(t, err, sdk.ClassDisconnected, unavailable)
	_, err = openStream(t, tr).Finish(t.Context())
	require.NoError(t, err)
}

// TestGoAway: a stream that is open may end; the next one takes a new connection.
func TestGoAway(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	s := openStream(t, tr)
	send(t, s, "a")
	server.Stream(t, 0)
	server.Drain()
	require.NoError(t, server.Start())
	_, err := s.Finish(t.Context())
	require.NoError(t, err)
	for { // the GOAWAY may still be on its way
		next, err := tr.OpenStream(t.Context(), sdk.StreamOptions{})
		require.NoError(t, err)
		if _, err = next.Finish(t.Context()); err == nil {
			break
		}
		requireFailure(t, err, sdk.ClassDisconnected, unavailable)
	}
}

func TestKeyRefused(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{Keys: []string{"new"}})
	tr, health := newTransport(t, server, func(c *Config) { c.APIKey = sdk.NewSecret("revoked-key") })
	s := openStream(t, tr)
	<-s.(sdk.Watcher).Done()
	_, err := s.Finish(t.Context())
	e := requireFailure(t, err, sdk.ClassPermanent, unauthenticated)
	assert.NotContains(t, e.Message, "revoked-key")
	assert.Equal(t, sdk.HealthFailing, health.last().State)
	assert.Equal(t, unauthenticated, health.last().Code)

	server.SetKeys("revoked-key")
	_, err = openStream(t, tr).Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, sdk.Health{State: sdk.HealthOK}, health.last())
}

// TestRefusedBatches: what cannot be sent is refused whole, and ends the stream.
func TestRefusedBatches(t *testing.T) {
	fine := testMessage(t, "fine")
	for _, tc := range []struct {
		name string
		d    sdk.Delivery
		text string
	}{
		{"too large", *delivery(fine, make([]byte, maxMessageBytes+1)), "message 2 of the batch has 4194305 bytes; the destination takes at most 4194304"},
		{"another format", sdk.Delivery{Format: "csv", Body: encoded(fine)}, "csv"},
		{"unbound config", sdk.Delivery{Format: format, Body: encoded(fine), Binding: sdk.Unbound()}, "not bound"},
		{"unbound run", sdk.Delivery{Format: format, Body: encoded(fine), Binding: sdk.Binding{ConfigID: "c", RunID: sdk.Unbound().RunID}}, "not bound"},
		{"cut in a length", sdk.Delivery{Format: format, Body: append(encoded(fine), 1, 0, 0)}, "no length"},
		{"cut in a message", sdk.Delivery{Format: format, Body: append(encoded(fine), 5, 0, 0, 0, 'x')}, "only 1 are left"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := sifttest.New(t, sifttest.Options{})
			tr, _ := newTransport(t, server)
			s := openStream(t, tr)
			send(t, s, "before")
			server.Stream(t, 0).WaitCount(t, 1)
			err := s.Send(t.Context(), &tc.d)
			e := requireFailure(t, err, sdk.ClassPermanent, invalidArgument)
			assert.Contains(t, e.Message, tc.text)
			_, finish := s.Finish(t.Context())
			assert.Equal(t, err, finish)
			server.Stream(t, 0).WaitEnded(t)
			assert.Equal(t, []string{"before"}, flowsOf(t, server.Stream(t, 0)))
			assert.False(t, server.Stream(t, 0).Acknowledged())
		})
	}
}

func TestLargestMessage(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	s := openStream(t, tr)
	large := make([]byte, maxMessageBytes)
	large[0], large[len(large)-1] = 1, 2
	require.NoError(t, s.Send(t.Context(), delivery(testMessage(t, "a"), large, testMessage(t, "b"))))
	_, err := s.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, [][]byte{testMessage(t, "a"), large, testMessage(t, "b")}, server.Stream(t, 0).Messages())
}

// TestServerLimit: a server with a smaller limit says so.
func TestServerLimit(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{MaxMessageBytes: 1000})
	tr, _ := newTransport(t, server)
	s := openStream(t, tr)
	_ = s.Send(t.Context(), delivery(make([]byte, 1001)))
	<-s.(sdk.Watcher).Done()
	_, err := s.Finish(t.Context())
	e := requireFailure(t, err, sdk.ClassRetry, resourceExhausted)
	assert.Zero(t, e.Delay)
}

func TestGzip(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server, func(c *Config) { c.Gzip = true })
	s := openStream(t, tr)
	want := [][]byte{testMessage(t, string(make([]byte, 5000))), testMessage(t, "short"), make([]byte, 100_000)}
	require.NoError(t, s.Send(t.Context(), delivery(want...)))
	_, err := s.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, server.Stream(t, 0).Messages())
	assert.Less(t, tr.counters.bytes.Load(), uint64(1000))
}

func TestNewConnection(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	release := make(chan struct{})
	server.Queue(sifttest.AnswerAfter(release))
	tr, _ := newTransport(t, server)
	old := openStream(t, tr)
	send(t, old, "a")
	server.Stream(t, 0)
	fresh := openStream(t, tr, sdk.StreamOptions{NewConnection: true})
	_, err := fresh.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, server.Connections())
	close(release)
	_, err = old.Finish(t.Context()) // its connection lived on
	require.NoError(t, err)
	_, err = openStream(t, tr).Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, server.Connections())
}

// TestManyStreams: streams on one connection do not disturb each other.
func TestManyStreams(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	const streams, batches = 8, 50
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			s, err := tr.OpenStream(t.Context(), sdk.StreamOptions{})
			if !assert.NoError(t, err) {
				return
			}
			for j := range batches {
				d := delivery(testMessage(t, fmt.Sprint(i)), testMessage(t, fmt.Sprint(j)), make([]byte, 3000))
				if !assert.NoError(t, s.Send(t.Context(), d)) {
					break
				}
			}
			_, err = s.Finish(t.Context())
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for i := range streams {
		st := server.Stream(t, i)
		require.True(t, st.Acknowledged())
		got := st.Messages()
		require.Len(t, got, 3*batches)
		for j := range batches {
			assert.Equal(t, got[0], got[3*j])
			assert.Equal(t, testMessage(t, fmt.Sprint(j)), got[3*j+1])
		}
		seen[string(got[0])] = true
	}
	assert.Len(t, seen, streams)
	assert.Equal(t, 1, server.Connections())
}

func TestShutdown(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	s := openStream(t, tr)
	server.Stream(t, 0)
	require.NoError(t, tr.Shutdown(t.Context()))
	require.NoError(t, tr.Shutdown(t.Context()))
	_, err := s.Finish(t.Context())
	requireFailure(t, err, sdk.ClassDisconnected, unavailable)
	_, err = tr.OpenStream(t.Context(), sdk.StreamOptions{})
	require.ErrorIs(t, err, errShutdown)
	server.Stream(t, 0).WaitEnded(t)
}

func TestMetrics(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(sifttest.TakeAll, sifttest.EndAfter(0, nil), sifttest.Refuse(status.Error(codes.Internal, "x")))
	tr, _ := newTransport(t, server)
	for i := range 3 {
		s := openStream(t, tr)
		if i != 1 {
			send(t, s, "a", "b")
		} else {
			<-s.(sdk.Watcher).Done()
		}
		_, _ = s.Finish(t.Context())
	}
	openStream(t, tr).Abort()
	open := openStream(t, tr, sdk.StreamOptions{NewConnection: true})
	got := make(map[string]float64)
	for _, m := range tr.Metrics() {
		got[m.Name+m.Labels["code"]] = m.Value
		assert.NotEmpty(t, m.Help)
	}
	assert.Equal(t, map[string]float64{
		"messages_sent_total": 4, "bytes_sent_total": float64(4 * (5 + len(testMessage(t, "a")))),
		"streams_total": 5, "streams_open": 1, "connections_total": 2, "reconnects_total": 1,
		"streams_ended_early_total":    1,
		"stream_answers_totalOK":       2, // the early one too
		"stream_answers_totalINTERNAL": 1, "stream_answers_totalCANCELLED": 1,
	}, got)
	open.Abort()
	_, err := open.Finish(t.Context())
	assert.False(t, errors.Is(err, sdk.ErrEndedEarly))
}
