// Package status tells people and programs how a running host is.
//
// A Report is everything at one moment, with one sentence for each pipeline. A
// Server answers with it, over HTTP on a unix socket in the data directory: as JSON,
// as metrics in the text form of Prometheus, and as health for supervisors. A Client
// asks it. Requests only read; nothing can be changed this way.
//
// The JSON form is stable: within one Schema fields are added, never changed or
// removed. Names and texts in it come from files, plugins and destinations; whoever
// prints them makes them safe for a terminal.
//
// A Server owns its goroutines; Close joins them.
package status
