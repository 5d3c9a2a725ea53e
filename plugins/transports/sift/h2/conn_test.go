package h2

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestRequestAndAnswer(t *testing.T) {
	c, p := connect(t, Config{})
	s := open(t, c, p)
	require.NoError(t, s.Write(t.Context(), []byte("hello")))
	assert.Equal(t, "hello", string(p.expectData(5)))
	require.NoError(t, s.CloseSend())
	assert.True(t, p.expect(http2.FrameData).(*http2.DataFrame).StreamEnded())

	p.drain()
	p.headers(1, false, ":status", "103") // informational
	p.headers(1, false, ":status", "200", "a", "b")
	require.NoError(t, p.framer.WriteData(1, false, []byte("an")))
	require.NoError(t, p.framer.WriteDataPadded(1, false, []byte("swer"), make([]byte, 9)))
	p.headers(1, true, "grpc-status", "0")
	<-s.Done()
	assert.Equal(t, Response{
		Headers:  []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "a", Value: "b"}},
		Body:     []byte("answer"),
		Trailers: []hpack.HeaderField{{Name: "grpc-status", Value: "0"}},
	}, s.Response())
	assert.ErrorIs(t, s.Write(t.Context(), []byte("x")), ErrEnded)
	assert.ErrorIs(t, s.CloseSend(), ErrEnded)
	assert.ErrorIs(t, s.Fence(t.Context()), ErrEnded)
	assert.True(t, c.Usable())
}

// TestWritesGather: what is written while the connection is busy leaves in one
// write, in order.
func TestWritesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := connect(t, Config{})
		s := open(t, c, p)
		before := p.writes.Load()
		require.NoError(t, s.Write(t.Context(), []byte{0})) // busy: the peer does not read yet
		synctest.Wait()
		for i := range 100 {
			require.NoError(t, s.Write(t.Context(), []byte{byte(i + 1)}))
		}
		got := p.expectData(101)
		for i, b := range got {
			require.Equal(t, byte(i), b)
		}
		assert.Equal(t, int32(2), p.writes.Load()-before)
	})
}

func TestFramesFitThePeer(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 50_000/16)
	for size, want := range map[uint32]int{0: 16 << 10, 20_000: 20_000, 1 << 20: len(big)} {
		settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}
		if size > 0 {
			settings = append(settings, http2.Setting{ID: http2.SettingMaxFrameSize, Val: size})
		}
		c, p := connect(t, Config{}, settings...)
		s := open(t, c, p)
		require.NoError(t, s.Write(t.Context(), big))
		first := p.expect(http2.FrameData).(*http2.DataFrame)
		assert.Len(t, first.Data(), want)
		rest := p.expectData(len(big) - want)
		assert.True(t, bytes.Equal(big[want:], rest))
	}
}

func TestFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := connect(t, Config{}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		s := open(t, c, p)
		written := make(chan error, 1)
		go func() { written <- s.Write(t.Context(), make([]byte, 100_000)) }()
		total := len(p.expectData(10))

		widen := func(id, by uint32) {
			require.NoError(t, p.framer.WriteWindowUpdate(id, by))
			total += len(p.expectData(int(by)))
		}
		widen(1, 20)
		// A smaller initial window than what is out: the window is negative.
		require.NoError(t, p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		p.expect(http2.FrameSettings)
		require.NoError(t, p.framer.WriteWindowUpdate(1, 10))
		synctest.Wait()
		assert.Empty(t, written)
		widen(1, 1)
		require.NoError(t, p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65_535}))
		p.expect(http2.FrameSettings)
		total += len(p.expectData(65_535 - total)) // now the connection's window is used up
		require.NoError(t, p.framer.WriteWindowUpdate(1, 1_000_000))
		synctest.Wait()
		assert.Empty(t, written)
		require.NoError(t, p.framer.WriteWindowUpdate(0, 1_000_000))
		p.expectData(100_000 - total)
		require.NoError(t, <-written)
	})
}

