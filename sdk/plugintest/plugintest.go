package plugintest

import (
	"testing"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Process says how the plugin is started.
type Process struct {
	Path string
	Args []string
	Env  []string // added to the clean environment
}

// Options say what the kit may do with the plugin.
type Options struct {
	// Config is a body that works, without defaults: the kit fills them in from the
	// schema. Subtests that need a configured plugin use it.
	Config sdk.Body
	// Timeout bounds each wait; 0 = 10 s.
	Timeout time.Duration
}

// Run holds the plugin to the contract of its kind.
func Run(t *testing.T, p Process, o Options) { t.Helper() }
