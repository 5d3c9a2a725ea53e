package serve

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/sdk/plugintest"
)

// subject is the environment variable that makes this test binary a plugin.
const subject = "SERVE_SUBJECT"

func TestMain(m *testing.M) {
	if os.Getenv(subject) != "" {
		Main(subjectPlugin(os.Getenv(subject)))
	}
	goleak.VerifyTestMain(m)
}

func process(name string) plugintest.Process {
	return plugintest.Process{Path: os.Args[0], Env: []string{subject + "=" + name}}
}