func TestWriteEndsWithItsContext(t *testing.T) {
	c, p := connect(t, Config{}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	s := open(t, c, p)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- s.Write(ctx, []byte("hello")) }()
	p.expectData(3)
	cancel()
	require.ErrorIs(t, <-written, context.Canceled)

	s.Reset()
	assert.Equal(t, http2.ErrCodeCancel, p.expect(http2.FrameRSTStream).(*http2.RSTStreamFrame).ErrCode)
	<-s.Done()
	assert.ErrorIs(t, s.Response().Err, ErrReset)
	p.drain()
	p.headers(1, true, ":status", "200") // crossed the reset
	require.NoError(t, p.framer.WritePing(false, [8]byte{1}))
	assert.NoError(t, c.Err())
}

// TestResetWakes: Write and Fence return when the stream is given up meanwhile.
func TestResetWakes(t *testing.T) {
	for name, call := range map[string]func(*Stream) error{
		"write": func(s *Stream) error { return s.Write(context.Background(), make([]byte, 10)) },
		"fence": func(s *Stream) error { return s.Fence(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := connect(t, Config{}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				s := open(t, c, p)
				p.drain()
				returned := make(chan error, 1)
				go func() { returned <- call(s) }()
				synctest.Wait()
				s.Reset()
				assert.ErrorIs(t, <-returned, ErrEnded)
			})
		})
	}
}

// TestFence: whether the stream had ended is judged by the order of frames, even
// if they arrive together.
func TestFence(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent func(p *peer, ack func())
		want error
	}{
		{"open", func(_ *peer, ack func()) { ack() }, nil},
		{"headers before", func(p *peer, ack func()) { p.headers(1, false, ":status", "200"); ack() }, nil},
		{"end behind", func(p *peer, ack func()) { ack(); p.headers(1, true, ":status", "200") }, nil},
		{"end before", func(p *peer, ack func()) { p.headers(1, true, ":status", "200"); ack() }, ErrEnded},
		{"trailers before", func(p *peer, ack func()) {
			p.headers(1, false, ":status", "200")
			p.headers(1, true, "grpc-status", "0")
			ack()
		}, ErrEnded},
		{"reset before", func(p *peer, ack func()) { _ = p.framer.WriteRSTStream(1, http2.ErrCodeNo); ack() }, ErrEnded},
		{"another PING's answer", func(p *peer, ack func()) {
			_ = p.framer.WritePing(true, [8]byte{9})
			p.headers(1, true, ":status", "200")
			ack()
		}, ErrEnded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, p := connect(t, Config{})
			s := open(t, c, p)
			require.NoError(t, s.Write(t.Context(), []byte("data")))
			fenced := make(chan error, 1)
			go func() { fenced <- s.Fence(t.Context()) }()
			p.expectData(4)
			ping := p.expect(http2.FramePing).(*http2.PingFrame)
			p.atOnce(func() { tc.sent(p, func() { _ = p.framer.WritePing(true, ping.Data) }) })
			p.drain()
			require.ErrorIs(t, <-fenced, tc.want)
		})
	}
}

// TestManyFences: a server that answers late is not asked by ever more PINGs; what
// takes their place keeps the order too.
func TestManyFences(t *testing.T) {
	c, p := connect(t, Config{})
	fenced := make([]chan error, 5)
	var streams []*Stream
	for i := range fenced {
		s := open(t, c, p)
		streams = append(streams, s)
		fenced[i] = make(chan error, 1)
		go func() { fenced[i] <- s.Fence(t.Context()) }()
		if i < pingBudget {
			p.expect(http2.FramePing)
		} else {
			assert.Zero(t, p.expect(http2.FrameSettings).(*http2.SettingsFrame).NumSettings())
		}
	}
	p.drain()
	p.atOnce(func() {
		_ = p.framer.WriteSettingsAck() // of connect
		_ = p.framer.WriteSettingsAck()
		p.headers(streams[3].id, true, ":status", "200")
		_ = p.framer.WriteSettingsAck()
		_ = p.framer.WriteSettingsAck()
	})
	require.NoError(t, <-fenced[2])
	require.ErrorIs(t, <-fenced[3], ErrEnded)
	require.NoError(t, <-fenced[4])
	assert.Empty(t, fenced[0])
	require.NoError(t, p.framer.WritePing(true, [8]byte{7: 1}))
	require.NoError(t, <-fenced[0])
	streams[1].Reset()
	require.ErrorIs(t, <-fenced[1], ErrEnded)
}

