// Package serve is a plugin's main: it makes a process of an sdk.Plugin that a
// host can start, talk to and stop.
//
// The process speaks go-plugin's protocol version 1 with gRPC and mutual TLS, and
// nothing else of it. It ends when the host has drained it and closed the control
// stream, when its standard input ends (the host is gone), or when it is killed.
// It ignores SIGINT, SIGTERM and SIGHUP, which reach whole process groups or all
// processes of a name: the host decides when a plugin stops. Standard output
// belongs to the handshake; what plugin code prints goes to standard error, as
// does the log.
package serve
