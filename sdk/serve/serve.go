package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// ErrNoHost is returned by Run when no host has started the process.
var ErrNoHost = errors.New("not started by a host")

const (
	exitFailure = 1
	exitUsage   = 64

	// shutdownTime is how long plugin code may take once nothing is left to do.
	shutdownTime = 5 * time.Second

	// maxSocketPath is the longest path of a unix socket on Linux, in bytes.
	maxSocketPath = 107
)

// Process is what a plugin's process has around it.
type Process struct {
	Getenv func(string) string
	Stdin  io.Reader // ends when the host is gone
	Stdout io.Writer // takes the handshake and nothing else
	Stderr io.Writer // takes the log
}

// Main serves the plugin and exits the process.
func Main(p sdk.Plugin) {
	// Not ignored but caught: ignoring would be inherited by children.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	stdout, err := takeStdout()
	if err == nil {
		err = Run(context.Background(), p, Process{
			Getenv: os.Getenv, Stdin: os.Stdin, Stdout: stdout, Stderr: os.Stderr,
		})
	}
	switch {
	case errors.Is(err, ErrNoHost):
		fmt.Fprintln(os.Stderr, usage(p))
		os.Exit(exitUsage)
	case err != nil:
		fmt.Fprintf(os.Stderr, "plugin %s: %v\n", p.Info.Name, err)
		os.Exit(exitFailure)
	}
	os.Exit(0)
}

// usage tells a person who has started the file by hand what it is.
func usage(p sdk.Plugin) string {
	return fmt.Sprintf("This is a plugin of pipelined: %s %q, version %s. It does nothing by itself: "+
		"name it in a pipeline file (%s \"%s\" { … }) and start that with \"pipelined run\". "+
		"\"pipelined plugin docs %s\" prints what it can do.",
		p.Kind, p.Info.Name, p.Info.Version, p.Kind, p.Info.Name, p.Info.Name)
}

// Run serves the plugin until the host ends it or ctx is done. It returns nil
// after a drain, and when stdin ended. After the latter it has not waited for
// plugin code: the caller exits the process. The goroutine that reads stdin ends
// when stdin does.
func Run(ctx context.Context, p sdk.Plugin, proc Process) error {
	if proc.Getenv(wire.HandshakeCookieKey) != wire.HandshakeCookieValue {
		return ErrNoHost
	}
	version, err := negotiate(proc.Getenv(wire.EnvProtocolVersions))
	if err != nil {
		return err
	}
	cert, err := wire.NewCertificate()
	if err != nil {
		return err
	}
	tlsConfig, err := wire.ServerTLS(cert, proc.Getenv(wire.EnvClientCert))
	if err != nil {
		return fmt.Errorf("%s: %w", wire.EnvClientCert, err)
	}
	listener, err := listen(proc.Getenv(wire.EnvSocketDir))
	if err != nil {
		return err
	}
	options := append(wire.ServerOptions(), grpc.Creds(credentials.NewTLS(tlsConfig)), grpc.WaitForHandlers(true))
	s := &session{
		grpc:   grpc.NewServer(options...),
		plugin: wire.NewServer(p, newLogging(proc.Stderr)),
		ended:  make(chan error, 1),
	}
	s.register()
	handshake := wire.Handshake{Version: version, Socket: listener.Addr().String(), Certificate: cert.Certificate[0]}
	if _, err := fmt.Fprintln(proc.Stdout, handshake); err != nil {
		return errors.Join(fmt.Errorf("print the handshake: %w", err), listener.Close())
	}
	return s.serve(ctx, listener, proc.Stdin)
}

// negotiate returns the version of the contract to be spoken.
func negotiate(versions string) (int, error) {
	for v := range strings.SplitSeq(versions, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && n == wire.ProtocolVersion {
			return n, nil
		}
	}
	return 0, fmt.Errorf("the host speaks versions %q of the plugin contract, this plugin speaks version %d; "+
		"update the one with the lower number", versions, wire.ProtocolVersion)
}

// listen makes the socket in a directory that only the host's user can enter.
func listen(dir string) (net.Listener, error) {
	if dir == "" {
		return nil, fmt.Errorf("%s is not set", wire.EnvSocketDir)
	}
	path := filepath.Join(dir, fmt.Sprintf("plugin-%d", os.Getpid()))
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("path of the socket, %s, has %d bytes, at most %d are possible", path, len(path), maxSocketPath)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the socket: %w", err)
	}
	return listener, nil
}

// session is a plugin that is being served.
type session struct {
	grpc   *grpc.Server
	plugin *wire.Server
	ended  chan error // of grpc.Serve
}

func (s *session) register() {
	status := health.NewServer()
	status.SetServingStatus(wire.HealthService, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s.grpc, status)
	s.plugin.Register(s.grpc)
}

func (s *session) serve(ctx context.Context, listener net.Listener, stdin io.Reader) error {
	go func() { s.ended <- s.grpc.Serve(listener) }()
	hostGone := make(chan struct{})
	go func() {
		defer close(hostGone)
		_, _ = io.Copy(io.Discard, stdin) // whatever ends it, the host is gone
	}()
	select {
	case <-hostGone:
		return nil
	case err := <-s.ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	case <-s.plugin.Done():
	}
	return s.stop(ctx, hostGone)
}

// stop cancels all calls and shuts the plugin down; it waits no longer than
// shutdownTime for plugin code, or until the host is gone.
func (s *session) stop(ctx context.Context, hostGone <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		s.grpc.Stop()
		<-s.ended
		stopped <- s.plugin.Shutdown(ctx)
	}()
	select {
	case err := <-stopped:
		return err
	case <-hostGone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the plugin did not shut down within %s", shutdownTime)
	}
}
