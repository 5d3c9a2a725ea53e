// Package e2e tests the program as its users have it: the real binary, started as
// a process with its plugin processes, against real servers and real files. What
// the tests look at is what comes out: Parquet and backup files, what a server has
// received, what is printed, exit codes, and the processes of the machine.
//
// The package has no code besides its tests. They share nothing with the binary
// but the wire format of the public API. Recordings and the Python interpreter are
// used where they are; a test that misses them is skipped and says so.
//
// # Processes
//
// Every run has its own directory for temporary files, which its plugins inherit
// and by which they are known. Each test fails if its run leaves a process or a
// socket directory behind. No test sleeps: it waits, with a deadline, for what can
// be seen from outside.
package e2e
