package sift

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

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
	ids := func(b sdk.Binding) []byte {
		m, err := proto.Marshal(&ingestv1.IngestWithConfigDataStreamRequest{
			IngestionConfigId: b.ConfigID, Flow: "f", RunId: b.RunID,
		})
		require.NoError(t, err)
		return m
	}
	for _, tc := range []struct {
		name string
		d    sdk.Delivery
		text string
	}{
		{"too large", *delivery(fine, make([]byte, maxMessageBytes+1)), "message 2 of the batch has 4194305 bytes; the destination takes at most 4194304"},
		{"another format", sdk.Delivery{Format: "csv", Body: encoded(fine)}, "csv"},
		{"unbound config", sdk.Delivery{Format: format, Body: encoded(fine), Binding: sdk.Unbound()}, "not bound"},
		{"unbound run", sdk.Delivery{Format: format, Body: encoded(fine), Binding: sdk.Binding{ConfigID: "c", RunID: sdk.Unbound().RunID}}, "not bound"},
		{"config of a message", sdk.Delivery{Format: format, Body: encoded(fine, ids(sdk.Placeholder(false)))}, "message 2 of the batch carries a placeholder id"},
		{"run of a message", sdk.Delivery{Format: format, Body: encoded(ids(sdk.Binding{ConfigID: "c", RunID: sdk.Unbound().RunID}))}, "message 1 of the batch carries a placeholder id"},
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

// TestValuesThatLookLikePlaceholders: a placeholder is one only where ids belong.
func TestValuesThatLookLikePlaceholders(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	placeholder := sdk.Unbound().RunID
	value := func(text string) []*ingestv1.IngestWithConfigDataChannelValue {
		return []*ingestv1.IngestWithConfigDataChannelValue{{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: text}}}
	}
	var messages [][]byte
	for _, r := range []*ingestv1.IngestWithConfigDataStreamRequest{
		{IngestionConfigId: "c", Flow: placeholder},
		{Flow: placeholder},
		{IngestionConfigId: "c", Flow: "f", ChannelValues: value(placeholder)},
		{IngestionConfigId: "c", Flow: "f", ChannelValues: value("\x2a\x24" + placeholder)},
		{IngestionConfigId: "c", Flow: "f", RunId: strings.Repeat("r", 36), ChannelValues: value(placeholder)},
	} {
		m, err := proto.Marshal(r)
		require.NoError(t, err)
		messages = append(messages, m)
	}
	s := openStream(t, tr)
	require.NoError(t, s.Send(t.Context(), delivery(messages...)))
	_, err := s.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, messages, server.Stream(t, 0).Messages())
}

// FuzzFindUnbound: any body is looked through, and nothing that reads messages in
// another way finds more, or less.
func FuzzFindUnbound(f *testing.F) {
	f.Add([]byte("x"), true)
	f.Add([]byte(sdk.UnboundPrefix), false)
	f.Fuzz(func(t *testing.T, m []byte, run bool) {
		findUnbound(encoded(m, m))
		r := new(ingestv1.IngestWithConfigDataStreamRequest)
		if proto.Unmarshal(m, r) != nil {
			return
		}
		if hasPlaceholder(m) != (strings.HasPrefix(r.GetIngestionConfigId(), sdk.UnboundPrefix) || strings.HasPrefix(r.GetRunId(), sdk.UnboundPrefix)) {
			t.Skip("a field is there twice")
		}
		r.IngestionConfigId, r.RunId = sdk.Placeholder(run).ConfigID, sdk.Placeholder(run).RunID
		bound, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err == nil {
			assert.Equal(t, 0, findUnbound(encoded(bound)))
		}
	})
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
