// Command pipelined runs telemetry pipelines.
//
// It reads pipeline files, starts one process for each plugin block and carries
// the data between them. The bundled plugins are in the same file: the hidden verb
// plugin-process turns a process into one of them.
//
// This package has flags, signals, printing and exit codes, one file for each
// command; all work is done by the packages below core.
package main
