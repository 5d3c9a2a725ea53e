// Package sidebyside measures what is compared with something else in the same
// minutes: checkpoints often or once, a backlog or none, the reference client or the
// program. Everything runs as real processes; the server is part of the test unless
// a peer brings its own. The measurements are benchmarks that run only when -rounds
// says how often, as the bench targets of the Makefile do, and print tables of
// medians. Nothing here fails because something was slow.
package sidebyside
