package serve

import (
	"context"
	"errors"
	"io"

	"github.com/pipelined/pipelined/sdk"
)

// Main serves the plugin and exits the process.
func Main(p sdk.Plugin) {}

// Process is what a plugin's process has around it.
type Process struct {
	Getenv func(string) string
	Stdin  io.Reader // ends when the host is gone
	Stdout io.Writer // takes the handshake and nothing else
	Stderr io.Writer // takes the log
}

// Run serves the plugin until the host ends it or ctx is done. It returns nil
// after a drain, and when stdin ended.
func Run(ctx context.Context, p sdk.Plugin, proc Process) error { return errors.ErrUnsupported }
