package sift

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/internal/sifttest"
	"github.com/pipelined/pipelined/sdk"
)

func TestTLS(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{TLS: true, Keys: []string{"k"}})
	tr, _ := newTransport(t, server, func(c *Config) { c.TLSCA, c.APIKey = server.CAFile(t), sdk.NewSecret("k") })
	_, err := tr.Register(t.Context(), registration(testFlow("a", "x")))
	require.NoError(t, err)
	s := openStream(t, tr)
	send(t, s, "a", "b")
	_, err = s.Finish(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, flowsOf(t, server.Stream(t, 0)))
}

// TestUnreachable: why there is no connection, for streams and for registration.
func TestUnreachable(t *testing.T) {
	secure := sifttest.New(t, sifttest.Options{TLS: true})
	plain := sifttest.New(t, sifttest.Options{})
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(notPEM, []byte("nothing"), 0o600))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()

	for _, tc := range []struct {
		name  string
		uri   string
		ca    string
		class sdk.Class
		text  string
	}{
		{"nobody listens", "http://127.0.0.1:1", "", sdk.ClassDisconnected, "connection refused"},
		{"unknown authority", secure.URI(), "", sdk.ClassDisconnected, "unknown authority"},
		{"no such file", secure.URI(), "/does/not/exist", sdk.ClassPermanent, "read tls_ca"},
		{"not a certificate", secure.URI(), notPEM, sdk.ClassPermanent, "holds no certificate"},
		{"TLS to a server without", strings.Replace(plain.URI(), "http", "https", 1), secure.CAFile(t), sdk.ClassDisconnected, "TLS handshake"},
		{"no TLS to a server with", strings.Replace(secure.URI(), "https", "http", 1), "", sdk.ClassDisconnected, "connect"},
		{"silent", "http://" + silent.Addr().String(), "", sdk.ClassDisconnected, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			config := testConfig(tc.uri)
			config.TLSCA = tc.ca
			if tc.name == "silent" { // the others answer, on a slow machine later
				config.ConnectTimeout, config.CallTimeout = 300*time.Millisecond, 300*time.Millisecond
			}
			log := new(healthLog)
			tr, err := open(sdk.Settings{Health: log.report}, config)
			require.NoError(t, err)
			defer tr.Shutdown(context.Background())
			_, err = tr.OpenStream(t.Context(), sdk.StreamOptions{})
			e := sdk.AsError(err)
			assert.Equal(t, tc.class, e.Class, "%v", err)
			if tc.name == "silent" {
				assert.Contains(t, e.Message, "no connection in time")
				assert.Equal(t, sdk.HealthBlocked, log.last().State)
				return
			}
			assert.Contains(t, strings.ToLower(e.Message), strings.ToLower(tc.text))
			_, err = tr.Register(t.Context(), registration())
			e = sdk.AsError(err)
			assert.Equal(t, tc.class, e.Class, "%v", err)
			if tc.name != "TLS to a server without" { // grpc-go words it otherwise
				assert.Contains(t, strings.ToLower(e.Message), strings.ToLower(tc.text))
			}
		})
	}
}

func TestOpenStreamEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	tr, err := open(sdk.Settings{}, testConfig("http://"+silent.Addr().String()))
	require.NoError(t, err)
	defer tr.Shutdown(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 2)
	for range 2 { // the second waits for the first
		go func() {
			_, err := tr.OpenStream(ctx, sdk.StreamOptions{})
			opened <- err
		}()
	}
	c, err := silent.Accept()
	require.NoError(t, err)
	defer c.Close()
	cancel()
	for range 2 {
		requireFailure(t, <-opened, sdk.ClassRetry, canceled)
	}
}

// TestHTTPAnswers: proxies and other servers answer in HTTP.
func TestHTTPAnswers(t *testing.T) {
	page := "<html>" + strings.Repeat("x", 10_000)
	for _, tc := range []struct {
		status      int
		contentType string
		class       sdk.Class
		code        codes.Code
	}{
		{200, "text/html", sdk.ClassRetry, codes.Unknown},
		{302, "text/html", sdk.ClassRetry, codes.Unknown},
		{400, "text/html", sdk.ClassRetry, codes.Internal},
		{401, "text/html", sdk.ClassPermanent, codes.Unauthenticated},
		{403, "text/html", sdk.ClassPermanent, codes.PermissionDenied},
		{404, "text/html", sdk.ClassPermanent, codes.Unimplemented},
		{429, "text/html", sdk.ClassDisconnected, codes.Unavailable},
		{502, "text/html", sdk.ClassDisconnected, codes.Unavailable},
		{503, "application/grpc", sdk.ClassDisconnected, codes.Unavailable},
		{200, "application/grpc", sdk.ClassRetry, codes.Unknown},
	} {
		t.Run(http.StatusText(tc.status)+" "+tc.contentType, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("content-type", tc.contentType)
				w.WriteHeader(tc.status)
				if tc.contentType == "text/html" {
					_, _ = w.Write([]byte(page))
				}
			}))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			defer server.Close()
			tr, err := open(sdk.Settings{}, testConfig(server.URL))
			require.NoError(t, err)
			defer tr.Shutdown(context.Background())
			s := openStream(t, tr)
			<-s.(sdk.Watcher).Done()
			_, err = s.Finish(t.Context())
			e := requireFailure(t, err, tc.class, uint32(tc.code))
			assert.Less(t, len(e.Message), 400)
			if tc.contentType == "text/html" {
				assert.Contains(t, e.Message, "<html>")
			}
		})
	}
}

// TestHTTP1Server: a server of another protocol is named.
func TestHTTP1Server(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	tr, err := open(sdk.Settings{}, testConfig(server.URL))
	require.NoError(t, err)
	defer tr.Shutdown(context.Background())
	_, err = tr.OpenStream(t.Context(), sdk.StreamOptions{})
	e := requireFailure(t, err, sdk.ClassDisconnected, unavailable)
	assert.Contains(t, e.Message, "is the peer an HTTP/2 server?")
}
