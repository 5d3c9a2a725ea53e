package sift

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Config is the body of the block.
type Config struct {
	URI            string        `config:"uri,required,tcp_connect" doc:"Address of the gRPC service with its scheme: \"https://host\" uses TLS, \"http://host:port\" does not."`
	APIKey         sdk.Secret    `config:"api_key,sensitive" doc:"Key that every call carries."`
	TLSCA          string        `config:"tls_ca,path_read" doc:"PEM file of the certificate authorities to trust instead of the system's. It is read for each connection."`
	Gzip           bool          `config:"gzip" doc:"Compress each message. Worth it for large messages on slow networks only."`
	Keepalive      time.Duration `config:"keepalive" doc:"A connection that was silent for so long is asked for a sign of life, and given up when none comes in the same time again."`
	ConnectTimeout time.Duration `config:"connect_timeout" doc:"How long making a connection may take."`
	CallTimeout    time.Duration `config:"call_timeout" doc:"How long each call of the registration may take."`
}

// Validate checks what the schema cannot.
func (c *Config) Validate() []sdk.Diagnostic {
	var out []sdk.Diagnostic
	target, err := parseURI(c.URI)
	switch {
	case err != nil:
		out = append(out, sdk.Problem("Invalid destination address", sentence(err), "uri"))
	case !target.tls && !target.loopback():
		warning := sdk.Problem("Unencrypted destination",
			"With http:// the key and the data travel readable for everybody on the way. Use https:// if the destination offers it.", "uri")
		warning.Severity = sdk.SeverityWarning
		out = append(out, warning)
	}
	if c.TLSCA != "" && err == nil && !target.tls {
		out = append(out, sdk.Problem("Unused certificate file",
			"tls_ca has no effect because uri begins with http://. Use https://, or remove tls_ca.", "tls_ca"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"keepalive", c.Keepalive, time.Second},
		{"connect_timeout", c.ConnectTimeout, 100 * time.Millisecond},
		{"call_timeout", c.CallTimeout, 100 * time.Millisecond},
	} {
		if d.value < d.least {
			out = append(out, sdk.Problem("Duration too short",
				fmt.Sprintf("%s is %v; it must be at least %v.", d.name, d.value, d.least), d.name))
		}
	}
	return out
}

// sentence makes an error's text one for a person.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// target is where the service listens.
type target struct {
	tls  bool
	host string // without port
	port string
}

func (t target) address() string { return net.JoinHostPort(t.host, t.port) }

func (t target) scheme() string {
	if t.tls {
		return "https"
	}
	return "http"
}

func (t target) loopback() bool {
	ip := net.ParseIP(t.host)
	return t.host == "localhost" || ip != nil && ip.IsLoopback()
}

// parseURI takes a URI apart. Its errors quote nothing that could be a password.
func parseURI(text string) (target, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		if strings.Contains(text, "@") {
			return target{}, errors.New(`uri has no scheme; write "https://host", or "http://host:port" to go without TLS`)
		}
		return target{}, fmt.Errorf("uri %q has no scheme; write %q, or %q to go without TLS", text, "https://"+text, "http://"+text)
	}
	if scheme != "http" && scheme != "https" {
		return target{}, fmt.Errorf("uri has the scheme %q; use https, or http to go without TLS", scheme)
	}
	u, err := url.Parse(text)
	if err != nil {
		return target{}, errors.New("uri cannot be read; write scheme, host and port only")
	}
	switch {
	case u.User != nil:
		return target{}, errors.New("uri holds a user name; put the key in api_key")
	case u.Hostname() == "":
		return target{}, errors.New("uri names no host")
	case strings.TrimRight(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return target{}, fmt.Errorf("uri has something behind the host; write %q", scheme+"://"+u.Host)
	case strings.HasSuffix(strings.TrimRight(rest, "/"), ":"):
		return target{}, errors.New("uri has a colon without a port")
	}
	t := target{tls: scheme == "https", host: u.Hostname(), port: u.Port()}
	if t.port == "" {
		t.port = map[bool]string{true: "443", false: "80"}[t.tls]
	}
	if port, err := net.LookupPort("tcp", t.port); err != nil || port == 0 {
		return target{}, fmt.Errorf("uri has the port %s, which does not exist", t.port)
	}
	return t, nil
}

// maxKeyBytes bounds the key: it must fit a frame with the other headers.
const maxKeyBytes = 8 << 10

// headerKey returns the key as a header can carry it. Line breaks around it, as
// files have them, are no part of it.
func headerKey(secret sdk.Secret) (string, error) {
	key := strings.TrimSpace(secret.Reveal())
	if len(key) > maxKeyBytes {
		return "", fmt.Errorf("api_key has %d bytes, at most %d are possible", len(key), maxKeyBytes)
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return "", errors.New("api_key holds a character that a header cannot carry")
		}
	}
	return key, nil
}
