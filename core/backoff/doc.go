// Package backoff says how long to wait after failures: longer each time, with
// jitter, so that many hosts do not come at once.
//
// It is pure: it waits for nothing, reads no clock and starts no goroutine.
package backoff
