package sifttest

import (
	"net"
	"sync"
)

// Connections returns how many connections were accepted so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.accepted
}

// Freeze makes all connections, also coming ones, half-open: the server reads
// nothing more, so that it answers nothing either, until Thaw.
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

// Reset breaks all connections with a TCP reset. The server goes on listening.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.thaw()
		c.Conn.Close()
	}
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
	c := &conn{Conn: inner, server: l.server}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	l.server.mu.conns[c] = struct{}{}
	l.server.mu.accepted++
	if l.server.mu.frozen {
		c.freeze()
	}
	return c, nil
}

// conn is a connection whose reads can be held back.
type conn struct {
	net.Conn
	server *Server

	mu   sync.Mutex
	gate chan struct{} // not nil: reads wait until it is closed
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

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for {
		c.mu.Lock()
		gate := c.gate
		c.mu.Unlock()
		if gate == nil {
			return n, err
		}
		<-gate
	}
}

func (c *conn) Close() error {
	c.thaw()
	c.server.mu.Lock()
	delete(c.server.mu.conns, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}