// TestPingsOnTheirWayCount: an answer makes a server forget the PINGs that it had got,
// not those that were on their way when it was sent.
func TestPingsOnTheirWayCount(t *testing.T) {
	c, p := connect(t, Config{})
	fence := func() { // its goroutine ends with the connection
		s := open(t, c, p)
		go func() { _ = s.Fence(t.Context()) }()
	}
	answer := func(s *Stream) { // and wait until it was read
		p.atOnce(func() {
			p.headers(s.id, false, ":status", "200", "content-type", "application/grpc")
			_ = p.framer.WritePing(false, [8]byte{})
		})
		assert.True(t, p.expect(http2.FramePing).(*http2.PingFrame).IsAck())
	}
	first, second := open(t, c, p), open(t, c, p)
	var last [8]byte
	for range pingBudget {
		fence()
		last = p.expect(http2.FramePing).(*http2.PingFrame).Data
	}
	answer(first)
	fence()
	p.expect(http2.FrameSettings)
	require.NoError(t, p.framer.WritePing(true, last))
	answer(second)
	fence()
	p.expect(http2.FramePing)
	p.drain()
}

func TestFenceEndsWithItsContext(t *testing.T) {
	c, p := connect(t, Config{})
	s := open(t, c, p)
	p.drain()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Fence(ctx), context.Canceled)
}

func TestGoAway(t *testing.T) {
	c, p := connect(t, Config{})
	kept, refused := open(t, c, p), open(t, c, p)
	require.NoError(t, p.framer.WriteGoAway(kept.id, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings")))
	<-refused.Done()
	var goAway *GoAwayError
	require.ErrorAs(t, refused.Response().Err, &goAway)
	assert.Equal(t, http2.ErrCodeEnhanceYourCalm, goAway.Code)
	assert.Equal(t, "too_many_pings", goAway.Debug)
	assert.False(t, c.Usable())
	_, err := c.Open(nil)
	require.ErrorIs(t, err, ErrUnusable)

	require.NoError(t, kept.CloseSend()) // goes on
	p.expect(http2.FrameData)
	p.headers(kept.id, true, ":status", "200")
	<-kept.Done()
	require.NoError(t, kept.Response().Err)
	<-c.Done() // after its last stream
	require.ErrorAs(t, c.Err(), &goAway)
}

func TestRetire(t *testing.T) {
	c, p := connect(t, Config{})
	s := open(t, c, p)
	c.Retire()
	assert.False(t, c.Usable())
	require.NoError(t, c.Err())
	p.headers(s.id, true, ":status", "200")
	p.drain()
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrClosed)
	require.NoError(t, s.Response().Err)
}

func TestStreamLimit(t *testing.T) {
	c, p := connect(t, Config{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	s := open(t, c, p)
	assert.False(t, c.Usable())
	p.headers(s.id, true, ":status", "200")
	p.drain()
	<-s.Done()
	assert.True(t, c.Usable())
}

func TestConnectionLost(t *testing.T) {
	c, p := connect(t, Config{})
	s := open(t, c, p)
	p.conn.Close()
	<-s.Done()
	require.Error(t, s.Response().Err)
	assert.Equal(t, c.Err(), s.Response().Err)
	assert.False(t, c.Usable())
}

func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c, p := connect(t, Config{Keepalive: 20 * time.Second, KeepaliveTimeout: 10 * time.Second})
		s := open(t, c, p)
		ping := p.expect(http2.FramePing).(*http2.PingFrame)
		assert.Equal(t, 20*time.Second, time.Since(start))
		<-time.After(5 * time.Second)
		require.NoError(t, p.framer.WritePing(true, ping.Data))
		p.expect(http2.FramePing) // not answered
		assert.Equal(t, 45*time.Second, time.Since(start))
		<-s.Done()
		assert.Equal(t, 55*time.Second, time.Since(start))
		require.ErrorIs(t, s.Response().Err, ErrNoAnswer)
		require.ErrorIs(t, c.Err(), ErrNoAnswer)
	})
}

