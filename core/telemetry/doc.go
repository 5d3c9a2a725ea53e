// Package telemetry keeps the account of a pipeline: how many rows of each flow
// came in and what became of them on each track.
//
// Counters only go up and may be read at any time. They are written by the tasks
// that do the work; nobody else changes them.
package telemetry
