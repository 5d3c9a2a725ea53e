//go:build !linux

package serve

import "os"

// takeStdout returns standard output for the handshake and makes what Go code
// prints go to standard error.
func takeStdout() (*os.File, error) {
	out := os.Stdout
	os.Stdout = os.Stderr
	return out, nil
}
