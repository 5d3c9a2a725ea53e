package torture

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// patience is how long must-happen things are waited for. The machine may be busy.
	patience = 60 * time.Second
	// pollInterval is for what cannot be waited for otherwise.
	pollInterval = 5 * time.Millisecond

	apiKey = "TORTURE_API_KEY"
	repo   = "../.."
)

// Settings of the command line, behind -args.
var (
	flagKills     = flag.Int("kills", 0, "run the campaign until so many processes were killed")
	flagSeed      = flag.Uint64("seed", 1, "number of the first scenario")
	flagScenarios = flag.Int("scenarios", 0, "run so many scenarios instead of counting kills")
	flagWorkers   = flag.Int("workers", 3, "scenarios at a time")
	flagReport    = flag.String("report", "", "file for the matrix, in Markdown")
	flagBinary    = flag.String("binary", "", "the program; by default it is built")
	flagKeep      = flag.String("keep", "", "directory in which the files of failed scenarios are kept")
	flagLive      = flag.Bool("live", false, "pipelines without a backup")
)

func binaryPath() string {
	path := *flagBinary
	if path == "" {
		path = filepath.Join(repo, "build", "torture", "pipelined")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err) // the working directory is gone
	}
	return path
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *flagBinary == "" {
		cmd := exec.Command("go", "build", "-trimpath", "-o", binaryPath(), "./cmd/pipelined")
		cmd.Dir = repo
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, text)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}