// TestKeepaliveWhileWritingBlocks: a peer that reads nothing is found out too.
func TestKeepaliveWhileWritingBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := connect(t, Config{Keepalive: 20 * time.Second, KeepaliveTimeout: 10 * time.Second},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
		s := open(t, c, p)
		require.NoError(t, p.framer.WriteWindowUpdate(0, 1<<24))
		err := s.Write(t.Context(), make([]byte, 1<<20))
		require.ErrorIs(t, err, ErrEnded)
		require.ErrorIs(t, s.Response().Err, ErrNoAnswer)
	})
}

// TestBadPeers: whatever breaks the rules ends the stream or the connection with
// a reason, and soon.
func TestBadPeers(t *testing.T) {
	long := strings.Repeat("x", 9_000)
	for _, tc := range []struct {
		name   string
		send   func(p *peer)
		reason string
		whole  bool // the connection, not only the stream
	}{
		{"data before headers", func(p *peer) { _ = p.framer.WriteData(1, false, []byte("x")) }, "data before headers", false},
		{"no status", func(p *peer) { p.headers(1, false, "a", "b") }, "status", false},
		{"three header lists", func(p *peer) {
			p.headers(1, false, ":status", "200")
			p.headers(1, false, "a", "b")
		}, "mid-stream", false},
		{"endless body", func(p *peer) {
			p.headers(1, false, ":status", "200")
			_ = p.framer.WriteData(1, false, make([]byte, 4_000))
			_ = p.framer.WriteData(1, false, make([]byte, 100))
		}, "exceeds 4096 bytes", false},
		{"upper case header", func(p *peer) { p.headers(1, false, ":status", "200", "Upper", "x") }, "bad frame", false},
		{"window of nothing", func(p *peer) { _ = p.framer.WriteWindowUpdate(1, 0) }, "bad frame", false},
		{"stream's window too wide", func(p *peer) { _ = p.framer.WriteWindowUpdate(1, 1<<31-1) }, "window too wide", false},
		{"connection's window too wide", func(p *peer) { _ = p.framer.WriteWindowUpdate(0, 1<<31-1) }, "FLOW_CONTROL_ERROR", true},
		{"initial window too wide", func(p *peer) {
			_ = p.framer.WriteWindowUpdate(1, 1<<31-1-65_535)
			_ = p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65_536})
		}, "FLOW_CONTROL_ERROR", true},
		{"setting out of range", func(p *peer) {
			_ = p.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})
		}, "PROTOCOL_ERROR", true},
		{"acknowledges too much", func(p *peer) {
			_ = p.framer.WriteSettingsAck()
			_ = p.framer.WriteSettingsAck()
		}, "never sent", true},
		{"a stream nobody opened", func(p *peer) { p.headers(3, true, ":status", "200") }, "never opened", true},
		{"even stream", func(p *peer) { _ = p.framer.WriteData(2, false, []byte("x")) }, "never opened", true},
		{"push", func(p *peer) {
			_ = p.framer.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "PROTOCOL_ERROR", true},
		{"huge frame", func(p *peer) { _ = p.framer.WriteData(1, false, make([]byte, 1<<17)) }, "frame too large", true},
		{"HTTP/1", func(p *peer) { _, _ = p.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, "is the peer an HTTP/2 server", true},
		{"bad compression", func(p *peer) {
			_ = p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
		}, "COMPRESSION_ERROR", true},
		{"headers without end", func(p *peer) {
			_ = p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
			for p.framer.WriteContinuation(1, false, hpackLiteral(long)) == nil {
			}
		}, "PROTOCOL_ERROR", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, p := connect(t, Config{})
			s := open(t, c, p)
			p.drain()
			go tc.send(p)
			<-s.Done()
			require.ErrorContains(t, s.Response().Err, tc.reason)
			var protocol *ProtocolError
			require.ErrorAs(t, s.Response().Err, &protocol)
			if tc.whole {
				<-c.Done()
			} else {
				assert.NoError(t, c.Err())
			}
		})
	}
}

