package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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
	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
)

// load is a pipeline with numbered rows: it sends the rows 0, 1, 2, … of a flow.
type load struct {
	uri      string
	rows     int    // 0: without end
	rate     string // rows per second; empty: 20000
	timeout  string // of checkpoints; empty: 10s
	interval string // of checkpoints; empty: 100ms
	extra    string // settings of the transport
	pipeline string // settings of the pipeline
}

func (l load) hcl() string {
	or := func(text, other string) string {
		if text == "" {
			return other
		}
		return text
	}
	return fmt.Sprintf(`
pipeline "load" {
  asset = "stand"
  %s
  source "generator" "counter" {
    flow  = "load"
    rate  = %s
    rows  = %d
    start = "2026-01-01T00:00:00Z"
    batch = 100
    channel "n" {
      type = "uint64"
      wave = "counter"
    }
  }
  encoder "ingestion_config" {
    client_key = "stand-v1"
  }
  transport "sift" "live" {
    uri     = %q
    api_key = secret::env(%q)
    checkpoint {
      interval = %q
      timeout  = %q
    }
    retry {
      initial    = "20ms"
      max        = "200ms"
      multiplier = 2
    }
    %s
  }
}
`, l.pipeline, or(l.rate, "20000"), l.rows, l.uri, apiKey, or(l.interval, "100ms"), or(l.timeout, "10s"), l.extra)
}

func (l load) start(t *testing.T) *host {
	t.Helper()
	return start(t, options{}, "run", writeFile(t, "load.hcl", l.hcl()))
}

// numbers returns which rows are in messages, and how often each of them is.
func numbers(t *testing.T, messages [][]byte) map[uint64]int {
	t.Helper()
	out := map[uint64]int{}
	for _, m := range messages {
		var r ingestv1.IngestWithConfigDataStreamRequest
		require.NoError(t, proto.Unmarshal(m, &r))
		require.Equal(t, "load", r.GetFlow())
		require.Len(t, r.GetChannelValues(), 1)
		n := r.GetChannelValues()[0].GetUint64()
		at := r.GetTimestamp().AsTime().Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		require.GreaterOrEqual(t, at, time.Duration(0), "row %d", n)
		out[n]++
	}
	return out
}

// requireDelivered waits for a good end and checks that the server has confirmed
// every row, and that the account says so.
func (h *host) requireDelivered(server *sifttest.Server, rows int) {
	h.t.Helper()
	h.requireExit(exitOK)
	got := numbers(h.t, server.Acknowledged())
	for n := range uint64(rows) {
		require.NotZero(h.t, got[n], "row %d was not delivered", n)
	}
	require.Len(h.t, got, rows)
	require.Equal(h.t, uint64(rows), h.requireBalanced("load"))
}

const faultRows = 8000 // of a run with faults: some hundred ms of data

