package siftserver

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/pipelined/pipelined/sdk"
)

// Config is the body of a source "sift" block.
type Config struct {
	Listen          string       `config:"listen,required,tcp_bind" doc:"Address and port to listen on, such as \"127.0.0.1:50051\" or \"0.0.0.0:50051\"."`
	Keys            []sdk.Secret `config:"keys" doc:"Bearer keys that clients may use. Without any, every call is let in and the address must be of the loopback interface."`
	TLS             *TLS         `config:"tls" doc:"Serve TLS. Without this block clients connect with an http:// address."`
	MaxMessageBytes sdk.Size     `config:"max_message_bytes" doc:"Greatest message taken from a client. Sift takes 4 MiB. A single row of more than 4 MiB is refused in any case."`
	MaxStreams      int          `config:"max_streams" doc:"Greatest number of ingestion streams at one time. A client has one or two, and one for its own metrics. Twice as many connections are taken."`
	MaxState        sdk.Size     `config:"max_state" doc:"Greatest size of the file that keeps assets, ingestion configs and runs."`
}

// TLS names the server's certificate.
type TLS struct {
	Cert string `config:"cert,required,path_read" doc:"File with the certificate and its chain, PEM."`
	Key  string `config:"key,required,path_read" doc:"File with the private key, PEM."`
}

// Bounds of the configuration.
const (
	leastMessage  = 64 << 10
	greatestBytes = 1 << 30
	maxStreams    = 10_000
)

func defaultConfig() Config {
	return Config{
		MaxMessageBytes: 4 << 20,
		MaxStreams:      256,
		MaxState:        256 << 20,
	}
}

// Plugin returns the source.
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "sift",
		Version: "1.0.0",
		Description: "A server that clients of Sift stream to. It keeps what they register, and acknowledges a stream " +
			"when its rows are safe in this pipeline. The origin of a flow is its client's asset, key and run.",
	}
	return sdk.NewSource(info, sdk.SourceCapabilities{}, defaultConfig(), func(s sdk.Settings, c Config) (sdk.Source, error) {
		return newSource(s, c, defaultTiming())
	})
}

// Validate checks what the schema cannot say.
func (c *Config) Validate() []sdk.Diagnostic {
	var out []sdk.Diagnostic
	out = append(out, c.validateListen()...)
	if c.MaxMessageBytes < leastMessage || c.MaxMessageBytes > greatestBytes {
		out = append(out, sdk.Problem("Message limit out of range",
			"max_message_bytes is from 64KiB to 1GiB. Sift itself takes 4MiB.", "max_message_bytes"))
	}
	if c.MaxState < 1<<20 || c.MaxState > greatestBytes {
		out = append(out, sdk.Problem("State limit out of range", "max_state is from 1MiB to 1GiB.", "max_state"))
	}
	if c.MaxStreams < 1 || c.MaxStreams > maxStreams {
		out = append(out, sdk.Problem("Stream limit out of range",
			fmt.Sprintf("max_streams is from 1 to %d.", maxStreams), "max_streams"))
	}
	return out
}

func (c *Config) validateListen() []sdk.Diagnostic {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return []sdk.Diagnostic{sdk.Problem("Invalid address",
			fmt.Sprintf("%q is not an address and a port, such as \"127.0.0.1:50051\".", c.Listen), "listen")}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return []sdk.Diagnostic{sdk.Problem("Invalid port",
			fmt.Sprintf("The port of %q is not a number from 0 to 65535; 0 takes any free one.", c.Listen), "listen")}
	}
	switch {
	case loopback(host):
		return nil
	case len(c.Keys) == 0:
		return []sdk.Diagnostic{sdk.Problem("Open to everyone",
			fmt.Sprintf("Without keys anyone who reaches %q can send data. Set keys, or listen on 127.0.0.1.", c.Listen), "listen")}
	case c.TLS == nil:
		d := sdk.Problem("Keys travel in the clear",
			fmt.Sprintf("Clients send their key to %q without encryption. Add a tls block unless the network is trusted.", c.Listen), "listen")
		d.Severity = sdk.SeverityWarning
		return []sdk.Diagnostic{d}
	}
	return nil
}

// loopback reports whether only this machine reaches the host.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
