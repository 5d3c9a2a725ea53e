// Package outfiletest has a file system for tests of what uses package outfile:
// it fails where the test wants it to, and counts open files.
package outfiletest
