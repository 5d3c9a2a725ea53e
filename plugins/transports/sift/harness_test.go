package sift

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// healthLog remembers what was reported.
type healthLog struct {
	mu     sync.Mutex
	states []sdk.Health
}

func (l *healthLog) report(h sdk.Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = append(l.states, h)
}

func (l *healthLog) last() sdk.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.states) == 0 {
		return sdk.Health{}
	}
	return l.states[len(l.states)-1]
}

// testConfig has the defaults of the plugin.
func testConfig(uri string) Config {
	return Config{URI: uri, Keepalive: 20 * time.Second, ConnectTimeout: 10 * time.Second, CallTimeout: 10 * time.Second}
}

// newTransport opens a transport to the server; change adapts its configuration.
func newTransport(t testing.TB, server *sifttest.Server, change ...func(*Config)) (*transport, *healthLog) {
	t.Helper()
	config := testConfig(server.URI())
	for _, f := range change {
		f(&config)
	}
	log := new(healthLog)
	opened, err := open(sdk.Settings{Health: log.report}, config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, opened.Shutdown(context.Background())) })
	return opened.(*transport), log
}

func openStream(t testing.TB, tr sdk.Transport, o ...sdk.StreamOptions) sdk.Stream {
	t.Helper()
	s, err := tr.OpenStream(t.Context(), append(o, sdk.StreamOptions{})[0])
	require.NoError(t, err)
	return s
}

// testMessage is a message with some text in it.
func testMessage(t testing.TB, text string) []byte {
	t.Helper()
	m, err := proto.Marshal(&ingestv1.IngestWithConfigDataStreamRequest{IngestionConfigId: "c", Flow: text})
	require.NoError(t, err)
	return m
}

func encoded(messages ...[]byte) []byte {
	var body []byte
	for _, m := range messages {
		body = binary.LittleEndian.AppendUint32(body, uint32(len(m)))
		body = append(body, m...)
	}
	return body
}

func delivery(messages ...[]byte) *sdk.Delivery {
	return &sdk.Delivery{
		Format: format, Count: len(messages), Body: encoded(messages...),
		Binding: sdk.Binding{ConfigID: strings.Repeat("c", 36)},
	}
}

func send(t testing.TB, s sdk.Stream, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.NoError(t, s.Send(t.Context(), delivery(testMessage(t, text))))
	}
}

// flowsOf returns the texts of testMessage that a stream brought.
func flowsOf(t testing.TB, st *sifttest.Stream) []string {
	t.Helper()
	var out []string
	for _, r := range st.Requests(t) {
		out = append(out, r.GetFlow())
	}
	return out
}

// requireFailure checks an error's class and code.
func requireFailure(t testing.TB, err error, class sdk.Class, code uint32) *sdk.Error {
	t.Helper()
	require.Error(t, err)
	e := sdk.AsError(err)
	assert.Equal(t, class, e.Class, "%v", err)
	assert.Equal(t, sdk.StatusName(code), sdk.StatusName(e.Code), "%v", err)
	return e
}

// hostileNames are what somebody may call an asset, a key, a flow or a channel.
func hostileNames() []string {
	return []string{
		`it's`, `say "hi"`, `back\slash`, `a/b`, `a b`, `'; drop`, `x' || true || '`, "two\nlines", "tab\tstop",
		"bell\a", "naïve Ünïcode 🚀", "%s%n%d", `\'`, `\\`, "../../etc/passwd", strings.Repeat("ten thousand ", 800),
	}
}
