package pyvenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installTimeout bounds making an environment.
const installTimeout = 5 * time.Minute

// Parquet returns the packages that read Parquet files.
func Parquet() []string { return []string{"pyarrow==21.0.0", "pandas==2.3.3", "duckdb==1.4.4"} }

// Python returns the path of an interpreter that can import the packages, or
// skips the test. Packages are requirements of pip, with their exact versions.
func Python(t testing.TB, packages ...string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(strings.Join(packages, "\n")))
	dir := filepath.Join(root, "build", "pyvenv", hex.EncodeToString(sum[:6]))
	python := filepath.Join(dir, "bin", "python")
	done := dir + ".done"
	if exists(done) && exists(python) {
		return python
	}
	if testing.Short() {
		t.Skip("no Python environment yet; it is made without -short")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, dir+".lock")
	defer unlock()
	if exists(done) && exists(python) {
		return python
	}
	if err := install(dir, packages); err != nil {
		t.Skipf("no Python environment with %s: %v", strings.Join(packages, ", "), err)
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return python
}

func install(dir string, packages []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	system, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("python3 is not installed")
	}
	if err := os.RemoveAll(dir); err != nil { // what an interrupted test left
		return err
	}
	if err := run(ctx, system, "-m", "venv", dir); err != nil {
		return err
	}
	args := append([]string{"-m", "pip", "install", "--quiet", "--no-input", "--only-binary", ":all:"}, packages...)
	return run(ctx, filepath.Join(dir, "bin", "python"), args...)
}

// run runs a command and returns the end of its output if it fails.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String())
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args[:2], " "), err, text[max(0, len(text)-500):])
	}
	return nil
}

// lock keeps tests of other packages from making the same environment.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// moduleRoot returns the directory of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; !exists(filepath.Join(dir, "go.mod")); dir = filepath.Dir(dir) {
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no go.mod above the working directory")
		}
	}
	return dir, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
