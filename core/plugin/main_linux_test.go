package plugin

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is its own bundled plugins, and its own host for a test that
// kills it.
const (
	testVerb = "plugin-process"
	hostVerb = "host-process"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case testVerb:
			os.Exit(runTestPlugin(os.Args[3]))
		case hostVerb:
			os.Exit(runTestHost(os.Args[2], os.Args[3]))
		}
	}
	goleak.VerifyTestMain(m)
}
