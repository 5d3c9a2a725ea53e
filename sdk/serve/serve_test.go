package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/plugintest"
	"github.com/pipelined/pipelined/sdk/wire"
)

const patience = 20 * time.Second

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// subjectSource is a source that does what its name says.
type subjectSource struct {
	name     string
	settings sdk.Settings
}

func subjectPlugin(name string) sdk.Plugin {
	var kind string
	var rows int
	if n, _ := fmt.Sscanf(name, "bench %s %d", &kind, &rows); n == 2 {
		return benchPlugin(kind, rows)
	}
	return sdk.NewSource(sdk.Info{Name: "subject", Version: "7"}, sdk.SourceCapabilities{}, struct{}{},
		func(s sdk.Settings, _ struct{}) (sdk.Source, error) { return &subjectSource{name, s}, nil })
}

func (s *subjectSource) Shutdown(context.Context) error { return nil }

func (s *subjectSource) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Dynamic: true}, nil
}

func (s *subjectSource) Run(ctx context.Context, out sdk.Output) error {
	switch s.name {
	case "prints":
		fmt.Println("printed by Go")
		child := exec.CommandContext(ctx, "sh", "-c", "echo printed by a child")
		child.Stdout = os.Stdout
		return child.Run()
	case "logs":
		s.settings.Logger.Debug("hidden")
		s.settings.Logger.Warn("seen", "key", sdk.NewSecret("hunter2"), slog.Group("g", "level", 3))
	case "panics":
		panic("in Run")
	case "dies":
		dead := make(chan struct{})
		go func() {
			defer close(dead)
			panic("in a goroutine")
		}()
		<-dead
		select {}
	case "hangs":
		select {}
	case "waits":
		<-out.Stopping()
	}
	return nil
}

// launch starts a configured subject and its run.
func launch(t *testing.T, name string) (*plugintest.Launched, *wire.SourceStream) {
	t.Helper()
	l, err := plugintest.Launch(deadline(t), process(name))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	diags, err := wire.Configure(deadline(t), l.Conn(), wire.ConfigureArgs{})
	require.NoError(t, err)
	require.Empty(t, diags)
	s, err := wire.OpenSource(deadline(t), l.Conn(), wire.SourceStart{})
	require.NoError(t, err)
	return l, s
}

func finish(t *testing.T, s *wire.SourceStream) *wire.Finished {
	t.Helper()
	event, err := s.Recv()
	require.NoError(t, err)
	require.IsType(t, &wire.Finished{}, event)
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
	return event.(*wire.Finished)
}

func TestConformance(t *testing.T) {
	plugintest.Run(t, process("waits"), plugintest.Options{})
}

func TestPrintsGoToStandardError(t *testing.T) {
	l, s := launch(t, "prints")
	require.Nil(t, finish(t, s).Failure)
	require.NoError(t, l.Close())
	assert.Contains(t, l.Stderr(), "printed by Go\n")
	assert.Contains(t, l.Stderr(), "printed by a child\n")
}

func TestLog(t *testing.T) {
	l, s := launch(t, "logs")
	finish(t, s)
	require.NoError(t, l.Close())
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(l.Stderr())), &line), l.Stderr())
	assert.Equal(t, "warn", line["@level"])
	assert.Equal(t, "seen", line["@message"])
	assert.NotEmpty(t, line["@timestamp"])
	assert.Equal(t, "(secret)", line["key"])
	assert.Equal(t, map[string]any{"level": 3.0}, line["g"])
}

func TestPanicIsReported(t *testing.T) {
	l, s := launch(t, "panics")
	f := finish(t, s).Failure
	require.NotNil(t, f)
	assert.Equal(t, "plugin code panicked in Run: in Run", f.Message)
	_, err := wire.Describe(deadline(t), l.Conn())
	require.NoError(t, err, "the process lives on")
	require.NoError(t, l.Close())
	assert.Contains(t, l.Stderr(), "serve_test.go", "the stack is there")
}

func TestPanicInAGoroutine(t *testing.T) {
	l, s := launch(t, "dies")
	_, err := s.Recv()
	require.ErrorContains(t, err, "Unavailable")
	code, err := l.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 2, code)
	assert.Contains(t, l.Stderr(), "panic: in a goroutine")
}

// TestEndOfStdin ends a process whose plugin code listens to nothing.
func TestEndOfStdin(t *testing.T) {
	l, _ := launch(t, "hangs")
	require.NoError(t, l.CloseStdin())
	code, err := l.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 0, code)
}

func TestStartedByHand(t *testing.T) {
	cmd := exec.CommandContext(deadline(t), os.Args[0])
	cmd.Env = []string{subject + "=waits"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.Error(t, cmd.Run())
	assert.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	assert.Empty(t, stdout.String())
	assert.Equal(t, `This is a plugin of pipelined: source "subject", version 7. It does nothing by itself: `+
		`name it in a pipeline file (source "subject" { … }) and start that with "pipelined run". `+
		`"pipelined plugin docs subject" prints what it can do.`+"\n", stderr.String())
}

// TestStrangersAreRefused connects with another certificate than the host's.
func TestStrangersAreRefused(t *testing.T) {
	host, stranger := newSession(t, context.Background()), newCertificate(t)
	require.Error(t, host.describe(t, stranger))
	require.NoError(t, host.describe(t, host.cert))
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	host := newSession(t, ctx)
	require.NoError(t, host.describe(t, host.cert))
	cancel()
	require.NoError(t, host.wait())
	_, err := os.Stat(host.handshake.Socket)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRunFails(t *testing.T) {
	good := environment(t, newCertificate(t))
	for name, tc := range map[string]struct {
		variable, value, want string
	}{
		"no cookie":      {wire.HandshakeCookieKey, "", "not started by a host"},
		"other version":  {wire.EnvProtocolVersions, "2,3", `the host speaks versions "2,3" of the plugin contract, this plugin speaks version 1`},
		"no version":     {wire.EnvProtocolVersions, "", `versions ""`},
		"no certificate": {wire.EnvClientCert, "", "PLUGIN_CLIENT_CERT: the client certificate is not PEM"},
		"no directory":   {wire.EnvSocketDir, "", "PLUGIN_UNIX_SOCKET_DIR is not set"},
		"bad directory":  {wire.EnvSocketDir, "/does/not/exist", "make the socket"},
		"long directory": {wire.EnvSocketDir, "/tmp/" + strings.Repeat("x", 120), "at most 107 are possible"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), subjectPlugin("waits"), Process{
				Getenv: func(v string) string {
					if v == tc.variable {
						return tc.value
					}
					return good(v)
				},
				Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard,
			})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestNegotiate(t *testing.T) {
	for _, versions := range []string{"1", "2,1", "1,2", " 1 , 5"} {
		n, err := negotiate(versions)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	}
}