// What a destination does to streams. Whatever it is, every row arrives, the run
// ends well, and the account is exact.
func TestStreamFaults(t *testing.T) {
	t.Parallel()
	unavailable := status.Error(codes.Unavailable, "going down for a moment")
	for _, tc := range []struct {
		name    string
		streams []sifttest.Behaviour // the first ones
		timeout string
		// interval of checkpoints; none at all keeps streams open until something
		// happens to them
		interval string
		logged   []string // what the log must say
	}{
		{
			name:    "status in mid-stream",
			streams: []sifttest.Behaviour{sifttest.EndAfter(150, unavailable), sifttest.EndAfter(1, unavailable), sifttest.EndAfter(777, unavailable)},
			logged:  []string{"going down for a moment", "messages will be sent again"},
		},
		{
			name: "status at the checkpoint",
			streams: []sifttest.Behaviour{
				sifttest.Refuse(status.Error(codes.Internal, "trace 0af7")), sifttest.Refuse(status.Error(codes.Internal, "trace 0af8")),
			},
			logged: []string{"trace 0af7"},
		},
		{
			name:    "key refused for a while",
			streams: []sifttest.Behaviour{sifttest.EndAfter(10, status.Error(codes.Unauthenticated, "key expired")), sifttest.EndAfter(0, status.Error(codes.PermissionDenied, "not yet"))},
			logged:  []string{"key expired", "not yet"},
		},
		{
			name:     "early OK",
			streams:  []sifttest.Behaviour{sifttest.EndAfter(123, nil), sifttest.EndAfter(1, nil), sifttest.EndAfter(0, nil)},
			interval: "1h",
			logged:   []string{"before it was asked"},
		},
		{
			name:    "OK without a message",
			streams: []sifttest.Behaviour{sifttest.Refuse(sifttest.ErrTrailersOnly), sifttest.Refuse(sifttest.ErrTrailersOnly)},
			logged:  []string{"OK without the message"},
		},
		{
			name:    "headers first, then a status",
			streams: []sifttest.Behaviour{sifttest.HeadersFirst(sifttest.EndAfter(50, unavailable)), sifttest.HeadersFirst(sifttest.TakeAll)},
			logged:  []string{"going down for a moment"},
		},
		{
			name:    "limit of size",
			streams: []sifttest.Behaviour{sifttest.EndAfter(5, status.Error(codes.ResourceExhausted, "message larger than max"))},
			logged:  []string{"larger than max"},
		},
		{
			name:    "checkpoint without an answer",
			streams: []sifttest.Behaviour{sifttest.NeverAnswer, sifttest.NeverAnswer},
			timeout: "300ms",
			logged:  []string{"messages will be sent again"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
			server.Queue(tc.streams...)
			h := load{uri: server.URI(), rows: faultRows, timeout: tc.timeout, interval: tc.interval}.start(t)
			h.requireDelivered(server, faultRows)
			for _, text := range tc.logged {
				assert.Contains(t, h.stderr.String(), text)
			}
			assert.Greater(t, len(server.Streams()), len(tc.streams))
		})
	}
}

// After a checkpoint that nobody answers the next stream takes another connection.
func TestNewConnectionAfterTimeout(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(sifttest.NeverAnswer)
	h := load{uri: server.URI(), rows: 4 * faultRows, timeout: "300ms"}.start(t)
	h.requireDelivered(server, 4*faultRows)
	// One for the registration, one for the silent stream, one for what followed.
	assert.GreaterOrEqual(t, server.Connections(), 3)
}

// A late answer still counts: what it confirms is not counted twice.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	release := make(chan struct{})
	server.Queue(sifttest.AnswerAfter(release))
	h := load{uri: server.URI(), rows: faultRows, timeout: "300ms"}.start(t)
	h.awaitOutput("messages will be sent again")
	close(release)
	h.requireDelivered(server, faultRows)
}

// The wait that a rate limit asks for is kept.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	const delay = 700 * time.Millisecond
	var mu sync.Mutex
	var limited, again time.Time
	note := func(at *time.Time, b sifttest.Behaviour) sifttest.Behaviour {
		return func(st *sifttest.Stream) error {
			mu.Lock()
			if *at = time.Now(); at == &limited {
				defer mu.Unlock()
				return b(st)
			}
			mu.Unlock()
			return b(st)
		}
	}
	server := sifttest.New(t, sifttest.Options{})
	server.Queue(note(&limited, sifttest.EndAfter(0, sifttest.RateLimited(delay))), note(&again, sifttest.TakeAll))
	h := load{uri: server.URI(), rows: faultRows}.start(t)
	h.requireDelivered(server, faultRows)
	assert.GreaterOrEqual(t, again.Sub(limited), delay)
}

