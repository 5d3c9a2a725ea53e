package sift

import (
	"time"

	"github.com/pipelined/pipelined/sdk"
)

const (
	// format is the one that the encoder ingestion_config makes.
	format = "sift.ingest.v1.IngestWithConfigDataStreamRequest"
	// maxMessageBytes is the service's receive limit.
	maxMessageBytes = 4 << 20

	version   = "1.0.0"
	userAgent = "pipelined/" + version
)

// Plugin returns the transport plugin "sift".
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "sift",
		Version: version,
		Description: "Delivers to Sift and to services compatible with it. A checkpoint is the service's answer to a " +
			"stream that was half-closed. Takes what the encoder \"ingestion_config\" makes.",
	}
	caps := sdk.TransportCapabilities{
		Input:           sdk.InputEncoded,
		Formats:         []string{format},
		MaxMessageBytes: maxMessageBytes,
		Overlap:         true,
		Binds:           true,
	}
	defaults := Config{
		Keepalive:      20 * time.Second,
		ConnectTimeout: 10 * time.Second,
		CallTimeout:    30 * time.Second,
	}
	return sdk.NewTransport(info, caps, defaults, open)
}
