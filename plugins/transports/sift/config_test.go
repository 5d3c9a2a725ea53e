package sift

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
	"github.com/pipelined/pipelined/sdk"
)

func TestParseURI(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want target
	}{
		{"https://grpc-api.example.com", target{true, "grpc-api.example.com", "443"}},
		{"http://127.0.0.1:50051/", target{false, "127.0.0.1", "50051"}},
		{"http://localhost", target{false, "localhost", "80"}},
		{"https://[::1]:1", target{true, "::1", "1"}},
	} {
		got, err := parseURI(tc.in)
		require.NoError(t, err, tc.in)
		assert.Equal(t, tc.want, got)
		assert.NotEmpty(t, got.address())
	}
	for _, tc := range []struct{ in, text string }{
		{"127.0.0.1:50051", `uri "127.0.0.1:50051" has no scheme; write "https://127.0.0.1:50051", or "http://127.0.0.1:50051" to go without TLS`},
		{"localhost:1", "has no scheme"},
		{"", "has no scheme"},
		{"grpc://host", `the scheme "grpc"`},
		{"https://", "names no host"},
		{"https://:443", "names no host"},
		{"https://host/path", `something behind the host; write "https://host"`},
		{"https://host?x=1", "something behind"},
		{"https://host:", "colon without a port"},
		{"https://host:0", "port 0"},
		{"https://host:70000", "port 70000"},
		{"https://me:hunter2@host", "put the key in api_key"},
		{"me:hunter2@host", "no scheme"},
		{"https://ho st", "cannot be read"},
		{"https://hunter2%zz", "cannot be read"},
	} {
		_, err := parseURI(tc.in)
		require.ErrorContains(t, err, tc.text, tc.in)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("https://host:443")
	f.Add("http://[::1]/")
	f.Fuzz(func(t *testing.T, text string) {
		target, err := parseURI(text)
		if err != nil {
			return
		}
		again, err := parseURI(target.scheme() + "://" + target.address())
		require.NoError(t, err)
		assert.Equal(t, target, again)
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   []string // attribute and severity
	}{
		{"defaults", func(*Config) {}, nil},
		{"loopback without TLS", func(c *Config) { c.URI = "http://127.0.0.1:1" }, nil},
		{"without TLS", func(c *Config) { c.URI = "http://example.com" }, []string{"uri warning"}},
		{"no scheme", func(c *Config) { c.URI = "example.com:443"; c.TLSCA = "x" }, []string{"uri error"}},
		{"tls_ca without TLS", func(c *Config) { c.URI = "http://localhost:1"; c.TLSCA = "ca.pem" }, []string{"tls_ca error"}},
		{"durations", func(c *Config) { c.Keepalive, c.ConnectTimeout, c.CallTimeout = 0, -1, time.Millisecond }, []string{"keepalive error", "connect_timeout error", "call_timeout error"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testConfig("https://example.com")
			tc.change(&c)
			var got []string
			for _, d := range c.Validate() {
				require.Len(t, d.Path, 1)
				severity := map[sdk.Severity]string{sdk.SeverityError: "error", sdk.SeverityWarning: "warning"}[d.Severity]
				got = append(got, d.Path[0].Attribute+" "+severity)
				assert.True(t, strings.HasSuffix(d.Detail, "."), d.Detail)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// TestPlugin opens the plugin as the host does.
func TestPlugin(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{Keys: []string{"k"}})
	p := Plugin()
	assert.Equal(t, sdk.KindTransport, p.Kind)
	assert.Equal(t, sdk.TransportCapabilities{
		Input: sdk.InputEncoded, Formats: []string{format}, MaxMessageBytes: 4 << 20, Overlap: true, Binds: true,
	}, p.Transport)
	grants := make(map[string]sdk.Grant)
	body := sdk.Body{Attributes: make(map[string]sdk.Value)}
	for _, a := range p.Schema.Attributes {
		assert.NotEmpty(t, a.Description, a.Name)
		grants[a.Name] = a.Grant
		if a.Default != nil {
			body.Attributes[a.Name] = *a.Default
		}
		assert.Equal(t, a.Name == "api_key", a.Sensitive)
	}
	assert.Equal(t, sdk.GrantTCPConnect, grants["uri"])
	assert.Equal(t, sdk.GrantPathRead, grants["tls_ca"])
	body.Attributes["uri"] = sdk.Value{Kind: sdk.KindString, String: server.URI()}
	assert.Empty(t, p.Validate(body))

	body.Attributes["api_key"] = sdk.Value{Kind: sdk.KindString, String: "k"}
	opened, err := p.Open(sdk.Settings{}, body)
	require.NoError(t, err)
	_, err = openStream(t, opened.(sdk.Transport)).Finish(t.Context())
	require.NoError(t, err)
	require.NoError(t, opened.Shutdown(t.Context()))

	body.Attributes["uri"] = sdk.Value{Kind: sdk.KindString, String: "host"}
	_, err = p.Open(sdk.Settings{}, body)
	require.Error(t, err)
}

func TestKey(t *testing.T) {
	key, err := headerKey(sdk.NewSecret(" k.e-y \n"))
	require.NoError(t, err)
	assert.Equal(t, "k.e-y", key)
	for _, bad := range []string{"two\nlines", "ü", strings.Repeat("x", maxKeyBytes+1), "nul\x00"} {
		config := testConfig("http://localhost:1")
		config.APIKey = sdk.NewSecret(bad)
		_, err := open(sdk.Settings{}, config)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), bad)
	}

	// The longest key still fits.
	long := strings.Repeat("~", maxKeyBytes)
	server := sifttest.New(t, sifttest.Options{Keys: []string{long}})
	tr, _ := newTransport(t, server, func(c *Config) { c.APIKey = sdk.NewSecret(long) })
	_, err = tr.Register(t.Context(), registration())
	require.NoError(t, err)
	_, err = openStream(t, tr).Finish(t.Context())
	require.NoError(t, err)
}

// TestNoSecretInLogs: a transport without its key says so, one with it says
// nothing about it.
func TestNoSecretInLogs(t *testing.T) {
	var log strings.Builder
	settings := sdk.Settings{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	config := testConfig("https://example.com")
	_, err := open(settings, config)
	require.NoError(t, err)
	assert.Contains(t, log.String(), "no api_key")
	log.Reset()
	config.APIKey = sdk.NewSecret("hunter2")
	_, err = open(settings, config)
	require.NoError(t, err)
	assert.Empty(t, log.String())
	assert.NotContains(t, fmt.Sprintf("%+v", config), "hunter2")
}
