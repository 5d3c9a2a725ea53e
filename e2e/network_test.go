package e2e

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// network is a bad one between a sender and a receiver: it forwards connections and
// breaks them all when it is told to.
type network struct {
	listener net.Listener
	to       string
	tasks    sync.WaitGroup

	mu struct {
		sync.Mutex
		closed   bool
		conns    map[net.Conn]struct{}
		accepted int
	}
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{listener: l, to: to}
	n.mu.conns = map[net.Conn]struct{}{}
	n.tasks.Go(n.serve)
	t.Cleanup(func() {
		l.Close()
		n.mu.Lock()
		n.mu.closed = true
		n.mu.Unlock()
		n.cut()
		n.tasks.Wait()
	})
	return n
}

func (n *network) address() string { return n.listener.Addr().String() }

func (n *network) serve() {
	for {
		in, err := n.listener.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		n.mu.accepted++
		n.mu.Unlock()
		out, err := net.Dial("tcp", n.to)
		if err != nil {
			in.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			n.add(pair[0])
			n.tasks.Go(func() {
				_, _ = io.Copy(pair[1], pair[0]) // either side may end
				pair[0].Close()
				pair[1].Close()
			})
		}
	}
}

func (n *network) add(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed {
		c.Close()
	}
	n.mu.conns[c] = struct{}{}
}

// cut resets all connections.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.mu.conns {
		_ = c.(*net.TCPConn).SetLinger(0) // it may be closed already
		c.Close()
		delete(n.mu.conns, c)
	}
}

// connections returns how many there were so far.
func (n *network) connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.accepted
}

// Our own sender and our own receiver with a network between them that breaks again
// and again: every row arrives.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	const rows = 40_000
	r := startReceiver(t, options{})
	n := newNetwork(t, r.address)
	h := load{uri: "http://" + n.address(), rows: rows, interval: "50ms", extra: `channel_names = "plain"`}.start(t)
	files := func() int {
		found, err := filepath.Glob(r.tables("stand", "load", "*.parquet"))
		require.NoError(t, err)
		return len(found)
	}
	for range 6 {
		before, connections := files(), n.connections()
		eventually(t, "no progress", func() bool { return files() > before || h.hasEnded() })
		n.cut()
		eventually(t, "no other connection", func() bool { return n.connections() > connections || h.hasEnded() })
	}
	h.requireExit(exitOK)
	assert.Equal(t, uint64(rows), h.requireBalanced("load"))
	received := r.finish()
	assert.GreaterOrEqual(t, received, uint64(rows))
	table := readTable(t, r.tables("stand", "load"))
	assert.Equal(t, received, uint64(len(table.rows)), "also what came twice is in the account")
	got := map[value]bool{}
	for _, v := range table.column(t, "n") {
		got[v] = true
	}
	require.Len(t, got, rows)
	for i := range uint64(rows) {
		require.True(t, got[i], fmt.Sprint("row ", i))
	}
}
