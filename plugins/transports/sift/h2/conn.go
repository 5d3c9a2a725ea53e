package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxPending is how much may wait to be written before Write blocks. Together
	// with the buffer that is being written it is what a connection holds.
	maxPending = 128 << 10
	// maxChunk is how much one turn of Write adds.
	maxChunk = 64 << 10
	// maxAnswers bounds the frames that a peer can provoke while it reads nothing.
	maxAnswers = maxPending + maxChunk + 64<<10

	// pingBudget is how many fences may be PINGs between two frames of answers.
	// gRPC servers take more PINGs, without having answered anything in between,
	// for abuse: the fourth closes the connection.
	pingBudget = 2

	maxWindow      = 1<<31 - 1
	defaultWindow  = 1<<16 - 1
	maxFrameSize   = 16 << 10 // of frames that are read, and the default for ours
	largestFrame   = 64 << 10 // of ours, if the peer takes such
	maxHeaderBytes = 64 << 10 // of the peer's header lists
)

// Config is what a connection needs to know.
type Config struct {
	// Keepalive: a PING is sent after so long without a byte from the peer; 0 =
	// never.
	Keepalive time.Duration
	// KeepaliveTimeout is how long the answer may take.
	KeepaliveTimeout time.Duration
}

// Conn is an HTTP/2 connection. It is dead once Err is not nil.
type Conn struct {
	config Config
	net    net.Conn
	framer *http2.Framer // reads are the reader's; writes go to mu.out, with mu held

	work    chan struct{} // capacity 1: there is something to write
	settled chan struct{} // closed when the peer's first SETTINGS came
	closed  chan struct{} // closed with err
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		out      []byte // frames to be written next
		encoder  *hpack.Encoder
		block    bytes.Buffer // what encoder wrote
		streams  map[uint32]*Stream
		nextID   uint32
		window   int64 // what the peer still takes on the connection
		initial  int64 // a new stream's window
		maxFrame int
		limit    uint32             // of streams at a time
		pings    uint64             // number of the last PING
		answered uint64             // number of the last PING that was answered
		asked    int                // PINGs that the peer may count since it last answered something
		fences   map[uint64]*Stream // by number of their PING
		settings []*Stream          // fences by SETTINGS, oldest first; nil: not a fence
		retired  bool
		goAway   *GoAwayError
		err      error
	}
}

// New takes over a connection on which nothing was sent yet and waits for the
// peer's SETTINGS. It closes nc when it fails.
func New(ctx context.Context, nc net.Conn, config Config) (*Conn, error) {
	c := &Conn{
		config:  config,
		net:     nc,
		work:    make(chan struct{}, 1),
		settled: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	c.framer = http2.NewFramer((*pending)(c), newAliveReader(c))
	c.framer.SetMaxReadFrameSize(maxFrameSize)
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = maxHeaderBytes
	c.mu.encoder = hpack.NewEncoder(&c.mu.block)
	c.mu.streams = make(map[uint32]*Stream)
	c.mu.fences = make(map[uint64]*Stream)
	c.mu.nextID = 1
	c.mu.window = defaultWindow
	c.mu.initial = defaultWindow
	c.mu.maxFrame = maxFrameSize
	c.mu.limit = maxWindow

	c.mu.settings = []*Stream{nil}

	c.mu.out = append(c.mu.out, http2.ClientPreface...)
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderBytes},
	)
	c.wg.Go(c.write)
	c.wg.Go(c.read)
	c.wake()

	select {
	case <-c.settled:
		return c, nil
	case <-c.closed:
	case <-ctx.Done():
		c.fail(ctx.Err())
	}
	c.wg.Wait()
	return nil, c.Err()
}

// pending is the writer of the framer: frames are appended to what is to be
// written. The caller holds mu.
type pending Conn

func (p *pending) Write(b []byte) (int, error) {
	p.mu.out = append(p.mu.out, b...)
	return len(b), nil
}

