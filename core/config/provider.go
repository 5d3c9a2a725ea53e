package config

import (
	"context"

	"github.com/pipelined/pipelined/sdk"
)

// PluginDescription is what the host must know of a plugin to check its block.
// Only the capabilities of its own kind are set.
type PluginDescription struct {
	Version string
	Schema  sdk.Schema

	Source    sdk.SourceCapabilities
	Encoder   sdk.EncoderCapabilities
	Transport sdk.TransportCapabilities
}

// SchemaProvider knows the installed plugins. Load calls it from one goroutine
// and may ask for the same plugin several times.
type SchemaProvider interface {
	// Known returns the names of the plugins of a kind, in any order.
	Known(kind sdk.Kind) []string
	// Schema describes one of them. It is only called with known names; the error
	// says what is wrong with that plugin.
	Schema(ctx context.Context, kind sdk.Kind, name string) (PluginDescription, error)
}

// PluginValidator asks a plugin to check a body that fits its schema. Sensitive
// attributes and everything that holds a secret are left out of the body.
type PluginValidator interface {
	// Validate returns the problems that the plugin sees; the error says that it
	// could not be asked.
	Validate(ctx context.Context, kind sdk.Kind, name string, body sdk.Body) ([]sdk.Diagnostic, error)
}
