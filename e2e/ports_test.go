package e2e

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// ports counts the ports that were given away. They lie below those that the
// kernel gives to others.
var ports atomic.Int32

// freeAddress returns an address of this machine on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, count = 20_000, 12_000
	for range count {
		// The process's number keeps runs of these tests at the same time apart.
		port := first + (101*os.Getpid()+int(ports.Add(1)))%count
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	require.FailNow(t, "no free port")
	return ""
}
