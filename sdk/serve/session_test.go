package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/pipelined/pipelined/sdk/wire"
)

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := wire.NewCertificate()
	require.NoError(t, err)
	return c
}

// environment is what a host gives to a plugin.
func environment(t *testing.T, cert tls.Certificate) func(string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "serve") // short, unlike that of the test
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	values := map[string]string{
		wire.HandshakeCookieKey:  wire.HandshakeCookieValue,
		wire.EnvProtocolVersions: "1",
		wire.EnvClientCert:       wire.CertificatePEM(cert),
		wire.EnvSocketDir:        dir,
	}
	return func(name string) string { return values[name] }
}

// hosted is a plugin that Run serves in this process.
type hosted struct {
	cert      tls.Certificate
	handshake wire.Handshake
	wait      func() error
}

func newSession(t *testing.T, ctx context.Context) *hosted {
	t.Helper()
	h := &hosted{cert: newCertificate(t)}
	stdin, closeStdin := io.Pipe()
	stdout, printed := io.Pipe()
	ended := make(chan error, 1)
	env := environment(t, h.cert)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		ended <- Run(ctx, subjectPlugin("waits"), Process{Getenv: env, Stdin: stdin, Stdout: printed, Stderr: os.Stderr})
		_ = printed.Close()
	}()
	h.wait = sync.OnceValue(func() error { return <-ended })
	t.Cleanup(func() {
		cancel()
		require.NoError(t, h.wait())
		require.NoError(t, closeStdin.Close())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	h.handshake, err = wire.ParseHandshake(line)
	require.NoError(t, err)
	return h
}

// describe connects with a certificate and asks the plugin what it is.
func (h *hosted) describe(t *testing.T, cert tls.Certificate) error {
	t.Helper()
	config, err := wire.ClientTLS(cert, h.handshake.Certificate)
	require.NoError(t, err)
	options := append(wire.DialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	conn, err := grpc.NewClient("unix:"+h.handshake.Socket, options...)
	require.NoError(t, err)
	defer conn.Close()
	_, err = wire.Describe(deadline(t), conn)
	return err
}