// The connection breaks in several ways under load.
func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, s *sifttest.Server){
		"reset": func(_ *testing.T, s *sifttest.Server) { s.Reset() },
		"restart": func(t *testing.T, s *sifttest.Server) {
			s.Stop()
			require.NoError(t, s.Start())
		},
		"goaway": func(t *testing.T, s *sifttest.Server) {
			s.Drain()
			require.NoError(t, s.Start())
		},
		"frozen": func(t *testing.T, s *sifttest.Server) {
			// Half-open: the client notices by itself and makes another connection.
			before := s.Connections()
			s.Freeze()
			eventually(t, "no other connection is tried", func() bool { return s.Connections() > before })
			s.Thaw()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			l := load{uri: server.URI(), rows: 30_000, timeout: "500ms", extra: `keepalive = "1s"`}
			h := l.start(t)
			for i := range 3 {
				if name == "frozen" && i > 0 {
					break // it takes seconds, after which the rest comes at once
				}
				server.Stream(t, 3*i).WaitCount(t, 20)
				fault(t, server)
			}
			h.requireDelivered(server, l.rows)
		})
	}
}

// A destination that is down when the host starts, and comes later.
func TestDestinationComesLater(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	server.Stop()
	h := load{uri: server.URI(), rows: faultRows}.start(t)
	h.awaitOutput("destination does not answer")
	require.NoError(t, server.Start())
	h.requireDelivered(server, faultRows)
}

// A destination that never comes: the run ends in time, says why, and nothing is
// counted as delivered.
func TestDestinationNeverComes(t *testing.T) {
	t.Parallel()
	h := run(t, options{}, "run", "--for", "1s", writeFile(t, "load.hcl", load{uri: "http://" + freeAddress(t), rows: 100}.hcl()))
	h.requireExit(exitUnavailable)
	assert.Contains(t, h.stderr.String(), "transport sift.live")
	assert.Contains(t, h.stderr.String(), "connection refused")
	assert.Zero(t, h.account("load")["load"].tracks["sift.live"].delivered)
}

// A destination that goes away for good under load: after the drain time the run
// ends, and the account says what did not get there.
func TestDestinationGone(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	l := load{uri: server.URI(), pipeline: `drain_timeout = "1s"`}
	h := l.start(t)
	eventually(t, "no checkpoint", func() bool { return len(server.Acknowledged()) > 0 })
	server.Stop()
	h.awaitOutput("connection refused")
	h.interrupt()
	code := h.wait()
	a := h.account("load")["load"]
	track := a.tracks["sift.live"]
	assert.NotZero(t, track.pending)
	assert.Zero(t, track.lost)
	assert.Equal(t, a.accepted, track.delivered)
	assert.Equal(t, a.read-a.accepted, track.pending, "nothing is unaccounted for: %+v", a)
	assert.GreaterOrEqual(t, uint64(len(numbers(t, server.Acknowledged()))), track.delivered)
	assert.Equal(t, exitPending, code, "its source can make the rows again")
	assert.Contains(t, h.stderr.String(), "not delivered")
}

// A key that the destination does not take ends the run at once; the message names
// transport and status, and not the key.
func TestKeyRefused(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"another"}})
	l := load{uri: server.URI(), rows: 10}
	h := run(t, options{env: []string{apiKey + "=canary-5c1d"}}, "run", writeFile(t, "load.hcl", l.hcl()))
	h.requireExit(exitUnavailable)
	last := lastLine(h.stderr.String())
	assert.Contains(t, last, "sift.live")
	assert.Contains(t, last, "UNAUTHENTICATED")
	assert.Contains(t, last, "missing or unknown API key")
	assert.NotContains(t, h.all.String(), "canary")
	assert.Empty(t, server.Streams(), "no data was sent")
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func loadFlow(typ typev1.ChannelDataType) *configsv2.FlowConfig {
	return &configsv2.FlowConfig{Name: "load", Channels: []*configsv2.ChannelConfig{channel("load.n", typ)}}
}

