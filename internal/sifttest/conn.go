package sifttest

import (
	"net"
	"sync"
	"time"
)

// Connections returns how many connections were accepted so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.accepted
}

// Freeze makes all connections, also coming ones, half-open: they are accepted, and
// the server reads and writes nothing more, until Thaw or Stop.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.frozen = true
	for c := range s.mu.conns {
		c.freeze()
	}
}

// Thaw ends Freeze.
func (s *Server) Thaw() {
	s.mu.Lock()
	s.mu.frozen = false
	s.mu.Unlock()
	s.thawAll()
}

func (s *Server) thawAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.thaw()
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.end()
	}
}

// Reset breaks all connections with a TCP reset. The server goes on listening.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.end()
	}
}

// SetReadRate makes the server read each connection at so many bytes per second at
// most, as on a slow network; 0 = no limit.
func (s *Server) SetReadRate(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.readRate = bytes
}

func (s *Server) readRate() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.readRate
}

// gatedListener registers the connections that it accepts.
type gatedListener struct {
	net.Listener
	server *Server
}

func (l *gatedListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, server: l.server, closed: make(chan struct{})}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	l.server.mu.conns[c] = struct{}{}
	l.server.mu.accepted++
	if l.server.mu.grpc == nil {
		c.end() // it came while the server ended
	}
	if l.server.mu.frozen {
		c.freeze()
	}
	return c, nil
}

// conn is a connection whose reads and writes can be held back.
type conn struct {
	net.Conn
	server    *Server
	closed    chan struct{}
	closeOnce sync.Once

	mu   sync.Mutex
	gate chan struct{} // not nil: reads and writes wait until it is closed
}

func (c *conn) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate == nil {
		c.gate = make(chan struct{})
	}
}

func (c *conn) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

// pass waits while the connection is frozen.
func (c *conn) pass() {
	for {
		c.mu.Lock()
		gate := c.gate
		c.mu.Unlock()
		if gate == nil {
			return
		}
		select {
		case <-gate:
		case <-c.closed:
			return
		}
	}
}

func (c *conn) Read(p []byte) (int, error) {
	rate := c.server.readRate()
	if rate > 0 { // 20 times a second
		p = p[:min(len(p), max(1, rate/20))]
	}
	n, err := c.Conn.Read(p)
	if rate > 0 && n > 0 {
		c.pause(time.Duration(n) * time.Second / time.Duration(rate))
	}
	c.pass()
	return n, err
}

func (c *conn) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.closed:
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.pass()
	return c.Conn.Write(p)
}

// end closes the connection below its server.
func (c *conn) end() {
	c.closeOnce.Do(func() { close(c.closed) })
	c.thaw()
	c.Conn.Close()
}

func (c *conn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	c.thaw()
	c.server.mu.Lock()
	delete(c.server.mu.conns, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}