// Open sends the headers of a request and returns its stream. The fields begin
// with the pseudo headers.
func (c *Conn) Open(fields []hpack.HeaderField) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usable() {
		return nil, ErrUnusable
	}
	c.mu.block.Reset()
	for _, f := range fields {
		if err := c.mu.encoder.WriteField(f); err != nil {
			return nil, err
		}
	}
	if c.mu.block.Len() > c.mu.maxFrame {
		// The peer has not seen what the encoder now refers to.
		c.failLocked(&ProtocolError{"request headers do not fit a frame"})
		return nil, c.mu.err
	}
	s := &Stream{
		conn: c, id: c.mu.nextID, window: c.mu.initial,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.mu.nextID += 2
	c.mu.streams[s.id] = s
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: s.id, BlockFragment: c.mu.block.Bytes(), EndHeaders: true,
	})
	c.wake()
	return s, nil
}

// Usable reports whether Open can succeed.
func (c *Conn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usable()
}

func (c *Conn) usable() bool {
	return c.mu.err == nil && !c.mu.retired && c.mu.goAway == nil &&
		uint32(len(c.mu.streams)) < c.mu.limit && c.mu.nextID < maxWindow
}

// Retire lets the open streams end, takes no new ones and closes the connection
// after the last.
func (c *Conn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.retired = true
	c.closeIfDone()
}

// Done is closed when the connection is dead.
func (c *Conn) Done() <-chan struct{} { return c.closed }

// Err says why the connection is dead; nil while it is not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// Close ends all streams with ErrClosed and joins the goroutines.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	c.wg.Wait()
}

// closeIfDone ends a connection without streams that takes no new ones. The
// caller holds mu.
func (c *Conn) closeIfDone() {
	switch {
	case len(c.mu.streams) > 0:
	case c.mu.goAway != nil:
		c.failLocked(c.mu.goAway)
	case c.mu.retired:
		c.failLocked(ErrClosed)
	}
}

// fail makes the connection dead; the first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *Conn) failLocked(err error) {
	if c.mu.err != nil {
		return
	}
	c.mu.err = err
	for _, s := range c.mu.streams {
		s.end(err)
	}
	close(c.closed)
	// Below TLS: a farewell could wait for a peer that reads nothing.
	if t, ok := c.net.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	c.net.Close()
}

// wake tells the writer that there is something to write.
func (c *Conn) wake() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// write is the writer: it writes whatever has gathered since its last write.
func (c *Conn) write() {
	var spare []byte
	for {
		select {
		case <-c.work:
		case <-c.closed:
			return
		}
		for {
			frames := c.take(spare)
			if len(frames) == 0 {
				break
			}
			if _, err := c.net.Write(frames); err != nil {
				c.fail(err)
				return
			}
			spare = frames
		}
	}
}

// take exchanges the pending frames for an empty buffer.
func (c *Conn) take(spare []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.mu.out
	if len(frames) == 0 || c.mu.err != nil {
		return nil
	}
	c.mu.out = spare[:0]
	c.wakeStreams()
	return frames
}

func (c *Conn) wakeStreams() {
	for _, s := range c.mu.streams {
		s.notify()
	}
}

// ping appends a PING that carries its number. The caller holds mu.
func (c *Conn) ping() uint64 {
	c.mu.pings++
	var payload [8]byte
	binary.BigEndian.PutUint64(payload[:], c.mu.pings)
	_ = c.framer.WritePing(false, payload)
	c.wake()
	return c.mu.pings
}

// forgiven notes that the peer has answered something, and so forgets the PINGs that it
// had got. Those that are still on their way count afterwards. The caller holds mu.
func (c *Conn) forgiven() { c.mu.asked = int(c.mu.pings - c.mu.answered) }

// fence appends a frame that the peer must answer in its turn, on behalf of a
// stream: a PING, or SETTINGS that set nothing. The caller holds mu.
func (c *Conn) fence(s *Stream) {
	if c.mu.asked < pingBudget {
		c.mu.asked++
		s.fence = c.ping()
		c.mu.fences[s.fence] = s
		return
	}
	_ = c.framer.WriteSettings()
	c.mu.settings = append(c.mu.settings, s)
	c.wake()
}
