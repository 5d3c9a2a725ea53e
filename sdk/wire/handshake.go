package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ProtocolVersion is the version of the plugin contract that this package speaks.
const ProtocolVersion = 1

// HandshakeCookieKey and HandshakeCookieValue are the environment variable by
// which a plugin knows that a host started it. They protect from mistakes, not
// from attackers.
const (
	HandshakeCookieKey   = "PIPELINED_PLUGIN"
	HandshakeCookieValue = "b1f4c0de-7a3e-4d53-9c1a-6f0f2d5e8a71"
)

// Environment variables of go-plugin's protocol.
const (
	EnvProtocolVersions = "PLUGIN_PROTOCOL_VERSIONS" // comma-separated versions of the host
	EnvSocketDir        = "PLUGIN_UNIX_SOCKET_DIR"   // where the plugin makes its socket
	EnvClientCert       = "PLUGIN_CLIENT_CERT"       // the host's certificate in PEM
)

// HealthService is the name under which a plugin's health service answers.
const HealthService = "plugin"

// coreProtocol is the version of go-plugin's own protocol.
const coreProtocol = 1

// maxHandshakeBytes bounds a handshake line; a certificate of ours has under 1 KiB.
const maxHandshakeBytes = 16 << 10

// Handshake is the line that a plugin prints when it is ready.
type Handshake struct {
	Version     int    // of the contract
	Socket      string // path of the plugin's unix socket
	Certificate []byte // the plugin's certificate, DER
}

// String returns the line without its end.
func (h Handshake) String() string {
	return fmt.Sprintf("%d|%d|unix|%s|grpc|%s|", coreProtocol, h.Version, h.Socket,
		base64.RawStdEncoding.EncodeToString(h.Certificate))
}

// ParseHandshake reads a plugin's first line. What it cannot read is quoted,
// shortened, in the error.
func ParseHandshake(line string) (Handshake, error) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) > maxHandshakeBytes {
		return Handshake{}, fmt.Errorf("handshake of %d bytes, at most %d", len(line), maxHandshakeBytes)
	}
	parts := strings.Split(line, "|")
	if len(parts) < 6 {
		return Handshake{}, fmt.Errorf("no handshake but %s", shorten(line))
	}
	core, coreErr := strconv.Atoi(parts[0])
	version, versionErr := strconv.Atoi(parts[1])
	switch {
	case coreErr != nil || versionErr != nil:
		return Handshake{}, fmt.Errorf("no handshake but %s", shorten(line))
	case core != coreProtocol:
		return Handshake{}, fmt.Errorf("handshake of core protocol %d, want %d", core, coreProtocol)
	case parts[2] != "unix" || parts[3] == "":
		return Handshake{}, fmt.Errorf("handshake with address %s, want a unix socket", shorten(parts[2]+" "+parts[3]))
	case parts[4] != "grpc":
		return Handshake{}, fmt.Errorf("handshake with protocol %s, want grpc", shorten(parts[4]))
	}
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(der) == 0 {
		return Handshake{}, errors.New("handshake without a certificate: the plugin does not speak mutual TLS")
	}
	return Handshake{Version: version, Socket: parts[3], Certificate: der}, nil
}

func shorten(text string) string {
	const limit = 80
	if len(text) > limit {
		return fmt.Sprintf("%.*q… (%d bytes)", limit, text, len(text))
	}
	return strconv.Quote(text)
}