func hpackLiteral(value string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0)
	_ = e.WriteField(hpack.HeaderField{Name: "x", Value: value, Sensitive: true})
	return block.Bytes()
}

// TestProvokedAnswers: a peer that wants answers but reads none cannot make the
// client keep them all.
func TestProvokedAnswers(t *testing.T) {
	c, p := connect(t, Config{})
	for p.framer.WritePing(false, [8]byte{1}) == nil {
	}
	<-c.Done()
	require.ErrorContains(t, c.Err(), "provokes")
	assert.LessOrEqual(t, cap(c.mu.out), 2*maxAnswers)
}

func TestNewFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		play func(p *peer, cancel func())
		want string
	}{
		{"hangs up", func(p *peer, _ func()) { p.conn.Close() }, ""},
		{"silent", func(_ *peer, cancel func()) { cancel() }, "canceled"},
		{"speaks HTTP/1", func(p *peer, _ func()) {
			p.drain()
			_, _ = p.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
		}, "is the peer an HTTP/2 server"},
		{"does not begin with SETTINGS", func(p *peer, _ func()) {
			p.drain()
			_ = p.framer.WritePing(false, [8]byte{})
		}, "did not begin with SETTINGS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go tc.play(newPeer(t, server), cancel)
			c, err := New(ctx, client, Config{})
			require.Nil(t, c)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestHeadersTooLong(t *testing.T) {
	c, p := connect(t, Config{})
	p.drain()
	_, err := c.Open([]hpack.HeaderField{{Name: "authorization", Value: strings.Repeat("~", 20_000), Sensitive: true}})
	require.ErrorContains(t, err, "do not fit")
	require.Error(t, c.Err())
	assert.NotContains(t, err.Error(), "~~")
}

// FuzzPeer: whatever a peer sends, the client ends its stream or goes on, keeps
// little, and can be closed.
func FuzzPeer(f *testing.F) {
	var seed bytes.Buffer
	framer := http2.NewFramer(&seed, nil)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
	_ = framer.WriteData(1, false, []byte{0, 0, 0, 0, 0})
	_ = framer.WritePing(true, [8]byte{7: 1})
	_ = framer.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
	_ = framer.WriteWindowUpdate(1, 100)
	f.Add(seed.Bytes())
	_ = framer.WriteRSTStream(1, http2.ErrCodeRefusedStream)
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, p := connect(t, Config{})
		s := open(t, c, p)
		p.drain()
		fenced := make(chan error, 1)
		go func() { fenced <- s.Fence(context.Background()) }()
		_, _ = p.conn.Write(sent)
		p.conn.Close()
		<-s.Done()
		r := s.Response()
		if r.Err == nil {
			assert.NotNil(t, r.Headers)
		}
		assert.LessOrEqual(t, len(r.Body), maxBody)
		if err := <-fenced; err != nil {
			assert.ErrorIs(t, err, ErrEnded)
		}
		<-c.Done()
	})
}
