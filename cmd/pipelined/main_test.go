package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary be a plugin process, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == pluginVerb {
		servePlugin(os.Args[2:])
	}
	os.Exit(m.Run())
}
