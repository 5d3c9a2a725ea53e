package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// repo is the root of the module, seen from this folder.
const repo = ".."

// binary is the program under test.
func binary() string { return absolute(filepath.Join(repo, "build", "e2e", "pipelined")) }

func TestMain(m *testing.M) {
	// The tests wait for processes most of the time. -parallel on the command line,
	// which is read later, wins.
	err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0)))
	if err == nil {
		err = build(binary(), "./cmd/pipelined")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// build compiles a command of this module as it is released: static.
func build(output, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", output, pkg)
	cmd.Dir = absolute(repo)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func absolute(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err) // the working directory is gone
	}
	return path
}
