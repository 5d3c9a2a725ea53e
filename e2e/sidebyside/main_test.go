package sidebyside

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

const (
	repo   = "../.."
	apiKey = "BENCH_API_KEY"
)

// Settings of the command line, behind -args.
var (
	flagRounds = flag.Int("rounds", 0, "how often each variant runs, in turn; 0: benchmarks are skipped")
	flagRows   = flag.Int("rows", 0, "rows of a run; 0: what is right for the benchmark")
	flagBinary = flag.String("binary", "", "the program; by default it is built")
	flagPeers  = flag.String("peers", "", "directory in which peers are built")
)

func binaryPath() string {
	path := *flagBinary
	if path == "" {
		path = filepath.Join(repo, "build", "sidebyside", "pipelined")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err) // the working directory is gone
	}
	return path
}

// rounds returns how often to measure; without -rounds the benchmark is skipped.
func rounds(b *testing.B) int {
	b.Helper()
	if *flagRounds == 0 {
		b.Skip("a long measurement: say how often with -args -rounds N, or run make help")
	}
	return *flagRounds
}

// rowsOr returns -rows or what is usual.
func rowsOr(usual int) int {
	if *flagRows > 0 {
		return *flagRows
	}
	return usual
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *flagBinary == "" && *flagRounds > 0 {
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
