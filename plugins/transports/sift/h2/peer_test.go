package h2

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a server of one connection that does what a test tells it. Its
// connection is a net.Pipe: what is not read is not written either.
type peer struct {
	t      testing.TB
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	writes *atomic.Int32 // of the client
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// connect returns a connection and its peer, after both have sent SETTINGS.
func connect(t testing.TB, config Config, settings ...http2.Setting) (*Conn, *peer) {
	t.Helper()
	client, server := net.Pipe()
	counting := &countingConn{Conn: client}
	p := newPeer(t, server)
	p.writes = &counting.writes
	type result struct {
		conn *Conn
		err  error
	}
	made := make(chan result, 1)
	go func() {
		c, err := New(context.Background(), counting, config)
		made <- result{c, err}
	}()
	p.preface()
	require.NoError(t, p.framer.WriteSettings(settings...))
	p.expect(http2.FrameSettings) // the acknowledgement
	r := <-made
	require.NoError(t, r.err)
	t.Cleanup(func() {
		server.Close()
		r.conn.Close()
	})
	return r.conn, p
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.framer.AllowIllegalWrites = true
	p.hpack = hpack.NewEncoder(&p.block)
	return p
}

// preface reads what a client begins with.
func (p *peer) preface() {
	p.t.Helper()
	got := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(p.conn, got)
	require.NoError(p.t, err)
	require.Equal(p.t, http2.ClientPreface, string(got))
	f := p.expect(http2.FrameSettings).(*http2.SettingsFrame)
	push, ok := f.Value(http2.SettingEnablePush)
	require.True(p.t, ok)
	require.Zero(p.t, push)
}

// expect reads the next frame, which must be of that type.
func (p *peer) expect(want http2.FrameType) http2.Frame {
	p.t.Helper()
	f, err := p.framer.ReadFrame()
	require.NoError(p.t, err)
	require.Equal(p.t, want, f.Header().Type, "%v", f)
	return f
}

// expectData reads DATA frames until n bytes came.
func (p *peer) expectData(n int) []byte {
	p.t.Helper()
	var got []byte
	for len(got) < n {
		got = append(got, p.expect(http2.FrameData).(*http2.DataFrame).Data()...)
	}
	require.Len(p.t, got, n)
	return got
}

// headers sends a header list.
func (p *peer) headers(id uint32, end bool, pairs ...string) {
	p.t.Helper()
	p.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		require.NoError(p.t, p.hpack.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	require.NoError(p.t, p.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.block.Bytes(), EndStream: end, EndHeaders: true,
	}))
}

// atOnce sends what f writes in a single write.
func (p *peer) atOnce(f func()) {
	p.t.Helper()
	var all bytes.Buffer
	framer := p.framer
	p.framer = http2.NewFramer(&all, nil)
	p.framer.AllowIllegalWrites = true
	f()
	p.framer = framer
	_, err := p.conn.Write(all.Bytes())
	require.NoError(p.t, err)
}

// drain reads and forgets everything from now on.
func (p *peer) drain() { go func() { _, _ = io.Copy(io.Discard, p.conn) }() }

func open(t testing.TB, c *Conn, p *peer) *Stream {
	t.Helper()
	s, err := c.Open([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/x"}})
	require.NoError(t, err)
	f := p.expect(http2.FrameHeaders).(*http2.MetaHeadersFrame)
	require.Equal(t, s.id, f.StreamID)
	require.Equal(t, "/x", f.PseudoValue("path"))
	return s
}
