package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/pipelined/pipelined/sdk/wire"
)

// errStdoutClosed: a process that goes on but has nothing more to say.
var errStdoutClosed = errors.New("it closed its standard output without a handshake")

// firstLine is the first line of a process's standard output, where its handshake
// must be. As a reader it gives this line to go-plugin, and then the end.
type firstLine struct {
	once sync.Once
	done chan struct{} // closed when the members below are set
	text string
	err  error // why there is no line
	rest *strings.Reader
}

func newFirstLine() *firstLine { return &firstLine{done: make(chan struct{})} }

// set takes the line, or why there is none. It reports whether it was the first
// call; later ones do nothing.
func (f *firstLine) set(text string, err error) (first bool) {
	f.once.Do(func() {
		f.text, f.err, first = text, err, true
		if err == nil {
			text += "\n"
		}
		f.rest = strings.NewReader(text)
		close(f.done)
	})
	return first
}

// Read waits for the line.
func (f *firstLine) Read(p []byte) (int, error) {
	<-f.done
	return f.rest.Read(p)
}

// Close does nothing.
func (f *firstLine) Close() error { return nil }

// starter is the runner that go-plugin starts a process with. All that go-plugin
// gets to see is the first line of output: after the handshake its client has
// nothing left to do, and its goroutines have ended.
type starter struct {
	spec  Spec
	env   []string // of the plugin, without what go-plugin adds
	first *firstLine
	clean func(string) string // takes secrets out of text
	fork  func(env []string) (*child, error)

	socketDir string
	child     *child
}

// handshake starts the process and waits for its handshake until ctx is done.
func (s *starter) handshake(ctx context.Context, hostDir string, cert tls.Certificate) (wire.Handshake, error) {
	stop := context.AfterFunc(ctx, func() { s.first.set("", context.Cause(ctx)) })
	defer stop()
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			MagicCookieKey:   wire.HandshakeCookieKey,
			MagicCookieValue: wire.HandshakeCookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{wire.ProtocolVersion: {}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
			s.socketDir = socketDir
			s.env = append(s.env, cmd.Env...)
			s.env = append(s.env, wire.EnvClientCert+"="+wire.CertificatePEM(cert))
			return s, nil
		},
		SkipHostEnv:      true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: hostDir},
		TLSConfig:        &tls.Config{MinVersion: tls.VersionTLS13}, // it keeps the plugin's certificate there
		StartTimeout:     time.Hour,                                 // ctx comes first
		Logger:           hclog.NewNullLogger(),
	})
	_, err := client.Start()
	if s.child == nil { // it was not even forked
		return wire.Handshake{}, err
	}
	s.first.set("", err) // no effect if there was a line
	if s.first.err != nil {
		return wire.Handshake{}, s.first.err
	}
	h, parseErr := wire.ParseHandshake(s.first.text)
	switch {
	case parseErr != nil:
		// Again without secrets: the error quotes a part, which could be half a secret.
		if _, cleanErr := wire.ParseHandshake(s.clean(s.first.text)); cleanErr != nil {
			parseErr = cleanErr
		}
		return wire.Handshake{}, fmt.Errorf("first line of its output: %w", parseErr)
	case h.Version != wire.ProtocolVersion:
		return wire.Handshake{}, versionError(h.Version)
	}
	return h, err
}

// versionError says which side is older.
func versionError(version int) error {
	older := "upgrade the plugin"
	if version > wire.ProtocolVersion {
		older = "upgrade pipelined"
	}
	return fmt.Errorf("it speaks version %d of the plugin protocol, this pipelined speaks version %d; %s", version, wire.ProtocolVersion, older)
}

// Start forks the process.
func (s *starter) Start(context.Context) error {
	child, err := s.fork(s.env)
	if err != nil {
		return fmt.Errorf("it cannot be executed: %w", err)
	}
	s.child = child
	return nil
}

// Stdout gives the first line.
func (s *starter) Stdout() io.ReadCloser { return s.first }

// Stderr gives nothing: the host reads the process's stderr itself.
func (s *starter) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Wait returns at once: go-plugin's watch over the process ends with the
// handshake. It could not see a process end whose children hold its pipes.
func (s *starter) Wait(context.Context) error { return nil }

// Kill does nothing: after a failure the launcher still wants to know how the
// process ended by itself.
func (s *starter) Kill(context.Context) error { return nil }

// ID returns the process id.
func (s *starter) ID() string { return strconv.Itoa(s.child.pid) }

// Name returns the plugin's name and path.
func (s *starter) Name() string { return s.spec.String() }

// Diagnose has nothing to add.
func (s *starter) Diagnose(context.Context) string { return "" }

// PluginToHost takes no address but a socket in the plugin's own directory.
func (s *starter) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != s.socketDir {
		return "", "", fmt.Errorf("it listens at %s %q, which is not in the directory that it was given (%s)", network, address, s.socketDir)
	}
	return network, address, nil
}

// HostToPlugin changes nothing.
func (s *starter) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// dialSocket connects to the plugin, whatever gRPC calls its target.
func dialSocket(path string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}
