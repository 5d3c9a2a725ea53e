package ingestionconfig

import (
	"context"
	"sync"

	"github.com/pipelined/pipelined/sdk"
)

// Format names the messages that the encoder writes.
const Format = "sift.ingest.v1.IngestWithConfigDataStreamRequest"

// Config is the body of an encoder "ingestion_config" block.
type Config struct {
	ClientKey *string `config:"client_key" doc:"Names the ingestion config at the destination, where flows are registered under it. A new key makes a new config; the host chooses one if it is left out. It is not part of the messages."`
}

// Validate checks what the schema cannot say.
func (c *Config) Validate() []sdk.Diagnostic {
	if c.ClientKey != nil && *c.ClientKey == "" {
		return []sdk.Diagnostic{sdk.Problem("Empty client key",
			"A client key has at least one character. Leave the attribute out to let the host choose one.", "client_key")}
	}
	return nil
}

// Plugin returns the encoder.
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "ingestion_config",
		Version: "1.0.0",
		Description: "Encodes rows as messages of the ingestion stream of Sift and of services compatible with it: " +
			"one protobuf message for each row, its values in the order of the flow's channels.",
	}
	caps := sdk.EncoderCapabilities{Format: Format, Decodes: true, Rebinds: true}
	return sdk.NewEncoder(info, caps, Config{}, open)
}

func open(sdk.Settings, Config) (sdk.Encoder, error) { return new(encoder), nil }

type encoder struct {
	plans sync.Pool // of *plan
}

// Shutdown has nothing to free.
func (e *encoder) Shutdown(context.Context) error { return nil }
