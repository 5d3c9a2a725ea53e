package plugintest

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pipelined/pipelined/sdk/serve"
)

// subject is the environment variable that makes this test binary a plugin.
const subject = "PLUGINTEST_SUBJECT"

func TestMain(m *testing.M) {
	if name := os.Getenv(subject); name != "" {
		runSubject(name)
		return
	}
	goleak.VerifyTestMain(m)
}

func runSubject(name string) {
	if p, ok := plugins()[name]; ok {
		serve.Main(p)
	}
	programs()[name]()
}

// process starts this test binary as one of the subjects.
func process(name string) Process {
	return Process{Path: os.Args[0], Env: []string{subject + "=" + name}}
}