// Somebody else has made the config, before or at the same moment.
func TestConfigExists(t *testing.T) {
	t.Parallel()
	same := loadFlow(typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64)
	other := &configsv2.FlowConfig{Name: "other", Channels: same.GetChannels()}
	for name, flows := range map[string][]*configsv2.FlowConfig{"equal": {same}, "with another flow": {other}, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := sifttest.New(t, sifttest.Options{})
			config, err := server.AddConfig("stand", "stand-v1", flows...)
			require.NoError(t, err)
			h := load{uri: server.URI(), rows: faultRows}.start(t)
			h.requireDelivered(server, faultRows)
			assert.Len(t, server.Configs(), 1)
			assert.True(t, slices.ContainsFunc(server.Flows(config.GetIngestionConfigId()), func(f *configsv2.FlowConfig) bool { return proto.Equal(f, same) }))
		})
	}
	t.Run("race", func(t *testing.T) {
		t.Parallel()
		var server *sifttest.Server
		var once sync.Once
		server = sifttest.New(t, sifttest.Options{Intercept: func(_ context.Context, method string, _ proto.Message) error {
			if strings.HasSuffix(method, "/CreateIngestionConfig") {
				once.Do(func() {
					_, err := server.AddConfig("stand", "stand-v1", same)
					assert.NoError(t, err)
				})
			}
			return nil
		}})
		h := load{uri: server.URI(), rows: faultRows}.start(t)
		h.requireDelivered(server, faultRows)
	})
}

// A flow that the destination has with other content: refused before any data
// flows, with the difference.
func TestIncompatibleFlow(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	_, err := server.AddConfig("stand", "stand-v1", loadFlow(typev1.ChannelDataType_CHANNEL_DATA_TYPE_STRING))
	require.NoError(t, err)
	h := load{uri: server.URI(), rows: 10}.start(t)
	h.requireExit(exitUnavailable)
	last := lastLine(h.stderr.String())
	for _, text := range []string{"sift.live", `"load"`, "load.n", "string", "uint64", "client key"} {
		assert.Contains(t, last, text)
	}
	assert.Empty(t, server.Streams(), "no data was sent")
}

// Compressed, and over TLS.
func TestCompressionAndTLS(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{TLS: true, Keys: []string{"a-key"}})
	h := load{uri: server.URI(), rows: faultRows, extra: fmt.Sprintf("gzip = true\ntls_ca = %q", server.CAFile(t))}.start(t)
	h.requireDelivered(server, faultRows)
}

// Any sequence of faults: whatever the destination does, every row arrives, and what
// is counted as delivered was confirmed. An early OK is not among them: nobody can
// tell one that comes after the end of the stream from the answer.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 2))
			code := func() error {
				return status.Error(codes.Code(1+random.IntN(16)), "one of many")
			}
			var streams []sifttest.Behaviour
			for range 20 {
				b := sifttest.TakeAll
				switch random.IntN(7) {
				case 0, 1:
					b = sifttest.EndAfter(random.IntN(500), code())
				case 2:
					b = sifttest.Refuse(code())
				case 3:
					b = sifttest.NeverAnswer
				case 4:
					b = sifttest.EndAfter(random.IntN(10), sifttest.RateLimited(time.Duration(random.IntN(50))*time.Millisecond))
				case 5:
					b = sifttest.HeadersFirst(b)
				}
				streams = append(streams, b)
			}
			server := sifttest.New(t, sifttest.Options{})
			server.Queue(streams...)
			l := load{uri: server.URI(), rows: 30_000, timeout: "200ms", interval: "50ms"}
			h := l.start(t)
			for i := range 3 {
				server.Stream(t, 3*i+1)
				server.Reset()
			}
			h.requireDelivered(server, l.rows)
		})
	}
}

// A destination that takes nothing, although its connection is alive: streams are
// given up and others tried, on other connections, until it takes them.
func TestDestinationDoesNotRead(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := sifttest.New(t, sifttest.Options{})
	stuck := sifttest.ReadAfter(release)
	server.Queue(stuck, stuck, stuck, stuck)
	l := load{uri: server.URI(), rows: 200_000, rate: `"max"`, timeout: "200ms"}
	h := l.start(t)
	for i := range 5 {
		server.Stream(t, i)
	}
	h.requireDelivered(server, l.rows)
	close(release)
}
